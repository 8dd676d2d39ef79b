"""How well a video's events are found and told: the scorer of ActivityNet Captions (Krishna et al. 2017), and SODA_c (Fujita et al. 2020).

The conventions of the public scorers. Sentences: at each overlap (IoU), every found event is held against every true one that it overlaps
so much, one pair each, and against a word that nobody says where there is none; the figures are those of the pairs of one video (CIDEr
counts how common words are among them alone), and then their mean over videos; a video of which nothing is told counts as 0. Spans: recall
is the share of true events that some found one overlaps more than so much, precision the share of found ones. Where several people told
of a video, sentences are held against those of all, spans and SODA_c against whoever agrees best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError
from vlm.eval.caption_libraries import meteor
from vlm.eval.captions import CaptionFigures, Told, caption_figures, words_of
from vlm.types import Span

OVERLAPS = (0.3, 0.5, 0.7, 0.9)
# What an event is held against that overlaps no true one.
UNSAID = "abc123"
# What the scorer adds to every union: an overlap of just so much then does not reach it.
_LEAST_SECONDS = 1e-8
_NOTHING = CaptionFigures(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class ToldEvent:
    """A stretch of a video and the sentence that tells it."""

    span: Span
    sentence: str


@dataclass(frozen=True, slots=True)
class DenseFigures:
    """Means over videos, in [0, 1] (``cider`` in [0, 10]): of sentences, recall and precision at each of ``overlaps``, and SODA_c."""

    overlaps: tuple[float, ...]
    sentences: tuple[CaptionFigures, ...]
    recall: tuple[float, ...]
    precision: tuple[float, ...]
    soda_c: float

    def average(self) -> dict[str, float]:
        """Each figure's mean over the overlaps, and ``soda_c``: what tables print."""
        names = ("bleu4", "meteor", "rouge_l", "cider")
        told = {name: float(np.mean([getattr(one, name) for one in self.sentences])) for name in names}
        return {**told, "recall": float(np.mean(self.recall)), "precision": float(np.mean(self.precision)), "soda_c": self.soda_c}


def dense_figures(
    truth: Mapping[str, Sequence[Sequence[ToldEvent]]],
    predicted: Mapping[str, Sequence[ToldEvent]],
    *,
    overlaps: Sequence[float] = OVERLAPS,
) -> DenseFigures:
    """Figures of what was found and told of some videos.

    Args:
        truth: of each video what each person told of it: at least one, with at least one event.
        predicted: what was told of videos; of one that is not there, nothing.

    Raises:
        InputError: there is no truth, or a video's is empty. BackendUnavailable: the extra ``captions`` is not installed.
    """
    if not truth:
        raise InputError("figures of dense captions need at least one video, got none")
    for video, told in truth.items():
        if not told or not all(told):
            raise InputError(f"the truth of {video!r} must be at least one list of at least one event")
    shares = {video: [_overlaps(predicted.get(video, ()), one) for one in told] for video, told in truth.items()}
    sentences = []
    for overlap in overlaps:
        of_videos = [_told(predicted.get(video, ()), told, shares[video], overlap) for video, told in truth.items()]
        each = np.array([(one.bleu4, one.meteor, one.rouge_l, one.cider) for one in of_videos])
        sentences.append(CaptionFigures(*map(float, each.mean(axis=0))))
    recall = [float(np.mean([max(_covered(s, overlap, axis=0) for s in some) for some in shares.values()])) for overlap in overlaps]
    precision = [float(np.mean([max(_covered(s, overlap, axis=1) for s in some) for some in shares.values()])) for overlap in overlaps]
    story = [max(soda_c(predicted.get(video, ()), one) for one in told) for video, told in truth.items()]
    return DenseFigures(tuple(overlaps), tuple(sentences), tuple(recall), tuple(precision), float(np.mean(story)))


def soda_c(predicted: Sequence[ToldEvent], true: Sequence[ToldEvent]) -> float:
    """SODA_c of one video, in [0, 1]: F of the best matching in order, a pair being worth its IoU times the METEOR of its sentences."""
    if not predicted or not true:
        return 0.0
    shares = _overlaps(predicted, true)
    made, known = [words_of(event.sentence) for event in predicted], [words_of(event.sentence) for event in true]
    worth = np.zeros_like(shares)
    for row, column in zip(*np.nonzero(shares), strict=True):
        worth[row, column] = shares[row, column] * meteor(made[row], [known[column]])
    best = best_in_order(worth)
    precision, recall = best / len(predicted), best / len(true)
    return 2 * precision * recall / (precision + recall) if best else 0.0


def best_in_order(worth: NDArray[np.float64]) -> float:
    """The most that pairs of rows and columns (n, k) are worth together, each row and column in one pair at most, no two pairs crossing."""
    row_before = np.zeros(worth.shape[1] + 1)
    for row in worth:
        after = np.maximum(row_before[1:], row_before[:-1] + row)
        row_before = np.concatenate([[0.0], np.maximum.accumulate(after)])
    return float(row_before[-1])


def _overlaps(predicted: Sequence[ToldEvent], true: Sequence[ToldEvent]) -> NDArray[np.float64]:
    """The IoU (n, k) of each found event with each true one, as the scorer takes it."""
    one, other = (np.array([(event.span.start, event.span.end) for event in events]).reshape(-1, 2) for events in (predicted, true))
    inside = np.minimum(one[:, None, 1], other[:, 1]) - np.maximum(one[:, None, 0], other[:, 0])
    union = (one[:, 1] - one[:, 0])[:, None] + other[:, 1] - other[:, 0] - inside
    found: NDArray[np.float64] = np.maximum(0.0, inside) / (union + _LEAST_SECONDS)
    return found


def _told(
    predicted: Sequence[ToldEvent], told: Sequence[Sequence[ToldEvent]], shares: Sequence[NDArray[np.float64]], overlap: float
) -> CaptionFigures:
    """The figures of one video's pairs."""
    everything = [one.sentence for true in told for one in true]
    reaches = np.concatenate([one >= overlap for one in shares], axis=1)
    pairs = []
    for event, row in zip(predicted, reaches, strict=True):
        known = [everything[place] for place in np.flatnonzero(row)]
        pairs += [Told(event.sentence, (sentence,)) for sentence in known or [UNSAID]]
    return caption_figures(pairs) if pairs else _NOTHING


def _covered(shares: NDArray[np.float64], overlap: float, *, axis: int) -> float:
    """The share of columns (axis 0) or rows (axis 1) in which something overlaps by more than ``overlap``; 0 where there are none."""
    return float((shares > overlap).any(axis=axis).mean()) if shares.shape[1 - axis] else 0.0
