"""Dense captions by hand, by brute force, and against the public scorer on published annotations."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from vlm.data.formats import activitynet_captions
from vlm.errors import InputError
from vlm.eval.caption_libraries import meteor
from vlm.eval.captions import words_of
from vlm.eval.dense_captions import ToldEvent, best_in_order, dense_figures, soda_c
from vlm.types import Span


def told(start: float, end: float, sentence: str) -> ToldEvent:
    return ToldEvent(Span(start, end), sentence)


RED, BLUE = "a red circle moves to the left", "a blue star grows and then leaves"


def test_the_truth_itself_scores_all_there_is():
    events = [told(0, 5, RED), told(3, 9, BLUE)]
    figures = dense_figures({"v": [events]}, {"v": events})
    assert figures.recall == figures.precision == pytest.approx([1.0] * 4)
    assert [one.rouge_l for one in figures.sentences[1:]] == pytest.approx([1.0] * 3)  # at 0.3 the two overlap each other
    assert figures.soda_c == pytest.approx(np.mean([meteor(words_of(text), [words_of(text)]) for text in (RED, BLUE)]), abs=1e-6)


def test_what_overlaps_nothing_is_held_against_nothing():
    truth = {"v": [[told(0, 10, RED)]], "w": [[told(0, 10, RED)]]}
    figures = dense_figures(truth, {"v": [told(0, 6, RED), told(20, 30, RED)]}, overlaps=(0.5,))
    # Of v one of two pairs agrees; of w nothing is told.
    assert figures.sentences[0].rouge_l == pytest.approx(0.25)
    assert (figures.recall, figures.precision) == ((0.5,), (0.25,))
    assert figures.average()["recall"] == 0.5


def test_whoever_agrees_best_counts_for_spans_and_all_for_sentences():
    one, other = [told(0, 10, RED), told(50, 60, RED)], [told(0, 9, BLUE)]
    figures = dense_figures({"v": [one, other]}, {"v": [told(0, 10, RED)]}, overlaps=(0.5,))
    assert (figures.recall, figures.precision) == ((1.0,), (1.0,))
    assert figures.sentences[0].rouge_l == pytest.approx((1 + 1 / 7) / 2)  # "a" is all that the two share
    same = meteor(words_of(RED), [words_of(RED)])
    assert figures.soda_c == pytest.approx(2 * (same / 2) * same / (same / 2 + same), abs=1e-6)


def test_soda_by_hand():
    # 5 of 10 seconds are shared: half of what the sentence is worth, one of two found, one true.
    same = meteor(words_of(RED), [words_of(RED)])
    found = [told(0, 5, RED), told(20, 30, BLUE)]
    precision, recall = same / 2 / 2, same / 2
    assert soda_c(found, [told(0, 10, RED)]) == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-6)
    assert soda_c([], [told(0, 10, RED)]) == 0.0
    # Right stretches with each other's sentences: pairs may not cross.
    swapped = soda_c([told(0, 10, BLUE), told(5, 15, RED)], [told(0, 10, RED), told(5, 15, BLUE)])
    assert 0 < swapped < soda_c([told(0, 10, RED), told(5, 15, BLUE)], [told(0, 10, RED), told(5, 15, BLUE)]) / 1.9


def test_the_best_matching_in_order_is_that_of_all_there_are():
    random = np.random.default_rng(0)
    for _ in range(30):
        n, k = random.integers(1, 5, size=2)
        worth = random.random((n, k)) * (random.random((n, k)) < 0.6)
        best = 0.0
        for size in range(1, min(n, k) + 1):
            for rows in itertools.combinations(range(n), size):
                for columns in itertools.combinations(range(k), size):
                    best = max(best, float(worth[list(rows), list(columns)].sum()))
        assert best_in_order(worth) == pytest.approx(best)


def test_figures_are_those_of_the_public_scorer_on_what_two_people_told(shared: Path):
    """The values that densevid_eval with pycocoevalcap 1.2 gave for the second annotator of the first 40 videos against the first."""
    folder = shared / "data/annotations/activitynet_captions"
    first, second = ({v.video_id: v for v in activitynet_captions.read_videos(folder / f"val_{n}.json")} for n in (1, 2))
    videos = sorted(set(first) & set(second))[:40]
    one, other = ({v: [ToldEvent(c.window.span, c.sentence) for c in file[v].captions] for v in videos} for file in (first, second))
    figures = dense_figures({v: [events] for v, events in one.items()}, other)
    assert [s.rouge_l for s in figures.sentences] == pytest.approx(
        [0.18026985768187162, 0.11435090115234789, 0.052886987910492976, 0.034022191416167344], abs=1e-4
    )
    assert [s.cider for s in figures.sentences] == pytest.approx(
        [0.34657490167800165, 0.3091824871822248, 0.17799560646482088, 0.1324261653679712], abs=1e-4
    )
    assert [s.bleu4 for s in figures.sentences] == pytest.approx(
        [0.01801143712788978, 0.01838197507447655, 0.01603999746437686, 0.01506667100868488], abs=1e-4
    )
    assert figures.recall == pytest.approx([0.7757142857142857, 0.5252380952380952, 0.2, 0.09166666666666665], abs=1e-9)
    assert figures.precision == pytest.approx([0.8069642857142856, 0.4923809523809524, 0.18613095238095237, 0.08982142857142857], abs=1e-9)


def test_truth_that_is_none_is_refused():
    with pytest.raises(InputError, match="at least one video, got none"):
        dense_figures({}, {})
    with pytest.raises(InputError, match="the truth of 'v' must be at least one list of at least one event"):
        dense_figures({"v": [[]]}, {})
