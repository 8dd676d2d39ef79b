"""Results as one JSON object a line: ``query, video, start, end, score, rank, video_id, confidence``, times in seconds.

The text is ASCII, so a path that is not UTF-8 comes back as it was: its bytes stand as lone surrogates (backslash, udce9).
"""

from __future__ import annotations

from collections.abc import Iterable

from vlm.data.formats.files import PathLike, dump_json, read_json_lines, write_text
from vlm.data.formats.found import FoundMoment, found_row, moment_of


def found_jsonl_text(found: Iterable[FoundMoment]) -> str:
    """The lines of a file."""
    return "".join(f"{dump_json(found_row(moment))}\n" for moment in found)


def write_found_jsonl(path: PathLike, found: Iterable[FoundMoment]) -> None:
    """Writes results."""
    write_text(path, found_jsonl_text(found))


def read_found_jsonl(path: PathLike) -> tuple[FoundMoment, ...]:
    """The results of a file."""
    return tuple(moment_of(fields, absent=None) for fields in read_json_lines(path))
