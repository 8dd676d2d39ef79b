"""Stretches that stand out of a curve: found where they were put, whatever the noise, and nowhere outside the video."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm.errors import InputError
from vlm.models.curves import _contrast, _runs, stretches, suppressed
from vlm.spans import temporal_iou
from vlm.types import Moment, Span


def edges(t: int) -> np.ndarray:
    return np.arange(t + 1) / 2


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 120), st.data(), st.integers(0, 2**32 - 1))
def test_a_clear_step_is_found_first(t: int, data: st.DataObject, seed: int) -> None:
    first = data.draw(st.integers(0, t - 8))
    last = data.draw(st.integers(first + 6, t - 1 if first == 0 else t))
    curve = 0.02 * np.random.default_rng(seed).standard_normal(t)
    curve[first:last] += 0.2
    best = stretches(curve, edges(t))[0]
    assert temporal_iou(best.span, Span(first / 2, last / 2)) > 0.7
    assert best.score > 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.integers(1, 12))
def test_stretches_lie_in_the_video_best_first_and_apart(values: list[float], most: int) -> None:
    found = stretches(np.array(values), edges(len(values)), most=most)
    assert 1 <= len(found) <= most
    assert [moment.score for moment in found] == sorted((moment.score for moment in found), reverse=True)
    assert all(0 <= moment.span.start < moment.span.end <= len(values) / 2 for moment in found)
    assert all(temporal_iou(a.span, b.span) <= 0.7 for n, a in enumerate(found) for b in found[:n])


def test_a_flat_curve_is_the_whole_video_with_nothing_to_say() -> None:
    assert stretches(np.full(10, 0.3), edges(10)) == [Moment(Span(0, 5), 0.0)]


def test_one_row_is_a_video() -> None:
    assert stretches(np.array([0.4]), np.array([0.0, 2.5])) == [Moment(Span(0, 2.5), 0.0)]


def test_ends_move_to_a_boundary_that_is_near_and_to_no_other() -> None:
    curve = np.zeros(40)
    curve[10:20] = 1.0
    assert stretches(curve, edges(40), boundaries=[5.4, 14.0])[0].span == Span(5.4, 10.0)


def test_contrast_is_the_difference_of_means_in_standard_errors() -> None:
    rng = np.random.default_rng(0)
    curve = rng.standard_normal(50)
    inside, rest = curve[10:30], np.concatenate([curve[:10], curve[30:]])
    pooled = np.sqrt((((inside - inside.mean()) ** 2).sum() + ((rest - rest.mean()) ** 2).sum()) / 48)
    expected = (inside.mean() - rest.mean()) / (pooled * np.sqrt(1 / 20 + 1 / 30))
    assert _contrast(curve, 10, 30) == pytest.approx(expected, rel=1e-4)


@given(st.lists(st.booleans(), max_size=20))
def test_runs_are_those_of_a_loop(values: list[bool]) -> None:
    expected, start = [], None
    for place, value in enumerate([*values, False]):
        if value and start is None:
            start = place
        elif not value and start is not None:
            expected.append((start, place))
            start = None
    assert _runs(np.array(values, dtype=np.bool_)) == expected


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
        stretches(curve, ends)
