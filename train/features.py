"""Frame vectors of Toybox videos, encoded once: what everything on top of a frozen encoder is trained from."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import filelock
import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.render import render
from vlm.data.toybox.vocabulary import VERSION
from vlm.data.toybox.world import World
from vlm.encoders.base import Encoder
from vlm.errors import InputError
from vlm.types import Features

PART = 8  # videos that are rendered and encoded at once, and written: a stopped run loses no more
AHEAD = 2  # such groups that each process renders ahead


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


def open_features(
    worlds: Sequence[World], encoder: Encoder, folder: Path, *, frames_per_second: float = 2.0, workers: int = 1
) -> FeatureCache:
    """Features of ``worlds`` in their order, rendered and encoded into ``folder`` unless they are there; a stopped run goes on.

    Frames are rendered at the encoder's own size, at every ``1 / frames_per_second`` seconds from 0, by ``workers`` processes.

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
    # Ranks of torchrun, and trainings beside each other, share what the first of them makes.
    with filelock.FileLock(home / "lock"):
        if not (home / "done").exists():
            _fill(worlds, times, bounds, encoder, home, workers)
    return FeatureCache(np.load(path, mmap_mode="r"), np.concatenate(times), bounds, np.array([world.seconds for world in worlds]))


def _fill(
    worlds: Sequence[World], times: Sequence[NDArray[np.float64]], bounds: NDArray[np.int64], encoder: Encoder, home: Path, workers: int
) -> None:
    path, mark = home / "vectors.npy", home / "videos.txt"
    begun = path.exists() and mark.exists()
    shape = (int(bounds[-1]), encoder.dim)
    vectors = np.lib.format.open_memmap(
        path, mode="r+" if begun else "w+", dtype=None if begun else np.float16, shape=None if begun else shape
    )
    size, first = encoder.preprocessing.framing.height, int(mark.read_text()) if begun else 0
    groups = [range(number, min(number + PART, len(worlds))) for number in range(first, len(worlds), PART)]
    asked = [([worlds[number] for number in group], [times[number] for number in group], size) for group in groups]
    for group, frames in zip(groups, _rendered(asked, workers), strict=True):
        vectors[bounds[group.start] : bounds[group.stop]] = encoder.encode_frames(frames)
        vectors.flush()
        mark.write_text(str(group.stop))
    (home / "done").touch()


_Asked = tuple[Sequence[World], Sequence[NDArray[np.float64]], int]


def _rendered(asked: Sequence[_Asked], workers: int) -> Iterator[NDArray[np.uint8]]:
    """The frames of each group of worlds, in order; a few groups ahead by each process."""
    if workers < 2:
        yield from map(_render_group, asked)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting: deque[Future[NDArray[np.uint8]]] = deque()
        for one in asked:
            waiting.append(pool.submit(_render_group, one))
            if len(waiting) > AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _render_group(asked: _Asked) -> NDArray[np.uint8]:
    worlds, times, size = asked
    return np.concatenate([render(world, when, size=size) for world, when in zip(worlds, times, strict=True)])
