"""TimeMamba as a recogniser: what it holds, and what it asks of the encoder beneath."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.train.suite_toys import ToyEncoder, toy_clips
from tests.train.test_suite import train
from vlm.errors import EncoderMismatch, InputError
from vlm.models.suite.timemamba import TimeMamba, TimeMambaConfig


def made(**changes: object) -> TimeMamba:
    torch.manual_seed(0)
    wanted = {"encoder": "toy", "fingerprint": "abc", "dim": 8, "classes": ("brighter", "darker"), "blocks": 2, "tower_width": 12}
    return TimeMamba(TimeMambaConfig(**{**wanted, "num_frames": 4, "d_state": 4, **changes})).eval()  # type: ignore[arg-type]


def pixels(model: TimeMamba) -> torch.Tensor:
    clips = toy_clips(3)
    return torch.stack([torch.from_numpy(clips.pixels(number, model.reading, None)) for number in range(3)])


def test_at_first_it_classifies_the_mean_of_the_towers_vectors():
    encoder = ToyEncoder()
    model = made().open(encoder)  # type: ignore[arg-type]
    clips = pixels(model)
    with torch.no_grad():
        alone = encoder.forward_frames(encoder.preprocess(clips.flatten(0, 1))).unflatten(0, (3, 4)).mean(dim=1)
        expected = model.head(model.norm(alone))
        torch.testing.assert_close(model(clips), expected, rtol=1e-4, atol=1e-5)
        for layer in model.layers:
            nn.init.constant_(layer.gate, 1.0)
        assert not torch.allclose(model(clips), expected, atol=1e-3)


@pytest.mark.parametrize("mixer", ["vim", "attention"])
def test_it_learns_while_the_tower_stays_and_its_folder_gives_what_it_gave(tmp_path: Path, mixer: str):
    model = train("timemamba", tmp_path / "run", mixer=mixer, steps=30)
    again = TimeMamba.from_pretrained(tmp_path / "run/model").open(ToyEncoder())  # type: ignore[arg-type]
    clips = pixels(again)
    with torch.no_grad():
        assert torch.equal(model(clips), again(clips))
    assert any(float(layer.gate.detach().abs()) > 0 for layer in again.layers)
    assert {name.split(".")[0] for name in again.state_dict()} == {"layers", "norm", "head"}


def test_without_its_encoder_it_tells_what_it_needs():
    with pytest.raises(InputError, match="needs the vision tower of 'toy'"):
        made()(torch.zeros(1, 4, 16, 16, 3, dtype=torch.uint8))


def test_another_encoder_or_another_tower_is_refused():
    other = ToyEncoder()
    other.fingerprint = "xyz"
    with pytest.raises(EncoderMismatch, match="xyz"):
        made().open(other)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="are for 3 blocks, and the vision tower has 2"):
        made(blocks=3).open(ToyEncoder())  # type: ignore[arg-type]

    class Bare:
        name, fingerprint, dim = "toy", "abc", 8

    with pytest.raises(InputError, match="'toy' shows no towers"):
        made().open(Bare())  # type: ignore[arg-type]


def test_clips_of_another_number_of_frames_are_refused():
    model = made().open(ToyEncoder())  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"clips must be uint8 \(b, 4, h, w, 3\)"):
        model(torch.zeros(1, 3, 16, 16, 3, dtype=torch.uint8))
