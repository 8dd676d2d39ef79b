from __future__ import annotations

import numpy as np
import pytest

from vlm.errors import InputError
from vlm.eval.anticipation import class_mean_recall, ranks, top_k_accuracy

# Six classes, five moments.
SCORES = np.array(
    [
        [0.9, 0.5, 0.4, 0.3, 0.2, 0.1],
        [0.1, 0.5, 0.4, 0.3, 0.2, 0.9],
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        [0.6, 0.6, 0.5, 0.4, 0.3, 0.2],
        [0.0, 0.9, 0.8, 0.7, 0.6, 0.5],
    ]
)


def test_ranks_count_ties_against_the_model():
    assert ranks(SCORES, [0, 0, 3, 0, 0]).tolist() == [0, 5, 2, 1, 5]


def test_accuracy_is_the_share_of_moments_whose_class_is_among_the_best():
    assert top_k_accuracy(SCORES, [0, 0, 3, 0, 0]) == 0.2
    assert top_k_accuracy(SCORES, [0, 0, 3, 0, 0], k=2) == 0.4
    assert top_k_accuracy(SCORES, [0, 0, 3, 0, 0], k=6) == 1.0


def test_recall_is_a_mean_over_the_classes_that_are_true_somewhere():
    # Class 0 is true of four moments and found at ranks 0, 5, 1, 5: half of them among five. Class 3 is true of one, at rank 2.
    assert class_mean_recall(SCORES, [0, 0, 3, 0, 0]) == (0.5 + 1.0) / 2
    assert class_mean_recall(SCORES, [0, 0, 3, 0, 0], k=1) == (0.25 + 0.0) / 2


def test_recall_weighs_rare_classes_as_common_ones():
    scores = np.tile([1.0, 0.0], (10, 1))
    assert class_mean_recall(scores, [0] * 9 + [1], k=1) == 0.5
    assert top_k_accuracy(scores, [0] * 9 + [1]) == 0.9


@pytest.mark.parametrize("seed", range(5))
def test_figures_are_those_of_sorting_and_looking(seed: int):
    random = np.random.default_rng(seed)
    scores, truth = random.normal(size=(40, 7)), random.integers(0, 6, 40)
    best = [set(sorted(range(7), key=lambda number, row=row: -row[number])[:3]) for row in scores]
    found = [int(number) in few for number, few in zip(truth, best, strict=True)]
    assert top_k_accuracy(scores, truth, k=3) == pytest.approx(np.mean(found))
    each = [np.mean([hit for hit, number in zip(found, truth, strict=True) if number == wanted]) for wanted in set(truth.tolist())]
    assert class_mean_recall(scores, truth, k=3) == pytest.approx(np.mean(each))


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        (np.zeros((0, 3)), [], "at least one moment"),
        (np.zeros((2, 3)), [0], r"got \(2, 3\) and \(1,\)"),
        (np.full((1, 3), np.nan), [0], "got NaN"),
        (np.zeros((1, 3)), [3], "class numbers from 0 to 2, got 3 to 3"),
    ],
)
def test_what_is_no_table_of_scores_is_refused(scores: np.ndarray, truth: list[int], message: str):
    with pytest.raises(InputError, match=message):
        ranks(scores, truth)
