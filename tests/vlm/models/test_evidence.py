"""An answer loses what its evidence gave it when that is taken away, and nothing when it rests on something else."""

from __future__ import annotations

import numpy as np
import pytest

from tests.vlm.models.test_reader import SHOWN, WordEncoder, trained, video
from vlm.models.evidence import weighed, without
from vlm.models.plain import PlainReader
from vlm.types import Answer, Moment, Span

OPTIONS = ["cat", "dog"]


def test_rows_of_the_evidence_go_and_all_others_keep_their_times() -> None:
    left = without([Span(0, 10), Span(12, 40)], SHOWN)
    assert left is not None
    assert left.times.tolist() == [10.0, 10.5, 11.0, 11.5]
    assert np.array_equal(left.vectors, SHOWN.vectors[20:24])
    assert left.end == SHOWN.end
    assert without([Span(0, 30)], SHOWN) is None


def test_an_answer_that_rests_on_its_evidence_loses_by_its_loss() -> None:
    reader, shown = PlainReader(WordEncoder()), video(("sea", 20), ("dog", 5))
    answer = weighed(reader, "is it", reader.answer("is it", shown, options=OPTIONS), shown, options=OPTIONS)
    assert answer.text == "dog"
    assert answer.faithfulness is not None
    assert answer.faithfulness > 0.3
    assert answer.prior is None


def test_an_answer_that_rests_on_something_else_loses_nothing() -> None:
    reader, shown = PlainReader(WordEncoder()), video(("dog", 20), ("sea", 5))
    pointed = Answer(text="dog", probability=0.99, options=(("dog", 0.99), ("cat", 0.01)), evidence=(Moment(Span(20, 25), 1.0),))
    right = reader.probability("is it", "dog", shown, options=OPTIONS)
    weight = weighed(reader, "is it", pointed, shown, options=OPTIONS).faithfulness
    assert weight == pytest.approx(0.99 - right, abs=0.05)


def test_nothing_is_said_of_evidence_that_is_all_there_is_or_that_there_is_none_of() -> None:
    reader, shown = PlainReader(WordEncoder()), video(("dog", 5))
    for evidence in ((Moment(Span(0, 5), 1.0),), ()):
        answer = Answer(text="dog", probability=0.9, options=(("dog", 0.9), ("cat", 0.1)), evidence=evidence)
        assert weighed(reader, "is it", answer, shown, options=OPTIONS).faithfulness is None


def test_a_trained_reader_tells_its_prior() -> None:
    reader = trained()
    answer = weighed(reader, "is it a dog", reader.answer("is it a dog", SHOWN), SHOWN)
    assert answer.prior is not None
    assert {text for text, _ in answer.prior} == {"yes", "no"}
    assert sum(share for _, share in answer.prior) == pytest.approx(1)
