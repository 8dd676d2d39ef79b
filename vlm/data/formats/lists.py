"""Lists of ids, as many data sets publish their splits: a plain line each, or a CSV file of one column."""

from __future__ import annotations

from collections.abc import Iterable

from vlm.data.formats.files import PathLike, read_csv, read_lines, write_csv, write_lines
from vlm.errors import InputError


def read_list(path: PathLike) -> tuple[str, ...]:
    """The ids of a file with one a line; an id may hold spaces."""
    return tuple(text for _, text in read_lines(path))


def write_list(path: PathLike, ids: Iterable[str]) -> None:
    """Writes one id a line."""
    write_lines(path, ids)


def read_column(path: PathLike, column: str) -> tuple[str, ...]:
    """The cells of one column of a CSV file."""
    return tuple(fields.text(column) for fields in read_csv(path))


def write_column(path: PathLike, column: str, ids: Iterable[str]) -> None:
    """Writes a CSV file of one column."""
    if not column:
        raise InputError(f"{path}: a column needs a name, got {column!r}")
    write_csv(path, [column], ([text] for text in ids))
