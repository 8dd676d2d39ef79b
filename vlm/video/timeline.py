"""When each frame of a video is shown, and which packets carry it: numpy tables, no decoder."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError
from vlm.types import Clock, Span

NO_PTS = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Timeline:
    """The presented frames of one stream in the order of time.

    Shapes:
        pts: (n,) int64, strictly increasing. Frame i is on screen during ``[pts[i], pts[i + 1])``, the last one until ``end_pts``.
        is_key: (n,) bool, True where decoding can start.
    """

    pts: NDArray[np.int64]
    is_key: NDArray[np.bool_]
    clock: Clock
    end_pts: int

    def __post_init__(self) -> None:
        if self.pts.ndim != 1 or self.is_key.shape != self.pts.shape:
            raise InputError(f"pts and is_key must both be (n,), got {self.pts.shape} and {self.is_key.shape}")
        if not len(self.pts):
            raise InputError("a timeline needs at least one frame, got none")
        if np.any(np.diff(self.pts) <= 0) or self.end_pts <= self.pts[-1]:
            raise InputError("pts must increase strictly and end_pts lie after the last")

    def __len__(self) -> int:
        return len(self.pts)

    def shown_at(self, seconds: list[Fraction]) -> NDArray[np.int64]:
        """Index of the frame on screen at each time; -1 before the first frame."""
        pts = np.asarray([self.clock.pts_at(s) for s in seconds], dtype=np.int64)
        index: NDArray[np.int64] = np.searchsorted(self.pts, pts, side="right").astype(np.int64) - 1
        return index

    def shown_during(self, span: Span) -> range:
        """Indices of the frames on screen at some moment of ``span``, the first one where it begins before; empty where it begins at or
        after the end of the last."""

        def seconds(index: int) -> float:
            # Compared as floats, as all spans were made: the fraction behind a float may lie on its other side.
            return float(self.clock.exact_seconds(int(self.pts[index])))

        if span.start >= float(self.clock.exact_seconds(self.end_pts)):
            return range(0)
        first = max(0, bisect_right(range(len(self)), span.start, key=seconds) - 1)
        return range(first, bisect_left(range(len(self)), span.end, key=seconds))


@dataclass(frozen=True, slots=True)
class Packets:
    """The packet table of one stream in the order of decoding.

    Shapes: every field is (n,). ``pts`` and ``dts`` hold ``NO_PTS`` where the container gives none; ``duration`` is 0 where unknown.
    A ``hidden`` packet is needed by others and never shown: an edit list cuts it, or it carries a picture without a display.
    """

    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    duration: NDArray[np.int64]
    size: NDArray[np.int64]
    is_key: NDArray[np.bool_]
    is_hidden: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def shown(self) -> NDArray[np.int64]:
        """Positions of the shown packets in the order of presentation."""
        positions = np.flatnonzero(~self.is_hidden)
        return positions[np.argsort(self.pts[positions], kind="stable")]

    def tells_presentation(self) -> bool:
        """Whether every shown packet has a presentation time of its own, and decoding times never step back."""
        pts, dts = self.pts[~self.is_hidden], self.dts[self.dts != NO_PTS]
        return bool(len(pts)) and not np.any(pts == NO_PTS) and len(np.unique(pts)) == len(pts) and not np.any(np.diff(dts) < 0)

    def is_reordered(self) -> bool:
        """Whether presentation order differs from decoding order."""
        return bool(np.any(np.diff(self.pts[~self.is_hidden]) < 0))


def clock_within(clock: Clock, packets: Packets) -> Clock:
    """The clock, with its zero moved back where a packet would else be shown before it."""
    known = packets.pts[~packets.is_hidden & (packets.pts != NO_PTS)]
    return Clock(clock.time_base, min(clock.zero, int(known.min()) * clock.time_base)) if len(known) else clock


def packet_timeline(packets: Packets, clock: Clock, promised_pts: int | None) -> Timeline:
    """The timeline of a table that tells presentation."""
    shown = packets.shown
    pts = packets.pts[shown]
    step = max(typical_step(pts), int(packets.duration[shown[-1]]), 1)
    return Timeline(pts, packets.is_key[shown], clock, _end(pts, step, promised_pts))


def observed_timeline(
    pts: NDArray[np.int64],
    dts: NDArray[np.int64],
    is_key: NDArray[np.bool_],
    clock: Clock,
    *,
    start_pts: int,
    step: int,
    promised_pts: int | None,
) -> tuple[Timeline, NDArray[np.int64]]:
    """The timeline of decoded frames in the order of output, and for each of its frames the position in that order.

    The first of these sources that never steps back is taken: the presentation timestamps; the decoding timestamps, moved so that they
    begin at ``start_pts``; the presentation timestamps with every step back, and every gap, made one ``step``.
    Of frames with one and the same time only the last stays on screen.
    """
    times = _ascending(pts, dts, start_pts, step)
    order = np.flatnonzero(np.append(np.diff(times) > 0, True))
    times = times[order]
    end = _end(times, max(typical_step(times), step), promised_pts)
    return Timeline(times, is_key[order], clock, end), order


def _ascending(pts: NDArray[np.int64], dts: NDArray[np.int64], start_pts: int, step: int) -> NDArray[np.int64]:
    if np.all(pts != NO_PTS) and np.all(np.diff(pts) >= 0):
        return pts
    known = dts[dts != NO_PTS]
    # Frames that leave the decoder at the end of the stream carry no decoding time: they follow at the usual distance.
    if len(known) > 1 and np.all(dts[: len(known)] != NO_PTS) and np.all(np.diff(known) > 0):
        tail = known[-1] + typical_step(known) * np.arange(1, len(dts) - len(known) + 1)
        moved: NDArray[np.int64] = np.concatenate([known, tail]) + (start_pts - int(known[0]))
        return moved
    times = np.empty_like(pts)
    shift, previous = 0, None
    for i, p in enumerate(pts.tolist()):
        if p == NO_PTS or (previous is not None and p + shift <= previous):
            now = 0 if previous is None else previous + step
            shift = shift if p == NO_PTS else now - p
        else:
            now = p + shift
        times[i] = previous = now
    return times


def _end(pts: NDArray[np.int64], step: int, promised_pts: int | None) -> int:
    """When the last frame leaves the screen: after one step, or where the stream promises its end before that."""
    end = int(pts[-1]) + step
    return min(end, promised_pts) if promised_pts is not None and promised_pts > pts[-1] else end


def typical_step(pts: NDArray[np.int64]) -> int:
    """The median distance between frames, at least one tick; 0 for fewer than two frames."""
    return max(1, int(np.median(np.diff(pts)))) if len(pts) > 1 else 0
