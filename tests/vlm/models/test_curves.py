"""Stretches that stand out of a curve: found where they were put, whatever the noise, and nowhere outside the video."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm.errors import InputError
from vlm.models.curves import LENGTH_POWER, stretches, suppressed
from vlm.spans import temporal_iou
from vlm.types import Moment, Span


def edges(t: int) -> np.ndarray:
    return np.arange(t + 1) / 2


def all_ranges(t: int) -> np.ndarray:
    return np.array([(first, last) for first in range(t) for last in range(first + 1, t + 1)])


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 60), st.data(), st.integers(0, 2**32 - 1))
def test_a_clear_step_is_found_first(t: int, data: st.DataObject, seed: int) -> None:
    first = data.draw(st.integers(0, t - 8))
    outside = t // 7  # of less than that nothing can be told
    last = data.draw(st.integers(first + 6, min(t, max(first + 6, first + t - outside))))
    curve = 0.02 * np.random.default_rng(seed).standard_normal(t)
    curve[first:last] += 0.2
    best = stretches(curve, edges(t), all_ranges(t))[0]
    assert temporal_iou(best.span, Span(first / 2, last / 2)) > 0.6
    assert best.score > 0.1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.integers(1, 12))
def test_stretches_are_those_of_a_naive_loop(values: list[float], most: int) -> None:
    curve, t = np.array(values), len(values)
    found = stretches(curve, edges(t), all_ranges(t), most=most)
    usual = min(float(np.quantile(curve, 0.4)), float((np.quantile(curve, 0.02) + np.quantile(curve, 0.98)) / 2))
    scored = []
    for first, last in all_ranges(t).tolist():
        above = sum(values[first:last]) / (last - first) - usual
        score = max(0.0, above / max(float(curve.std()), 0.005) * ((last - first) / 2) ** LENGTH_POWER) if last - first < t else 0.0
        scored.append(Moment(Span(first / 2, last / 2), score))
    assert [moment.score for moment in found] == sorted((moment.score for moment in found), reverse=True)
    assert found[0].score == pytest.approx(max(moment.score for moment in scored), rel=1e-6, abs=1e-6)
    by_span = {moment.span: moment.score for moment in scored}
    assert [moment.score for moment in found] == pytest.approx([by_span[moment.span] for moment in found], rel=1e-6, abs=1e-6)
    assert suppressed(found, most=most, overlap=0.7) == found
    assert len(found) == most or all(
        any(temporal_iou(moment.span, other.span) > 0.7 for other in found) for moment in scored if moment not in found
    )


def test_a_flat_curve_has_nothing_to_say() -> None:
    assert {moment.score for moment in stretches(np.full(10, 0.3), edges(10), all_ranges(10))} == {0.0}


def test_one_row_is_a_video() -> None:
    assert stretches(np.array([0.4]), np.array([0.0, 2.5]), all_ranges(1)) == [Moment(Span(0, 2.5), 0.0)]


def test_only_what_may_be_found_is_found() -> None:
    curve = np.zeros(40)
    curve[10:20] = 1.0
    assert stretches(curve, edges(40), np.array([[9, 20], [0, 40]]))[0].span == Span(4.5, 10.0)


def test_of_two_that_overlap_the_better_stays() -> None:
    moments = [Moment(Span(0, 10), 1.0), Moment(Span(0, 9), 2.0), Moment(Span(20, 30), 0.5)]
    assert suppressed(moments, most=5, overlap=0.7) == [moments[1], moments[2]]


@pytest.mark.parametrize(
    ("curve", "ends"),
    [
        (np.zeros(0), np.zeros(1)),
        (np.array([np.nan]), np.array([0.0, 1.0])),
        (np.zeros(2), np.array([0.0, 1.0, 1.0])),
        (np.zeros(2), edges(3)),
    ],
)
def test_what_is_no_curve_is_refused(curve: np.ndarray, ends: np.ndarray) -> None:
    with pytest.raises(InputError, match="finite numbers and rising edges"):
        stretches(curve, ends, np.array([[0, 1]]))


@pytest.mark.parametrize("ranges", [[[0, 0]], [[-1, 1]], [[0, 3]], [[1, 0]]])
def test_ranges_outside_the_rows_are_refused(ranges: list[list[int]]) -> None:
    with pytest.raises(InputError, match="of the 2 rows"):
        stretches(np.zeros(2), edges(2), np.array(ranges))
