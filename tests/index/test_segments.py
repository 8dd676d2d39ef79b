from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vlm.errors import BadVectors, InputError
from vlm.index.segments import COARSER, cut, pool
from vlm.types import Features, Segment, Span


def unit_rows(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@st.composite
def features(draw: st.DrawFn, max_rows: int = 60) -> Features:
    """Random rows at irregular times; some repeat the row before, as in a static shot."""
    num_rows = draw(st.integers(1, max_rows))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = unit_rows(rng.standard_normal((num_rows, 8)))
    for row in range(1, num_rows):
        if rng.random() < 0.4:
            rows[row] = rows[row - 1]
    edges = draw(st.floats(0, 100)) + np.cumsum(rng.uniform(0.05, 4.0, num_rows + 1))
    return Features(rows, edges[:-1], float(edges[-1]))


def levels_of(segments: list[Segment]) -> list[list[Segment]]:
    return [[s for s in segments if s.level == level] for level in range(segments[-1].level + 1)]


def firsts_of(level: list[Segment]) -> list[int]:
    return [s.first for s in level]


def scenes(lengths: list[int], *, noise: float, seed: int = 0) -> Features:
    """Rows one second apart: each scene has its own direction, each row its own noise."""
    rng = np.random.default_rng(seed)
    directions = unit_rows(rng.standard_normal((len(lengths), 32)))
    rows = np.repeat(directions, lengths, axis=0) + noise * rng.standard_normal((sum(lengths), 32)) / np.sqrt(32)
    return Features(unit_rows(rows), np.arange(sum(lengths), dtype=np.float64), float(sum(lengths)))


def slow_ward(video: Features, *, finest_seconds: float) -> list[list[int]]:
    """The definition, in the plainest words: at each step the variance of every possible union is computed anew."""

    def scatter(first: int, last: int) -> float:
        rows = video.vectors[first:last].astype(np.float64)
        return float(((rows - rows.mean(axis=0)) ** 2).sum())

    edges = [*video.times.tolist(), video.end]
    bounds = list(range(len(edges)))
    levels: list[list[int]] = []
    mean_seconds = finest_seconds
    while round((edges[-1] - edges[0]) / mean_seconds) > 1:
        while len(bounds) - 1 > round((edges[-1] - edges[0]) / mean_seconds):
            prices = {
                i: scatter(bounds[i - 1], bounds[i + 1]) - scatter(bounds[i - 1], bounds[i]) - scatter(bounds[i], bounds[i + 1])
                for i in range(1, len(bounds) - 1)
                if edges[bounds[i + 1]] - edges[bounds[i - 1]] <= 2 * mean_seconds
            }
            if not prices:
                break
            del bounds[min(prices, key=lambda i: prices[i])]
        levels.append(bounds[:-1])
        mean_seconds *= COARSER
    levels.append([0])
    return [level for i, level in enumerate(levels) if i == 0 or len(level) < len(levels[i - 1])]


@given(features())
def test_every_level_partitions_the_video_at_row_times(video: Features) -> None:
    edges = [*video.times.tolist(), video.end]
    for level in levels_of(cut(video)):
        assert [level[0].first, level[-1].last] == [0, len(video.times)]
        assert [s.last for s in level[:-1]] == [s.first for s in level[1:]]
        assert [s.span for s in level] == [Span(edges[s.first], edges[s.last]) for s in level]


@given(features())
def test_levels_nest_and_each_is_coarser_up_to_the_whole_video(video: Features) -> None:
    levels = [firsts_of(level) for level in levels_of(cut(video))]
    for finer, coarser in pairwise(levels):
        assert set(coarser) < set(finer)
    assert levels[-1] == [0]


@given(features())
def test_segments_of_several_rows_below_the_top_keep_to_twice_the_mean_of_some_level(video: Features) -> None:
    finest = levels_of(cut(video, finest_seconds=3.0))[0]
    if len(finest) > 1:
        # Levels equal to the one below are left out, so the first level kept may be a coarser one only when it has one row each.
        assert all(s.span.seconds <= 6.0 + 1e-9 for s in finest if s.last - s.first > 1)


@given(features(max_rows=24), st.sampled_from([1.0, 3.0, 5.0]))
@settings(deadline=None)
def test_cuts_equal_the_plain_definition_of_constrained_ward(video: Features, finest_seconds: float) -> None:
    distinct = Features(unit_rows(np.random.default_rng(len(video.times)).standard_normal(video.vectors.shape)), video.times, video.end)
    found = [firsts_of(level) for level in levels_of(cut(distinct, finest_seconds=finest_seconds))]
    assert found == slow_ward(distinct, finest_seconds=finest_seconds)


@given(features(), st.integers(1, 10_000))
def test_a_shift_of_all_times_moves_no_cut(video: Features, shift: int) -> None:
    # Times on a grid of 1/64 s: their sums with a whole number are exact, so no length changes by rounding.
    times = np.round(video.times * 64) / 64 + np.arange(len(video.times))
    still = Features(video.vectors, times, float(times[-1]) + 1.0)
    moved = Features(video.vectors, times + shift, float(times[-1]) + 1.0 + shift)
    assert [(s.level, s.first, s.last) for s in cut(moved)] == [(s.level, s.first, s.last) for s in cut(still)]


@given(features())
def test_cutting_twice_gives_the_same_segments(video: Features) -> None:
    copy = Features(video.vectors.copy(), video.times.copy(), video.end)
    assert cut(copy) == cut(video)


@pytest.mark.parametrize("seed", range(5))
def test_planted_scene_changes_are_cuts_of_the_finest_level(seed: int) -> None:
    lengths = [7, 12, 5, 20, 9, 6]
    found = firsts_of(levels_of(cut(scenes(lengths, noise=0.5, seed=seed)))[0])
    assert set(np.cumsum([0, *lengths[:-1]]).tolist()) <= set(found)


def test_scenes_come_apart_at_the_level_of_their_length() -> None:
    lengths = [20, 22, 18, 20]
    level_of_20_seconds = firsts_of(levels_of(cut(scenes(lengths, noise=0.5)))[1])
    assert level_of_20_seconds == [0, 20, 42, 60]


def test_a_static_stretch_takes_its_share_of_a_level_and_leaves_no_slivers() -> None:
    moving = unit_rows(np.random.default_rng(0).standard_normal((3600, 16)))
    static = np.repeat(moving[-1:], 3600, axis=0)
    video = Features(np.concatenate([moving, static]), np.arange(7200.0), 7200.0)
    finest = levels_of(cut(video))[0]
    assert len(finest) == 1440
    lengths = [s.span.seconds for s in finest if 3610 <= s.first < 7190]
    assert min(lengths) >= 5.0
    assert max(lengths) <= 10.0


def test_equal_rows_fall_into_even_parts() -> None:
    # 512 values: a price taken from norms would be rounding noise instead of 0, and would cut at random.
    row = unit_rows(np.random.default_rng(3).standard_normal((1, 512)))
    video = Features(np.repeat(row, 80, axis=0), np.arange(80.0), 80.0)
    assert firsts_of(levels_of(cut(video, finest_seconds=4.0))[0]) == list(range(0, 80, 4))


def test_one_row_is_one_segment() -> None:
    video = Features(unit_rows(np.ones((1, 4))), np.array([2.0]), 9_000.0)
    assert cut(video) == [Segment(0, 0, 1, Span(2.0, 9_000.0))]


def test_a_short_video_is_one_segment_and_not_several_equal_levels() -> None:
    assert cut(scenes([2, 2], noise=0.1)) == [Segment(0, 0, 4, Span(0.0, 4.0))]


def test_sparse_rows_are_their_own_finest_level() -> None:
    rows = unit_rows(np.random.default_rng(0).standard_normal((8, 16)))
    levels = levels_of(cut(Features(rows, np.arange(8) * 75.0, 600.0)))
    assert firsts_of(levels[0]) == list(range(8))
    assert [len(level) for level in levels] == [8, 2, 1]


def test_features_without_rows_are_refused() -> None:
    with pytest.raises(InputError, match="at least one row"):
        cut(Features(np.zeros((0, 4), np.float32), np.zeros(0), 1.0))


@pytest.mark.parametrize("finest_seconds", [0.0, -2.0, float("nan")])
def test_a_finest_length_that_is_not_positive_is_refused(finest_seconds: float) -> None:
    with pytest.raises(InputError, match=f"finest_seconds must be positive, got {finest_seconds:g}"):
        cut(scenes([3, 3], noise=0.1), finest_seconds=finest_seconds)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_is_refused_and_named(bad: float) -> None:
    video = scenes([10, 10], noise=0.1)
    video.vectors[13, 2] = bad
    with pytest.raises(BadVectors, match="row 13"):
        cut(video)
    with pytest.raises(BadVectors, match="row 13"):
        pool(video, [Segment(0, 0, 20, Span(0.0, 20.0))])


@given(features())
def test_pooled_vectors_are_the_normalised_means_of_their_rows(video: Features) -> None:
    segments = cut(video)
    vectors = pool(video, segments)
    assert vectors.dtype == np.float32
    for segment, vector in zip(segments, vectors, strict=True):
        mean = video.vectors[segment.first : segment.last].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)


def test_rows_count_equally_however_long_they_stand() -> None:
    rows = unit_rows(np.eye(2, 8))
    whole = pool(Features(rows, np.array([0.0, 1.0]), 1000.0), [Segment(0, 0, 2, Span(0.0, 1000.0))])
    np.testing.assert_allclose(whole[0, :2], np.sqrt(0.5), atol=1e-6)


def test_no_segments_pool_to_no_vectors() -> None:
    assert pool(scenes([3], noise=0.1), []).shape == (0, 32)


def test_segments_of_another_video_are_refused() -> None:
    with pytest.raises(InputError, match="3 rows"):
        pool(scenes([3], noise=0.1), [Segment(0, 0, 4, Span(0.0, 4.0))])


def test_rows_that_cancel_out_are_refused() -> None:
    video = Features(np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32), np.array([0.0, 1.0]), 2.0)
    with pytest.raises(BadVectors, match=r"rows 0\.\.1 cancel out"):
        pool(video, [Segment(0, 0, 2, Span(0.0, 2.0))])


def test_importing_segments_loads_no_faiss() -> None:
    code = "import sys, vlm.index.segments; sys.exit('faiss' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
