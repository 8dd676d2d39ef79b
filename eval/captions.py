"""How well sentences tell what others told: the figures of COCO's caption scorer, without Java.

BLEU is sacrebleu's and METEOR is nltk's; ROUGE-L and CIDEr are here, by the definitions of that scorer. METEOR is that of 2005 with equal
words and equal stems alone: synonyms need WordNet, which is no part of nltk and nothing that may be fetched while figures are made. It is
higher than the METEOR 1.5 (Java) of published tables and must not stand beside it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlm.errors import InputError
from vlm.eval.caption_libraries import bleu4, meteor

# CIDEr counts groups of up to so many words, and takes 6 words more or less for one standard deviation (Vedantam et al. 2015).
LONGEST_GROUP, LENGTH_SPREAD = 4, 6.0
# ROUGE-L of COCO's scorer holds recall for more than precision.
RECALL_WEIGHT = 1.2

_CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|re|ve|ll|d|m))\b|(?<=\bcan)(not)\b")
_WORD = re.compile(r"n't|'(?:s|re|ve|ll|d|m)\b|[^\W_]+(?:(?:[-/.]|(?<=\d):)[^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Told:
    """A sentence that was made, and those that people wrote of the same, at least one."""

    sentence: str
    references: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.references:
            raise InputError(f"a sentence needs at least one reference, got none for {self.sentence!r}")


@dataclass(frozen=True, slots=True)
class CaptionFigures:
    """Figures of sentences, in [0, 1]; ``cider`` in [0, 10]."""

    bleu4: float
    meteor: float
    rouge_l: float
    cider: float


def caption_figures(told: Sequence[Told]) -> CaptionFigures:
    """The figures of some sentences together: BLEU counts over all of them, the others are means.

    Raises:
        InputError: there are none. BackendUnavailable: the extra ``captions`` is not installed.
    """
    if not told:
        raise InputError("figures of captions need at least one sentence, got none")
    made = [words_of(one.sentence) for one in told]
    known = [[words_of(text) for text in one.references] for one in told]
    return CaptionFigures(
        bleu4=bleu4(made, known),
        meteor=float(np.mean([meteor(one, some) for one, some in zip(made, known, strict=True)])),
        rouge_l=float(np.mean([rouge_l(one, some) for one, some in zip(made, known, strict=True)])),
        cider=float(np.mean(cider(made, known))),
    )


def words_of(text: str) -> list[str]:
    """The words of a text in lower case as the Penn Treebank cuts them (``do`` ``n't``, ``well-known``), without marks."""
    return _WORD.findall(_CLITIC.sub(r" \1\2", text.lower().replace("’", "'")))


def rouge_l(made: Sequence[str], known: Sequence[Sequence[str]]) -> float:
    """The longest common subsequence as F of the best precision and the best recall among the references, in [0, 1] (Lin 2004)."""
    common = [_common(made, words) for words in known]
    precision = max(count / len(made) if made else 0.0 for count in common)
    recall = max(count / len(words) if words else 0.0 for count, words in zip(common, known, strict=True))
    if not precision or not recall:
        return 0.0
    weight = RECALL_WEIGHT**2
    return (1 + weight) * precision * recall / (recall + weight * precision)


def cider(made: Sequence[Sequence[str]], known: Sequence[Sequence[Sequence[str]]]) -> list[float]:
    """CIDEr-D of each sentence, in [0, 10] (Vedantam et al. 2015): what it shares with its references, groups of words that few others have
    counting more. How common a group is, is counted among the references given; of one sentence alone all is common, and the figure is 0.
    """
    counted = [[_groups(words) for words in some] for some in known]
    frequency = Counter(group for some in counted for group in set().union(*some))
    most = math.log(len(known))
    return [
        10.0 * float(np.mean([_likeness(_weighed(_groups(one), frequency, most), _weighed(ref, frequency, most)) for ref in some]))
        for one, some in zip(made, counted, strict=True)
    ]


_Groups = Counter[tuple[str, ...]]
_Weights = dict[tuple[str, ...], float]


def _groups(words: Sequence[str]) -> _Groups:
    """How often each group of up to LONGEST_GROUP words stands in a text."""
    return Counter(tuple(words[first : first + n]) for n in range(1, LONGEST_GROUP + 1) for first in range(len(words) - n + 1))


def _weighed(groups: _Groups, frequency: Counter[tuple[str, ...]], most: float) -> tuple[_Weights, list[float], int]:
    """The weight of each group, the length of the vector of each size of group, and how many pairs of words there are."""
    weights = {group: count * (most - math.log(max(1, frequency[group]))) for group, count in groups.items()}
    lengths = [math.sqrt(sum(w * w for group, w in weights.items() if len(group) == n)) for n in range(1, LONGEST_GROUP + 1)]
    return weights, lengths, sum(count for group, count in groups.items() if len(group) == 2)


def _likeness(one: tuple[_Weights, list[float], int], reference: tuple[_Weights, list[float], int]) -> float:
    """The mean over sizes of the cosine of weights, those of the sentence cut at the reference's, times what its length allows."""
    (weights, lengths, pairs), (known, known_lengths, known_pairs) = one, reference
    shared = [0.0] * LONGEST_GROUP
    for group, weight in weights.items():
        if group in known:
            shared[len(group) - 1] += min(weight, known[group]) * known[group]
    cosines = [value / (a * b) if a * b else 0.0 for value, a, b in zip(shared, lengths, known_lengths, strict=True)]
    return sum(cosines) / LONGEST_GROUP * math.exp(-((pairs - known_pairs) ** 2) / (2 * LENGTH_SPREAD**2))


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for place, known in enumerate(other, start=1):
            diagonal, row[place] = row[place], diagonal + 1 if word == known else max(row[place], row[place - 1])
    return row[-1]
