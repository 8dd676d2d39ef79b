"""Figures of multi-instance retrieval on matrices small enough to be read, and against the definition written out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vlm.data.formats import epic100
from vlm.errors import InputError
from vlm.eval.instances import both_directions, instance_figures, relevancies

# Of one query: the best candidate is found second, after one that is half right.
SIMILARITY, RELEVANCY = np.array([[0.9, 0.8, 0.1]]), np.array([[0.5, 1.0, 0.0]])


def test_figures_of_a_query_by_hand() -> None:
    figures = instance_figures(SIMILARITY, RELEVANCY)
    assert figures.mean_average_precision == pytest.approx((0.5 + 1.0) / 2)  # one hit, at rank 2, whose precision counts the half before
    assert figures.ndcg == pytest.approx((0.5 + 1 / math.log2(3)) / (1 + 0.5 / math.log2(3)))
    assert (figures.num_queries, figures.num_candidates) == (1, 3)


def test_only_as_many_ranks_as_there_are_relevant_candidates_count_for_ndcg() -> None:
    figures = instance_figures(np.array([[3.0, 2.0, 1.0]]), np.array([[0.0, 0.0, 1.0]]))
    assert figures.ndcg == 0.0  # the one relevant candidate is not the first
    assert figures.mean_average_precision == pytest.approx(1 / 3)


def test_a_perfect_order_has_ndcg_1_and_its_halves_raise_the_precision_of_later_hits_alone() -> None:
    relevancy = np.array([[1.0, 1.0, 0.5, 0.0], [0.0, 1.0, 0.25, 0.0]])
    figures = instance_figures(relevancy, relevancy)
    assert figures.ndcg == 1.0
    assert figures.mean_average_precision == 1.0


def test_directions_are_rows_and_columns() -> None:
    similarity, relevancy = np.array([[0.9, 0.1], [0.8, 0.7]]), np.eye(2)
    videos, texts = both_directions(similarity, relevancy)
    assert (videos.mean_average_precision, texts.mean_average_precision) == (0.75, 1.0)


def test_equally_similar_candidates_stand_the_less_relevant_first() -> None:
    assert instance_figures(np.zeros((1, 4)), np.array([[1.0, 0.5, 0.0, 0.0]])).mean_average_precision == pytest.approx(1.5 / 4)


def by_the_definition(similarity: np.ndarray, relevancy: np.ndarray) -> tuple[float, float]:
    precisions, gains = [], []
    for scores, levels in zip(similarity, relevancy, strict=True):
        order = sorted(range(len(scores)), key=lambda place: (-scores[place], levels[place]))
        found, running = [], 0.0
        for rank, place in enumerate(order, start=1):
            running += levels[place]
            if levels[place] == 1:
                found.append(running / rank)
        precisions.append(sum(found) / len(found))
        count = int((levels > 0).sum())

        def gain(some: list[float]) -> float:
            return sum(level / math.log2(rank + 1) for rank, level in enumerate(some, start=1))

        gains.append(gain([levels[place] for place in order[:count]]) / gain(sorted(levels, reverse=True)[:count]))
    return float(np.mean(precisions)), float(np.mean(gains))


@given(
    arrays(np.float64, (4, 6), elements=st.integers(0, 3).map(float)),
    arrays(np.float64, (4, 6), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
)
def test_figures_equal_the_definition_written_out(similarity: np.ndarray, relevancy: np.ndarray) -> None:
    relevancy = relevancy.copy()
    relevancy[np.arange(4), np.arange(4)] = 1.0
    figures = instance_figures(similarity, relevancy)
    assert (figures.mean_average_precision, figures.ndcg) == pytest.approx(by_the_definition(similarity, relevancy))


def action(verb: int, *nouns: int) -> epic100.Action:
    words = tuple(map(str, nouns))
    return epic100.Action(narration="", verb="", verb_class=verb, noun=words[0], noun_class=nouns[0], nouns=words, noun_classes=nouns)


def test_relevancies_equal_those_of_each_pair() -> None:
    queries = [action(0, 3), action(1, 3, 9), action(0, 9, 4)]
    candidates = [*queries, action(1, 3, 3), action(5, 7)]
    expected = [[epic100.relevancy(one, other) for other in candidates] for one in queries]
    np.testing.assert_allclose(relevancies(queries, candidates), expected)
    assert expected[0] == [1.0, 0.25, 0.5, 0.5, 0.0]


def test_every_narration_of_epic_kitchens_is_answered_by_a_sentence(shared: Path) -> None:
    """The published test files: 9,668 clips, 3,842 sentences."""
    folder = shared / "data/annotations/epic100/retrieval_annotations"
    rows = epic100.read_narrations(folder / "EPIC_100_retrieval_test.csv").rows
    by_id = {row.narration_id: row.action for row in rows}
    sentences = epic100.read_sentences(folder / "EPIC_100_retrieval_test_sentence.csv").rows
    clips = [row.action for row in rows if row.action is not None]
    texts = [found for one in sentences if (found := by_id[one.narration_id]) is not None]
    assert (len(clips), len(texts)) == (9668, 3842)
    assert (relevancies(clips[::20], texts).max(axis=1) == 1).all()


@pytest.mark.parametrize(
    ("similarity", "relevancy", "told"),
    [
        (np.zeros((2, 3)), np.ones((3, 2)), r"got \(2, 3\) and \(3, 2\)"),
        (np.zeros((0, 3)), np.ones((0, 3)), r"at least one each, got \(0, 3\)"),
        (np.array([[np.nan, 0.0]]), np.ones((1, 2)), "1 NaN"),
        (np.zeros((1, 2)), np.array([[1.0, 1.5]]), r"must be in \[0, 1\], got 1 to 1.5"),
        (np.zeros((2, 2)), np.array([[1.0, 0.5], [0.5, 0.5]]), "query 1 has no candidate of relevancy 1"),
    ],
)
def test_matrices_that_have_no_figures_are_refused(similarity: np.ndarray, relevancy: np.ndarray, told: str) -> None:
    with pytest.raises(InputError, match=told):
        instance_figures(similarity, relevancy)
