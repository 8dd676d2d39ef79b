"""Figures of sentences, against the values that COCO's caption scorer (pycocoevalcap 1.2) gave for the same, and by hand."""

from __future__ import annotations

import math
import sys

import pytest

from vlm.errors import BackendUnavailable, InputError
from vlm.eval.caption_libraries import bleu4, meteor
from vlm.eval.captions import Told, caption_figures, cider, rouge_l, words_of

# Four sentences of our own, with two or three references each, as they were given to that scorer.
TOLD = (
    Told("A man rides a brown horse along the beach.", ("A man is riding a horse on the beach", "a person rides a brown horse by the sea")),
    Told(
        "Two dogs are running in the park",
        ("two dogs run through a park", "dogs are playing in the park", "two dogs are running in a green park"),
    ),
    Told("a woman cuts an onion with a knife", ("a cook chops onions", "a woman cuts an onion with a sharp knife")),
    Told("then it grows", ("it gets bigger", "then it grows")),
)
MADE = [words_of(one.sentence) for one in TOLD]
KNOWN = [[words_of(text) for text in one.references] for one in TOLD]


def test_bleu_rouge_and_cider_are_those_of_the_public_scorer():
    figures = caption_figures(TOLD)
    assert figures.bleu4 == pytest.approx(0.6958529034308303, abs=1e-8)
    assert figures.rouge_l == pytest.approx(0.8602234755386466, abs=1e-12)
    assert figures.cider == pytest.approx(3.684979208986232, abs=1e-12)
    assert [rouge_l(*one) for one in zip(MADE, KNOWN, strict=True)] == pytest.approx(
        [0.6666666666666666, 0.842929525564256, 0.931297709923664, 1.0], abs=1e-12
    )
    assert cider(MADE, KNOWN) == pytest.approx([2.6789122862842527, 3.9010172481150063, 3.993320634879001, 4.166666666666667], abs=1e-12)


def test_meteor_by_hand():
    # All 8 words in one run: no more than a penalty of half the cube of an eighth.
    same = words_of("a woman cuts an onion with a knife")
    assert meteor(same, [same]) == pytest.approx(1 - 0.5 * (1 / 8) ** 3)
    # "dogs ran": one of two words agrees by its stem ("dogs", "dog"), of three in the reference.
    precision, recall = 1 / 2, 1 / 3
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    assert meteor(["dogs", "ran"], [["the", "dog", "sleeps"]]) == pytest.approx(mean * (1 - 0.5 * 1.0))
    assert meteor(["dogs", "ran"], [["the", "dog", "sleeps"], ["dogs", "ran"]]) == pytest.approx(1 - 0.5 * (1 / 2) ** 3)
    assert meteor(["circle"], [["disc"]]) == 0.0  # a synonym is another word


def test_cider_by_hand():
    # Two sentences of one word each: a word of one of two references weighs log 2, and is all there is of its size; larger groups are none.
    assert cider([["red"], ["blue"]], [[["red"]], [["blue"]]]) == pytest.approx([10 / 4, 10 / 4])
    # What all references hold tells nothing.
    assert cider([["red"], ["red"]], [[["red"]], [["red"]]]) == [0.0, 0.0]
    # Six words more: two have one group of two each, the others none, and the longer sentence is held back by exp(-d^2 / 72).
    long, short = ["red", *["so"] * 5], ["red"]
    weight = math.log(2)
    ones = weight * weight / (weight * math.hypot(weight, 5 * weight))
    assert cider([long, ["blue"]], [[short], [["blue"]]])[0] == pytest.approx(10 / 4 * ones * math.exp(-25 / 72))


def test_rouge_by_hand():
    # "a b d" of "a b c d" in order: precision 3/4, recall 1, F with recall 1.44 times as heavy.
    assert rouge_l(list("abcd"), [list("abd")]) == pytest.approx(2.44 * 0.75 / (1 + 1.44 * 0.75))
    assert rouge_l(list("ab"), [list("cd")]) == 0.0
    assert rouge_l([], [list("cd")]) == 0.0


def test_bleu_takes_the_reference_of_the_nearest_length_and_is_0_without_four_words_that_agree():
    assert bleu4(["abcde"], [["abcdef", "x"]]) == pytest.approx(math.exp(1 - 6 / 5))
    assert bleu4(["abcde"], [["abcxe"]]) == 0.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  The man's dog doesn't bark.", "the man 's dog does n't bark"),
        ("A medium-sized disc, then: it CANNOT move!", "a medium-sized disc then it can not move"),
        ("At 1:10 (p.m.) 7 1/2 l", "at 1:10 p.m 7 1/2 l"),
        ("Wer’s glaubt: Übung", "wer 's glaubt übung"),
        ("", ""),
    ],
)
def test_words_are_cut_as_in_the_penn_treebank(text: str, words: str):
    assert words_of(text) == words.split()


def test_nothing_to_score_is_refused():
    with pytest.raises(InputError, match="at least one sentence, got none"):
        caption_figures([])
    with pytest.raises(InputError, match="at least one reference, got none for 'a dog'"):
        Told("a dog", ())


@pytest.mark.parametrize("package", ["nltk", "sacrebleu"])
def test_a_missing_library_is_told_with_the_way_out(package: str, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.split(".")[0] == package] + [package]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendUnavailable, match=rf"need the package {package}: pip install 'vlm-retrieval\[captions\]'"):
        caption_figures(TOLD)
