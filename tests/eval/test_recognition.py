"""Top-1 and top-5 on scores small enough to be read."""

from __future__ import annotations

import numpy as np
import pytest

from vlm.errors import InputError
from vlm.eval.recognition import action_figures, recognition_figures


def test_top_1_and_top_5_by_hand() -> None:
    scores = np.array([[7, 6, 5, 4, 3, 2, 1]] * 4, dtype=float)
    figures = recognition_figures(scores, np.array([0, 4, 5, 1]))
    assert (figures.top1, figures.top5) == (0.25, 0.75)
    assert (figures.num_clips, figures.num_classes) == (4, 7)


def test_a_model_that_says_the_same_of_all_classes_is_never_right() -> None:
    assert recognition_figures(np.ones((3, 7)), np.array([0, 1, 2])).top5 == 0.0


def test_an_action_is_right_where_its_verb_and_its_noun_are() -> None:
    verbs = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    nouns = np.array([[0.2, 0.8, 0.0], [0.2, 0.8, 0.0], [0.5, 0.1, 0.4]])
    figures = action_figures(verbs, nouns, np.array([0, 0, 1]), np.array([1, 0, 2]))
    assert (figures["verb"].top1, figures["noun"].top1, figures["action"].top1) == (1.0, pytest.approx(1 / 3), pytest.approx(1 / 3))
    # Of the third clip: verb 1 with nouns 0 (0.30) and 2 (0.24), before verb 0 with noun 0 (0.20).
    assert figures["action"].top5 == 1.0
    assert figures["action"].num_classes == 6


@pytest.mark.parametrize(
    ("scores", "labels", "told"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "no clips"),
        (np.zeros((1, 3)), np.array([3]), "one column of 3"),
        (np.array([[np.nan, 0.0]]), np.array([0]), "1 NaN"),
    ],
)
def test_scores_that_have_no_figures_are_refused(scores: np.ndarray, labels: np.ndarray, told: str) -> None:
    with pytest.raises(InputError, match=told):
        recognition_figures(scores, labels)
