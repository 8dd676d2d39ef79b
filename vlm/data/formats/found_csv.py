"""Results as comma-separated rows under ``query, video, start, end, score, rank, video_id, confidence``; an empty cell is None.

A path that is not UTF-8 cannot stand in such a file and is refused; JSON lines hold it.
"""

from __future__ import annotations

from collections.abc import Iterable

from vlm.data.formats.files import PathLike, csv_text, read_csv, write_text
from vlm.data.formats.found import FoundMoment, moment_of

_HEADER = ("query", "video", "start", "end", "score", "rank", "video_id", "confidence")


def found_csv_text(found: Iterable[FoundMoment]) -> str:
    """The text of a file."""
    return csv_text(_HEADER, (_row(moment) for moment in found))


def write_found_csv(path: PathLike, found: Iterable[FoundMoment]) -> None:
    """Writes results."""
    write_text(path, found_csv_text(found))


def read_found_csv(path: PathLike) -> tuple[FoundMoment, ...]:
    """The results of a file."""
    return tuple(moment_of(fields, absent="") for fields in read_csv(path))


def _row(moment: FoundMoment) -> tuple[object, ...]:
    optional = ("" if value is None else value for value in (moment.video_id, moment.confidence))
    return (moment.query, moment.video, moment.span.start, moment.span.end, moment.score, moment.rank, *optional)
