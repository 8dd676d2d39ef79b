"""Files of JSON, JSON lines, CSV and plain lines, in and out, in UTF-8."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vlm.data.formats.fields import Fields
from vlm.errors import InputError

PathLike = str | os.PathLike[str]
_NEEDS_QUOTES = re.compile(r'[",\r\n]')


def read_text(path: PathLike) -> str:
    """The text of a file, line ends as they are; a byte order mark is passed over.

    Raises:
        InputError: the file cannot be read or is not UTF-8.
    """
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; name an annotation file") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is {error.object[error.start : error.start + 1]!r}, not UTF-8; save it as UTF-8"
        ) from error


def write_text(path: PathLike, text: str) -> None:
    """Writes a file, replacing one that is there; raises ``InputError`` where that cannot be done."""
    if text.startswith("\ufeff"):
        raise InputError(f"{path}: must not begin with a byte order mark, which readers take off, got {text[:20]!r}")
    try:
        Path(path).write_bytes(text.encode())
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: {error.object[error.start]!r} is half a character and cannot be written as UTF-8") from error


def read_lines(path: PathLike) -> Iterator[tuple[str, str]]:
    """The lines that are not blank: the place of each, ``PATH:NUMBER``, and its text without the line end."""
    # Only "\n" ends a line here; str.splitlines would also cut at marks that may stand inside a sentence.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        text = line.removesuffix("\r")
        if text.strip():
            yield f"{path}:{number}", text


def write_lines(path: PathLike, lines: Iterable[str]) -> None:
    """Writes lines, each with a line end; raises ``InputError`` for a line that holds one or is blank."""
    kept = list(lines)
    for number, line in enumerate(kept, start=1):
        if "\n" in line or line.endswith("\r") or not line.strip():
            raise InputError(f"{path}:{number}: a row must be one line with something on it, got {line!r}")
    write_text(path, "".join(f"{line}\n" for line in kept))


def parse_json(text: str, place: str) -> object:
    """A JSON value; raises ``InputError`` for what is none, for NaN, and for a name that stands twice in one object."""
    try:
        value: object = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: must be JSON: {error}") from error
    return value


def read_json(path: PathLike) -> object:
    """The JSON value of a file."""
    return parse_json(read_text(path), str(path))


def read_object(path: PathLike, *, numbers_as_text: bool = False) -> Fields:
    """The JSON object of a file."""
    return _as_fields(read_json(path), str(path), numbers_as_text=numbers_as_text)


def read_objects(path: PathLike) -> Iterator[Fields]:
    """The objects of a file that holds one JSON list."""
    value = read_json(path)
    if not isinstance(value, list):
        raise InputError(f"{path}: must be a JSON list, got {type(value).__name__}")
    return (_as_fields(item, f"{path}, item {number}") for number, item in enumerate(value))


def read_json_lines(path: PathLike) -> Iterator[Fields]:
    """The objects of a file with one JSON object a line."""
    return (_as_fields(parse_json(line, place), place) for place, line in read_lines(path))


def dump_json(value: object, *, compact: bool = False, indent: int | None = None, comma: str | None = None, ascii_only: bool = True) -> str:
    """A JSON text; raises ``InputError`` for what JSON cannot say.

    ``compact`` leaves out the spaces; ``comma`` is what stands between items, by default a comma with a space or, indented, without.
    """
    colon = ":" if compact else ": "
    if comma is None:
        comma = "," if compact or indent is not None else ", "
    try:
        return json.dumps(value, allow_nan=False, separators=(comma, colon), indent=indent, ensure_ascii=ascii_only)
    except (TypeError, ValueError) as error:
        raise InputError(f"cannot be written as JSON: {error}") from error


def write_json(path: PathLike, value: object, *, compact: bool = False, indent: int | None = None, comma: str | None = None) -> None:
    """Writes one JSON value in ASCII, without a line end behind it; the options are those of ``dump_json``."""
    write_text(path, dump_json(value, compact=compact, indent=indent, comma=comma))


def write_json_lines(path: PathLike, values: Iterable[object]) -> None:
    """Writes one JSON value a line."""
    write_text(path, "".join(f"{dump_json(value)}\n" for value in values))


def read_csv(path: PathLike) -> Iterator[Fields]:
    """The rows of a comma-separated file under the names of its first line.

    Raises:
        InputError: no header, a name that stands twice in it, or a row with more or fewer cells.
    """
    # Split at "\n" only, for the same reason as in read_lines; the reader joins the lines of a quoted cell again.
    reader = csv.reader((f"{line}\n" for line in read_text(path).split("\n")), strict=True)
    header: list[str] | None = None
    try:
        for row in reader:
            if not row:
                continue
            if header is None:
                header = row
                if len(set(header)) != len(header):
                    raise InputError(f"{path}:{reader.line_num}: every column needs a name of its own, got {header}")
                continue
            place = f"{path}:{reader.line_num}"
            if len(row) != len(header):
                raise InputError(f"{place}: must have {len(header)} cells ({', '.join(header)}), got {len(row)}: {row}")
            yield Fields(dict(zip(header, row, strict=True)), place, numbers_as_text=True)
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: must be CSV: {error}") from error
    if header is None:
        raise InputError(f"{path}: must begin with a line of column names, got an empty file")


def write_csv(path: PathLike, header: Sequence[str], rows: Iterable[Sequence[object]], *, line_end: str = "\n") -> None:
    """Writes a comma-separated file; a cell is quoted only where it has to be.

    The library's own writer leaves a lone carriage return unquoted, which its reader then takes for the end of the row.
    """
    write_text(path, csv_text(header, rows, line_end=line_end))


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]], *, line_end: str = "\n") -> str:
    """The text of a comma-separated file."""
    return "".join(f"{_csv_line(row)}{line_end}" for row in [header, *rows])


def _csv_line(cells: Sequence[object]) -> str:
    texts = [str(cell) for cell in cells]
    if texts == [""]:
        return '""'
    return ",".join('"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text for text in texts)


def _as_fields(value: object, place: str, *, numbers_as_text: bool = False) -> Fields:
    if not isinstance(value, dict):
        raise InputError(f"{place}: must be a JSON object, got {type(value).__name__}")
    return Fields(value, place, numbers_as_text=numbers_as_text)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} stands twice in one object")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
