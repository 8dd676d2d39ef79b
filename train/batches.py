"""Batches of examples: some videos, the passes of texts over them, and what each pass should tell in every row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm.encoders.base import TextCodec
from vlm.errors import InputError
from vlm.models.model import padded
from vlm.models.reader import batch_of
from vlm.train.examples import (
    IGNORED,
    MENTIONS,
    NUM_STATES,
    Example,
    FeatureSource,
    Pass,
    Sight,
    Witness,
    passes_of,
    rows_within,
    thinned,
    unseen,
    within,
)
from vlm.train.ranks import share
from vlm.train.words import TextBank, Words
from vlm.types import Features, Span

POOL = 8  # batches whose videos are drawn together
MOST_SAID = 32  # tokens of an answer, of which some may be withheld; longer ones are rare


@dataclass(frozen=True, slots=True)
class Batch:
    """Passes over b pairs of a text and a video. An example with options that are no closed list makes two passes an option.

    Shapes:
        frames: (v, t, d), times, mask: (v, t), durations: (v,), of the different videos. clock: (v,) seconds that a model is told the times
            late by.
        video: (b,) number of each pass's video. words: of the b texts.
        foreground: (b, t) 0 or 1, spans: (b, t, 2) seconds of the stretch that holds the row's centre, has_moments: (b,) bool.
        levels: (b, t). is_true, is_answerable: (b,) 0, 1, or IGNORED. closed: (b,) number of the answer, or IGNORED; prior: (b, answers)
            logarithms of how much more often than evenly each answer is right where there are these options; 0 where nothing is known.
        group: (b,) number of the choice that the pass is an option of, or -1; is_right: (b,) bool. is_alone: (b,) bool, whether it is the
            option by itself, which comes behind all those of its choice that are not.
        states: (b, t, NUM_STATES) of the thing that the text is about, NaN for what is not known. acts: (b, t, n) bool, what it does;
            is_witnessed: (b,) bool, whether that is known.
        track_states: (v, t, s, NUM_STATES) and track_acts: (v, t, s, n), the same of every thing on screen, by track, s = 0 where nothing
            is known; is_tracked: (v,) bool, whether it is.
        mentioned: (b, t, MENTIONS, s) 0 or 1, which track does what is mentioned, NaN for what is not known.
        said: (b, q) tokens of the answer in words with its end, said_mask: (b, q) bool, all False where there is none. withheld: (b, q)
            bool, tokens that those after them are not told.
    """

    frames: Tensor
    times: Tensor
    mask: Tensor
    durations: Tensor
    clock: Tensor
    video: Tensor
    words: Words
    foreground: Tensor
    spans: Tensor
    has_moments: Tensor
    levels: Tensor
    is_true: Tensor
    is_answerable: Tensor
    closed: Tensor
    prior: Tensor
    group: Tensor
    is_right: Tensor
    is_alone: Tensor
    states: Tensor
    acts: Tensor
    is_witnessed: Tensor
    track_states: Tensor
    track_acts: Tensor
    is_tracked: Tensor
    mentioned: Tensor
    said: Tensor
    said_mask: Tensor
    withheld: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True, slots=True)
class ExampleSource:
    """Batches of examples: some videos, and of each some of its examples. Videos take turns; of their examples first a kind is drawn by
    ``shares``, a side of it evenly, then one of them evenly.

    Videos of a batch are of about one length, so that few rows are pads: those of POOL batches are drawn together and sorted.

    Attributes:
        batch_size, per_video: examples a batch and a video; what is done for a video alone is done once.
        answers: the closed list of answers. is_even: whether their priors are told, so that answers are learnt as if all of a question's
            options were as frequent. codec: of open answers; None where no example has one.
        unseen_share: of questions whose video is withheld. quiet_share: of tokens of answers that those after them are not told.
        latest_clock: seconds that a video's clock may be late by: so that a model also knows times later than its longest video.
        thin_share: of batches that show every second row: so that a model also knows videos that are looked at half as often.
        witness: of the things in the videos; None where nothing is known of them.
        windows: shortest and longest seconds of the windows that are shown instead of whole videos, of each video one that holds a moment
            of one of its texts where there is any, and all the moments of a question; None shows whole videos. What a window changes
            of a text: see ``within``.
    """

    examples: Sequence[Example]
    features: FeatureSource
    bank: TextBank
    batch_size: int
    shares: Mapping[str, float]
    seed: int = 0
    per_video: int = 1
    answers: tuple[str, ...] = ()
    is_even: bool = False
    codec: TextCodec | None = None
    sight: Sight = field(default_factory=Sight)
    unseen_share: float = 0.0
    quiet_share: float = 0.0
    latest_clock: float = 0.0
    thin_share: float = 0.0
    witness: Witness | None = None
    windows: tuple[float, float] | None = None
    _cells: dict[int, dict[str, list[list[int]]]] = field(default_factory=dict)
    _seconds: dict[int, float] = field(default_factory=dict)
    _priors: dict[tuple[str, ...], Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.is_even:
            self._priors.update(priors_of(self.examples, self.answers))
        by_side: dict[tuple[int, str, str], list[int]] = {}
        for number, example in enumerate(self.examples):
            if self.shares.get(example.kind, 0.0) > 0:
                by_side.setdefault((example.video, example.kind, example.side), []).append(number)
        for (video, kind, _), numbers in by_side.items():
            self._cells.setdefault(video, {}).setdefault(kind, []).append(numbers)
        found = {kind for kinds in self._cells.values() for kind in kinds}
        missing = [kind for kind, share in self.shares.items() if share > 0 and kind not in found]
        if missing or not found:
            held = sorted({example.kind for example in self.examples})
            raise InputError(f"there is no example of {', '.join(map(repr, missing)) or 'any kind'}: examples hold {held}")

    def numbers(self, index: int) -> list[int]:
        """The examples of batch ``index``: the same whenever it is asked for."""
        random = np.random.default_rng([self.seed, index])
        found = []
        for video in self._videos(index):
            cells = self._cells[video]
            kinds = list(cells)
            weights = np.array([self.shares[kind] for kind in kinds])
            for kind in random.choice(len(kinds), size=self.per_video, p=weights / weights.sum()):
                sides = cells[kinds[kind]]
                side = sides[random.integers(len(sides))]
                found.append(side[random.integers(len(side))])
        return found[: self.batch_size]

    def _videos(self, index: int) -> list[int]:
        """Which videos the batch is about: all of them come before any comes again."""
        pool, place = divmod(index, POOL)
        some = -(-self.batch_size // self.per_video)
        known = np.array(list(self._cells))
        rounds, turns = np.divmod(np.arange(pool * POOL * some, (pool + 1) * POOL * some), len(known))
        orders = {number: np.random.default_rng([self.seed, number, 2]).permutation(known) for number in set(rounds.tolist())}
        drawn = np.array([orders[number][turn] for number, turn in zip(rounds.tolist(), turns.tolist(), strict=True)])
        for video in set(drawn.tolist()) - self._seconds.keys():
            self._seconds[video] = self.features[video].end
        lengths = np.array([self._seconds[video] for video in drawn.tolist()])
        parts = drawn[lengths.argsort(kind="stable")].reshape(POOL, some)
        chosen: list[int] = parts[np.random.default_rng([self.seed, pool, 3]).permutation(POOL)[place]].tolist()
        return chosen

    def batch(self, index: int) -> Batch:
        """The examples as passes."""
        return self.part(index, 0, 1)

    def part(self, index: int, rank: int, ranks: int) -> Batch:
        """A rank's share of the examples as passes; options of a choice stay together."""
        drawn = [self.examples[number] for number in self.numbers(index)]
        random = np.random.default_rng([self.seed, index, 1])
        is_unseen, late = random.random(self.batch_size) < self.unseen_share, random.random() * self.latest_clock
        given = [unseen(one) if hide and one.answer is not None else one for one, hide in zip(drawn, is_unseen, strict=True)]
        windows = {} if self.windows is None else self._windows(given, random)
        step = 2 if random.random() < self.thin_share else 1
        quiet = np.random.default_rng([self.seed, index, 9]).random((self.batch_size, MOST_SAID)) < self.quiet_share
        mine = share(self.batch_size, rank, ranks)
        return self.batch_of(given[mine], late=late, windows=windows, step=step, quiet=quiet[mine])

    def _windows(self, examples: Sequence[Example], random: np.random.Generator) -> dict[int, Span]:
        """Of each video a window that begins at a whole second."""
        assert self.windows is not None
        found = {}
        for video in dict.fromkeys(one.video for one in examples):
            end = self.features[video].end
            seconds = random.uniform(*self.windows)
            spans = [span for one in examples if one.video == video for span in self._held(one)]
            held = spans[random.integers(len(spans))] if spans else Span(0.0, end)
            if spans and held.seconds <= self.windows[1]:
                seconds = max(seconds, held.seconds + 1)  # it begins at a whole second
            # Anywhere, as long as it holds the moment, or lies within it.
            low, high = sorted((held.start, held.end - seconds))
            start = int(min(max(0.0, np.ceil(low), random.uniform(low, high)), max(0.0, np.ceil(end - seconds))))
            found[video] = Span(float(start), max(start + 1.0, min(end, start + seconds)))
        return found

    def _held(self, example: Example) -> Sequence[Span]:
        """What a window should hold one of: moments of a text; all the moments of a question together, and of a text about several things,
        where no window is too short for them."""
        if not example.spans or (example.answer is None and len(example.mentions) < 2):
            return example.spans
        assert self.windows is not None
        whole = Span(min(span.start for span in example.spans), max(span.end for span in example.spans))
        return (whole,) if whole.seconds <= self.windows[1] else example.spans

    def batch_of(
        self,
        examples: Sequence[Example],
        *,
        late: float = 0.0,
        windows: Mapping[int, Span] | None = None,
        step: int = 1,
        quiet: NDArray[np.bool_] | None = None,
    ) -> Batch:
        """Any examples as passes, in their order, options one after the other; ``late`` is of all clocks. Of videos in ``windows`` only
        that window is shown; of all of them one row in ``step``. Of answers the tokens that are ``quiet`` (n, MOST_SAID) are withheld."""
        windows = windows or {}
        examples = [within(one, windows[one.video]) if one.video in windows else one for one in examples]
        passes = passes_of(examples, self.answers)
        seen = [(one.example.video, one.example.is_unseen) for one in passes]
        place = {key: number for number, key in enumerate(dict.fromkeys(seen))}
        none = Sight("none")
        videos = []
        for video, is_unseen in place:
            shown = self.features[video]
            shown = rows_within(shown, windows[video]) if video in windows else shown
            videos.append((none if is_unseen else self.sight).of(thinned(shown, step), video))
        frames, times, mask, durations = batch_of(videos)
        targets = [row_targets(one.example, videos[place[key]]) for one, key in zip(passes, seen, strict=True)]
        foreground, spans, levels = (padded([target[part] for target in targets])[0] for part in range(3))
        said, said_mask = padded([torch.tensor(self._said(one), dtype=torch.int64) for one in passes])
        withheld = torch.zeros_like(said_mask)
        if quiet is not None and (most := min(said.shape[1], MOST_SAID)):
            withheld[:, :most] = torch.from_numpy(quiet[[one.place for one in passes], :most])
        starts = {video: window.start for video, window in windows.items()}
        return Batch(
            frames,
            times,
            mask,
            durations,
            torch.full((len(videos),), late, dtype=torch.float64),
            torch.tensor([place[key] for key in seen]),
            self.bank.words([one.text for one in passes]),
            foreground,
            spans,
            torch.tensor([one.example.has_moments for one in passes]),
            levels,
            _truths([one.example.is_true for one in passes]),
            _truths([one.example.is_answerable for one in passes]),
            torch.tensor([one.closed for one in passes]),
            torch.stack([self._priors.get(one.example.options, torch.zeros(len(self.answers))) for one in passes]),
            torch.tensor([one.group for one in passes]),
            torch.tensor([one.is_right for one in passes]),
            torch.tensor([one.is_alone for one in passes]),
            *self._witnessed(passes, [videos[place[key]] for key in seen], starts),
            *self._tracked(place, videos, starts),
            self._mentioned(passes, [videos[place[key]] for key in seen], starts),
            said,
            said_mask,
            withheld,
        )

    def _witnessed(self, passes: Sequence[Pass], videos: Sequence[Features], starts: Mapping[int, float]) -> tuple[Tensor, Tensor, Tensor]:
        """States, acts and whether they are known, of the passes; nothing is, unless the whole video is shown and one thing is named."""
        states: list[Tensor] = []
        acts: list[Tensor] = []
        known: list[bool] = []
        for one, shown in zip(passes, videos, strict=True):
            told = None
            if self.witness is not None and self.sight.name == "all" and not one.example.is_unseen and len(one.example.things) == 1:
                video = one.example.video
                told = self.witness.tell(video, one.example.things[0], shown.times + starts.get(video, 0.0))
            t = len(shown.times)
            empty = np.full((t, NUM_STATES), np.nan, np.float32), np.zeros((t, self.witness.num_acts if self.witness else 0), np.bool_)
            for held, array in zip((states, acts), told or empty, strict=True):
                held.append(torch.from_numpy(array))
            known.append(told is not None)
        return padded(states)[0], padded(acts)[0], torch.tensor(known)

    def _tracked(
        self, place: Mapping[tuple[int, bool], int], videos: Sequence[Features], starts: Mapping[int, float]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """States and acts of all tracks of the videos, and whether they are known: where the whole video is shown."""
        if self.witness is None or self.sight.name != "all":
            none = torch.zeros(len(videos), max(len(one.times) for one in videos), 0, 0)
            return none, none, torch.zeros(len(videos), dtype=torch.bool)
        told = [self.witness.tell_all(video, videos[row].times + starts.get(video, 0.0)) for (video, _), row in place.items()]
        states, acts = (padded([torch.from_numpy(part[number]) for part in told])[0] for number in range(2))
        return states, acts, torch.tensor([not is_unseen for _, is_unseen in place])

    def _mentioned(self, passes: Sequence[Pass], videos: Sequence[Features], starts: Mapping[int, float]) -> Tensor:
        """Which track does what each pass mentions."""
        found: list[Tensor] = []
        for one, shown in zip(passes, videos, strict=True):
            witness, video = self.witness if self.sight.name == "all" else None, one.example.video
            told = np.full((len(shown.times), MENTIONS, 0 if witness is None else witness.num_tracks), np.nan, np.float32)
            times = shown.times + starts.get(video, 0.0)
            for slot, said in enumerate(one.mentions()):
                if witness is None or said is None:
                    continue
                told[:, slot] = 0
                for thing, span in said:
                    track = witness.track_of(video, thing, times)
                    rows = np.flatnonzero((times >= span.start) & (times < span.end) & (track >= 0))
                    told[rows, slot, track[rows]] = 1
            found.append(torch.from_numpy(told))
        return padded(found)[0]

    def describe_batch(self, index: int) -> str:
        """The examples of the batch."""
        return f"batch {index} with examples {self.numbers(index)}"

    def _said(self, one: Pass) -> list[int]:
        if not one.is_said or (self.codec is None and one.closed != IGNORED):
            return []
        if self.codec is None:
            raise InputError(f"{one.example.text!r} has an answer in words, but the encoder has no tokenizer for it: give it options")
        assert one.example.answer is not None
        return [*self.codec.encode(one.example.answer), self.codec.end]


def priors_of(examples: Sequence[Example], answers: Sequence[str]) -> dict[tuple[str, ...], Tensor]:
    """Of each list of options that are all among ``answers``: logarithms (answers,) of how much more often than evenly each of them is
    right, counting one more of each; 0 for those that are none of them."""
    counts: dict[tuple[str, ...], Counter[str]] = {}
    for one in examples:
        if one.answer is not None and one.options and set(one.options) <= set(answers):
            counts.setdefault(one.options, Counter(one.options))[one.answer] += 1
    numbers = {answer: number for number, answer in enumerate(answers)}
    found = {}
    for options, counted in counts.items():
        found[options] = torch.zeros(len(answers))
        for option, count in counted.items():
            found[options][numbers[option]] = math.log(count * len(counted) / counted.total())
    return found


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
