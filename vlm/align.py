"""The stretches that two videos share: the same rows in the same order at the same pace, under one shift of their clocks.

The grids of two copies differ by a phase, so each row is compared with the other video's rows interpolated at its time, both ways. What a
row's likeness is worth is told by its level, the likeness that rows have with footage that is not the same: at the level it is worth 0,
at equality 1. A run of rows that are worth more than ``WORTH`` is a stretch. Whether it shows one event, and not two that look alike, is
told by its ``information``: rows of a copy are worth less when the clocks are shifted, those of one stage at two times are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError
from vlm.types import Span

WORTH = 0.4  # between what look-alikes reach (0.1) and copies (0.6 to 1); docs/results.md
# All in steps, the usual distance of two rows.
GAP = 2.5  # such a break ends a stretch
SHIFT = 2.0  # how far the clocks are shifted to see whether that matters
REGRET = 3.0  # how much winning by a shift counts against losing by one
EDGE = 0.5  # at either end no row is taken for the shift: the row that it is interpolated with may be none of the stretch
REACH = 1.5  # how far from the suggested shift the best is looked for
COMMON_LEVEL = 0.9  # rows that much of the library looks like: black, bars, cards

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Track:
    """The rows of a video, made comparable.

    Shapes:
        vectors: (t, d) float32, unit length. times: (t,) float64 seconds, strictly increasing; the last row stands until ``end``.
        levels: (t,) float32, the likeness that each row has with footage that is not the same.
        is_live: (t,) whether anything moves there: black, bars and cards stand still.
    """

    vectors: NDArray[np.float32]
    times: Floats
    end: float
    levels: NDArray[np.float32]
    is_live: NDArray[np.bool_]

    def __post_init__(self) -> None:
        shapes = self.vectors.shape[:1], self.times.shape, self.levels.shape, self.is_live.shape
        if not len(self.times) or len(set(shapes)) > 1:
            raise InputError(f"a track needs rows, with one vector, time, level and mark each, got {shapes}")

    @property
    def step(self) -> float:
        """The usual distance of two rows in seconds; of a single row how long it stands."""
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else self.end - float(self.times[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """A shared stretch: ``one`` on the first video's clock, ``other``, as long, on the second's.

    ``worth`` is the mean worth of its rows, at most 1. ``live_seconds`` are those of rows that are live in both. ``information`` says how
    much these lose with shifted clocks: the sum of a video's rows, the mean of both videos and both ways, less ``REGRET`` times what they
    would win if each were shifted its better way: rows of a copy lose both ways. ``gain`` orders the alignments of two videos. ``step`` is
    the usual distance of two rows in seconds.
    """

    one: Span
    other: Span
    worth: float
    live_seconds: float
    information: float
    gain: float
    step: float


def align(one: Track, other: Track, shift: float) -> list[Alignment]:
    """The stretches that two videos share when the second's clock is about ``shift`` seconds ahead of the first's, in order of time.

    The shift of each is the best within ``REACH`` steps, to a twentieth of a step.
    """
    step = max(one.step, other.step)
    shifts = shift + step * np.arange(-REACH, REACH + 0.01, 0.25)
    gains = [_best_gain(*compared(one, other, float(at))) for at in shifts]
    best = float(shifts[int(np.argmax(gains))])
    found = []
    for first, last in runs(*compared(one, other, best), most_apart=GAP * step):
        at = _refined(one, other, best, first, last, step)
        found += [_alignment(one, other, at, *pair, step) for pair in runs(*compared(one, other, at), most_apart=GAP * step)]
    return _distinct(found)


def compared(one: Track, other: Track, shift: float) -> tuple[Floats, Floats]:
    """When, on the first clock, a row of either video meets the other, in order (n,), and what it is worth (n,), in [-1, 1]."""
    there, mine = against(one, other, shift)
    here, theirs = against(other, one, -shift)
    times = np.concatenate([one.times[there], other.times[here] - shift])
    order = np.argsort(times, kind="stable")
    return times[order], np.concatenate([mine, theirs])[order]


def against(one: Track, other: Track, shift: float) -> tuple[NDArray[np.int64], Floats]:
    """Rows of ``one`` that meet the other video (n,), and what each is worth (n,) beside the rows there, interpolated at its time.

    A row that much of the library looks like is worth ``WORTH``: it counts neither for nor against.
    """
    rows, mixed, levels = _met(one, other, shift)
    likeness = np.einsum("nd,nd->n", mixed, one.vectors[rows]) / np.maximum(np.linalg.norm(mixed, axis=1), 1e-9)
    level = np.maximum(one.levels[rows], levels)
    worth = (likeness - level) / np.maximum(1 - level, 1 - COMMON_LEVEL)
    return rows, np.where(level > COMMON_LEVEL, WORTH, np.clip(worth, -1.0, 1.0))


def _met(one: Track, other: Track, shift: float) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Rows of ``one`` that meet the other video (n,), and its vectors (n, d) and levels (n,) interpolated at their times."""
    when = one.times + shift
    rows = np.flatnonzero((when >= other.times[0]) & (when < other.end))
    left = np.searchsorted(other.times, when[rows], side="right") - 1
    right = np.minimum(left + 1, len(other.times) - 1)
    between = other.times[right] - other.times[left]
    share = np.where(between > 0, (when[rows] - other.times[left]) / np.where(between > 0, between, 1.0), 0.0)
    mixed = (1 - share[:, None]) * other.vectors[left] + share[:, None] * other.vectors[right]
    return rows, mixed, (1 - share) * other.levels[left] + share * other.levels[right]


def runs(times: Floats, worth: Floats, *, most_apart: float) -> list[tuple[int, int]]:
    """Half-open ranges of rows that belong together, in order.

    Rows that are worth more than ``WORTH`` and nowhere ``most_apart`` seconds or more apart are a group, with what lies between them; of
    each group it is the range of the greatest sum above ``WORTH``.
    """
    good = np.flatnonzero(worth > WORTH)
    if not len(good):
        return []
    breaks = np.flatnonzero(np.diff(times[good]) >= most_apart) + 1
    return [_greatest(worth - WORTH, int(part[0]), int(part[-1]) + 1) for part in np.split(good, breaks)]


def _greatest(gains: Floats, first: int, last: int) -> tuple[int, int]:
    """The range within ``[first, last)`` of the greatest sum; of equals the first."""
    sums = np.concatenate([[0.0], np.cumsum(gains[first:last])])
    lowest = np.minimum.accumulate(sums)
    end = int(np.argmax(sums[1:] - lowest[:-1])) + 1
    begin = int(np.argmin(sums[:end]))
    return first + begin, first + end


def _best_gain(times: Floats, worth: Floats) -> float:
    if not len(times):
        return 0.0
    first, last = _greatest(worth - WORTH, 0, len(worth))
    return float((worth[first:last] - WORTH).sum())


def _refined(one: Track, other: Track, shift: float, first: int, last: int, step: float) -> float:
    """The shift, to a twentieth of a step, at which the rows of a run, taken by their times, lie nearest to those of the other video.

    What all of them differ by is left out: a crop moves all rows alike, and more than a shift does.
    """
    times, _ = compared(one, other, shift)
    within = times[first] + EDGE * step, times[last - 1] - EDGE * step
    shifts = shift + step * np.arange(-1.0, 1.01, 0.05)
    apart = [_apart(one, other, float(at), within) + _apart(other, one, -float(at), (within[0] + at, within[1] + at)) for at in shifts]
    return float(shifts[int(np.argmin(apart))]) if np.isfinite(apart).any() else shift


def _apart(one: Track, other: Track, shift: float, within: tuple[float, float]) -> float:
    """The mean distance of the rows from those interpolated there, less their mean difference; infinite where fewer than two meet."""
    rows, mixed, _ = _met(one, other, shift)
    inside = (one.times[rows] >= within[0] - 1e-9) & (one.times[rows] <= within[1] + 1e-9)
    if inside.sum() < 2:
        return np.inf
    differences = one.vectors[rows[inside]] - mixed[inside]
    return float(np.linalg.norm(differences - differences.mean(axis=0), axis=1).mean())


def _alignment(one: Track, other: Track, shift: float, first: int, last: int, step: float) -> Alignment:
    times, worth = compared(one, other, shift)
    within = float(times[first]), float(times[last - 1])
    begin = max(0.0, -shift, _edge(one, other, shift, within[0], is_end=False))
    end = max(_edge(one, other, shift, within[1], is_end=True), begin + 1e-3)
    live, information = _liveliness(one, other, shift, within, step)
    inside = worth[first:last]
    return Alignment(
        one=Span(begin, end),
        other=Span(begin + shift, end + shift),
        worth=float(inside.mean()),
        live_seconds=live * step,
        information=information,
        gain=float((inside - WORTH).sum()) / 2,
        step=step,
    )


def _edge(one: Track, other: Track, shift: float, moment: float, *, is_end: bool) -> float:
    """Where, on the first clock, a run begins or ends whose outermost row is at ``moment``.

    A video that has no more rows ends there. Else one of them cuts there, to or from something else, and the cut is taken to lie half-way
    between two rows of that one: of both halves-way it is the mean, weighted by the squared distance of the rows. Rows of the other video,
    interpolated across the cut, tell nothing of it.
    """
    limits: list[float] = []
    found: list[tuple[float, float]] = []
    for track, offset in ((one, 0.0), (other, shift)):
        times = track.times - offset
        row = int(np.searchsorted(times, moment + 1e-9, side="right")) - 1 if is_end else int(np.searchsorted(times, moment - 1e-9))
        beyond = row + 1 if is_end else row - 1
        if not 0 <= beyond < len(times):
            limits.append(track.end - offset if is_end else float(times[0]))
        elif 0 <= row < len(times):
            jump = float(((track.vectors[row] - track.vectors[beyond]) ** 2).sum()) + 1e-9
            found.append((jump, float(times[row] + times[beyond]) / 2))
    if limits:
        return min(limits) if is_end else max(limits)
    return sum(jump * at for jump, at in found) / sum(jump for jump, _ in found)


def _liveliness(one: Track, other: Track, shift: float, within: tuple[float, float], step: float) -> tuple[float, float]:
    """How many rows are live in both videos, and the information of these; means of both videos."""
    count, lost, regained = 0, 0.0, 0.0
    for first, second, way, begin in ((one, other, shift, 0.0), (other, one, -shift, shift)):
        rows, worth = against(first, second, way)
        times = first.times[rows]
        nearest = np.searchsorted(second.times, times + way + step / 2).clip(1, len(second.times)) - 1
        is_live = first.is_live[rows] & second.is_live[nearest]
        inside = is_live & (times >= within[0] + begin - 1e-9) & (times <= within[1] + begin + 1e-9)
        back, forth = (_at_rows(first, second, way + sign * SHIFT * step)[rows][inside] for sign in (-1, 1))
        # Where one way leads out of the other video, the other way stands for both.
        back, forth = np.where(np.isnan(back), forth, back), np.where(np.isnan(forth), back, forth)
        count += int(inside.sum())
        lost += float(np.nansum(worth[inside].clip(0) - (back + forth) / 2))
        regained += float(np.nansum(np.maximum(back, forth) - worth[inside].clip(0)))
    return count / 2, lost / 2 - REGRET * max(0.0, regained / 2)


def _at_rows(one: Track, other: Track, shift: float) -> Floats:
    """What each row of ``one`` is worth (t,), at least 0; NaN where it meets nothing."""
    worth = np.full(len(one.times), np.nan)
    rows, found = against(one, other, shift)
    worth[rows] = found.clip(0)
    return worth


def _distinct(found: list[Alignment]) -> list[Alignment]:
    """The alignments without those that overlap a better one, in order of time."""
    kept: list[Alignment] = []
    for one in sorted(found, key=lambda one: -one.gain):
        if all(one.one.end <= other.one.start or one.one.start >= other.one.end for other in kept):
            kept.append(one)
    return sorted(kept, key=lambda one: one.one)
