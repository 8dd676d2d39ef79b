"""Hits cut out of their files: a new clip for each, in a new folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm.app.console import hint, note, warn
from vlm.errors import InputError, SpanError, VideoError, VideoUnwritable
from vlm.types import Span

if TYPE_CHECKING:
    from vlm.data.formats.found import FoundMoment
    from vlm.index.footage import Footage
    from vlm.index.library import Library
    from vlm.types import Grounded, Hit

_STEM_CHARACTERS = 80
# A file name holds 255 bytes on most disks, and a character up to four of them.
_STEM_BYTES = 180
# What some disk or shell does not take in a name.
_AWKWARD = frozenset('<>:"/\\|?*')


class CutMode(StrEnum):
    """How a clip is cut."""

    EXACT = "exact"
    COPY = "copy"


ClipsOption = Annotated[
    Path | None, typer.Option("--clips", metavar="DIR", help="Cut what was found out of its file, into clips in a new folder.")
]
CutOption = Annotated[
    CutMode,
    typer.Option("--cut", help="Encode clips anew, exact to the frame, or copy them from the keyframe before: fast, without loss."),
]


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip to cut: its name without suffix, the file, and which stretch. ``fault`` says why the file is not what was searched."""

    name: str
    path: str
    span: Span
    fault: str = ""


def check_new_folder(folder: Path | None) -> None:
    """Raise unless ``folder`` can be made.

    Raises:
        InputError: it exists, or the folder that it would lie in does not.
    """
    if folder is None:
        return
    if folder.exists() or folder.is_symlink():
        raise InputError(f"{str(folder)!r} exists, and clips are never mixed with what is there: name a new folder for --clips")
    if not folder.parent.is_dir():
        raise InputError(f"there is no folder {str(folder.parent)!r} to put {folder.name!r} in: make it first, or name another for --clips")


def clips_of_hits(library: Library, hits: Sequence[Hit]) -> list[Clip]:
    """A clip for each hit."""
    sources = {video_id: source_of(library, video_id) for video_id in dict.fromkeys(hit.video_id for hit in hits)}
    return [_clip(f"{hit.rank:02}", hit.span, *sources[hit.video_id]) for hit in hits]


def clips_of_moments(library: Library, footage: Footage, found: Sequence[Grounded]) -> list[Clip]:
    """A clip for each moment, named with the number of its query where there are several."""
    path, fault = (footage.path, "") if footage.video_id is None else source_of(library, footage.video_id)
    prefixes = [f"q{number:0{len(str(len(found)))}}_" if len(found) > 1 else "" for number in range(1, len(found) + 1)]
    return [
        _clip(f"{prefix}{rank:02}", moment.span, path, fault)
        for prefix, one in zip(prefixes, found, strict=True)
        for rank, moment in enumerate(one.moments, start=1)
    ]


def clips_of_found(moments: Sequence[FoundMoment], sources: Mapping[int | str, tuple[str, str]]) -> list[Clip]:
    """A clip for each moment, named with the number of its query where there are several. ``sources`` are the files by the moments' source,
    with what is wrong with each."""
    numbers = {query: number for number, query in enumerate(dict.fromkeys(moment.query for moment in moments), start=1)}
    width = len(str(len(numbers)))
    prefixes = {query: f"q{number:0{width}}_" if len(numbers) > 1 else "" for query, number in numbers.items()}
    return [_clip(f"{prefixes[moment.query]}{moment.rank:02}", moment.span, *sources[moment.source]) for moment in moments]


def write_clips(folder: Path, clips: Sequence[Clip], mode: CutMode) -> bool:
    """Cuts the clips into a new folder, and says whether all could be cut whole; a warning tells of each other one.

    The folder is removed again if nothing was cut.

    Raises:
        InputError: the folder cannot be made. VideoUnwritable: the disk takes no more; the clips before stay.
    """
    from vlm.video.cut import cut_supervised

    check_new_folder(folder)
    try:
        folder.mkdir()
    except OSError as error:
        raise InputError(f"the folder {str(folder)!r} cannot be made: {error.strerror}") from error
    is_whole = True
    try:
        for clip in clips:
            if clip.fault:
                warn(f"no clip {clip.name!r}: {clip.fault}")
                is_whole = False
                continue
            try:
                cut = cut_supervised(clip.path, clip.span, folder / clip.name, exact=mode is CutMode.EXACT)
            except VideoUnwritable:
                raise
            except (VideoError, SpanError) as error:
                warn(f"no clip {clip.name!r}: {error}")
                is_whole = False
                continue
            note(f"clip: {cut.path}")
            if mode is CutMode.COPY:
                more = wider(clip.span, cut.span)
                (note if more else hint)(f"copied from {cut.span.start:.3f} to {cut.span.end:.3f} s{more}")
            if cut.reason:
                warn(f"the clip {cut.path.name!r} is not all that it should be: {cut.reason}")
                is_whole = False
    finally:
        with suppress(OSError):
            folder.rmdir()  # which an empty folder alone allows
    return is_whole


def wider(asked: Span, cut: Span) -> str:
    """What a copy shows beyond the stretch that was asked for, in words to follow others; empty where that is less than a millisecond."""
    before, after = (f"{seconds:.3f}" for seconds in (asked.start - cut.start, cut.end - asked.end))
    parts = [f"{before} s before it"] * (float(before) > 0) + [f"{after} s after it"] * (float(after) > 0)
    if not parts:
        return ""
    return f": the stretch, {' and '.join(parts)} (a copy begins at a keyframe and ends with a packet; --cut exact does not)"


def _clip(label: str, span: Span, path: str, fault: str) -> Clip:
    return Clip(f"{label}_{_safe_stem(path)}_{span.start:08.3f}-{span.end:08.3f}", path, span, fault)


def source_of(library: Library, video_id: int) -> tuple[str, str]:
    """A file that is still what was added, or a name for it and what is wrong with it."""
    record = library.video(video_id)
    name = record.path or f"video {video_id}"
    fault = f"no file of {name!r} is left: put it back, or take it out of the library with vlm rm"
    for location in record.locations:
        try:
            status = os.stat(location.path)
        except OSError:
            continue
        if (status.st_size, status.st_mtime_ns) == (location.num_bytes, location.mtime_ns):
            return location.path, ""
        fault = f"{location.path!r} has changed since it was added, so that its times may be others: run vlm add again"
    return name, fault


def _safe_stem(path: str) -> str:
    """The file's name without its suffix as any disk takes it, at most 80 characters."""
    stem = os.path.splitext(os.path.basename(path))[0]
    kept = "".join("_" if character in _AWKWARD or not character.isprintable() else character for character in stem)[:_STEM_CHARACTERS]
    return kept.encode()[:_STEM_BYTES].decode(errors="ignore").strip(" .") or "video"
