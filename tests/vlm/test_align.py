"""Shared stretches along a diagonal, against naive loops and films whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.films import SCENE_SECONDS, Film, cut
from vlm.align import COMMON_LEVEL, WORTH, Alignment, Track, against, align, runs
from vlm.errors import InputError
from vlm.index.duplicates import LEAST_INFORMATION
from vlm.types import Features, Span

ONE, OTHER, THIRD = Film(1), Film(2), Film(3)


def track(features: Features, *, level: float = 0.3, live: bool = True) -> Track:
    count = len(features.times)
    return Track(features.vectors, features.times, features.end, np.full(count, level, np.float32), np.full(count, live))


def only(found: list[Alignment]) -> Alignment:
    assert len(found) == 1, found
    return found[0]


def ends_apart(found: Alignment, one: Span, other: Span) -> float:
    pairs = ((found.one, one), (found.other, other))
    return max(abs(a - b) for mine, true in pairs for a, b in ((mine.start, true.start), (mine.end, true.end)))


def naive_runs(times: np.ndarray, worth: np.ndarray, most_apart: float) -> list[tuple[int, int]]:
    """The same by trying every range."""
    good = [row for row in range(len(worth)) if worth[row] > WORTH]
    groups: list[list[int]] = []
    for row in good:
        if groups and times[row] - times[groups[-1][-1]] < most_apart:
            groups[-1].append(row)
        else:
            groups.append([row])
    found = []
    for group in groups:
        ranges = [(a, b + 1) for a in range(group[0], group[-1] + 1) for b in range(a, group[-1] + 1)]
        found.append(max(ranges, key=lambda pair: float((worth[pair[0] : pair[1]] - WORTH).sum())))
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 25), st.integers(0, 2**32 - 1))
def test_runs_are_those_of_a_loop_over_every_range(count: int, seed: int):
    rng = np.random.default_rng(seed)
    times, worth = np.cumsum(rng.uniform(0.1, 1.5, count)), rng.uniform(-1, 1, count)
    assert runs(times, worth, most_apart=2.5) == naive_runs(times, worth, 2.5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.floats(-9, 9), st.integers(0, 2**32 - 1))
def test_a_row_is_worth_what_a_loop_says(t: int, other_t: int, shift: float, seed: int):
    rng = np.random.default_rng(seed)

    def some(count: int) -> Track:
        vectors = rng.normal(size=(count, 4)).astype(np.float32)
        times = np.cumsum(rng.uniform(0.2, 2, count))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        levels = rng.uniform(0, 1, count).astype(np.float32)
        return Track(vectors, times, times[-1] + 1, levels, np.ones(count, np.bool_))

    one, other = some(t), some(other_t)
    rows, worth = against(one, other, shift)
    expected = {}
    for row in range(t):
        when = one.times[row] + shift
        for left in range(other_t):
            until = other.times[left + 1] if left + 1 < other_t else other.end
            if other.times[left] <= when < until:
                right = min(left + 1, other_t - 1)
                share = (when - other.times[left]) / (until - other.times[left]) if right > left else 0.0
                mixed = (1 - share) * other.vectors[left] + share * other.vectors[right]
                level = max(one.levels[row], (1 - share) * other.levels[left] + share * other.levels[right])
                likeness = mixed @ one.vectors[row] / max(np.linalg.norm(mixed), 1e-9)
                expected[row] = WORTH if level > COMMON_LEVEL else np.clip((likeness - level) / max(1 - level, 0.1), -1, 1)
    assert dict(zip(rows.tolist(), worth.tolist(), strict=True)) == pytest.approx(expected, abs=1e-5)


def planted(start: float, place: float, length: float, one: float, other: float) -> Alignment:
    """What is found of a stretch of one film in another's video, whose rows lie at any phase; ``place`` is where it begins there."""
    source = cut((ONE, 0, start + length + 15), phase=one, noise=0.2, seed=1)
    host = cut((OTHER, 0, place), (ONE, start, start + length), (OTHER, place, place + 12), phase=other, noise=0.2, seed=2)
    return only([a for a in align(track(source), track(host), round(place - start)) if a.one.seconds > 4])


@settings(max_examples=25, deadline=None)
@given(st.floats(5, 30), st.floats(3, 20), st.floats(8, 40), st.floats(0, 0.99), st.floats(0, 0.99))
def test_a_planted_stretch_is_found_with_both_places_whatever_the_phases(
    start: float, place: float, length: float, one: float, other: float
):
    found = planted(start, place, length, one, other)
    # Two rows and what a cut may lie between: where a scene of the film itself ends beside the cut, a row more looks like a cut.
    assert ends_apart(found, Span(start, start + length), Span(place, place + length)) < 2.5
    assert found.one.seconds == pytest.approx(found.other.seconds)
    assert found.information >= LEAST_INFORMATION


def test_both_ends_of_most_planted_stretches_lie_within_a_row_of_the_truth():
    rng, apart = np.random.default_rng(0), []
    for _ in range(200):
        start, place, length, *phases = rng.uniform([5, 3, 8, 0, 0], [30, 20, 40, 0.99, 0.99]).tolist()
        apart.append(ends_apart(planted(start, place, length, *phases), Span(start, start + length), Span(place, place + length)))
    assert np.mean(np.array(apart) < 1) >= 0.97
    assert np.median(apart) < 0.45


def test_the_shift_is_found_between_the_rows():
    source = cut((ONE, 0, 60))
    host = cut((OTHER, 0, 12.4), (ONE, 10, 50), (OTHER, 12.4, 20))
    found = only([a for a in align(track(source), track(host), 3.0) if a.one.seconds > 4])
    assert found.other.start - found.one.start == pytest.approx(2.4, abs=0.25)


def test_either_video_may_come_first():
    one, other = track(cut((ONE, 0, 40))), track(cut((OTHER, 0, 9), (ONE, 5, 30), phase=0.3))
    (forth,), (back,) = align(one, other, 4.0), align(other, one, -4.0)
    assert (
        ends_apart(
            Alignment(one=back.other, other=back.one, worth=0, live_seconds=0, information=0, gain=0, step=1), forth.one, forth.other
        )
        < 0.1
    )


def test_a_whole_copy_reaches_from_end_to_end():
    found = only(align(track(cut((ONE, 0, 30))), track(cut((ONE, 0, 30), noise=0.2)), 0.0))
    assert ends_apart(found, Span(0, 30), Span(0, 30)) < 0.2


def test_the_same_frames_backwards_are_no_stretch_beyond_a_scene():
    forwards = cut((ONE, 0, 40))
    backwards = Features(forwards.vectors[::-1].copy(), forwards.times, forwards.end)
    found = [a for shift in range(-39, 40) for a in align(track(forwards), track(backwards), float(shift))]
    assert [a for a in found if a.information >= LEAST_INFORMATION and a.one.seconds > SCENE_SECONDS] == []


def test_other_footage_is_no_stretch():
    assert [a for a in align(track(cut((ONE, 0, 40))), track(cut((THIRD, 0, 40))), 0.0) if a.one.seconds >= 4] == []


def test_a_look_alike_tells_nothing_where_it_matches_at_any_shift():
    still = Film(7, still=True)
    one = track(cut((ONE, 0, 10), (still, 0, 40), noise=0.1, seed=1))
    other = track(cut((OTHER, 0, 10), (still, 0, 20), (OTHER, 10, 20), noise=0.1, seed=2))
    found = only(align(one, other, -9.0))
    assert found.one.seconds == pytest.approx(20, abs=1.1)
    assert found.information < LEAST_INFORMATION


def test_rows_that_do_not_live_count_for_no_information():
    one, other = cut((ONE, 0, 30)), cut((ONE, 0, 30), phase=0.5)
    found = only(align(track(one), track(other, live=False), 0.0))
    assert (found.live_seconds, found.information) == (0.0, 0.0)


def test_a_break_of_three_seconds_makes_two_stretches():
    source = cut((ONE, 0, 40))
    host = cut((ONE, 0, 16), (OTHER, 0, 4), (ONE, 20, 40))
    found = align(track(source), track(host), 0.0)
    assert [end for a in found for end in (a.one.start, a.one.end)] == pytest.approx([0, 16, 20, 40], abs=0.75)


def test_videos_that_do_not_meet_share_nothing():
    assert align(track(cut((ONE, 0, 10))), track(cut((ONE, 0, 10))), 50.0) == []


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.floats(-3, 3))
def test_a_few_rows_break_nothing(t: int, other_t: int, shift: float):
    one, other = cut((ONE, 0, t)), cut((ONE, 0.3, other_t + 0.3))
    assume(len(one.times) and len(other.times))
    for found in align(track(one), track(other), shift):
        assert 0 <= found.one.start < found.one.end <= one.end + 1e-6
        assert 0 <= found.other.start < found.other.end <= other.end + 1e-6


@pytest.mark.parametrize("rows", [0, 2])
def test_a_track_needs_rows_and_one_of_everything_for_each(rows: int):
    with pytest.raises(InputError, match="a track needs rows"):
        Track(
            np.zeros((rows, 4), np.float32),
            np.arange(rows, dtype=float),
            9.0,
            np.zeros(rows + (rows > 0), np.float32),
            np.ones(rows, np.bool_),
        )
