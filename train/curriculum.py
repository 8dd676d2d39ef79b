"""From single frames to whole videos: what words name is learnt a hundred times as fast from frames that have nothing to do with each other
as from the rows of videos, and what happens faster from short windows than from minutes (curriculum learning, Bengio et al. 2009)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlm.train.examples import Example, FeatureSource, Witness
from vlm.train.loop import SharedSource
from vlm.train.ranks import share
from vlm.train.words import TextBank, Words

# Of the frames that are drawn, those in which the thing is shown at least, where there are any: what is absent needs little learning.
SHOWN_SHARE = 0.85


@dataclass(frozen=True, slots=True)
class Glimpses:
    """Texts (b), a frame (b, d) of each one's video, its time (b) in seconds, and how the thing that the text names is in it
    (b, NUM_STATES)."""

    words: Words
    frames: Tensor
    times: Tensor
    states: Tensor

    def to(self, device: torch.device | str) -> Glimpses:
        """The same on a device."""
        return Glimpses(self.words.to(device), self.frames.to(device), self.times.to(device), self.states.to(device))


@dataclass(frozen=True, slots=True)
class GlimpseSource:
    """Batches of single frames. ``examples`` must each be about one thing, which their video shows; clocks may be late by
    ``latest_clock`` seconds."""

    examples: Sequence[Example]
    features: FeatureSource
    bank: TextBank
    witness: Witness
    batch_size: int
    seed: int = 0
    latest_clock: float = 0.0

    def batch(self, index: int) -> Glimpses:
        """Any texts, and any frame of each."""
        return self.part(index, 0, 1)

    def part(self, index: int, rank: int, ranks: int) -> Glimpses:
        """A rank's share of the batch."""
        numbers = self._numbers(index)[share(self.batch_size, rank, ranks)]
        random = np.random.default_rng([self.seed, index, rank])
        frames, times, told = [], [], []
        for number in numbers:
            example = self.examples[number]
            shown = self.features[example.video]
            states, _ = self.witness.tell(example.video, example.things[0], shown.times)
            rows = np.flatnonzero(states[:, 0] > 0)
            rows = rows if len(rows) and random.random() < SHOWN_SHARE else np.arange(len(states))
            row = rows[random.integers(len(rows))]
            frames.append(shown.vectors[row])
            times.append(shown.times[row] + random.random() * self.latest_clock)
            told.append(states[row])
        words = self.bank.words([self.examples[number].text for number in numbers])
        return Glimpses(words, torch.from_numpy(np.stack(frames)), torch.tensor(times), torch.from_numpy(np.stack(told)))

    def describe_batch(self, index: int) -> str:
        """The examples of the batch."""
        return f"frames of examples {self._numbers(index)}"

    def _numbers(self, index: int) -> list[int]:
        drawn: list[int] = np.random.default_rng([self.seed, index, 4]).integers(len(self.examples), size=self.batch_size).tolist()
        return drawn


@dataclass(frozen=True, slots=True)
class Curriculum:
    """The batches of ``glimpses`` first, ``num_glimpses`` of them; then, in turns, those of ``windows``, ``window_share`` of them, and of
    ``whole`` videos."""

    glimpses: SharedSource
    windows: SharedSource
    whole: SharedSource
    num_glimpses: int
    window_share: float
    seed: int = 0

    def batch(self, index: int) -> Any:
        """The batch of the source whose turn it is, with the same number."""
        return self._source(index).batch(index)

    def part(self, index: int, rank: int, ranks: int) -> Any:
        """A rank's part of it."""
        return self._source(index).part(index, rank, ranks)

    def describe_batch(self, index: int) -> str:
        """What the source says of it."""
        return self._source(index).describe_batch(index)

    def _source(self, index: int) -> SharedSource:
        if index < self.num_glimpses:
            return self.glimpses
        is_window = np.random.default_rng([self.seed, index, 5]).random() < self.window_share
        return self.windows if is_window else self.whole
