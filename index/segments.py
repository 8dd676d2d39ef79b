"""Searchable stretches of one video, cut where the feature curve changes, and one vector for each.

Adjacent stretches are merged bottom-up, always the pair whose union adds least to the squared distance of the rows from their
stretch's mean: Ward's criterion (Ward 1963) held to neighbours (Grimm 1987). One run gives all levels, so they nest.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vlm.errors import BadVectors, InputError
from vlm.types import Features, Segment, Span

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
    chain = _Chain(features.vectors, edges)
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


class _Chain:
    """Stretches of neighbouring rows that merge in place.

    A stretch is known by its first row; ``sums``, ``counts`` and ``next`` hold its entries there.
    """

    def __init__(self, vectors: NDArray[np.float32], edges: NDArray[np.float64]) -> None:
        num_rows = len(vectors)
        self._sums = vectors.astype(np.float64)
        self._counts = [1] * num_rows
        self._next = list(range(1, num_rows + 1))
        self._previous = list(range(-1, num_rows - 1))
        self._edges: list[float] = edges.tolist()
        self._num_stretches = num_rows
        step = np.diff(vectors, axis=0).astype(np.float64)
        self._rises: list[float] = (0.5 * np.einsum("td,td->t", step, step)).tolist()
        self._rises.append(0.0)  # the last stretch has no neighbour to its right

    def firsts(self) -> list[int]:
        """First rows of the stretches, in order."""
        found, row = [], 0
        while row < len(self._next):
            found.append(row)
            row = self._next[row]
        return found

    def merge(self, *, down_to: int, longest_seconds: float) -> None:
        """Merge the cheapest neighbours until ``down_to`` stretches remain or no pair fits ``longest_seconds``.

        Ties go to the union of fewest rows, then to the left: a static stretch falls into even parts. A pair that is too long
        stays so while stretches only grow, hence it never enters the heap.
        """
        heap = [self._offer(first) for first in self.firsts() if self._fits(first, longest_seconds)]
        heapq.heapify(heap)
        while heap and self._num_stretches > down_to:
            offer = heapq.heappop(heap)
            first = offer[-1]
            # An offer is stale once its left stretch was merged away (count 0) or either side has grown since.
            if not self._counts[first] or not self._fits(first, longest_seconds) or offer != self._offer(first):
                continue
            for changed in self._join(first):
                if self._fits(changed, longest_seconds):
                    heapq.heappush(heap, self._offer(changed))

    def _offer(self, first: int) -> tuple[float, int, int]:
        """What joining a stretch with its right neighbour costs, in the order of merging."""
        return self._rises[first], self._counts[first] + self._counts[self._next[first]], first

    def _fits(self, first: int, longest_seconds: float) -> bool:
        second = self._next[first]
        return second < len(self._next) and self._edges[self._next[second]] - self._edges[first] <= longest_seconds

    def _join(self, first: int) -> list[int]:
        """Join a stretch with its right neighbour; the stretches whose price to their right has changed."""
        second = self._next[first]
        after = self._next[second]
        self._sums[first] += self._sums[second]
        self._counts[first] += self._counts[second]
        self._counts[second] = 0
        self._next[first] = after
        if after < len(self._next):
            self._previous[after] = first
        self._num_stretches -= 1
        changed = [first] if self._previous[first] < 0 else [self._previous[first], first]
        for left in changed:
            self._rises[left] = self._rise(left)
        return changed

    def _rise(self, first: int) -> float:
        """What joining a stretch with its right neighbour adds to the within-stretch sum of squares.

        Taken from the difference of the means, so that it is exactly 0 for equal rows: the three-norm form leaves rounding
        noise there, and the noise would choose the cuts of a static stretch.
        """
        second = self._next[first]
        if second == len(self._next):
            return 0.0
        left, right = self._counts[first], self._counts[second]
        apart = self._sums[first] / left - self._sums[second] / right
        return float(left * right / (left + right) * (apart @ apart))


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
