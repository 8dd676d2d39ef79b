"""A front gives the rows of each item the tracks that the trained model gives the item alone, and is saved with what stands on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vlm.errors import InputError
from vlm.models.adapter import AdapterConfig
from vlm.models.interaction import InteractionConfig
from vlm.models.model import VideoTextConfig, VideoTextModel
from vlm.models.suite.anticipation import AnticipationConfig, Anticipator
from vlm.models.suite.captioning import CaptioningConfig, EventCaptioner
from vlm.models.suite.front import Front, FrontConfig
from vlm.models.suite.localization import ActionMamba, LocalizationConfig
from vlm.models.suite.rows import Rows
from vlm.models.suite.segmentation import ASMamba, SegmentationConfig
from vlm.ssm.stack import count_parameters


def trained(slots: int = 2) -> VideoTextModel:
    torch.manual_seed(3)
    interaction = InteractionConfig(
        text_dim=6, video_dim=6, width=8, num_layers=1, tracks=3, track_width=4, track_layers=2, first_mixer="vim", d_state=2, slots=slots
    )
    adapter = AdapterConfig(dim=6, num_layers=0, text_layers=0)
    return VideoTextModel(VideoTextConfig(encoder="small", fingerprint="f1", adapter=adapter, interaction=interaction)).eval()


def test_rows_of_items_side_by_side_have_the_tracks_of_each_item_alone() -> None:
    model = trained()
    front = Front(FrontConfig.of(model.config), 6)
    front.take(model)
    items = [torch.randn(length, 6) for length in (5, 1, 9)]
    found = front(Rows.side_by_side(items)).values
    assert found.shape == (15, 12)
    with torch.no_grad():
        for item, mine in zip(items, found.split([5, 1, 9]), strict=True):
            watched = model.cross().watch(item[None], torch.arange(len(item))[None])
            torch.testing.assert_close(mine, watched.tracks[0].flatten(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "config", "more"),
    [
        (ASMamba, SegmentationConfig, {"classes": ("a", "b"), "num_layers": 2}),
        (ActionMamba, LocalizationConfig, {"classes": ("a",), "branch_layers": 1}),
        (Anticipator, AnticipationConfig, {"classes": ("turn, disc", "turn, star")}),
        (EventCaptioner, CaptioningConfig, {"vocabulary": ("[pad]", "[unknown]", "[start]", "[end]", "a"), "num_heads": 2}),
    ],
)
def test_a_model_behind_a_front_is_saved_with_it_and_does_not_learn_it(
    kind: Any, config: Any, more: dict[str, Any], tmp_path: Path
) -> None:
    given = {"encoder": "small", "fingerprint": "f1", "dim": 6, "width": 8, "d_state": 2, **more}
    plain, made = kind(config(**given)), kind(config(**given, front=FrontConfig.of(trained().config)))
    made.front.take(trained())
    assert count_parameters(made) == sum(value.numel() for name, value in made.named_parameters() if not name.startswith("front."))
    assert "front" not in made.num_parameters()
    assert plain.front is None
    opened = kind.from_pretrained(made.save_pretrained(tmp_path / "model"))
    assert opened.config == made.config
    assert all(torch.equal(value, opened.state_dict()[name]) for name, value in made.state_dict().items())
    assert kind.from_pretrained(plain.save_pretrained(tmp_path / "plain")).config.front is None


@pytest.mark.parametrize("mixer", ["mamba", "dbm"])
def test_a_stream_behind_a_front_gives_what_all_rows_so_far_give(mixer: Any) -> None:
    config = AnticipationConfig(
        encoder="small", fingerprint="f1", dim=6, width=8, d_state=2, classes=("turn, disc", "turn, star"), mixer=mixer,
        memory_seconds=2.0, front=FrontConfig.of(trained().config), dropout=0.0,
    )  # fmt: skip
    torch.manual_seed(5)
    model = Anticipator(config).eval()
    assert model.front is not None
    model.front.take(trained())
    frames = torch.randn(1, 13, 6)
    state = model.start()
    with torch.inference_mode():
        for row in range(13):
            told, state = model.step(frames[:, row], state)
            whole = model(frames[:, : row + 1])
            torch.testing.assert_close(told.actions, whole.actions, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(told.verbs, whole.verbs, rtol=1e-4, atol=1e-5)


def test_a_model_without_tracks_is_no_front() -> None:
    with pytest.raises(InputError, match="no tracks to be a front"):
        FrontConfig.of(trained(slots=0).config)
