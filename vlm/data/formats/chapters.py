"""Results of one video as chapters in FFmpeg's metadata file: ``ffmpeg -i VIDEO -i CHAPTERS -map_metadata 1 -codec copy OUT.mkv``.

Chosen among chapter formats because each chapter names the clock that it counts on: on the video's own it begins and ends with frames,
exactly. OGM chapters and WebVTT round to milliseconds (the latter is ``vlm.data.formats.webvtt``). Times count from the start of the video
as a player shows it. A comment above each chapter holds the moment and its frames as JSON; FFmpeg passes over it. Moments that overlap make
chapters that overlap, which Matroska holds and most players show one at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import lcm

from vlm.data.formats.files import PathLike, dump_json, read_lines, write_text
from vlm.data.formats.found import only_video_of
from vlm.data.formats.framed import FramedMoment, FrameRange, edited, framed_of_json, framed_row
from vlm.errors import InputError

_EXACT = "; vlm: "
_MOST = 2**31 - 1  # FFmpeg reads a time base as two ints
_ESCAPED = re.compile(r"([=;#\\])")


def chapters_text(framed: Iterable[FramedMoment]) -> str:
    """The text of a file, chapters in order of time.

    Raises:
        InputError: moments of several videos, none at all, or a clock that FFmpeg's time bases cannot hold.
    """
    kept = sorted(framed, key=lambda one: (one.frames.first, one.frames.last, one.found.rank))
    only_video_of([one.found for one in kept])
    return ";FFMETADATA1\n" + "".join(_chapter(one) for one in kept)


def write_chapters(path: PathLike, framed: Iterable[FramedMoment]) -> None:
    """Writes the chapters of one video; raises as ``chapters_text``."""
    write_text(path, chapters_text(framed))


def read_chapters(path: PathLike) -> tuple[FramedMoment, ...]:
    """The moments of a file that ``write_chapters`` made, in order of time.

    Raises:
        InputError: a chapter without its comment, or that begins or ends elsewhere: it was edited since.
    """
    found: list[FramedMoment] = []
    told: dict[str, str] = {}
    exact: FramedMoment | None = None
    begun = str(path)
    for place, line in [*read_lines(path), (str(path), "[CHAPTER]")]:
        if line.startswith(_EXACT) or line == "[CHAPTER]":
            if told:
                found.append(_checked(exact, told, begun))
                told, exact = {}, None
            if line.startswith(_EXACT):
                exact, begun = framed_of_json(line.removeprefix(_EXACT), place), place
        else:
            name, mark, value = line.partition("=")
            if mark and name in ("TIMEBASE", "START", "END"):
                told[name] = value
    return tuple(found)


def _chapter(one: FramedMoment) -> str:
    tick, start, end = _ticks(one.frames)
    words = _ESCAPED.sub(r"\\\1", " ".join(one.found.query.split()))
    exact = dump_json(framed_row(one), compact=True)
    return f"\n{_EXACT}{exact}\n[CHAPTER]\nTIMEBASE=1/{tick}\nSTART={start}\nEND={end}\ntitle={words}\n"


def _ticks(frames: FrameRange) -> tuple[int, int, int]:
    """Ticks a second of a clock on which the moment is exact, and its bounds."""
    clock = frames.clock
    tick = lcm(clock.time_base.denominator, clock.zero.denominator)
    if tick > _MOST:
        raise InputError(f"chapters count at most {_MOST} ticks a second, and this video needs {tick} to be exact: take otio")
    start, end = (clock.exact_seconds(pts) * tick for pts in (frames.start_pts, frames.end_pts))
    return tick, int(start), int(end)


def _checked(exact: FramedMoment | None, told: dict[str, str], place: str) -> FramedMoment:
    if exact is None:
        raise InputError(f"{place}: a chapter must have a comment {_EXACT.strip()!r} above it, as vlm writes them, got {told}")
    tick, start, end = _ticks(exact.frames)
    meant = {"TIMEBASE": f"1/{tick}", "START": str(start), "END": str(end)}
    if told != meant:
        raise edited(place, told, meant)
    return exact
