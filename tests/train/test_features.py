"""Features of Toybox videos: those of the encoder, made once, and gone on with where they stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vlm.data.toybox.plan import event_clip
from vlm.data.toybox.render import render
from vlm.encoders.base import Preprocessing
from vlm.errors import InputError
from vlm.train import features
from vlm.train.features import open_features
from vlm.types import Framing


class MeanEncoder:
    """A frame is its mean colour."""

    fingerprint, dim = "m1", 3
    preprocessing = Preprocessing(Framing(height=32, width=32))

    def __init__(self, *, most: int = 1_000_000) -> None:
        self.frames, self.most = 0, most

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.frames += len(frames)
        if self.frames > self.most:
            raise KeyboardInterrupt
        mean = frames.mean(axis=(1, 2))
        return (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)


WORLDS = [event_clip(3, index) for index in range(5)]


def test_features_are_those_of_the_frames(tmp_path: Path) -> None:
    encoder = MeanEncoder()
    cache = open_features(WORLDS, encoder, tmp_path)  # type: ignore[arg-type]
    assert len(cache) == 5
    for number, world in enumerate(WORLDS):
        found = cache[number]
        np.testing.assert_array_equal(found.times, np.arange(0, world.seconds, 0.5))
        assert found.end == world.seconds
        np.testing.assert_allclose(found.vectors, encoder.encode_frames(render(world, found.times, size=32)), atol=1e-3)


def test_what_is_there_is_not_encoded_again_and_what_is_missing_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "PART", 2)
    whole = open_features(WORLDS, MeanEncoder(), tmp_path / "whole")  # type: ignore[arg-type]
    rows = int(whole.bounds[2])
    with pytest.raises(KeyboardInterrupt):
        open_features(WORLDS, MeanEncoder(most=rows), tmp_path / "cut")  # type: ignore[arg-type]
    second, third = MeanEncoder(), MeanEncoder()
    again = open_features(WORLDS, second, tmp_path / "cut")  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.vectors, whole.vectors)
    assert second.frames == int(whole.bounds[-1]) - rows
    open_features(WORLDS, third, tmp_path / "cut")  # type: ignore[arg-type]
    assert third.frames == 0


def test_another_encoder_or_rate_has_features_of_its_own(tmp_path: Path) -> None:
    other = MeanEncoder()
    other.fingerprint = "m2"
    for encoder, rate in ((MeanEncoder(), 2.0), (other, 2.0), (MeanEncoder(), 1.0)):
        open_features(WORLDS[:1], encoder, tmp_path, frames_per_second=rate)  # type: ignore[arg-type]
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(("worlds", "rate"), [([], 2.0), (WORLDS, 0.0)])
def test_nothing_to_encode_is_refused(worlds: list[object], rate: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"got {len(worlds)} worlds at {rate:g}"):
        open_features(worlds, MeanEncoder(), tmp_path, frames_per_second=rate)  # type: ignore[arg-type]
