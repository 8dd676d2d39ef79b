"""Interval sets against a grid of booleans, one for each tenth of a second of each video; and the laws of their algebra."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm.errors import InputError
from vlm.intervals import Intervals

VIDEOS, CELLS = 3, 12
WHOLE = Intervals.of([(video, 0.0, float(CELLS)) for video in range(VIDEOS)])
Grid = np.ndarray
grids = st.lists(st.booleans(), min_size=VIDEOS * CELLS, max_size=VIDEOS * CELLS).map(lambda cells: np.array(cells).reshape(VIDEOS, CELLS))


def of_grid(grid: Grid) -> Intervals:
    return Intervals.of([(video, float(cell), cell + 1.0) for video, cell in zip(*np.nonzero(grid), strict=True)])


def to_grid(found: Intervals) -> Grid:
    grid = np.zeros((VIDEOS, CELLS), np.bool_)
    for video, start, end in zip(found.video, found.start, found.end, strict=True):
        grid[video, int(start) : int(end)] = True
    return grid


def is_normal(found: Intervals) -> bool:
    same = found.video[1:] == found.video[:-1]
    in_order = np.where(same, found.start[1:] > found.end[:-1], found.video[1:] > found.video[:-1])
    return bool(in_order.all() and (found.end > found.start).all())


@given(grids, grids)
def test_sets_are_those_of_a_grid_of_booleans(one: Grid, other: Grid):
    a, b = of_grid(one), of_grid(other)
    for found, grid in (
        (a, one),
        (a.union(b), one | other),
        (a.intersection(b), one & other),
        (a.minus(b), one & ~other),
        (WHOLE.minus(a), ~one),
    ):
        assert is_normal(found)
        np.testing.assert_array_equal(to_grid(found), grid)


@given(grids, grids)
def test_the_laws_of_de_morgan_hold(one: Grid, other: Grid):
    a, b = of_grid(one), of_grid(other)
    assert WHOLE.minus(a.union(b)) == WHOLE.minus(a).intersection(WHOLE.minus(b))
    assert WHOLE.minus(a.intersection(b)) == WHOLE.minus(a).union(WHOLE.minus(b))


@given(grids, grids, grids)
def test_union_and_intersection_are_idempotent_and_distribute(one: Grid, other: Grid, third: Grid):
    a, b, c = of_grid(one), of_grid(other), of_grid(third)
    assert a.union(a) == a.intersection(a) == WHOLE.minus(WHOLE.minus(a)) == a
    assert a.intersection(b.union(c)) == a.intersection(b).union(a.intersection(c))


@given(grids, grids, st.integers(-5, 50))
def test_a_shift_goes_through_every_operation(one: Grid, other: Grid, seconds: int):
    a, b = of_grid(one), of_grid(other)
    assert a.shifted(seconds).union(b.shifted(seconds)) == a.union(b).shifted(seconds)
    assert a.shifted(seconds).intersection(b.shifted(seconds)) == a.intersection(b).shifted(seconds)
    assert a.shifted(seconds).minus(b.shifted(seconds)) == a.minus(b).shifted(seconds)
    assert a.shifted(seconds).shifted(-seconds) == a


@given(grids, st.integers(0, 4))
def test_closing_fills_gaps_up_to_a_length_and_changes_no_end(grid: Grid, gap: int):
    expected = grid.copy()
    for row, cells in zip(expected, grid, strict=True):
        held = np.flatnonzero(cells)
        for before, after in itertools.pairwise(held):
            if after - before - 1 <= gap:
                row[before:after] = True
    found = of_grid(grid).closed(gap)
    np.testing.assert_array_equal(to_grid(found), expected)
    assert is_normal(found)


@given(grids, st.integers(0, 4))
def test_dilation_reaches_every_cell_so_near_and_stays_inside(grid: Grid, cells: int):
    expected = np.zeros_like(grid)
    for video, cell in zip(*np.nonzero(grid), strict=True):
        expected[video, max(0, cell - cells) : cell + cells + 1] = True
    found = of_grid(grid).dilated(cells, WHOLE)
    np.testing.assert_array_equal(to_grid(found), expected)
    # What is taken off is what the complement gains (but at the ends of a video, where there is nothing outside to grow from).
    inner = np.pad(~grid, ((0, 0), (cells, cells)), constant_values=True)
    gone = np.stack([inner[:, shift : shift + CELLS] for shift in range(2 * cells + 1)]).any(axis=0)
    np.testing.assert_array_equal(to_grid(of_grid(grid).dilated(-cells, WHOLE)), ~gone)


@given(grids, grids)
def test_overlaps_are_those_of_all_pairs(one: Grid, other: Grid):
    a, b = of_grid(one), of_grid(other)
    pairs = [
        [va == vb and sa < eb and sb < ea for vb, sb, eb in zip(b.video, b.start, b.end, strict=True)]
        for va, sa, ea in zip(a.video, a.start, a.end, strict=True)
    ]
    assert a.overlaps(b).tolist() == [any(row) for row in pairs]
    first, last = a.overlapping(b)
    assert [list(range(*rows)) for rows in zip(first, last, strict=True)] == [np.flatnonzero(row).tolist() for row in pairs]


def test_bounds_come_out_as_the_numbers_that_went_in():
    a, b = Intervals.of([(7, 0.1, 0.7), (7, 0.7, 1 / 3 + 1)]), Intervals.of([(7, 0.2, 0.3), (9, 0.2, 0.3)])
    assert (a.minus(b).start.tolist(), a.minus(b).end.tolist()) == ([0.1, 0.3], [0.2, 1 / 3 + 1])


@pytest.mark.parametrize("spans", [[(0, 2.0, 1.0)], [(0, 0.0, float("nan"))], [(0, 0.0, float("inf"))]])
def test_what_is_no_interval_is_refused(spans: list[tuple[int, float, float]]):
    with pytest.raises(InputError, match="an interval needs finite bounds in order, got"):
        Intervals.of(spans)


def test_gaps_and_dilations_that_are_none_are_refused():
    with pytest.raises(InputError, match="a gap must be at least 0 s, got -1 s"):
        WHOLE.closed(-1)
    with pytest.raises(InputError, match="a finite number of seconds, got inf"):
        WHOLE.dilated(float("inf"), WHOLE)
