"""How much of a file was decoded, against what its container promises. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from vlm.types import DecodeOutcome
from vlm.video.timeline import Timeline

# Containers round their durations, and count or omit the last frame's stay on screen.
_TOLERANCE_FRAMES = 2
_TOLERANCE_SECONDS = Fraction(1, 10)


@dataclass(frozen=True, slots=True)
class Extent:
    """What a container claims of its picture stream: ends in stream seconds (before the clock's zero is taken off), and a frame count."""

    stream_end: Fraction | None
    container_end: Fraction | None
    num_frames: int


def missing_tail(timeline: Timeline, promised_end: Fraction | None) -> Fraction:
    """Seconds between the last frame's end and the promised end; 0 within the tolerance of a few frames."""
    if promised_end is None:
        return Fraction(0)
    clock = timeline.clock
    missing = promised_end - clock.zero - clock.exact_seconds(timeline.end_pts)
    frame = clock.time_base * (timeline.end_pts - int(timeline.pts[0])) / len(timeline)
    return missing if missing > max(_TOLERANCE_FRAMES * frame, _TOLERANCE_SECONDS) else Fraction(0)


def ends_before(reached: Fraction, promised_end: Fraction) -> bool:
    """Whether all streams of a file together stop short of the end that its container claims."""
    return promised_end - reached > _TOLERANCE_SECONDS


def outcome(timeline: Timeline, lost: list[tuple[int, int]], tail: Fraction, reason: str) -> DecodeOutcome:
    """The outcome of a file without the frames between the timestamps ``lost`` and without its last ``tail`` seconds."""
    clock = timeline.clock
    stretch = clock.time_base * (timeline.end_pts - int(timeline.pts[0])) + tail
    gone = tail + clock.time_base * sum(end - begin for begin, end in lost)
    end_seconds = float(clock.exact_seconds(timeline.end_pts))
    if not reason:
        return DecodeOutcome(status="complete", coverage=1.0, end_seconds=end_seconds)
    covered = float(max(Fraction(0), 1 - gone / stretch))
    return DecodeOutcome(status="partial", coverage=covered, end_seconds=end_seconds, reason=reason)
