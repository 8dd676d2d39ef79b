"""How things move: closed forms of time, so that a frame can be made at any moment without those before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Times in this file are integers, in tenths of a second: additions of them are exact.
TICKS_PER_SECOND = 10

Knots = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Fade:
    """A change of colour; the two are positions in ``vocabulary.COLOURS``."""

    start: int
    end: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Hops:
    """Leaps on the spot: parabolas of ``height``, one every ``period``."""

    start: int
    end: int
    period: int
    height: float


@dataclass(frozen=True, slots=True)
class Track:
    """One thing's motion through its scene.

    Attributes:
        x, y, radius: knots (tick, value) in world units, eased in and out between them, held before the first and after the last.
        turn: knots of the heading in degrees clockwise from up, at even speed between them.
        present: half-open intervals of ticks in which the thing exists.
        unseen: half-open intervals of ticks in which it is blinked away.
    """

    x: Knots
    y: Knots
    radius: Knots
    turn: Knots
    colour: int
    fades: tuple[Fade, ...]
    hops: tuple[Hops, ...]
    present: tuple[tuple[int, int], ...]
    unseen: tuple[tuple[int, int], ...]
    depth: float


def eased(knots: Knots, ticks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values at ``ticks`` (t,), with speed zero at every knot (smoothstep)."""
    return _between(knots, ticks, ease=True)


def even(knots: Knots, ticks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values at ``ticks`` (t,), in straight lines between the knots."""
    return _between(knots, ticks, ease=False)


def _between(knots: Knots, ticks: NDArray[np.float64], *, ease: bool) -> NDArray[np.float64]:
    at = np.array([tick for tick, _ in knots], dtype=np.float64)
    value = np.array([value for _, value in knots], dtype=np.float64)
    if len(at) == 1:
        return np.full(ticks.shape, value[0])
    left = np.clip(np.searchsorted(at, ticks, side="right") - 1, 0, len(at) - 2)
    # Two knots at one tick are a jump: what comes after it holds from that tick on.
    share = np.clip((ticks - at[left]) / np.maximum(at[left + 1] - at[left], 1e-9), 0.0, 1.0)
    if ease:
        share = share * share * (3.0 - 2.0 * share)
    return value[left] + (value[left + 1] - value[left]) * share


def inside(intervals: tuple[tuple[int, int], ...], ticks: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each of ``ticks`` (t,) lies in one of the half-open ``intervals``."""
    held = np.zeros(ticks.shape, dtype=np.bool_)
    for start, end in intervals:
        held |= (ticks >= start) & (ticks < end)
    return held


def hop_heights(hops: tuple[Hops, ...], ticks: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far above its place the thing is at ``ticks`` (t,)."""
    height = np.zeros(ticks.shape)
    for hop in hops:
        phase = (ticks - hop.start) / hop.period % 1.0
        height += np.where((ticks >= hop.start) & (ticks < hop.end), hop.height * 4.0 * phase * (1.0 - phase), 0.0)
    return height
