"""Values as people read them, and tables that fit the terminal."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from vlm.app.console import printable, result_console

if TYPE_CHECKING:
    from vlm.types import Hit

_GAP = 2
_NARROWEST_PATH = 12
_ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column. ``numbers`` stand at the right; the ``path`` column, the last one, is shortened to the room that is left."""

    title: str
    numbers: bool = False


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, paths: bool = True) -> None:
    """Prints a table to the terminal; where ``paths`` is set, the last column holds paths and takes the room that is left."""
    console = result_console()
    cells = [[printable(cell) for cell in row] for row in rows]
    if paths:
        others = [max(cell_len(row[i]) for row in [[c.title for c in columns], *cells]) for i in range(len(columns) - 1)]
        room = max(_NARROWEST_PATH, console.width - sum(others) - _GAP * len(others))
        cells = [[*row[:-1], shorten_path(row[-1], room)] for row in cells]
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.title, justify="right" if column.numbers else "left", no_wrap=True, overflow="ellipsis")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Prints names and values, one pair a line; long values wrap beside their name."""
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(printable(value)))
    result_console().print(table)


def order_of(hits: Sequence[Hit]) -> tuple[Column, list[str]]:
    """The column of what hits stand in the order of, and its cells: how likely each video is to show the query, where a trained model
    told (``-`` behind those that it read), else the score."""
    if any(hit.presence is not None for hit in hits):
        return Column("shown", numbers=True), ["-" if hit.presence is None else f"{hit.presence:.0%}" for hit in hits]
    return Column("score", numbers=True), [f"{hit.score:.3f}" for hit in hits]


def shorten_path(path: str, width: int) -> str:
    """``path`` in at most ``width`` columns of a terminal: leading folders go first, then the middle of the file's name."""
    if cell_len(path) <= width:
        return path
    parts = path.split(os.sep)
    for first in range(1, len(parts)):
        shorter = os.sep.join([_ELLIPSIS, *parts[first:]])
        if cell_len(shorter) <= width:
            return shorter
    name = parts[-1]
    room = width - cell_len(_ELLIPSIS)
    end = _fitting(name[::-1], room // 2)[::-1]
    return _fitting(name, room - cell_len(end)) + _ELLIPSIS + end


def _fitting(text: str, width: int) -> str:
    """The longest beginning of ``text`` that takes at most ``width`` columns."""
    taken = 0
    for position, character in enumerate(text):
        taken += cell_len(character)
        if taken > width:
            return text[:position]
    return text


def clock_time(seconds: float, *, round_up: bool = False) -> str:
    """A moment as a player shows it: ``0:07``, ``12:34``, and ``1:02:03`` from an hour on."""
    millis = round(seconds * 1000)
    whole = math.ceil(millis / 1000) if round_up else millis // 1000
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def stretch(start: float, end: float) -> str:
    """A span of time; whole seconds that hold all of it."""
    return f"{clock_time(start)}-{clock_time(end, round_up=True)}"


def byte_size(num_bytes: float) -> str:
    """A size in decimal units, as disks and downloads are sold: ``605 MB``."""
    size = num_bytes
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def duration(seconds: float) -> str:
    """A length of time in the units that matter: ``45 s``, ``3 min``, ``1.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def count(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: ``1 video``, ``12,000 videos``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def share(value: float) -> str:
    """A share in [0, 1] as percent; what is not whole never reads 100 %."""
    return "100%" if value >= 1 else f"{math.floor(value * 100)}%"
