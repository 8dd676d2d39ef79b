from __future__ import annotations

import numpy as np
import pytest

from vlm.errors import InputError
from vlm.eval.localization import ACTIVITYNET, THUMOS, Action, average_precision, localization_figures
from vlm.types import Span


def act(video: str, label: str, start: float, end: float, score: float = 1.0) -> Action:
    return Action(video, label, Span(start, end), score)


def iou(one: Span, other: Span) -> float:
    inside = max(0.0, min(one.end, other.end) - max(one.start, other.start))
    return inside / (one.seconds + other.seconds - inside)


def naive_precision(truth: list[Action], predicted: list[Action], overlap: float) -> float:
    """The public scorer's loops, one prediction and one threshold at a time."""
    taken: set[int] = set()
    points = []  # recall and precision after each prediction
    right = 0
    for rank, guess in enumerate(sorted(predicted, key=lambda action: -action.score), start=1):
        near = sorted(
            (number for number, action in enumerate(truth) if action.video == guess.video),
            key=lambda number: -iou(truth[number].span, guess.span),
        )
        for number in near:
            if iou(truth[number].span, guess.span) < overlap:
                break
            if number not in taken:
                taken.add(number)
                right += 1
                break
        points.append((right / len(truth), right / rank))
    area, before = 0.0, 0.0
    for place, (recall, _) in enumerate(points):
        area += (recall - before) * max(precision for _, precision in points[place:])
        before = recall
    return area


def random_actions(random: np.random.Generator, count: int, labels: str) -> list[Action]:
    found = []
    for _ in range(count):
        start = float(random.integers(0, 8))
        found.append(
            act(
                str(random.integers(3)),
                str(random.choice(list(labels))),
                start,
                start + random.integers(1, 5),
                float(random.permutation(9)[0]),
            )
        )
    return found


@pytest.mark.parametrize("seed", range(30))
def test_it_is_the_public_scorers_loops(seed: int):
    random = np.random.default_rng(seed)
    truth = random_actions(random, int(random.integers(1, 9)), "a")
    predicted = random_actions(random, int(random.integers(0, 15)), "a")
    found = average_precision(truth, predicted, THUMOS)
    np.testing.assert_allclose(found, [naive_precision(truth, predicted, overlap) for overlap in THUMOS])


def test_a_perfect_answer_has_one_at_every_overlap():
    truth = [act("v", "run", 0, 4), act("v", "jump", 3, 9), act("w", "run", 1, 2)]
    figures = localization_figures(truth, truth)
    assert figures.average == 1.0
    assert figures.overlaps == ACTIVITYNET
    assert (ACTIVITYNET[0], ACTIVITYNET[-1], len(ACTIVITYNET)) == (0.5, 0.95, 10)


def test_the_second_of_two_equal_predictions_is_wrong():
    truth = [act("v", "run", 0, 4)]
    wrong_first = [act("v", "run", 10, 14, 0.9), act("v", "run", 0, 4, 0.8), act("v", "run", 0, 4, 0.7)]
    assert average_precision(truth, wrong_first, [0.5]) == [0.5]


def test_a_prediction_takes_the_next_nearest_truth_where_the_nearest_is_taken():
    truth = [act("v", "run", 0, 10), act("v", "run", 1, 11)]
    both = [act("v", "run", 0, 10, 0.9), act("v", "run", 0, 10, 0.8)]  # the second overlaps the other by 9 / 11
    assert average_precision(truth, both, [0.5, 0.9]).tolist() == [1.0, 0.5]


def test_precision_is_made_falling_from_the_right():
    # right, wrong, right, of two: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.
    truth = [act("v", "run", 0, 1), act("w", "run", 0, 1)]
    predicted = [act("v", "run", 0, 1, 0.9), act("v", "run", 5, 6, 0.8), act("w", "run", 0, 1, 0.7)]
    assert average_precision(truth, predicted, [0.5]) == pytest.approx([0.5 * 1 + 0.5 * 2 / 3])


def test_classes_weigh_alike_and_those_without_truth_are_not_scored():
    truth = [act("v", "run", 0, 4), act("v", "jump", 0, 4), act("w", "jump", 0, 4)]
    predicted = [act("v", "run", 0, 4), act("v", "swim", 0, 4)]
    figures = localization_figures(truth, predicted, overlaps=[0.5])
    assert figures.by_class == {"run": (1.0,), "jump": (0.0,)}
    assert figures.average == figures.at(0.5) == 0.5


def test_an_action_of_another_video_is_wrong():
    assert average_precision([act("v", "run", 0, 4)], [act("w", "run", 0, 4)], [0.3]) == [0.0]


def test_bad_input_is_refused_by_name():
    with pytest.raises(InputError, match="at least one true action, got none"):
        localization_figures([], [act("v", "run", 0, 4)])
    with pytest.raises(InputError, match=r"overlaps must be in \(0, 1\].*got \[0.5, 1.5\]"):
        localization_figures([act("v", "run", 0, 4)], [], overlaps=[0.5, 1.5])
    with pytest.raises(InputError, match=r"got 0\.4"):
        localization_figures([act("v", "run", 0, 4)], [], overlaps=[0.5]).at(0.4)
