"""What a query about time means: interval sets out of curves of probabilities, each interval with its proof. See docs/temporal.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError
from vlm.intervals import Floats, Intervals, Ints, searched
from vlm.temporal.tree import COMPARES, Both, Count, Either, Lasting, Node, Not, Placed, Sentence, Then, sentences
from vlm.types import Span

# Lengths and distances are compared on this grid: 12.1 - 2.1 is 10 s to people.
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of videos: what each curve has one value for, in order of video and time.

    Shapes:
        video: (t,) which video. start, end: (t,) seconds that a row stands for.
        whole: ``[0, duration)`` of every video.
    """

    video: Ints
    start: Floats
    end: Floats
    whole: Intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A part of what made an interval hold: a stretch of the curve of one sentence.

    ``shows`` is False where the sentence had to be absent. ``peak`` is the highest probability of the stretch, at ``peak_seconds``, and
    ``mean`` that of its rows; both 0 where the stretch holds no row.
    """

    sentence: str
    shows: bool
    span: Span
    peak: float
    peak_seconds: float
    mean: float

    @property
    def certainty(self) -> float:
        """How probable this part is."""
        return self.peak if self.shows else 1.0 - self.peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An interval of one video in which a query holds. ``probability`` is that of the least sure part of its proof."""

    video: int
    span: Span
    probability: float
    proof: tuple[Proof, ...]


class Meaning:
    """A query's sentences on curves, ready to be asked.

    Args:
        curves: of every sentence of the query, probabilities (t,) of the rows.
        least: the probability from which on a row shows a sentence.
        join_seconds: stretches of one sentence that are no farther apart are one.

    Raises:
        InputError: ``least`` is not in (0, 1], or ``join_seconds`` is negative.
    """

    def __init__(self, rows: Rows, curves: Mapping[str, NDArray[np.float64]], *, least: float, join_seconds: float) -> None:
        if not 0.0 < least <= 1.0:
            raise InputError(f"the least probability must be above 0 and at most 1, got {least:g}")
        if not 0.0 <= join_seconds < np.inf:
            raise InputError(f"stretches are joined over a finite number of seconds of at least 0, got {join_seconds:g} s")
        self._rows, self._curves = rows, curves
        self._least, self._join_seconds = least, join_seconds
        self._held: dict[Node, Intervals] = {}
        self._paired: dict[Node, tuple[Ints, Ints]] = {}

    def found(self, node: Node, *, most: int | None = None) -> list[Found]:
        """Where a query holds, the surest first, of equally sure ones by video and time; the best ``most``, or all."""
        holds = self.intervals(node)
        places = list(zip(holds.video.tolist(), holds.start.tolist(), holds.end.tolist(), strict=True))
        sure = [self._certainty(node, *place) for place in places]
        best = sorted(range(len(places)), key=lambda number: -sure[number])[:most]
        return [
            Found(
                video=places[number][0],
                span=Span(*places[number][1:]),
                probability=sure[number],
                proof=tuple(dict.fromkeys(self._proofs(node, *places[number]))),
            )
            for number in best
        ]

    def intervals(self, node: Node) -> Intervals:
        """The moments at which a query holds."""
        if node not in self._held:
            self._held[node] = self._evaluated(node)
        return self._held[node]

    def _evaluated(self, node: Node) -> Intervals:
        one = None if isinstance(node, Sentence) else self.intervals(node.one)
        whole = self._rows.whole
        if isinstance(node, Sentence):
            return self._stretches(node.text)
        assert one is not None
        if isinstance(node, Both):
            return one.intersection(self.intervals(node.other))
        if isinstance(node, Either):
            return one.union(self.intervals(node.other))
        if isinstance(node, Not):
            return whole.minus(one)
        if isinstance(node, Then):
            first, last = self._pairs(node)
            other = self.intervals(node.other)
            return Intervals.union_of(other.video[last], one.start[first], other.end[last])
        if isinstance(node, Lasting):
            return one.select(np.asarray(COMPARES[node.comparison](one.seconds.round(_DIGITS), node.seconds)))  # type: ignore[arg-type]
        if isinstance(node, Placed):
            end = whole.end if node.end is None else np.minimum(whole.end, node.end)
            start = np.minimum(node.start, end)
            return one.intersection(Intervals.union_of(whole.video, start, end))
        number = np.searchsorted(one.video, whole.video, side="right") - np.searchsorted(one.video, whole.video, side="left")
        return whole.select(np.asarray(COMPARES[node.comparison](number, node.number)))  # type: ignore[arg-type]

    def _stretches(self, sentence: str) -> Intervals:
        """Where the curve of a sentence is high."""
        rows = self._rows
        is_high = self._curves[sentence] >= self._least
        return Intervals.union_of(rows.video[is_high], rows.start[is_high], rows.end[is_high]).closed(self._join_seconds)

    def _pairs(self, node: Then) -> tuple[Ints, Ints]:
        """Rows of the two sets that follow each other: of every later one the last that has ended before, and of those the first."""
        if node not in self._paired:
            self._paired[node] = self._followed(node)
        return self._paired[node]

    def _followed(self, node: Then) -> tuple[Ints, Ints]:
        one, other = self.intervals(node.one), self.intervals(node.other)
        before = searched(one.video, one.end, other.video, other.start, side="right") - 1
        later = np.flatnonzero(before >= 0)
        later = later[one.video[before[later]] == other.video[later]]
        _, first = np.unique(before[later], return_index=True)
        later = later[first]
        if node.within is not None:
            later = later[(other.start[later] - one.end[before[later]]).round(_DIGITS) <= node.within]
        return before[later], later

    def _certainty(self, node: Node, video: int, start: float, end: float) -> float:
        """That of the least sure part of the proof; of alternatives that of the surest."""
        if isinstance(node, Either):
            return max(self._certainty(side, video, start, end) for side in self._true_sides(node, video, start, end))
        if isinstance(node, Both):
            return min(self._certainty(side, video, start, end) for side in (node.one, node.other))
        return min((one.certainty for one in self._proofs(node, video, start, end)), default=0.0)

    def _proofs(self, node: Node, video: int, start: float, end: float) -> Iterator[Proof]:
        """The stretches of curves that make a query hold in an interval in which it holds."""
        if isinstance(node, Sentence):
            for inner_start, inner_end in self._within(node, video, start, end):
                yield self._proof(node.text, True, video, inner_start, inner_end)
        elif isinstance(node, Both):
            yield from self._proofs(node.one, video, start, end)
            yield from self._proofs(node.other, video, start, end)
        elif isinstance(node, Either):
            for side in self._true_sides(node, video, start, end):
                yield from self._proofs(side, video, start, end)
        elif isinstance(node, Then):
            one, other = self.intervals(node.one), self.intervals(node.other)
            first, last = self._pairs(node)
            inside = (one.video[first] == video) & (one.start[first] < end) & (other.end[last] > start)
            for row, later in zip(first[inside], last[inside], strict=True):
                yield from self._proofs(node.one, video, float(one.start[row]), float(one.end[row]))
                yield from self._proofs(node.other, video, float(other.start[later]), float(other.end[later]))
        elif isinstance(node, Not | Count):
            yield from self._state(node.one, video, start, end)
        else:
            for inner_start, inner_end in self._within(node.one, video, start, end):
                yield from self._proofs(node.one, video, inner_start, inner_end)

    def _state(self, node: Node, video: int, start: float, end: float) -> Iterator[Proof]:
        """The stretches in which a query holds, with their proof; where there is none, that its sentences are absent or too little."""
        held = list(self._within(node, video, start, end))
        for inner_start, inner_end in held:
            yield from self._proofs(node, video, inner_start, inner_end)
        if held:
            return
        for text in sentences(node):
            shown = list(self._within(Sentence(text), video, start, end))
            for inner_start, inner_end in shown:
                yield self._proof(text, True, video, inner_start, inner_end)
            if not shown:
                yield self._proof(text, False, video, start, end)

    def _true_sides(self, node: Either, video: int, start: float, end: float) -> list[Node]:
        return [side for side in (node.one, node.other) if any(True for _ in self._within(side, video, start, end))]

    def _within(self, node: Node, video: int, start: float, end: float) -> Iterator[tuple[float, float]]:
        """The intervals of a query that share a moment with an interval."""
        held = self.intervals(node)
        first, last = np.searchsorted(held.video, [video, video + 1])
        begin = first + np.searchsorted(held.end[first:last], start, side="right")
        stop = first + np.searchsorted(held.start[first:last], end, side="left")
        yield from zip(held.start[begin:stop].tolist(), held.end[begin:stop].tolist(), strict=True)

    def _proof(self, text: str, shows: bool, video: int, start: float, end: float) -> Proof:
        rows = self._rows
        first, last = np.searchsorted(rows.video, [video, video + 1])
        begin = first + np.searchsorted(rows.end[first:last], start, side="right")
        stop = first + np.searchsorted(rows.start[first:last], end, side="left")
        values = self._curves[text][begin:stop]
        if not len(values):
            return Proof(sentence=text, shows=shows, span=Span(start, end), peak=0.0, peak_seconds=start, mean=0.0)
        best = int(values.argmax())
        return Proof(
            sentence=text,
            shows=shows,
            span=Span(start, end),
            peak=float(values[best]),
            peak_seconds=float(rows.start[begin + best]),
            mean=float(values.mean()),
        )
