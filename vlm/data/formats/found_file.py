"""Results of a search, a grounding or a model, read by the ending of their file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vlm.data.formats.files import PathLike
from vlm.data.formats.found import FoundMoment
from vlm.data.formats.found_csv import read_found_csv
from vlm.data.formats.found_jsonl import read_found_jsonl
from vlm.data.formats.srt import read_srt
from vlm.data.formats.webvtt import read_webvtt
from vlm.errors import InputError

_READERS: dict[str, Callable[[PathLike], tuple[FoundMoment, ...]]] = {
    ".csv": read_found_csv,
    ".jsonl": read_found_jsonl,
    ".srt": read_srt,
    ".vtt": read_webvtt,
}


def read_found(path: PathLike) -> tuple[FoundMoment, ...]:
    """The moments of a file that ``--format csv``, ``jsonl``, ``srt`` or ``vtt`` wrote.

    Raises:
        InputError: another ending, or the file breaks its format.
    """
    ending = Path(path).suffix.lower()
    if ending not in _READERS:
        raise InputError(f"{str(path)!r} must end in one of {', '.join(_READERS)}, got {ending or 'no ending'}")
    return _READERS[ending](path)
