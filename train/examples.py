"""What is known of texts about videos: moments, matches, questions with options, with a closed list, and with open answers.

What a text is about a video and what is known of it is one ``Example``, whatever data set it comes from; an example that does not know a
thing teaches nothing about it. Batches of them: ``vlm.train.batches``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError
from vlm.models.reader import no_footage
from vlm.spans import overlap_seconds
from vlm.types import Features, Span

NUM_STATES = 10  # shown (0 or 1), x, y, radius, sine and cosine of its heading; places in lists: colour, shape, texture, size
IGNORED = -100  # a target that is not known, as torch's losses spell it
MENTIONS = 3  # slots that are told what to look for: what a text says to happen, first and then, and what its option says


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
        things: numbers, in the video, of the things that the text is about.
        mentions: of each thing that the text says to happen, in its order, every time it does: which thing, and when in the video; empty
            where that is not known.
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
    things: tuple[int, ...] = ()
    mentions: tuple[tuple[tuple[int, Span], ...], ...] = ()

    def __post_init__(self) -> None:
        if self.options and self.answer not in self.options:
            raise InputError(f"answer must be one of the options {list(self.options)}, got {self.answer!r} for {self.text!r}")


def unseen(question: Example) -> Example:
    """The question with its video withheld: all that can be learnt of it is what such a question suggests by itself, which is what
    ``Reader.blind`` tells."""
    return replace(question, is_unseen=True, spans=(), mentions=(), has_moments=False, levels={}, is_true=None, is_answerable=None)


def within(example: Example, window: Span) -> Example:
    """A text with its moments as a window of its video shows them, times from the window's start; a text none of whose moments are left is
    not true of it. The window must begin at a whole second.

    Of a window that cuts a moment off, an answer is not known any more, nor whether a text is true that tells of several things.
    """
    spans = [Span(max(span.start, window.start), min(span.end, window.end)) for span in example.spans if overlap_seconds(span, window) > 0]
    first, end = int(window.start), window.end
    is_whole = all(window.start <= span.start and span.end <= window.end for span in example.spans)
    is_asked, is_one = example.answer is not None, len(example.mentions) < 2
    is_true, is_answerable = example.is_true and bool(spans), example.is_answerable
    if is_answerable and not (is_whole and (is_asked or spans)):
        is_answerable = None  # what makes it answerable may lie elsewhere
    return replace(
        example,
        spans=tuple(Span(span.start - first, span.end - first) for span in spans),
        has_moments=example.has_moments and (is_whole or is_one),
        levels={second - first: level for second, level in example.levels.items() if first <= second < end},
        is_true=is_true if is_whole or is_one else None,
        is_answerable=is_answerable,
        options=example.options if is_whole else (),
        answer=example.answer if is_whole else None,
    )


def rows_within(features: Features, window: Span) -> Features:
    """The rows of a window, times from its start."""
    rows = slice(*np.searchsorted(features.times, [window.start, window.end]).tolist())
    return Features(features.vectors[rows], features.times[rows] - window.start, min(window.end, features.end) - window.start)


def thinned(features: Features, step: int) -> Features:
    """One row in ``step``, from the first on."""
    return features if step == 1 else Features(features.vectors[::step], features.times[::step], features.end)


class FeatureSource(Protocol):
    """Features of numbered videos."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Features: ...


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


class Witness(Protocol):
    """What is known of numbered things in numbered videos, whatever is said about them."""

    @property
    def num_acts(self) -> int:
        """How many kinds of acts there are."""

    @property
    def num_tracks(self) -> int:
        """How many things may be on screen at once."""

    def tell(self, video: int, thing: int, times: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """How the thing is at ``times`` (t,), numbers (t, NUM_STATES) with NaN for what cannot be known, and what it does (t, num_acts)."""

    def tell_all(self, video: int, times: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The same of all things on screen, each at a place of its own: (t, num_tracks, NUM_STATES) and (t, num_tracks, num_acts)."""

    def track_of(self, video: int, thing: int, times: NDArray[np.float64]) -> NDArray[np.int64]:
        """The place of a thing (t,), -1 while it is not there."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One text before one video: an example, the ``place``-th of its batch, or one of its options, behind the question or by itself
    (``is_alone``)."""

    example: Example
    text: str
    closed: int = IGNORED
    group: int = -1
    is_right: bool = False
    is_said: bool = False
    option: int | None = None
    is_alone: bool = False
    place: int = 0

    def mentions(self) -> list[tuple[tuple[int, Span], ...] | None]:
        """What each of the first slots should find: times at which things do it; None where that is not known.

        With an option, a question of what comes first or last says an order: then what comes first by it is first.
        """
        said = self.example.mentions[: MENTIONS - 1]
        option = said[self.option] if self.option is not None and self.option < len(said) else None
        if option is not None and all(said):
            said = tuple(sorted(said, key=lambda times: min(span.start for _, span in times), reverse=not self.is_right))
        found: list[tuple[tuple[int, Span], ...] | None] = [*said, *([None] * (MENTIONS - 1 - len(said)))]
        return [*found, option]


def passes_of(examples: Sequence[Example], answers: Sequence[str]) -> list[Pass]:
    """Each example as it is, or where its options are not all in the closed list ``answers``, two passes an option: all of them behind the
    question, then all of them alone, of which nothing is known."""
    numbers = {answer: number for number, answer in enumerate(answers)}
    found: list[Pass] = []
    for place, example in enumerate(examples):
        if example.options and not set(example.options) <= numbers.keys():
            found += [
                Pass(
                    example,
                    option_text(example.text, option),
                    group=place,
                    is_right=option == example.answer,
                    option=number,
                    place=place,
                )
                for number, option in enumerate(example.options)
            ]
            bare = Example(video=example.video, text=example.text, is_unseen=example.is_unseen)
            found += [Pass(bare, option, group=place, is_alone=True, place=place) for option in example.options]
        elif example.answer is None:
            found.append(Pass(example, example.text, place=place))
        else:
            # In words, too, what is on the list: so that a decoder tells which kind of answer a question wants.
            closed = numbers.get(example.answer, IGNORED) if example.options else IGNORED
            found.append(Pass(example, example.text, closed=closed, is_said=True, place=place))
    return found


def option_text(question: str, option: str) -> str:
    """A question with one of its options, as the reader asks it."""
    return f"{question} {option}"


def texts_of(examples: Sequence[Example], answers: Sequence[str]) -> list[str]:
    """Every text that a pass over the examples needs, or over windows of them, which may leave a question without its options."""
    return [*(one.text for one in passes_of(examples, answers)), *(example.text for example in examples)]
