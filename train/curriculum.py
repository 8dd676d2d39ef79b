"""From single frames to whole videos (curriculum learning, Bengio et al. 2009): what words name is learnt a hundred times as fast from
frames that have nothing to do with each other as from the rows of videos; what each thing on screen does, before anything is said about it;
then which thing does what a text mentions, before anything is asked; and what happens, faster from short windows than from minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlm.models.model import padded
from vlm.train.batches import Batch, ExampleSource
from vlm.train.examples import Example, FeatureSource, Witness
from vlm.train.loop import SharedSource
from vlm.train.ranks import share
from vlm.train.words import TextBank, Words

# Of the frames that are drawn, those in which the thing is shown at least, where there are any: what is absent needs little learning.
SHOWN_SHARE = 0.85


@dataclass(frozen=True, slots=True)
class Glimpses:
    """Texts (b), a frame (b, d) of each one's video, its time (b) in seconds, how the thing that the text names is in it (b, NUM_STATES),
    and all things on screen by track (b, s, NUM_STATES)."""

    words: Words
    frames: Tensor
    times: Tensor
    states: Tensor
    track_states: Tensor

    def to(self, device: torch.device | str) -> Glimpses:
        """The same on a device."""
        return Glimpses(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Scenes:
    """Windows of videos (v, t, d) with their times (v, t) and mask (v, t), and all things on screen by track: how they are
    (v, t, s, NUM_STATES), and what they do (v, t, s, num_acts)."""

    frames: Tensor
    times: Tensor
    mask: Tensor
    track_states: Tensor
    track_acts: Tensor

    def to(self, device: torch.device | str) -> Scenes:
        """The same on a device."""
        return Scenes(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True, slots=True)
class SceneSource:
    """Batches of windows of ``seconds`` of any videos, about which nothing is said; of shorter videos the whole. ``thin_share`` of them
    show every second row."""

    features: FeatureSource
    witness: Witness
    batch_size: int
    seconds: float
    seed: int = 0
    latest_clock: float = 0.0
    thin_share: float = 0.0

    def batch(self, index: int) -> Scenes:
        """Any videos, and a window of each."""
        return self.part(index, 0, 1)

    def part(self, index: int, rank: int, ranks: int) -> Scenes:
        """A rank's share of the batch."""
        numbers, step = self._numbers(index), 2 if np.random.default_rng([self.seed, index, 8]).random() < self.thin_share else 1
        parts: list[tuple[Tensor, ...]] = []
        for place in range(self.batch_size)[share(self.batch_size, rank, ranks)]:
            number, random = numbers[place], np.random.default_rng([self.seed, index, place, 7])
            shown = self.features[number]
            start = int(random.uniform(0, max(1.0, shown.end - self.seconds)))
            first, last = np.searchsorted(shown.times, [start, start + self.seconds]).tolist()
            rows = slice(first, last, step)
            times = shown.times[rows]
            told = self.witness.tell_all(number, times)
            late = random.random() * self.latest_clock - start
            parts.append(tuple(torch.from_numpy(part) for part in (shown.vectors[rows], times + late, *told)))
        (frames, mask), *others = (padded([part[place] for part in parts]) for place in range(4))
        seconds, states, acts = (other for other, _ in others)
        return Scenes(frames, seconds, mask, states, acts)

    def describe_batch(self, index: int) -> str:
        """The videos of the batch."""
        return f"windows of videos {self._numbers(index)}"

    def _numbers(self, index: int) -> list[int]:
        drawn: list[int] = np.random.default_rng([self.seed, index, 6]).integers(len(self.features), size=self.batch_size).tolist()
        return drawn


@dataclass(frozen=True, slots=True)
class Lookups:
    """A batch of which only the finding is learnt: which thing does what a text mentions, and when."""

    batch: Batch

    def to(self, device: torch.device | str) -> Lookups:
        """The same on a device."""
        return Lookups(self.batch.to(device))


@dataclass(frozen=True, slots=True)
class LookupSource:
    """The batches of a source as lookups."""

    source: ExampleSource

    def batch(self, index: int) -> Lookups:
        """The batch with the same number."""
        return Lookups(self.source.batch(index))

    def part(self, index: int, rank: int, ranks: int) -> Lookups:
        """A rank's share of it."""
        return Lookups(self.source.part(index, rank, ranks))

    def describe_batch(self, index: int) -> str:
        """What the source says of it."""
        return self.source.describe_batch(index)


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
        numbers = self._numbers(index)
        frames, times, told, tracked, texts = [], [], [], [], []
        for place in range(self.batch_size)[share(self.batch_size, rank, ranks)]:
            example, random = self.examples[numbers[place]], np.random.default_rng([self.seed, index, place])
            texts.append(example.text)
            shown = self.features[example.video]
            states, _ = self.witness.tell(example.video, example.things[0], shown.times)
            rows = np.flatnonzero(states[:, 0] > 0)
            rows = rows if len(rows) and random.random() < SHOWN_SHARE else np.arange(len(states))
            row = rows[random.integers(len(rows))]
            frames.append(shown.vectors[row])
            times.append(shown.times[row] + random.random() * self.latest_clock)
            told.append(states[row])
            tracked.append(self.witness.tell_all(example.video, shown.times[row : row + 1])[0][0])
        words = self.bank.words(texts)
        vectors, known, tracks = (torch.from_numpy(np.stack(part)) for part in (frames, told, tracked))
        return Glimpses(words, vectors, torch.tensor(times), known, tracks)

    def describe_batch(self, index: int) -> str:
        """The examples of the batch."""
        return f"frames of examples {self._numbers(index)}"

    def _numbers(self, index: int) -> list[int]:
        drawn: list[int] = np.random.default_rng([self.seed, index, 4]).integers(len(self.examples), size=self.batch_size).tolist()
        return drawn


@dataclass(frozen=True, slots=True)
class Curriculum:
    """``num_glimpses`` batches of ``glimpses`` first, then ``num_scenes`` of ``scenes`` and ``num_lookups`` of ``lookups``; then, in turns,
    those of ``windows``, ``window_share`` of them, and of ``whole`` videos."""

    glimpses: SharedSource
    scenes: SharedSource
    lookups: SharedSource
    windows: SharedSource
    whole: SharedSource
    num_glimpses: int
    num_scenes: int
    num_lookups: int
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
        before = 0
        for source, number in ((self.glimpses, self.num_glimpses), (self.scenes, self.num_scenes), (self.lookups, self.num_lookups)):
            before += number
            if index < before:
                return source
        is_window = np.random.default_rng([self.seed, index, 5]).random() < self.window_share
        return self.windows if is_window else self.whole
