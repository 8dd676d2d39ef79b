"""The choice that keeps cells even."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from vlm.data.toybox.balance import Cell, balanced


@dataclass(frozen=True)
class Item:
    number: int
    cell: Cell


ITEMS = st.lists(st.tuples(st.sampled_from("pqr"), st.sampled_from("xyz")), max_size=60).map(
    lambda drawn: [Item(number, Cell(name, side, 3)) for number, (name, side) in enumerate(drawn)]
)


@given(items=ITEMS)
def test_every_cell_keeps_as_many_of_each_side_as_its_rarest_has(items: list[Item]) -> None:
    had = Counter((item.cell.name, item.cell.side) for item in items)
    kept = Counter((item.cell.name, item.cell.side) for item in balanced(items, limit=None, seed=0))
    for name in "pqr":
        assert {kept[name, side] for side in "xyz"} == {min(had[name, side] for side in "xyz")}


@given(items=ITEMS, limit=st.integers(0, 40))
def test_the_limit_is_kept_and_cells_stay_even(items: list[Item], limit: int) -> None:
    chosen = balanced(items, limit=limit, seed=1)
    assert len(chosen) <= limit
    kept = Counter((item.cell.name, item.cell.side) for item in chosen)
    assert all(len({kept[name, side] for side in "xyz"}) == 1 for name in "pqr")


def test_a_cell_with_one_side_keeps_all() -> None:
    items = [Item(number, Cell("p", "", 1)) for number in range(5)]
    assert sorted(item.number for item in balanced(items, limit=None, seed=0)) == [0, 1, 2, 3, 4]


def test_the_same_seed_chooses_the_same() -> None:
    items = [Item(number, Cell("p", "xyz"[number % 3], 3)) for number in range(30)]
    assert balanced(items, limit=9, seed=4) == balanced(items, limit=9, seed=4)
