"""Searchable stretches of one video, cut where the feature curve changes (vlm.ward), and one vector for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vlm.errors import BadVectors, InputError
from vlm.types import Features, Segment, Span
from vlm.ward import Chain

__all__ = ["COARSER", "FINEST_SECONDS", "Pool", "cut", "pool"]

# Unit vectors (n, d) of segments of a video's features.
Pool = Callable[[Features, Sequence[Segment]], NDArray[np.float32]]

FINEST_SECONDS = 5.0  # mean length at level 0: about one action, so a hit is a stretch that a person would play
COARSER = 4  # each level's mean length over that of the level below: a third more vectors than level 0 alone


def cut(features: Features, *, finest_seconds: float = FINEST_SECONDS) -> list[Segment]:
    """The video's segments on all levels, ordered by level and then by time.

    Every level partitions ``[times[0], end)`` at boundaries between rows, and each boundary of a level is one of the level below. Level l
    holds about ``duration / (finest_seconds * 4**l)`` segments; the last level is the whole video. A level that equals the one below is
    left out, so a video of one row is one segment.

    Below the top, no segment of several rows is longer than twice its level's mean. Without that cap a static stretch becomes one
    segment and the count is spent on slivers of the moving parts; a cap under twice the mean could not reach the count, since
    neighbours that may not merge are longer than the cap together.

    Raises:
        InputError: no rows, or ``finest_seconds`` is not positive.
        BadVectors: a row is NaN or infinite.
    """
    if not finest_seconds > 0:
        raise InputError(f"finest_seconds must be positive, got {finest_seconds:g}")
    if not len(features.times):
        raise InputError("features must have at least one row to be cut into segments, got none")
    _refuse_non_finite(features)

    edges = np.append(features.times, features.end)  # (t + 1,)
    duration = float(edges[-1] - edges[0])
    chain = Chain(features.vectors, edges)
    levels: list[list[int]] = []  # per level the first row of each segment
    mean_seconds = finest_seconds
    while (num_segments := round(duration / mean_seconds)) > 1:
        chain.merge(down_to=num_segments, longest_seconds=2 * mean_seconds)
        if not levels or len(chain.firsts()) < len(levels[-1]):
            levels.append(chain.firsts())
        mean_seconds *= COARSER
    if not levels or len(levels[-1]) > 1:
        levels.append([0])
    return [segment for level, firsts in enumerate(levels) for segment in _segments(level, firsts, edges)]


def pool(features: Features, segments: Sequence[Segment]) -> NDArray[np.float32]:
    """One unit vector per segment: (n, d) float32, the normalised mean of its rows.

    Each row counts the same, however long it stands for: over evenly sampled frames this is mean pooling.

    Raises:
        InputError: a segment reaches past the rows.
        BadVectors: rows of a segment are NaN or infinite, or cancel out.
    """
    num_rows, dim = features.vectors.shape
    firsts = np.array([s.first for s in segments], dtype=np.int64)
    lasts = np.array([s.last for s in segments], dtype=np.int64)
    if np.any(firsts < 0) or np.any(firsts >= lasts) or np.any(lasts > num_rows):
        raise InputError(f"segments must be non-empty ranges of the features' {num_rows} rows; cut them from these features")
    _refuse_non_finite(features)

    sums = np.zeros((num_rows + 1, dim))  # float64: differences of long prefix sums keep the digits that float32 would lose
    np.cumsum(features.vectors, axis=0, dtype=np.float64, out=sums[1:])
    means: NDArray[np.float64] = (sums[lasts] - sums[firsts]) / (lasts - firsts)[:, None]  # (n, d)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    if np.any(lengths < 1e-6):
        cancelled = segments[int(np.argmin(lengths))]
        raise BadVectors(f"rows {cancelled.first}..{cancelled.last - 1} cancel out: their mean has no direction")
    vectors: NDArray[np.float32] = (means / lengths).astype(np.float32)
    return vectors


def _segments(level: int, firsts: list[int], edges: NDArray[np.float64]) -> list[Segment]:
    lasts = [*firsts[1:], len(edges) - 1]
    return [
        Segment(level=level, first=first, last=last, span=Span(float(edges[first]), float(edges[last])))
        for first, last in zip(firsts, lasts, strict=True)
    ]


def _refuse_non_finite(features: Features) -> None:
    finite = np.isfinite(features.vectors).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise BadVectors(f"feature row {row} (at {features.times[row]:g} s) is NaN or infinite; encode the video again")
