"""Retrieval metrics on matrices small enough to be read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vlm.errors import InputError
from vlm.eval.retrieval import both_directions, ranks, retrieval_figures

HAND_MADE = np.array([[0.9, 0.1, 0.2], [0.5, 0.4, 0.6], [0.3, 0.2, 0.3]])


def test_ranks_of_a_hand_made_matrix() -> None:
    assert ranks(HAND_MADE).tolist() == [1, 3, 2]  # the last is tied with a wrong one, which stands before it


def test_figures_of_a_hand_made_matrix() -> None:
    figures = retrieval_figures(HAND_MADE)
    assert (figures.recall_at_1, figures.recall_at_5, figures.recall_at_10) == (1 / 3, 1.0, 1.0)
    assert (figures.median_rank, figures.mean_rank) == (2.0, 2.0)
    assert (figures.num_queries, figures.num_candidates) == (3, 3)


def test_directions_are_rows_and_columns() -> None:
    texts, videos = both_directions(HAND_MADE)
    assert ranks(HAND_MADE.T).tolist() == [1, 1, 2]
    assert (texts.mean_rank, videos.mean_rank) == (2.0, 4 / 3)


def test_several_queries_may_belong_to_one_candidate() -> None:
    assert ranks(np.array([[0.1, 0.9], [0.2, 0.3], [0.8, 0.1]]), np.array([1, 1, 0])).tolist() == [1, 1, 1]


def test_a_model_that_says_the_same_of_everything_is_last() -> None:
    assert ranks(np.ones((4, 7))).tolist() == [7] * 4


@given(arrays(np.float64, (5, 6), elements=st.integers(0, 3).map(float)))
def test_ranks_equal_those_of_a_sorted_list(similarity: np.ndarray) -> None:
    for row, rank in enumerate(ranks(similarity)):
        worst_first = sorted(range(6), key=lambda column: (-similarity[row, column], column == row))
        assert rank == worst_first.index(row) + 1


@pytest.mark.parametrize(
    ("similarity", "own", "named"),
    [
        (np.zeros((2, 0)), None, r"\(2, 0\)"),
        (np.zeros(3), None, r"\(3,\)"),
        (np.zeros((3, 2)), None, "3 queries for 2"),
        (np.array([[np.nan, 1.0]]), None, "1 NaN"),
        (np.zeros((2, 2)), np.array([0, 2]), "one column of 2"),
        (np.zeros((2, 2)), np.array([0]), "one column of 2"),
    ],
)
def test_a_matrix_that_cannot_be_ranked_is_refused(similarity: np.ndarray, own: np.ndarray | None, named: str) -> None:
    with pytest.raises(InputError, match=named):
        ranks(similarity, own)


def test_no_query_has_no_figures() -> None:
    with pytest.raises(InputError, match="no queries"):
        retrieval_figures(np.zeros((0, 3)))


def test_both_directions_want_a_square() -> None:
    with pytest.raises(InputError, match=r"\(2, 3\)"):
        both_directions(np.zeros((2, 3)))
