"""Answers that are right for the wrong reason, told by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from vlm.errors import InputError
from vlm.eval.faithfulness import AskedOfEvidence, RightAnswer, faithfulness_figures, right_answers, stretch_without
from vlm.types import Answer, Features, Moment, Span


def video(seconds: int, shown: Sequence[int] = ()) -> Features:
    """A row a second; its first number says whether the thing that is asked about is to be seen."""
    vectors = np.zeros((seconds, 2), np.float32)
    vectors[:, 1] = 1.0
    for second in shown:
        vectors[second] = (1.0, 0.0)
    return Features(vectors, np.arange(float(seconds)), float(seconds))


class Looking:
    """Says ``red`` with 0.9 where a row shows it, and then rests on those rows; else it guesses, and rests on the first row."""

    tells_presence = False

    def __init__(self, guess: str) -> None:
        self._guess = guess

    def answer(self, question: str, features: Features, *, options: Sequence[str] = ()) -> Answer:
        rows = np.flatnonzero(features.vectors[:, 0])
        text, sure = ("red", 0.9) if len(rows) else (self._guess, 0.6)
        span = Span(float(rows[0]), float(rows[-1]) + 1) if len(rows) else Span(0.0, 1.0)
        rest = tuple((option, 1 - sure) for option in options if option != text)
        return Answer(text=text, probability=sure, options=((text, sure), *rest), evidence=(Moment(span, 1.0),))

    def probability(self, question: str, text: str, features: Features, *, options: Sequence[str] = ()) -> float:
        return dict(self.answer(question, features, options=options).options)[text]

    def blind(self, question: str, features: Features, *, options: Sequence[str] = ()) -> None:
        return None


ASKED = AskedOfEvidence(video=0, text="what colour", kind="colour", options=("red", "blue"), answer="red", evidence=(Span(2, 4),))


def test_an_answer_is_taken_once_with_its_evidence_and_once_without():
    whole = video(20, shown=(2, 3))
    grounded, guessed = right_answers(Looking("red"), lambda number: whole, [ASKED])
    assert (grounded.is_grounded, grounded.kind, grounded.probability) == (True, "colour", 0.9)
    assert grounded.faithfulness == pytest.approx(0.9 - 0.6)  # without the rows that show it, it guesses red with 0.6
    assert (guessed.is_grounded, guessed.probability, guessed.faithfulness) == (False, 0.6, pytest.approx(0.0))


def test_only_right_answers_count():
    whole = video(20, shown=(2, 3))
    assert [one.is_grounded for one in right_answers(Looking("blue"), lambda number: whole, [ASKED])] == [True]


def test_a_figure_that_parts_them_has_an_area_of_one_and_one_that_does_not_of_a_half():
    def answer(is_grounded: bool, faithfulness: float) -> RightAnswer:
        return RightAnswer(kind="x", is_grounded=is_grounded, faithfulness=faithfulness, probability=0.7, answerable=None)

    found = faithfulness_figures([answer(True, 0.5), answer(True, 0.2), answer(False, 0.1), answer(False, 0.3)])
    assert found.faithfulness == pytest.approx(3 / 4)
    assert (found.probability, found.answerable, found.num_grounded, found.num_ungrounded) == (0.5, None, 2, 2)
    with pytest.raises(InputError, match="0 negatives"):
        faithfulness_figures([answer(True, 0.5)])


@pytest.mark.parametrize(
    ("evidence", "rows"),
    [
        ([Span(2, 4)], range(5, 20)),  # row 4 begins within half a second of it
        ([Span(12, 14)], range(11)),
        ([Span(7, 8), Span(17, 18)], range(9, 16)),
        ([], range(20)),
        ([Span(0, 20)], None),
        ([Span(4, 16)], None),  # 3 s are left on either side
        ([Span(2.6, 3)], range(4, 20)),
    ],
)
def test_the_longest_stretch_without_evidence_is_asked(evidence: list[Span], rows: range | None):
    whole = video(20)
    whole.vectors[:, 0] = np.arange(20)
    found = stretch_without(evidence, whole)
    if rows is None:
        assert found is None
        return
    assert found is not None
    assert found.vectors[:, 0].tolist() == list(rows)
    assert (found.times[0], found.end) == (0.0, float(len(rows)))
