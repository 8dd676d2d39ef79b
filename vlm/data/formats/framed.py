"""Results with their frames, as the formats of editors write them: a found moment, and which frames of its file show it.

Frames are counted from 0 in the order in which they are shown. A timecode labels a frame by its count where the rate is constant. Where it
varies no count does: there it labels points in time, ``n / rate`` seconds of the player's clock with the usual rate nearest to the average,
as an editor shows them that brings the file to that rate; a stretch has those points at which one of its frames is on screen. So every
format carries beside its own figures the exact ones, frames and presentation timestamps, and readers take these.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from vlm.data.formats.fields import Fields
from vlm.data.formats.files import parse_json
from vlm.data.formats.found import FoundMoment, found_row, moment_of
from vlm.errors import InputError
from vlm.timecode import check_drop_frame, rate_name
from vlm.types import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRange:
    """Frames ``[first, last)`` of a file.

    Attributes:
        start_pts, end_pts: when the first appears and the last goes, on the ``clock`` of the file.
        rate: frames a second; of a variable rate the usual one nearest to the average.
        drop_frame: whether timecodes leave labels out.
        origin: the count that the timecode of the file's first frame stands for.

    Raises:
        InputError: no frame, or a rate that is not positive or that drop-frame does not know.
    """

    first: int
    last: int
    start_pts: int
    end_pts: int
    clock: Clock
    rate: Fraction
    is_variable: bool = False
    drop_frame: bool = False
    origin: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.first < self.last and self.start_pts < self.end_pts):
            raise InputError(
                f"a range of frames needs at least one, got [{self.first}, {self.last}) shown from {self.start_pts} to {self.end_pts}"
            )
        if self.rate <= 0 or self.origin < 0:
            raise InputError(f"a range of frames needs a positive rate and an origin from 0, got {self.rate} and {self.origin}")
        if self.drop_frame:
            check_drop_frame(self.rate)

    @property
    def labels(self) -> tuple[int, int]:
        """What timecodes count: of the first frame, and of the end. At least one apart."""
        if not self.is_variable:
            return self.origin + self.first, self.origin + self.last
        first, last = (ceil(self.clock.exact_seconds(pts) * self.rate) for pts in (self.start_pts, self.end_pts))
        return self.origin + first, self.origin + max(last, first + 1)


@dataclass(frozen=True, slots=True)
class FramedMoment:
    """A stretch of a video that answers a query, with the frames that show it."""

    found: FoundMoment
    frames: FrameRange


def same_count_of(framed: list[FramedMoment]) -> tuple[Fraction, bool]:
    """The rate that all frames are counted at, and whether with drop-frame.

    Raises:
        InputError: there are several, or no frames at all.
    """
    counts: dict[tuple[Fraction, bool], list[str]] = {}
    for one in framed:
        counts.setdefault((one.frames.rate, one.frames.drop_frame), []).append(one.found.video_name)
    if len(counts) != 1:
        told = ", ".join(f"{rate_name(rate)}{' drop-frame' if drop else ''} ({names[0]!r})" for (rate, drop), names in counts.items())
        raise InputError(
            f"an EDL counts frames at one rate, got {told or 'no moments'}: choose hits of one rate (--hits), or a format that holds "
            "several (otio, fiftyone)"
        )
    return next(iter(counts))


def framed_row(framed: FramedMoment) -> dict[str, object]:
    """The fields of a moment and of its frames, all of them plain values; ``framed_of`` reads them."""
    frames = framed.frames
    return found_row(framed.found) | {
        "first_frame": frames.first,
        "last_frame": frames.last,
        "start_pts": frames.start_pts,
        "end_pts": frames.end_pts,
        "time_base": str(frames.clock.time_base),
        "zero": str(frames.clock.zero),
        "rate": str(frames.rate),
        "is_variable": frames.is_variable,
        "drop_frame": frames.drop_frame,
        "origin": frames.origin,
    }


def framed_of(fields: Fields) -> FramedMoment:
    """The moment of such fields; raises InputError for what is none."""
    found = moment_of(fields, absent=None)
    frames = FrameRange(
        first=fields.integer("first_frame"),
        last=fields.integer("last_frame"),
        start_pts=fields.integer("start_pts"),
        end_pts=fields.integer("end_pts"),
        clock=Clock(_fraction(fields, "time_base"), _fraction(fields, "zero")),
        rate=_fraction(fields, "rate"),
        is_variable=_truth(fields, "is_variable"),
        drop_frame=_truth(fields, "drop_frame"),
        origin=fields.integer("origin"),
    )
    return FramedMoment(found, frames)


def framed_of_json(text: str, place: str) -> FramedMoment:
    """The moment of ``framed_row`` as a JSON object; raises InputError for what is none."""
    value = parse_json(text, place)
    if not isinstance(value, dict):
        raise InputError(f"{place}: the exact frames of a moment must be a JSON object, got {text[:60]!r}")
    return framed_of(Fields(value, place))


def edited(place: str, says: object, exact: object) -> InputError:
    """The error for a moment whose own figures are no longer those of its exact frames."""
    return InputError(
        f"{place}: it says {says}, and its exact frames say {exact}: it was edited since vlm wrote it, and which frames are meant is not "
        "known here"
    )


def _fraction(fields: Fields, name: str) -> Fraction:
    text = fields.text(name)
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        fields.refuse(name, text, "a fraction such as 30000/1001")


def _truth(fields: Fields, name: str) -> bool:
    value = fields.take(name)
    if not isinstance(value, bool):
        fields.refuse(name, value, "true or false")
    return value
