"""Captioned stretches of a user's videos: a caption is to find its stretch among those of others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vlm.data.formats.own import OwnCaption
from vlm.models.reader import batch_of
from vlm.train.own_rows import Said, Views
from vlm.train.retrieval import RetrievalBatch
from vlm.train.words import TextBank
from vlm.types import Span


@dataclass(frozen=True, slots=True)
class Stretch:
    """A caption with the view of what it is about; of the video number ``video``, ``span`` of it or all where that is None."""

    view: int
    text: str
    video: int
    span: Span | None


@dataclass(frozen=True, slots=True)
class StretchSource:
    """Batches of captioned stretches, each once an epoch."""

    stretches: Sequence[Stretch]
    views: Views
    bank: TextBank
    same_text: float
    size: int
    seed: int

    def numbers(self, index: int) -> list[int]:
        """The stretches of batch ``index``."""
        size = min(self.size, len(self.stretches))
        epoch, place = divmod(index, len(self.stretches) // size)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.stretches))
        return [int(number) for number in order[place * size : (place + 1) * size]]

    def batch(self, index: int) -> RetrievalBatch:
        """The stretches with their texts."""
        chosen = [self.stretches[number] for number in self.numbers(index)]
        frames, times, mask, _ = batch_of([self.views[one.view] for one in chosen])
        words = self.bank.words([one.text for one in chosen])
        return RetrievalBatch(frames, times, mask, words, excluded=excluded_pairs(chosen, words.pooled.float(), self.same_text))

    def describe_batch(self, index: int) -> str:
        """The captions of the batch."""
        return f"batch {index} with captions {[self.stretches[number].text for number in self.numbers(index)]}"


def excluded_pairs(stretches: Sequence[Stretch], texts: Tensor, same_text: float) -> Tensor:
    """Which pairs (n, n) of a stretch and a text may be true: they overlap, or their texts (n, d) say the same."""
    video = torch.tensor([one.video for one in stretches])
    start = torch.tensor([0.0 if one.span is None else one.span.start for one in stretches], dtype=torch.float64)
    end = torch.tensor([math.inf if one.span is None else one.span.end for one in stretches], dtype=torch.float64)
    overlap = (video[:, None] == video) & (start[:, None] < end) & (start < end[:, None])
    return overlap | (texts @ texts.T >= same_text)


def stretches_of(said: Sequence[Said], views: Views) -> list[Stretch]:
    """Captions with what they are about, one for each span."""
    found = []
    for one in said:
        if isinstance(one.row, OwnCaption):
            found += [Stretch(views.stretch(one.video, span), one.text, one.video, span) for span in one.spans]
            if not one.spans:
                found.append(Stretch(views.whole(one.video), one.text, one.video, None))
    return found
