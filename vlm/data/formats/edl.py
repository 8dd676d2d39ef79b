"""Results as a CMX 3600 edit decision list: the moments one after another, as an editor puts them on a track.

``001  AX       V     C        SOURCE-IN    SOURCE-OUT  RECORD-IN  RECORD-OUT``, then comments: the name of the file, its path, and, after
``* VLM:``, the exact frames as JSON (vlm.data.formats.framed says what timecodes mean where the rate varies). Sources have the reel ``AX``,
which editors match by the clip's name. Record times begin at one hour, as tapes did. One list counts at one rate.

The adapter of OpenTimelineIO (otio-cmx3600-adapter) reads these lists, and the tests compare with it; it is not used here, since it counts
in floats, writes no FCM line, and keeps none of the exact figures.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath

from vlm.data.formats.files import PathLike, dump_json, read_lines, write_text
from vlm.data.formats.framed import FramedMoment, edited, framed_of_json, framed_row, same_count_of
from vlm.errors import InputError
from vlm.timecode import frame_at, timecode

MOST_EVENTS = 999  # event numbers have three digits
_EVENT = re.compile(r"(\d{3})  AX       V     C        (\S+) (\S+) (\S+) (\S+)\s*")
_EXACT = "* VLM: "


def edl_text(framed: Iterable[FramedMoment], *, title: str = "vlm") -> str:
    """The text of a list.

    Raises:
        InputError: moments of several rates, none at all, more than MOST_EVENTS, or one beyond the 24 hours that timecodes count.
    """
    kept = list(framed)
    rate, drop_frame = same_count_of(kept)
    if len(kept) > MOST_EVENTS:
        raise InputError(f"an EDL numbers at most {MOST_EVENTS} events, got {len(kept)} moments: write several, or take otio")
    lines = [f"TITLE: {_one_line(title)[:70]}", f"FCM: {'DROP FRAME' if drop_frame else 'NON-DROP FRAME'}", ""]
    record = frame_at(f"01:00:00{';' if drop_frame else ':'}00", rate)
    for number, one in enumerate(kept, start=1):
        first, last = one.frames.labels
        times = " ".join(timecode(frame, rate, drop_frame=drop_frame) for frame in (first, last, record, record + last - first))
        name = one.found.video_name
        lines += [
            f"{number:03}  AX       V     C        {times}",
            f"* FROM CLIP NAME: {_one_line(PurePath(name).name)}",
            f"* SOURCE FILE: {_one_line(name)}",
            _EXACT + dump_json(framed_row(one), compact=True),
            "",
        ]
        record += last - first
    return "\n".join(lines)


def write_edl(path: PathLike, framed: Iterable[FramedMoment], *, title: str = "vlm") -> None:
    """Writes a list; raises as ``edl_text``."""
    write_text(path, edl_text(framed, title=title))


def read_edl(path: PathLike) -> tuple[FramedMoment, ...]:
    """The moments of a list that ``write_edl`` made, frames and all.

    Raises:
        InputError: an event without its line of exact frames, or whose timecodes say something else: it was edited since.
    """
    found: list[FramedMoment] = []
    event: tuple[str, re.Match[str]] | None = None
    for place, line in read_lines(path):
        if line.startswith(_EXACT):
            if event is None:
                raise InputError(f"{place}: exact frames belong below an event, got {line[:60]!r} without one")
            found.append(_checked(framed_of_json(line.removeprefix(_EXACT), place), *event))
            event = None
        elif line[:1].isdigit():
            matched = _EVENT.fullmatch(line)
            if matched is None or event is not None:
                raise _not_ours(place if event is None else event[0], line)
            event = place, matched
    if event is not None:
        raise _not_ours(event[0], event[1].group())
    return tuple(found)


def _checked(framed: FramedMoment, place: str, event: re.Match[str]) -> FramedMoment:
    frames = framed.frames
    told = [timecode(label, frames.rate, drop_frame=frames.drop_frame) for label in frames.labels]
    if told != [event[2], event[3]]:
        raise edited(place, f"{event[2]} to {event[3]}", " to ".join(told))
    return framed


def _not_ours(place: str, line: str) -> InputError:
    return InputError(f"{place}: must be an event with a line {_EXACT.strip()!r} of exact frames, as vlm writes them, got {line!r}")


def _one_line(text: str) -> str:
    """A text that a line can hold: white space as single spaces, what cannot be shown as ``_``, bytes that are not UTF-8 as ``\\xe9``."""
    readable = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else "_" for letter in " ".join(readable.split()))
