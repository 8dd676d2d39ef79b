"""From what was found to the frames that show it: each file is found to be the one that was searched, and its frames are read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vlm.app.clips import source_of
from vlm.app.console import warn
from vlm.data.formats.found import FoundMoment
from vlm.data.formats.framed import FramedMoment, FrameRange
from vlm.errors import InputError, SpanError
from vlm.timecode import check_drop_frame, frame_at, knows_drop_frame

if TYPE_CHECKING:
    from fractions import Fraction

    from vlm.index.library import Library
    from vlm.index.store import FileStamp
    from vlm.video.frame_table import FrameTable


def sources_of(library: Library, moments: Sequence[FoundMoment], stamps: Mapping[str, FileStamp]) -> dict[int | str, tuple[str, str]]:
    """The file of each moment's video, by its source, and what is wrong with it; ``stamps`` are of files that are not of the library.

    Raises:
        UnknownVideo: the library no longer holds it.
    """
    found = {}
    for moment in moments:
        if moment.source not in found:
            found[moment.source] = _outside(moment, stamps) if moment.video_id is None else source_of(library, moment.video_id)
    return found


def framed_moments(
    moments: Sequence[FoundMoment], sources: Mapping[int | str, tuple[str, str]], *, drop_frame: bool | None
) -> list[FramedMoment]:
    """The moments with their frames. ``drop_frame`` None counts as the file's own timecode does, else with drop-frame where it is defined.

    Raises:
        InputError: a file has gone or changed, a moment lies outside it, or drop-frame does not know its rate.
        VideoError: a file cannot be used.
    """
    from vlm.video.frame_table import frame_table

    tables: dict[int | str, FrameTable] = {}
    framed = []
    for moment in moments:
        path, fault = sources[moment.source]
        if fault:
            raise InputError(f"hit {moment.rank}: {fault}; or leave the hit out (--hits)")
        if moment.source not in tables:
            tables[moment.source] = frame_table(path)
        framed.append(_framed(moment, path, tables[moment.source], drop_frame))
    return framed


def _framed(moment: FoundMoment, path: str, table: FrameTable, drop_frame: bool | None) -> FramedMoment:
    timeline = table.timeline
    wanted = timeline.shown_during(moment.span)
    if not wanted:
        raise SpanError(f"hit {moment.rank}: {path!r} shows no picture from {moment.span.start:g} to {moment.span.end:g} s")
    end_pts = timeline.end_pts if wanted.stop == len(timeline) else int(timeline.pts[wanted.stop])
    is_dropped = knows_drop_frame(table.rate) and ";" in (table.start_timecode or ";") if drop_frame is None else drop_frame
    if is_dropped:
        try:
            check_drop_frame(table.rate)
        except InputError as error:
            raise InputError(f"hit {moment.rank}, {path!r}: {error}") from None
    frames = FrameRange(
        first=wanted.start,
        last=wanted.stop,
        start_pts=int(timeline.pts[wanted.start]),
        end_pts=end_pts,
        clock=timeline.clock,
        rate=table.rate,
        is_variable=table.is_variable,
        drop_frame=is_dropped,
        origin=_origin(path, table.start_timecode, table.rate),
    )
    return FramedMoment(replace(moment, video=path), frames)


def _origin(path: str, start_timecode: str, rate: Fraction) -> int:
    """The count of the file's first frame."""
    if not start_timecode:
        return 0
    try:
        return frame_at(start_timecode, rate)
    except InputError as error:
        warn(f"{path!r} says that its first frame has the timecode {start_timecode!r}, and it is counted from 0 instead: {error}")
        return 0


def _outside(moment: FoundMoment, stamps: Mapping[str, FileStamp]) -> tuple[str, str]:
    """A file that is not of the library, and what is wrong with it."""
    stamp = stamps.get(moment.video)
    try:
        status = os.stat(moment.video)
    except OSError:
        return moment.video, f"no file of {moment.video!r} is left: put it back and run vlm ground again"
    if stamp is None or (status.st_size, status.st_mtime_ns) != (stamp.num_bytes, stamp.mtime_ns):
        return moment.video, f"{moment.video!r} has changed since it was read, so that its times may be others: run vlm ground again"
    return moment.video, ""
