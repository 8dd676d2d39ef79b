"""What queries mean: against a naive evaluation second by second, and hand-made cases with their proof."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm.errors import InputError
from vlm.intervals import Intervals
from vlm.temporal.grammar import parse
from vlm.temporal.meaning import Meaning, Proof, Rows
from vlm.types import Span

SECONDS = 10


def rows_of(*durations: int) -> Rows:
    video = np.repeat(np.arange(len(durations)), durations)
    start = np.concatenate([np.arange(duration, dtype=np.float64) for duration in durations])
    whole = Intervals.of([(number, 0.0, float(duration)) for number, duration in enumerate(durations)])
    return Rows(video, start, start + 1.0, whole)


def asked(query: str, join: float = 0.0, **curves: str) -> list[tuple[float, float]]:
    """Where a query holds in one video; a curve is a string with a digit (tenths) a second."""
    values = {name: np.array([int(digit) for digit in curve]) / 10 for name, curve in curves.items()}
    meaning = Meaning(rows_of(len(next(iter(values.values())))), values, least=0.5, join_seconds=join)
    held = meaning.intervals(parse(query))
    return list(zip(held.start.tolist(), held.end.tolist(), strict=True))


booleans = st.lists(st.booleans(), min_size=2 * SECONDS, max_size=2 * SECONDS).map(np.array)


@given(booleans, booleans)
def test_operators_without_order_are_those_of_single_seconds(a: np.ndarray, b: np.ndarray):
    rows = rows_of(SECONDS, SECONDS)
    meaning = Meaning(rows, {"A": a * 0.9, "B": b * 0.9}, least=0.5, join_seconds=0.0)
    for query, expected in {
        '"A" and "B"': a & b,
        '"A" while not "B"': a & ~b,
        '"A" or "B"': a | b,
        'not ("A" or "B")': ~(a | b),
        '(not "A") and (not "B")': ~(a | b),
        'not ("A" and "B")': ~a | ~b,
        '"A" before 4s': a & (rows.start < 4),
        '"A" after 0:04': a & (rows.start >= 4),
        '"A" between 4s and 6s': a & (rows.start >= 4) & (rows.start < 6),
    }.items():
        held = meaning.intervals(parse(query))
        inside = [
            any(v == video and s <= second < e for v, s, e in zip(held.video, held.start, held.end, strict=True))
            for video, second in zip(rows.video, rows.start, strict=True)
        ]
        np.testing.assert_array_equal(inside, expected, err_msg=query)


def runs(cells: np.ndarray) -> list[tuple[int, int]]:
    """Runs of true cells, one by one."""
    found: list[tuple[int, int]] = []
    for second, cell in enumerate(cells):
        if cell and found and found[-1][1] == second:
            found[-1] = (found[-1][0], second + 1)
        elif cell:
            found.append((second, second + 1))
    return found


@given(booleans, booleans, st.one_of(st.none(), st.integers(1, 5)))
def test_then_joins_neighbours_of_all_pairs(a: np.ndarray, b: np.ndarray, within: int | None):
    meaning = Meaning(rows_of(2 * SECONDS), {"A": a * 0.9, "B": b * 0.9}, least=0.5, join_seconds=0.0)
    cells = np.zeros(2 * SECONDS, np.bool_)
    for one in runs(a):
        for other in runs(b):
            is_nearest = not any(one[1] < run[1] <= other[0] for run in runs(a)) and not any(one[1] <= run[0] < other[0] for run in runs(b))
            if one[1] <= other[0] and is_nearest and (within is None or other[0] - one[1] <= within):
                cells[one[0] : other[1]] = True
    held = meaning.intervals(parse('"A" then "B"' + ("" if within is None else f" within {within}s")))
    assert list(zip(held.start, held.end, strict=True)) == runs(cells)


@pytest.mark.parametrize("comparison", [">", ">=", "<", "<=", "=="])
@given(cells=booleans, number=st.integers(0, 4))
def test_lengths_and_counts_are_those_of_runs(comparison: str, cells: np.ndarray, number: int):
    meaning = Meaning(rows_of(2 * SECONDS), {"A": cells * 0.9}, least=0.5, join_seconds=0.0)

    def compares(value: int, bound: int) -> bool:
        return {">": value > bound, ">=": value >= bound, "<": value < bound, "<=": value <= bound, "==": value == bound}[comparison]

    held = meaning.intervals(parse(f'"A" for {comparison} {number + 1}s'))
    assert list(zip(held.start, held.end, strict=True)) == [run for run in runs(cells) if compares(run[1] - run[0], number + 1)]
    counted = meaning.intervals(parse(f'count("A") {comparison} {number}'))
    assert len(counted) == compares(len(runs(cells)), number)


@given(booleans)
def test_what_is_found_lies_inside_the_video_and_has_a_proof(cells: np.ndarray):
    meaning = Meaning(rows_of(SECONDS, SECONDS), {"A": cells * 0.9, "B": ~cells * 0.8}, least=0.5, join_seconds=1.0)
    for query in (
        '"A" then "B"',
        'not "A"',
        '("A" or "B") for > 1s',
        'count("A") < 2',
        'not (count("A") >= 2)',
        'not ("A" and "B" before 3s)',
    ):
        found = meaning.found(parse(query))
        assert [one.probability for one in found] == sorted((one.probability for one in found), reverse=True)
        for one in found:
            assert 0 <= one.span.start < one.span.end <= SECONDS
            assert one.proof
            assert all(0 <= part.span.start < part.span.end <= SECONDS for part in one.proof)
            assert one.probability >= min(part.certainty for part in one.proof)


def test_nothing_joins_two_videos():
    curves = {"A": np.array([0.0, 0.9, 0, 0]), "B": np.array([0.0, 0, 0.9, 0])}
    meaning = Meaning(rows_of(2, 2), curves, least=0.5, join_seconds=9.0)
    assert len(meaning.intervals(parse('"A" then "B"'))) == 0
    both = meaning.intervals(parse('"A" or "B"'))
    assert (both.video.tolist(), both.start.tolist(), both.end.tolist()) == ([0, 1], [1.0, 0.0], [2.0, 1.0])


def test_gaps_of_a_curve_are_joined_before_anything_else():
    assert asked('"A" for > 4s', join=0, A="99099") == []
    assert asked('"A" for > 4s', join=1, A="99099") == [(0, 5)]


def test_negation_reaches_from_the_first_second_to_the_last():
    assert asked('not "A"', A="0099900") == [(0, 2), (5, 7)]
    assert asked('not "A"', A="0000000") == [(0, 7)]
    assert asked('"A" after 1:00', A="99") == []


def test_a_later_thing_belongs_to_the_last_that_ended_before_it():
    assert asked('"A" then "B"', A="9090000", B="0000099") == [(2, 7)]
    assert asked('"A" then "B"', A="9000000", B="0090090") == [(0, 3)]
    assert asked('"A" then "B" within 1s', A="9000000", B="0090090") == [(0, 3)]
    assert asked('"A" then "B" within 1s', A="9000000", B="0009000") == []
    assert asked('"A" then "B"', A="9900000", B="0990000") == []


def test_the_proof_names_stretch_peak_and_mean_of_each_sentence():
    curves = {"A": np.array([0.6, 0.9, 0.1, 0.0, 0.0]), "B": np.array([0.0, 0.2, 0.0, 0.8, 0.7]), "C": np.array([0.0, 0.1, 0.3, 0.2, 0.0])}
    meaning = Meaning(rows_of(5), curves, least=0.5, join_seconds=0.0)
    (found,) = meaning.found(parse('("A" then "B") while not "C"'))
    assert (found.span, found.probability) == (Span(0.0, 5.0), 0.7)
    assert found.proof == (
        Proof(sentence="A", shows=True, span=Span(0.0, 2.0), peak=0.9, peak_seconds=1.0, mean=0.75),
        Proof(sentence="B", shows=True, span=Span(3.0, 5.0), peak=0.8, peak_seconds=3.0, mean=0.75),
        Proof(sentence="C", shows=False, span=Span(0.0, 5.0), peak=0.3, peak_seconds=2.0, mean=pytest.approx(0.12)),
    )


def test_the_surer_of_two_alternatives_counts_and_a_count_shows_what_it_counted():
    curves = {"A": np.array([0.6, 0.0, 0.7, 0.0]), "B": np.array([0.9, 0.0, 0.0, 0.0])}
    meaning = Meaning(rows_of(4), curves, least=0.5, join_seconds=0.0)
    assert [(one.span.start, one.probability) for one in meaning.found(parse('"A" or "B"'))] == [(0.0, 0.9), (2.0, 0.7)]
    (counted,) = meaning.found(parse('count("A") >= 2'))
    assert [(part.sentence, part.span.start, part.peak) for part in counted.proof] == [("A", 0.0, 0.6), ("A", 2.0, 0.7)]
    (never,) = meaning.found(parse('count("A" and "B" after 1s) == 0'))
    assert {part.sentence for part in never.proof} == {"A", "B"}


@pytest.mark.parametrize(("least", "join", "told"), [(0.0, 0.0, "above 0 and at most 1, got 0"), (0.5, -1.0, "at least 0, got -1 s")])
def test_a_threshold_or_a_gap_that_is_none_is_refused(least: float, join: float, told: str):
    with pytest.raises(InputError, match=told):
        Meaning(rows_of(2), {}, least=least, join_seconds=join)
