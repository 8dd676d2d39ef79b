"""Neighbouring rows of a video merged bottom-up into ever longer stretches, always the pair whose union adds least to the squared distance
of the rows from their stretch's mean: Ward's criterion (Ward 1963) held to neighbours (Grimm 1987). One run gives all levels, so they nest.
"""

from __future__ import annotations

import heapq
import math

import numpy as np
from numpy.typing import NDArray


def nested_ranges(vectors: NDArray[np.float32], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Every stretch on the way from single rows to the whole video: half-open ranges of rows (2 t - 1, 2), the whole last.

    Args:
        vectors: (t, d) finite rows. edges: (t + 1,) seconds at which rows begin, and the end of the last.
    """
    chain = Chain(vectors, edges)
    chain.merge(down_to=1, longest_seconds=math.inf)
    rows = np.arange(len(vectors))
    return np.concatenate([np.stack([rows, rows + 1], axis=1), np.array(chain.unions, np.int64).reshape(-1, 2)])


class Chain:
    """Stretches of neighbouring rows that merge in place.

    A stretch is known by its first row; ``sums``, ``counts`` and ``next`` hold its entries there. ``unions`` are the ranges of rows that
    were made, in their order.
    """

    def __init__(self, vectors: NDArray[np.float32], edges: NDArray[np.float64]) -> None:
        num_rows = len(vectors)
        self._sums = vectors.astype(np.float64)
        self._counts = [1] * num_rows
        self._next = list(range(1, num_rows + 1))
        self._previous = list(range(-1, num_rows - 1))
        self._edges: list[float] = edges.tolist()
        self._num_stretches = num_rows
        self.unions: list[tuple[int, int]] = []
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
        self.unions.append((first, after))
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
