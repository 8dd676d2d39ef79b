"""The assembled model on disk: whole or not at all, for its own encoder or none."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlm.errors import EncoderMismatch, InputError, WeightsUnavailable
from vlm.models.adapter import AdapterConfig
from vlm.models.decoder import DecoderConfig
from vlm.models.folder import CARD, CONFIG, WEIGHTS
from vlm.models.interaction import InteractionConfig
from vlm.models.model import FORMAT, VideoTextConfig, VideoTextModel, build, joined, padded
from vlm.train.join import main

INTERACTION = InteractionConfig(text_dim=8, video_dim=8, width=12, num_layers=1, d_state=4)
CONFIGURED = VideoTextConfig(
    encoder="small",
    fingerprint="f1",
    adapter=AdapterConfig(dim=8, num_layers=1, d_state=4),
    interaction=INTERACTION,
    answers=("red", "blue"),
    decoder=DecoderConfig(width=12, summary_size=INTERACTION.summary_size, vocabulary_size=9, start=2, end=3, num_layers=1, d_state=4),
)


class Named:
    """As much of an encoder as is asked for its name."""

    def __init__(self, name: str = "small", fingerprint: str = "f1", dim: int = 8) -> None:
        self.name, self.fingerprint, self.dim = name, fingerprint, dim


def model(config: VideoTextConfig = CONFIGURED) -> VideoTextModel:
    torch.manual_seed(0)
    return VideoTextModel(config).eval()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return model().save_pretrained(tmp_path / "model")


def test_what_was_saved_is_what_is_opened(saved: Path) -> None:
    own, opened = model(), VideoTextModel.from_pretrained(saved)
    assert opened.config == own.config
    assert not opened.training
    assert all(torch.equal(value, opened.state_dict()[name]) for name, value in own.state_dict().items())
    assert "small" in (saved / CARD).read_text()
    assert {path.name for path in saved.iterdir()} == {CONFIG, WEIGHTS, CARD}
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_adapters_stand_beside_an_interaction_that_was_trained_apart(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(7)
    deep = VideoTextModel(VideoTextConfig(encoder="small", fingerprint="f1", adapter=AdapterConfig(dim=8, num_layers=3, d_state=2)))
    folder = deep.save_pretrained(tmp_path / "deep")
    assert main([str(folder), str(saved), "--out", str(tmp_path / "both"), "--half"]) == 0
    both = VideoTextModel.from_pretrained(tmp_path / "both")
    assert both.config == replace(CONFIGURED, adapter=deep.config.adapter)
    expected = {name: value for name, value in model().state_dict().items() if name.startswith("crossing.")} | deep.state_dict()
    assert both.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name].half().float()) for name, value in both.state_dict().items())
    with pytest.raises(EncoderMismatch, match=r"'other' .*'small'"):
        joined(VideoTextModel(replace(deep.config, encoder="other", fingerprint="f2")), model())
    capsys.readouterr()
    assert main([str(saved), str(folder), "--out", str(tmp_path / "none")]) == 1
    assert "for retrieval alone" in capsys.readouterr().err


def test_an_interaction_of_an_earlier_format_is_refused_and_adapters_are_not(saved: Path, tmp_path: Path) -> None:
    alone = VideoTextModel(VideoTextConfig(encoder="small", fingerprint="f1", adapter=CONFIGURED.adapter)).save_pretrained(
        tmp_path / "alone"
    )
    for folder in (saved, alone):
        held = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(held | {"format": 1}))
    assert VideoTextModel.from_pretrained(alone).crossing is None
    with pytest.raises(WeightsUnavailable, match="format 1, whose interaction had other parts: train the model again"):
        VideoTextModel.from_pretrained(saved)


def test_saving_again_replaces_a_model_and_nothing_else(saved: Path, tmp_path: Path) -> None:
    changed = model()
    torch.nn.init.ones_(changed.text_adapter.gate)
    changed.save_pretrained(saved, card="# mine\n")
    assert float(VideoTextModel.from_pretrained(saved).text_adapter.gate.detach()) == 1
    assert (saved / CARD).read_text() == "# mine\n"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").touch()
    with pytest.raises(InputError, match="photos' holds something other than a model"):
        changed.save_pretrained(other)


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """As on a disk that becomes full: longer writes fail."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_where_the_disk_is_full_the_model_before_survives(saved: Path, tmp_path: Path) -> None:
    changed = model()
    torch.nn.init.ones_(changed.text_adapter.gate)
    with files_of_at_most(4096), pytest.raises(OSError, match=r"model' \(.*too large.*free space"):
        changed.save_pretrained(saved)
    assert float(VideoTextModel.from_pretrained(saved).text_adapter.gate.detach()) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("text_adapter.gate"), r"1 missing \(text_adapter.gate\)"),
        (lambda tensors: tensors.update(new=torch.zeros(1)), r"1 too many \(new\)"),
        (lambda tensors: tensors.update({"text_adapter.gate": torch.zeros(3)}), r"1 of another shape \(text_adapter.gate\)"),
    ],
)
def test_tensors_that_are_not_those_of_the_config_are_refused(saved: Path, change: Any, words: str) -> None:
    tensors = load_file(saved / WEIGHTS)
    change(tensors)
    save_file(tensors, saved / WEIGHTS)
    with pytest.raises(WeightsUnavailable, match=words):
        VideoTextModel.from_pretrained(saved)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda held: held.update(format=FORMAT + 1), f"format {FORMAT + 1}, this vlm reads up to {FORMAT}: install a newer one"),
        (lambda held: held.pop("model"), "needs 'format' and 'model'"),
        (lambda held: held["model"]["adapter"].update(layers=3), "adapter.layers is unknown"),
        (lambda held: held["model"].update(encode="x"), "model.encode is unknown; did you mean 'encoder'"),
        (lambda held: held["model"]["interaction"].update(mixer="mambo"), "did you mean 'mamba'"),
    ],
)
def test_a_config_that_is_none_of_ours_is_told(saved: Path, change: Any, words: str) -> None:
    held = json.loads((saved / CONFIG).read_text())
    change(held)
    (saved / CONFIG).write_text(json.dumps(held))
    with pytest.raises(WeightsUnavailable, match=words):
        VideoTextModel.from_pretrained(saved)


def test_a_model_of_another_encoder_is_refused_with_both_names() -> None:
    with pytest.raises(EncoderMismatch, match=r"'small' \(f1\).*'big' \(f2\).*vlm train"):
        model().check_encoder(Named("big", "f2"))  # type: ignore[arg-type]
    with pytest.raises(EncoderMismatch, match="'small' of other weights"):
        model().check_encoder(Named(fingerprint="f2"))  # type: ignore[arg-type]


def test_a_model_is_built_for_an_encoder_of_its_width() -> None:
    assert build(Named(), config=CONFIGURED).config == CONFIGURED  # type: ignore[arg-type]
    with pytest.raises(InputError, match="encoder's width 7, got 8"):
        build(Named(dim=7), config=CONFIGURED)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["nowhere/at/all", "./nowhere", "nowhere"])
def test_a_folder_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(WeightsUnavailable, match=name):
        VideoTextModel.from_pretrained(name, offline=True)


def test_a_model_of_the_hub_is_not_fetched_offline() -> None:
    with pytest.raises(WeightsUnavailable, match="someone/model"):
        VideoTextModel.from_pretrained("someone/model", offline=True)


def test_widths_must_agree() -> None:
    with pytest.raises(InputError, match=r"text_dim 8 .* adapter.dim 9"):
        replace(CONFIGURED, adapter=AdapterConfig(dim=9))
    with pytest.raises(InputError, match=r"decoder.width 12 must be interaction.width 16"):
        replace(CONFIGURED, interaction=replace(CONFIGURED.interaction, width=16))  # type: ignore[type-var]


def test_a_model_for_retrieval_alone_neither_grounds_nor_answers(tmp_path: Path) -> None:
    config = VideoTextConfig(encoder="small", fingerprint="f1", adapter=CONFIGURED.adapter)
    opened = VideoTextModel.from_pretrained(model(config).save_pretrained(tmp_path / "model"))
    assert opened.config == config
    assert set(opened.num_parameters()) == {"adapter", "text_adapter"}
    with pytest.raises(InputError, match="for retrieval alone"):
        opened.cross()
    with pytest.raises(InputError, match="need an interaction"):
        replace(config, answers=("red",))


def test_every_part_tells_how_much_it_learns() -> None:
    counts = model().num_parameters()
    assert set(counts) >= {"adapter", "interaction", "grounding", "decoder"}
    assert "crossing" not in counts
    assert sum(counts.values()) == sum(parameter.numel() for parameter in model().parameters())


def test_items_of_several_lengths_become_a_batch() -> None:
    batch, mask = padded([torch.ones(2, 3), torch.ones(1, 3)])
    assert batch.tolist() == [[[1.0] * 3] * 2, [[1.0] * 3, [0.0] * 3]]
    assert mask.tolist() == [[True, True], [True, False]]
    with pytest.raises(InputError, match="got none"):
        padded([])
