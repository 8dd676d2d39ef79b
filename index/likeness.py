"""Rows of a library made comparable: what all of them have in common taken out, and how like each is to footage that is not the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

SHRINKAGE = 1.0  # of the covariance towards a sphere: re-encoding moves vectors in directions in which footage does not differ
SAMPLE = 2048  # rows that stand for the library
LEAST_COMMON = 0.01  # of the library: rows that so many are like are like everything
SPREADS = 3.0
STILL = 0.03  # distance of neighbouring rows below which nothing moves


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Of the rows of a video (t,): the likeness they have with footage that is not the same, and whether anything moves there."""

    levels: NDArray[np.float32]
    is_live: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Likeness:
    """A library's mean row (d,), the map (d, d) to coordinates in which its rows spread about evenly, and sampled rows there.

    ``sample`` (s, d) are unit vectors, of the videos ``owners`` (s,); ``num_videos`` are there in all.
    """

    mean: NDArray[np.float32]
    whitening: NDArray[np.float32]
    sample: NDArray[np.float32]
    owners: NDArray[np.int64]
    num_videos: int

    @classmethod
    def of(cls, sample: Sequence[tuple[int, NDArray[np.float32]]], num_videos: int) -> Self:
        """What sampled rows (s, d) of some videos tell; they stand for a library of ``num_videos``.

        The covariance is shrunk towards a sphere (Ledoit and Wolf 2004), by a fixed share.
        """
        rows = np.concatenate([vectors for _, vectors in sample]).astype(np.float64)
        owners = np.repeat([owner for owner, _ in sample], [len(vectors) for _, vectors in sample])
        mean = rows.mean(axis=0)
        values, axes = np.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
        whitening = axes / np.sqrt(np.maximum(values, 0) + max(SHRINKAGE * float(values.mean()), 1e-9))
        even = _unit((rows - mean) @ whitening)
        return cls(mean.astype(np.float32), whitening.astype(np.float32), even, owners, num_videos)

    def spread(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows (t, d) in the even coordinates, of unit length."""
        return _unit((vectors - self.mean) @ self.whitening)

    def surroundings(self, video_id: int, vectors: NDArray[np.float32]) -> Surroundings:
        """What surrounds the rows (t, d) of a video, which are spread already.

        The level of a row is the likeness that all but a few rows of other videos stay below. A few are as many as a copy of the video
        would have, and at least ``LEAST_COMMON``: copies do not hide each other, and what is everywhere is at home nowhere.
        """
        others = self.sample[self.owners != video_id]
        likeness = vectors @ (others if len(others) else self.sample).T
        last = likeness.shape[1] - 1
        few = min(0.5, max(LEAST_COMMON, 1 / max(1, self.num_videos - 1)))
        low, middle, high = round(0.16 * last), round(0.5 * last), round((1 - few) * last)
        likeness.partition([low, middle, high], axis=1)
        usual = likeness[:, middle] + SPREADS * (likeness[:, middle] - likeness[:, low])
        return Surroundings(np.clip(np.maximum(likeness[:, high], usual), 0.0, 1.0), _is_live(vectors))


def _unit(rows: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)).astype(np.float32)
    return unit


def _is_live(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which rows (t, d) differ from both neighbours; the first and the last as their neighbours do. A cut to a still is no life in it."""
    if len(vectors) < 3:
        return np.ones(len(vectors), np.bool_)
    moves = np.linalg.norm(np.diff(vectors, axis=0), axis=1) > STILL
    inner = moves[:-1] & moves[1:]
    return np.concatenate([inner[:1], inner, inner[-1:]])
