"""Choosing texts so that their words do not tell the answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from vlm.data.toybox.dice import Dice


@dataclass(frozen=True, slots=True)
class Cell:
    """Where a text stands in the balance.

    Attributes:
        name: what the texts that must be balanced among each other have in common: template, actions.
        side: which of the ``num_sides`` possible outcomes is this one's.
        num_sides: 1 where there is nothing to balance.
    """

    name: str
    side: str
    num_sides: int


class Balanceable(Protocol):
    """A query or a question."""

    @property
    def cell(self) -> Cell: ...  # noqa: D102


T = TypeVar("T", bound=Balanceable)


def balanced(items: Iterable[T], *, limit: int | None, seed: int) -> list[T]:
    """As many of ``items`` as balance allows: in each cell equally many of every side, at most about ``limit`` in all.

    Cells in which a side is missing are left out. Cells are filled evenly, one of each side at a time. The order is random, by ``seed``.
    """
    cells: dict[str, dict[str, list[T]]] = defaultdict(lambda: defaultdict(list))
    num_sides: dict[str, int] = {}
    for item in items:
        cells[item.cell.name][item.cell.side].append(item)
        num_sides[item.cell.name] = item.cell.num_sides
    rows: list[tuple[int, int, list[T]]] = []
    dice = Dice(seed, "cells")
    for name in sorted(name for name, sides in cells.items() if len(sides) == num_sides[name]):
        sides = [Dice(seed, name, side).shuffled(found) for side, found in sorted(cells[name].items())]
        rows += [(number, dice.bits(), list(row)) for number, row in enumerate(zip(*sides, strict=False))]
    # By number first: every cell gives its first row before any gives its second.
    rows.sort(key=lambda row: row[:2])
    chosen: list[T] = []
    for _, _, row in rows:
        if limit is not None and len(chosen) + len(row) > limit:
            break
        chosen += row
    return Dice(seed, "order").shuffled(chosen)
