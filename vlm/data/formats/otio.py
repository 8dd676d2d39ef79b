"""Results as an OpenTimelineIO timeline (``.otio``): one track, the moments one after another, each of its own file at its own rate.

A clip's source range counts frames from the timecode of the file's first frame (vlm.data.formats.framed says what they are where the rate
varies); the exact figures stand in its metadata under ``vlm``, as a text of JSON: OpenTimelineIO keeps rates as floats, 30000/1001 as the
one nearest to it, and its parser may change the last digit of a number. Files are named by their URL, in which any bytes can stand. The
package is an extra, ``vlm-retrieval[otio]``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from vlm.data.formats.files import PathLike, dump_json, read_text, write_text
from vlm.data.formats.framed import FramedMoment, edited, framed_of_json, framed_row
from vlm.errors import BackendUnavailable, InputError

_FILE = "file://"


def otio_text(framed: Iterable[FramedMoment], *, title: str = "vlm") -> str:
    """The text of a timeline. Raises BackendUnavailable where the package is missing."""
    otio = _library()
    track = otio.schema.Track(name="vlm", kind=otio.schema.TrackKind.Video)
    for one in framed:
        first, last = one.frames.labels
        source = otio.opentime.TimeRange(_time(otio, first, one), _time(otio, last - first, one))
        media = otio.schema.ExternalReference(target_url=_FILE + quote(os.fsencode(one.found.video)))
        exact = {"vlm": dump_json(framed_row(one))}
        track.append(otio.schema.Clip(name=one.found.query, media_reference=media, source_range=source, metadata=exact))
    timeline = otio.schema.Timeline(name=title)
    timeline.tracks.append(track)
    return str(otio.adapters.write_to_string(timeline, "otio_json")) + "\n"


def write_otio(path: PathLike, framed: Iterable[FramedMoment], *, title: str = "vlm") -> None:
    """Writes a timeline; raises as ``otio_text``."""
    write_text(path, otio_text(framed, title=title))


def read_otio(path: PathLike) -> tuple[FramedMoment, ...]:
    """The moments of a timeline that ``write_otio`` made.

    Raises:
        BackendUnavailable: the package is missing.
        InputError: no timeline, a clip without its exact frames, or with another source range: it was edited since.
    """
    otio = _library()
    try:
        timeline = otio.adapters.read_from_string(read_text(path), "otio_json")
    except (otio.exceptions.OTIOError, KeyError, TypeError, ValueError) as error:  # whichever its parser meets first
        raise InputError(f"{path}: must be an OpenTimelineIO timeline: {error}") from error
    if not isinstance(timeline, otio.schema.Timeline):
        raise InputError(f"{path}: must be an OpenTimelineIO timeline, got {type(timeline).__name__}")
    return tuple(_moment(otio, clip, f"{path}, clip {number}") for number, clip in enumerate(timeline.find_clips(), start=1))


def _library() -> Any:
    try:
        import opentimelineio
    except ImportError as error:
        raise BackendUnavailable("OpenTimelineIO files need the package opentimelineio: pip install 'vlm-retrieval[otio]'") from error
    return opentimelineio


def _moment(otio: Any, clip: Any, place: str) -> FramedMoment:
    exact = clip.metadata.get("vlm")
    if not isinstance(exact, str):
        raise InputError(f"{place}: must have its exact frames as the metadata 'vlm', as vlm writes them, got {clip.name!r} with {exact!r}")
    one = framed_of_json(exact, place)
    first, last = one.frames.labels
    if clip.source_range != otio.opentime.TimeRange(_time(otio, first, one), _time(otio, last - first, one)):
        raise edited(place, clip.source_range, f"{first} to {last}")
    return one


def _time(otio: Any, frames: int, one: FramedMoment) -> Any:
    return otio.opentime.RationalTime(frames, float(one.frames.rate))
