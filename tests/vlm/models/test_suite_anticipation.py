from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.vlm.models.suite_cases import DIM, MIXERS, anticipator, frames
from vlm.errors import InputError
from vlm.models.suite.anticipation import Anticipator, Memory, Outlook, StreamState
from vlm.models.suite.matching import matched
from vlm.models.suite.outlook import Chances, Stream, chances_at, most_expected
from vlm.models.suite.rows import Rows
from vlm.ssm.stack import count_parameters
from vlm.types import Features

MEMORIES = (2.0, None)  # 4 rows, and all


def assert_same(one: Outlook, other: Outlook, *, atol: float = 1e-9) -> None:
    for name in ("verbs", "nouns", "actions"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=atol)


@pytest.mark.parametrize("memory_seconds", MEMORIES)
@pytest.mark.parametrize("mixer", MIXERS)
def test_frame_by_frame_gives_what_all_frames_so_far_give(mixer: str, memory_seconds: float | None):
    model = anticipator(mixer=mixer, memory_seconds=memory_seconds).double()
    videos = torch.stack(frames(17, 17))
    state = model.start(2)
    for count in range(1, 18):
        outlook, state = model.step(videos[:, count - 1], state)
        assert_same(outlook, model(videos[:, :count]))


def test_a_step_leaves_the_state_that_it_began_from():
    model, video = anticipator().double(), frames(3)[0]
    _, first = model.step(video[:1], model.start())
    again = [model.step(video[1:2], first)[0] for _ in range(2)]
    assert_same(*again, atol=0)
    assert first.seen == 1


def size_of(state: StreamState) -> int:
    def size(memory: Memory) -> int:
        carried = sum(getattr(one, part.name).numel() for one in memory.states or () for part in fields(one))
        return carried + memory.total.numel() + memory.rows.numel() + (0 if memory.last is None else memory.last.numel())

    return size(state.older) + size(state.newer)


@pytest.mark.parametrize(("mixer", "memory_seconds"), [("mamba", 2.0), ("mamba", None), ("attention", 2.0), ("dbm", 2.0)])
def test_what_a_stream_keeps_does_not_grow(mixer: str, memory_seconds: float | None):
    model, sizes = anticipator(mixer=mixer, memory_seconds=memory_seconds), []
    state = model.start()
    for frame in frames(40, dtype=torch.float32)[0]:
        _, state = model.step(frame[None], state)
        sizes.append(size_of(state))
    assert max(sizes) == max(sizes[:9])
    assert len({sizes[place] for place in range(10, 40, 4)}) == 1


@pytest.mark.parametrize("mixer", MIXERS)
def test_an_item_of_a_batch_gives_what_it_gives_alone_with_gaps_in_the_mask(mixer: str):
    model, items = anticipator(mixer=mixer).double(), frames(9, 1, 14)
    batch, mask = torch.full((3, 20, DIM), torch.nan, dtype=torch.float64), torch.zeros(3, 20, dtype=torch.bool)
    for number, item in enumerate(items):
        places = torch.randperm(20, generator=torch.Generator().manual_seed(number))[: len(item)].sort().values
        batch[number, places], mask[number, places] = item, True
    together = model(batch, mask)
    for number, item in enumerate(items):
        part = Outlook(together.verbs[number, None], together.nouns[number, None], together.actions[number, None])
        assert_same(part, model(item[None]), atol=1e-12)


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_moment_sees_its_memory_and_nothing_else(mixer: str):
    model, video = anticipator(mixer=mixer).double(), frames(20)[0]
    item, last = torch.tensor([0]), torch.tensor([13])  # blocks of 4 rows: 8 to 13 are in memory

    def told(changed: torch.Tensor) -> Outlook:
        return model.after(Rows.of(changed, torch.tensor([0, 20])), item, last)[0]

    for row in range(20):
        changed = video.clone()
        changed[row] += 1.0
        moved = float((told(changed).actions - told(video).actions).detach().abs().max())
        assert (moved > 1e-6) == (8 <= row <= 13), row


def test_a_moment_of_a_longer_video_is_told_from_its_memory_alone():
    model, video = anticipator().double(), frames(20)[0]
    outlook, mixed, source = model.after(Rows.of(video, torch.tensor([0, 20])), torch.tensor([0, 0]), torch.tensor([13, 2]))
    assert source.tolist() == [8, 9, 10, 11, 12, 13, 0, 1, 2]
    assert mixed.values.shape == (9, model.config.width)
    alone = model(video[None, 8:14])
    assert_same(Outlook(outlook.verbs[:1], outlook.nouns[:1], outlook.actions[:1]), alone)


def test_an_action_is_at_first_as_likely_as_its_verb_and_noun():
    model = anticipator()
    torch.nn.init.zeros_(model.action.weight)
    outlook = model(torch.stack(frames(5, dtype=torch.float32)))
    verbs, nouns = outlook.verbs.log_softmax(dim=-1), outlook.nouns.log_softmax(dim=-1)
    for number, name in enumerate(model.config.classes):
        verb, noun = name.split(", ")
        wanted = verbs[..., model.config.verbs.index(verb)] + nouns[..., model.config.nouns.index(noun)]
        torch.testing.assert_close(outlook.actions[..., number], wanted)


def video_of(count: int) -> Features:
    vectors = frames(count, dtype=torch.float32)[0].numpy()
    return Features(vectors, np.arange(count) / 2, count / 2)


@pytest.mark.parametrize("mixer", MIXERS)
def test_chances_at_moments_are_those_of_a_stream_that_stops_there(mixer: str):
    model, video = anticipator(mixer=mixer), video_of(11)
    stream = Stream(model)
    found = [stream.step(vector) for vector in video.vectors]
    # Before 2.0 s four rows are seen, those at 0, 0.5, 1.0 and 1.5 s.
    chances = chances_at(model, video, [2.0, 5.5, 0.3])
    for place, seen in enumerate((4, 11, 1)):
        for name in ("verbs", "nouns", "actions"):
            np.testing.assert_allclose(getattr(chances, name)[place], getattr(found[seen - 1], name)[0], atol=1e-5)
            np.testing.assert_allclose(getattr(chances, name)[place].sum(axis=-1), 1.0)


def test_the_likeliest_come_first_by_horizon():
    config = anticipator().config
    chances = Chances(np.zeros((1, 2, 3)), np.zeros((1, 2, 2)), np.array([[[0.1, 0.6, 0.3, 0.0], [0.2, 0.2, 0.1, 0.5]]]))
    found = most_expected(config, chances, 0, most=2)
    assert [(one.horizon, one.verb, one.noun, one.probability) for one in found] == [
        (0.5, "jump", "cat", 0.6),
        (0.5, "run", "dog", 0.3),
        (1.0, "swim", "cat", 0.5),
        (1.0, "run", "cat", 0.2),
    ]


@pytest.mark.parametrize(
    ("cuts", "message"), [([], "at least one moment"), ([0.0], "must have a frame before it, got 0 s"), ([6.0], "5.5 s long, got 6 s")]
)
def test_moments_outside_the_video_are_refused(cuts: list[float], message: str):
    with pytest.raises(InputError, match=message):
        chances_at(anticipator(), video_of(11), cuts)


def test_a_frame_of_another_shape_is_refused():
    model = anticipator()
    with pytest.raises(InputError, match=r"of the shape \(1, 6\), got \(1, 5\)"):
        model.step(torch.zeros(1, 5), model.start())
    with pytest.raises(InputError, match="finite"):
        model.step(torch.full((1, DIM), torch.nan), model.start())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixer": "vin"}, "mixer must be one of .*did you mean 'vim'"),
        ({"classes": ("run, cat", "jump")}, "must be named VERB, NOUN, as in 'rotate, circle', got 'jump'"),
        ({"horizons": (1.0, 0.5)}, r"horizons must be seconds above 0 that rise, at least one, got \[1\.0, 0\.5\]"),
        ({"memory_seconds": 0.0}, r"memory_seconds must be positive, got 0\.0"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
    ],
)
def test_a_config_that_breaks_a_rule_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        anticipator(**changes)


def test_the_folder_gives_what_was_written(tmp_path: Path):
    model, x = anticipator(memory_seconds=None), torch.stack(frames(7, dtype=torch.float32))
    read = Anticipator.from_pretrained(model.save_pretrained(tmp_path / "model"))
    assert read.config == model.config
    assert_same(read(x), model(x), atol=0)
    assert "4 classes: run, cat, jump, cat" in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize("mixer", ["vim", "dbm", "attention"])
def test_a_width_makes_all_mixers_of_equal_size(mixer: str):
    wanted = count_parameters(anticipator(width=64))
    changes = {"ffn_expand": 1.0, "num_heads": 2} if mixer == "attention" else {}
    width = matched(lambda number: anticipator(mixer=mixer, width=number, **changes), wanted, among=range(16, 129))
    assert abs(count_parameters(anticipator(mixer=mixer, width=width, **changes)) / wanted - 1) <= 0.03
