"""Examples of texts and videos, and batches of them: moments, matches, questions with options, with a closed list, and with open answers.

What a text is about a video and what is known of it is one ``Example``, whatever data set it comes from; an example that does not know a
thing teaches nothing about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vlm.encoders.base import TextCodec
from vlm.errors import InputError
from vlm.models.model import padded
from vlm.models.reader import batch_of, no_footage
from vlm.train.ranks import share
from vlm.train.words import TextBank, Words
from vlm.types import Features, Span

IGNORED = -100  # a target that is not known, as torch's losses spell it


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A text and what is known of it in one video.

    Attributes:
        video: number of the video among the features that go with the examples.
        kind: what is drawn evenly; a name. side: within a kind, what is drawn evenly again (an answer, say).
        spans: stretches where the text, or the evidence for its answer, is seen.
        has_moments: whether ``spans`` is all there is: then no other row is foreground. False where moments are not known.
        levels: of each second s, ``[s, s + 1)``, how well it shows the text (whole numbers above 0); seconds that are missing have 0.
        is_true: whether the video shows what the text says; None where that is not known, or no question of truth.
        is_answerable: whether the question can be answered from the video; None where that is not known.
        options: of a choice; empty for others. answer: the right option, or the answer in words; None where there is none.
        is_unseen: whether the video is withheld; see ``unseen``.
    """

    video: int
    text: str
    kind: str = "caption"
    side: str = ""
    spans: tuple[Span, ...] = ()
    has_moments: bool = False
    levels: Mapping[int, int] = field(default_factory=dict)
    is_true: bool | None = None
    is_answerable: bool | None = None
    options: tuple[str, ...] = ()
    answer: str | None = None
    is_unseen: bool = False

    def __post_init__(self) -> None:
        if self.options and self.answer not in self.options:
            raise InputError(f"answer must be one of the options {list(self.options)}, got {self.answer!r} for {self.text!r}")


def unseen(question: Example) -> Example:
    """The question with its video withheld: all that can be learnt of it is what such a question suggests by itself, which is what
    ``Reader.blind`` tells."""
    return replace(question, is_unseen=True, spans=(), has_moments=False, levels={}, is_true=None, is_answerable=None)


class FeatureSource(Protocol):
    """Features of numbered videos."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Features: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Passes over pairs of a text and a video. An example with options that are no closed list makes one pass an option.

    Shapes:
        frames: (b, t, d), times, mask: (b, t), durations: (b,). words: of the b texts.
        foreground: (b, t) 0 or 1, spans: (b, t, 2) seconds of the stretch that holds the row's centre, has_moments: (b,) bool.
        levels: (b, t). is_true, is_answerable: (b,) 0, 1, or IGNORED. closed: (b,) number of the answer, or IGNORED.
        group: (b,) number of the choice that the pass is an option of, or -1; is_right: (b,) bool.
        said: (b, q) tokens of the open answer with its end, said_mask: (b, q) bool, all False where there is none.
    """

    frames: Tensor
    times: Tensor
    mask: Tensor
    durations: Tensor
    words: Words
    foreground: Tensor
    spans: Tensor
    has_moments: Tensor
    levels: Tensor
    is_true: Tensor
    is_answerable: Tensor
    closed: Tensor
    group: Tensor
    is_right: Tensor
    said: Tensor
    said_mask: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Sight:
    """How much of each video is shown: ``all``, ``frame`` (one, the same whenever it is asked for), or ``none`` (one row of zeros)."""

    name: str = "all"

    def __post_init__(self) -> None:
        if self.name not in ("all", "frame", "none"):
            raise InputError(f"sight must be 'all', 'frame' or 'none', got {self.name!r}")

    def of(self, features: Features, number: int) -> Features:
        """What is shown of video ``number``."""
        if self.name == "all":
            return features
        if self.name == "none":
            return no_footage(features)
        row = int(np.random.default_rng([number, 1]).integers(len(features.times)))
        return Features(features.vectors[row : row + 1], features.times[row : row + 1], features.end)


@dataclass(frozen=True, slots=True)
class ExampleSource:
    """Batches of examples: each draw chooses a kind by ``shares``, a side of it evenly, then an example evenly.

    Attributes:
        answers: the closed list of answers. codec: of open answers; None where no example has one.
        unseen_share: of questions whose video is withheld.
    """

    examples: Sequence[Example]
    features: FeatureSource
    bank: TextBank
    batch_size: int
    shares: Mapping[str, float]
    seed: int = 0
    answers: tuple[str, ...] = ()
    codec: TextCodec | None = None
    sight: Sight = Sight()
    unseen_share: float = 0.0
    _cells: dict[str, list[list[int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        by_kind: dict[str, dict[str, list[int]]] = {}
        for number, example in enumerate(self.examples):
            if self.shares.get(example.kind, 0.0) > 0:
                by_kind.setdefault(example.kind, {}).setdefault(example.side, []).append(number)
        missing = [kind for kind, share in self.shares.items() if share > 0 and kind not in by_kind]
        if missing or not by_kind:
            held = sorted({example.kind for example in self.examples})
            raise InputError(f"there is no example of {', '.join(map(repr, missing)) or 'any kind'}: examples hold {held}")
        self._cells.update({kind: list(sides.values()) for kind, sides in by_kind.items()})

    def numbers(self, index: int) -> list[int]:
        """The examples of batch ``index``: the same whenever it is asked for."""
        random = np.random.default_rng([self.seed, index])
        kinds = list(self._cells)
        weights = np.array([self.shares[kind] for kind in kinds])
        chosen = random.choice(len(kinds), size=self.batch_size, p=weights / weights.sum())
        found = []
        for kind in chosen:
            sides = self._cells[kinds[kind]]
            side = sides[random.integers(len(sides))]
            found.append(side[random.integers(len(side))])
        return found

    def batch(self, index: int) -> Batch:
        """The examples as passes."""
        return self.part(index, 0, 1)

    def part(self, index: int, rank: int, ranks: int) -> Batch:
        """A rank's share of the examples as passes; options of a choice stay together."""
        drawn = [self.examples[number] for number in self.numbers(index)]
        is_unseen = np.random.default_rng([self.seed, index, 1]).random(self.batch_size) < self.unseen_share
        given = [unseen(one) if hide and one.answer is not None else one for one, hide in zip(drawn, is_unseen, strict=True)]
        return self.batch_of(given[share(self.batch_size, rank, ranks)])

    def batch_of(self, examples: Sequence[Example]) -> Batch:
        """Any examples as passes, in their order, options one after the other."""
        passes = passes_of(examples, self.answers)
        none, shown = Sight("none"), {}
        for video, is_unseen in {(example.video, example.is_unseen) for example in examples}:
            shown[video, is_unseen] = (none if is_unseen else self.sight).of(self.features[video], video)
        videos = [shown[one.example.video, one.example.is_unseen] for one in passes]
        frames, times, mask, durations = batch_of(videos)
        targets = [row_targets(one.example, features) for one, features in zip(passes, videos, strict=True)]
        foreground, spans, levels = (padded([target[part] for target in targets])[0] for part in range(3))
        said, said_mask = padded([torch.tensor(self._said(one), dtype=torch.int64) for one in passes])
        return Batch(
            frames,
            times,
            mask,
            durations,
            self.bank.words([one.text for one in passes]),
            foreground,
            spans,
            torch.tensor([one.example.has_moments for one in passes]),
            levels,
            _truths([one.example.is_true for one in passes]),
            _truths([one.example.is_answerable for one in passes]),
            torch.tensor([one.closed for one in passes]),
            torch.tensor([one.group for one in passes]),
            torch.tensor([one.is_right for one in passes]),
            said,
            said_mask,
        )

    def describe_batch(self, index: int) -> str:
        """The examples of the batch."""
        return f"batch {index} with examples {self.numbers(index)}"

    def _said(self, one: Pass) -> list[int]:
        if not one.is_open:
            return []
        if self.codec is None:
            raise InputError(f"{one.example.text!r} has an answer in words, but the encoder has no tokenizer for it: give it options")
        assert one.example.answer is not None
        return [*self.codec.encode(one.example.answer), self.codec.end]


@dataclass(frozen=True, slots=True)
class Pass:
    """One text before one video: an example, or one of its options."""

    example: Example
    text: str
    closed: int = IGNORED
    group: int = -1
    is_right: bool = False
    is_open: bool = False


def passes_of(examples: Sequence[Example], answers: Sequence[str]) -> list[Pass]:
    """Each example as it is, or as one pass an option where its options are not all in the closed list ``answers``."""
    numbers = {answer: number for number, answer in enumerate(answers)}
    found: list[Pass] = []
    for group, example in enumerate(examples):
        if example.options and not set(example.options) <= numbers.keys():
            found += [
                Pass(example, option_text(example.text, option), group=group, is_right=option == example.answer)
                for option in example.options
            ]
        elif example.answer is None:
            found.append(Pass(example, example.text))
        else:
            closed = numbers.get(example.answer, IGNORED) if example.options else IGNORED
            found.append(Pass(example, example.text, closed=closed, is_open=not example.options))
    return found


def option_text(question: str, option: str) -> str:
    """A question with one of its options, as the reader asks it."""
    return f"{question} {option}"


def texts_of(examples: Sequence[Example], answers: Sequence[str]) -> list[str]:
    """Every text that a pass over the examples needs."""
    return [one.text for one in passes_of(examples, answers)]


def row_targets(example: Example, features: Features) -> tuple[Tensor, Tensor, Tensor]:
    """Of each row: whether its centre lies in a span (t,), that span (t, 2), and the level of its second (t,).

    A span so short that no centre lies in it takes the row whose centre is nearest.
    """
    ends = np.append(features.times[1:], features.end)
    centres = (features.times + ends) / 2
    foreground, bounds = np.zeros(len(centres), np.float32), np.zeros((len(centres), 2), np.float32)
    for span in sorted(example.spans, key=lambda span: -span.seconds):  # of overlapping ones the shorter has the row
        rows = np.flatnonzero((centres >= span.start) & (centres < span.end))
        if not len(rows):
            rows = np.array([np.abs(centres - (span.start + span.end) / 2).argmin()])
        foreground[rows], bounds[rows] = 1.0, (span.start, span.end)
    levels = np.array([example.levels.get(int(second), 0) for second in centres], np.float32)
    return torch.from_numpy(foreground), torch.from_numpy(bounds), torch.from_numpy(levels)


def _truths(known: Sequence[bool | None]) -> Tensor:
    return torch.tensor([IGNORED if truth is None else int(truth) for truth in known])
