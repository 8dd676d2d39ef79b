"""Sets of half-open intervals of seconds in many videos at once, and their algebra. Every operation is one sweep over all of them.

A set is kept in its one normal form: sorted, and of intervals that neither overlap nor touch. No bound is ever computed but for those that
are moved on purpose, so that what comes out has the very numbers that went in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """A set of moments of several videos, as intervals ``[start, end)`` in order of video and time; see ``union_of`` for making one.

    Shapes:
        video: (n,) which video. start, end: (n,) seconds.
    """

    video: Ints
    start: Floats
    end: Floats

    def __len__(self) -> int:
        return len(self.video)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Intervals) and all(
            np.array_equal(one, two) for one, two in ((self.video, other.video), (self.start, other.start), (self.end, other.end))
        )

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def of(cls, spans: Iterable[tuple[int, float, float]]) -> Self:
        """The union of (video, start, end). Raises InputError as ``union_of``."""
        rows = list(spans)
        video = np.array([row[0] for row in rows], np.int64)
        bounds = np.array([row[1:] for row in rows], np.float64).reshape(-1, 2)
        return cls.union_of(video, bounds[:, 0], bounds[:, 1])

    @classmethod
    def union_of(cls, video: Ints, start: Floats, end: Floats) -> Self:
        """The union of intervals that may overlap; empty ones say nothing.

        Raises:
            InputError: a bound is not finite, or one ends before it begins.
        """
        broken = np.flatnonzero(~(np.isfinite(start) & np.isfinite(end) & (end >= start)))
        if len(broken):
            raise InputError(f"an interval needs finite bounds in order, got {start[broken[0]]:g} to {end[broken[0]]:g} s")
        return cls(*_swept([(video, start, end)], lambda inside: inside[0]))

    @property
    def seconds(self) -> Floats:
        """(n,) lengths."""
        return self.end - self.start

    def select(self, rows: Bools | Ints) -> Self:
        """Some of the intervals, in their order."""
        return type(self)(self.video[rows], self.start[rows], self.end[rows])

    def union(self, other: Intervals) -> Self:
        """Moments of either."""
        return self._with(other, lambda inside: inside[0] | inside[1])

    def intersection(self, other: Intervals) -> Self:
        """Moments of both."""
        return self._with(other, lambda inside: inside[0] & inside[1])

    def minus(self, other: Intervals) -> Self:
        """Moments of this set that are not of the other. The complement within videos is ``whole.minus(set)``."""
        return self._with(other, lambda inside: inside[0] & ~inside[1])

    def closed(self, gap_seconds: float) -> Self:
        """The set with its gaps inside a video of up to ``gap_seconds``; ends stay.

        Raises:
            InputError: a negative gap.
        """
        if not gap_seconds >= 0:
            raise InputError(f"a gap must be at least 0 s, got {gap_seconds:g} s")
        if not len(self):
            return self
        is_near = (self.video[1:] == self.video[:-1]) & (self.start[1:] - self.end[:-1] <= gap_seconds)
        first = np.flatnonzero(np.append(True, ~is_near))
        last = np.append(first[1:] - 1, len(self) - 1)
        return type(self)(self.video[first], self.start[first], self.end[last])

    def dilated(self, seconds: float, whole: Intervals) -> Self:
        """Moments at most ``seconds`` away from the set, inside ``whole``; a negative number of seconds takes as much off.

        Raises:
            InputError: not a finite number.
        """
        if not np.isfinite(seconds):
            raise InputError(f"a set is dilated by a finite number of seconds, got {seconds:g}")
        start, end = self.start - seconds, self.end + seconds
        is_left = end > start
        moved = type(self).union_of(self.video[is_left], start[is_left], end[is_left])
        return moved.intersection(whole)

    def shifted(self, seconds: float) -> Self:
        """The set, so much later. Bounds are rounded; what they then close is one interval."""
        return type(self).union_of(self.video, self.start + seconds, self.end + seconds)

    def overlaps(self, other: Intervals) -> Bools:
        """(n,) whether each interval shares a moment with ``other``."""
        first, last = self.overlapping(other)
        return last > first

    def overlapping(self, other: Intervals) -> tuple[Ints, Ints]:
        """(n,) and (n,): rows ``[first, last)`` of ``other`` share a moment with each interval."""
        first = searched(other.video, other.end, self.video, self.start, side="right")
        last = searched(other.video, other.start, self.video, self.end, side="left")
        return first, np.maximum(first, last)

    def _with(self, other: Intervals, keep: Callable[[list[Bools]], Bools]) -> Self:
        return type(self)(*_swept([(one.video, one.start, one.end) for one in (self, other)], keep))


def searched(video: Ints, bound: Floats, wanted_video: Ints, wanted: Floats, *, side: str) -> Ints:
    """``numpy.searchsorted`` of pairs (video, seconds) among pairs in order."""
    all_videos, all_bounds = np.concatenate([video, wanted_video]), np.concatenate([bound, wanted])
    is_wanted = np.repeat([False, True], [len(video), len(wanted_video)])
    order = np.lexsort((~is_wanted if side == "left" else is_wanted, all_bounds, all_videos))
    before = np.cumsum(~is_wanted[order])
    found = np.empty(len(order), np.int64)
    found[order] = before
    return found[len(video) :]


def _swept(sets: list[tuple[Ints, Floats, Floats]], keep: Callable[[list[Bools]], Bools]) -> tuple[Ints, Floats, Floats]:
    """The normal form of where ``keep`` is true of being inside each of the sets; it must be false outside all of them."""
    video = np.concatenate([np.concatenate([one[0], one[0]]) for one in sets])
    bound = np.concatenate([np.concatenate([one[1], one[2]]) for one in sets])
    order = np.lexsort((bound, video))
    video, bound = video[order], bound[order]
    # Of several events at one moment the last one knows what holds after it.
    is_last = np.append((video[1:] != video[:-1]) | (bound[1:] != bound[:-1]), True)[: len(video)]
    inside, first = [], 0
    for own, _, _ in sets:
        steps = np.zeros(len(order), np.int64)
        steps[first : first + 2 * len(own)] = np.repeat([1, -1], len(own))
        inside.append(np.cumsum(steps[order])[is_last] > 0)
        first += 2 * len(own)
    kept = keep(inside)
    video, bound = video[is_last], bound[is_last]
    begins = np.flatnonzero(kept & ~np.append(False, kept[:-1])[: len(kept)])
    ends = np.flatnonzero(~kept & np.append(False, kept[:-1])[: len(kept)])
    return video[begins], bound[begins], bound[ends]
