"""Frame vectors of Toybox videos, encoded once: what everything on top of a frozen encoder is trained from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.render import render
from vlm.data.toybox.vocabulary import VERSION
from vlm.data.toybox.world import World
from vlm.encoders.base import Encoder
from vlm.errors import InputError
from vlm.types import Features

PART = 64  # videos that are encoded between two writes: a stopped run loses no more


@dataclass(frozen=True, slots=True)
class FeatureCache:
    """Features of many videos in one memory-mapped file.

    Shapes:
        vectors: (n, d) float16, unit length. times: (n,) float64 seconds. bounds: (v + 1,) int64; video i has the rows
            ``[bounds[i], bounds[i + 1])``. ends: (v,) float64 seconds.
    """

    vectors: NDArray[np.float16]
    times: NDArray[np.float64]
    bounds: NDArray[np.int64]
    ends: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> Features:
        """The features of one video, in float32."""
        rows = slice(self.bounds[number], self.bounds[number + 1])
        return Features(np.asarray(self.vectors[rows], np.float32), np.asarray(self.times[rows]), float(self.ends[number]))


def open_features(worlds: Sequence[World], encoder: Encoder, folder: Path, *, frames_per_second: float = 2.0) -> FeatureCache:
    """Features of ``worlds`` in their order, rendered and encoded into ``folder`` unless they are there; a stopped run goes on.

    Frames are rendered at the encoder's own size, at every ``1 / frames_per_second`` seconds from 0.

    Raises:
        InputError: no worlds, or a rate that is not positive.
    """
    if not worlds or frames_per_second <= 0:
        raise InputError(f"features need worlds and a positive rate, got {len(worlds)} worlds at {frames_per_second:g} frames a second")
    key = json.dumps([VERSION, encoder.fingerprint, frames_per_second, [world.name for world in worlds]])
    home = folder / f"features-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    home.mkdir(parents=True, exist_ok=True)
    times = [np.arange(0, world.seconds, 1 / frames_per_second) for world in worlds]
    bounds = np.concatenate([[0], np.cumsum([len(one) for one in times])])
    path = home / "vectors.npy"
    if not (home / "done").exists():
        _fill(worlds, times, bounds, encoder, home)
    return FeatureCache(np.load(path, mmap_mode="r"), np.concatenate(times), bounds, np.array([world.seconds for world in worlds]))


def _fill(worlds: Sequence[World], times: Sequence[NDArray[np.float64]], bounds: NDArray[np.int64], encoder: Encoder, home: Path) -> None:
    path, mark = home / "vectors.npy", home / "videos.txt"
    begun = path.exists() and mark.exists()
    shape = (int(bounds[-1]), encoder.dim)
    vectors = np.lib.format.open_memmap(
        path, mode="r+" if begun else "w+", dtype=None if begun else np.float16, shape=None if begun else shape
    )
    size = encoder.preprocessing.framing.height
    for first in range(int(mark.read_text()) if begun else 0, len(worlds), PART):
        last = min(first + PART, len(worlds))
        frames = np.concatenate([render(worlds[number], times[number], size=size) for number in range(first, last)])
        vectors[bounds[first] : bounds[last]] = encoder.encode_frames(frames)
        vectors.flush()
        mark.write_text(str(last))
    (home / "done").touch()
