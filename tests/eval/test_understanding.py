"""Figures of readers: by hand on readers whose answers are known, and against brute force."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vlm.errors import InputError
from vlm.eval.understanding import AskedMoment, AskedQuestion, Judged, accuracies, area_under_curve, judge, moment_figures
from vlm.types import Answer, Features, Grounded, Moment, Span

VIDEOS = [Features(np.eye(4, dtype=np.float32), np.arange(4.0), 4.0), Features(np.eye(4, dtype=np.float32), np.arange(4.0), 4.0)]
# What the reader says of each text: its moments, the row of highest saliency, and how sure it is.
SAID: dict[str, tuple[tuple[Moment, ...], int, float | None]] = {
    "right": ((Moment(Span(1, 3), 0.9), Moment(Span(0, 4), 0.2)), 1, 0.8),
    "half": ((Moment(Span(0, 2), 0.5),), 3, 0.6),
    "none": ((), 0, None),
}


class Known:
    """A reader that says what SAID holds, and answers every question with its last option or 'blue'."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def embed_video(self, features: Features) -> NDArray[np.float32]:
        raise NotImplementedError

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise NotImplementedError

    def ground(self, texts: Sequence[str], features: Features) -> list[Grounded]:
        self.asked.append(list(texts))
        found = []
        for text in texts:
            moments, row, presence = SAID[text]
            curve = np.zeros(4, np.float32)
            curve[row] = 0.3
            found.append(Grounded(text=text, moments=moments, curve=curve, presence=presence))
        return found

    def answer(self, question: str, features: Features, *, options: Sequence[str] = ()) -> Answer:
        said = options[-1] if options else "blue"
        return Answer(text=said, probability=1.0, options=((said, 1.0),), evidence=())

    def probability(self, question: str, text: str, features: Features, *, options: Sequence[str] = ()) -> float:
        raise NotImplementedError

    def blind(self, question: str, features: Features, *, options: Sequence[str] = ()) -> Answer | None:
        raise NotImplementedError


def test_what_a_reader_says_is_judged_by_the_nearest_span_and_the_second_of_its_peak() -> None:
    asked = [
        AskedMoment(video=1, text="half", spans=(Span(1, 3), Span(3.5, 4)), levels={1: 4, 2: 4}),
        AskedMoment(video=0, text="right", spans=(Span(1, 3),), levels={1: 4, 2: 3}),
        AskedMoment(video=1, text="none", spans=(Span(1, 3),), levels={1: 3}),
        AskedMoment(video=0, text="right"),
    ]
    reader = Known()
    found = judge(reader, VIDEOS.__getitem__, asked)
    assert sorted(reader.asked) == [["half", "none"], ["right", "right"]]  # texts of one video in one call
    assert found[0] == Judged(pytest.approx(1 / 3), False, 0.6, 0.5)  # type: ignore[arg-type]
    assert found[1] == Judged(1.0, True, 0.8, 0.9)
    assert found[2] == Judged(0.0, None, pytest.approx(0.3), 0.0)  # type: ignore[arg-type]
    assert (found[3].iou, found[3].hits) == (0.0, None)


def test_figures_of_moments_are_means_over_texts_and_hits_over_those_that_can_be_hit() -> None:
    judged = [Judged(1.0, True, 0, 0), Judged(0.5, False, 0, 0), Judged(0.69, None, 0, 0), Judged(0.0, False, 0, 0)]
    found = moment_figures(judged)
    assert (found.mean_iou, found.recall_50, found.recall_70, found.num_texts) == (pytest.approx(2.19 / 4), 0.75, 0.25, 4)
    assert found.hit_at_1 == pytest.approx(1 / 3)
    assert np.isnan(moment_figures(judged[2:3]).hit_at_1)
    with pytest.raises(InputError, match="got none"):
        moment_figures([])


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.lists(st.integers(0, 6), min_size=1, max_size=12))
def test_the_area_is_the_share_of_pairs_in_the_right_order_with_ties_half(positive: list[int], negative: list[int]) -> None:
    pairs = [float(one > other) + 0.5 * float(one == other) for one in positive for other in negative]
    assert area_under_curve(positive, negative) == pytest.approx(np.mean(pairs))


def test_an_area_needs_both_sides() -> None:
    with pytest.raises(InputError, match="got 1 positives and 0 negatives"):
        area_under_curve([1.0], [])


def test_accuracies_are_of_each_kind() -> None:
    asked = [
        AskedQuestion(video=0, text="a", kind="yes/no", options=("yes", "no"), answer="no"),
        AskedQuestion(video=1, text="b", kind="yes/no", options=("yes", "no"), answer="yes"),
        AskedQuestion(video=0, text="c", kind="open", options=(), answer="blue"),
    ]
    assert accuracies(Known(), VIDEOS.__getitem__, asked) == {"yes/no": 0.5, "open": 1.0}
