"""Why a search found what it found: what each word of the query adds, where the hit peaks, and what kept the nearest other candidate out.

A word's share is told by leaving it out (as in occlusion, Zeiler and Fergus 2014): the curve of the whole query over the rows of the video
less the curve of the query without the word. The nearest rejected candidate is the one that the first stage places highest among all that
are not hits, whatever kept it out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError, QueryError
from vlm.index.confidence import Confidence
from vlm.index.equipment import Equipment
from vlm.index.filters import Filters
from vlm.index.find import OpenFootage, Request, find, index_and_texts
from vlm.index.footage import Footage
from vlm.index.query import Term, query_vector
from vlm.index.records import SearchResult
from vlm.index.search import SAME_STRETCH, Searcher, checked_query, same_stretch
from vlm.index.second import DEPTH, ROWS_A_VIDEO, around
from vlm.index.store import StoredSegment
from vlm.models.plain import Reader
from vlm.spans import overlap_seconds
from vlm.types import Curve, Hit, Span

Stage = Literal["filter", "suppression", "min-confidence", "first-stage", "second-look", "top-k"]
MOST_PEAKS = 3
# Segments among which a rejected candidate is looked for; one farther away has no rank.
FARTHEST = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class WordDrop:
    """What a query loses without one of its words.

    Attributes:
        place: of the word in the query, from 0.
        drop: how much the score of the stretch falls, the mean over its rows; below 0 it rises.
        at: second of the video, within the stretch, at which it falls most, and ``most`` how much there.
        curve: the fall at each row of the stretch of video that was read.
    """

    word: str
    place: int
    drop: float
    at: float
    most: float
    curve: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Peak:
    """A row of the stretch where the query is nearest: when it begins, and the value of the curve there."""

    seconds: float
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A candidate that is no hit, and what cost it its place.

    Attributes:
        score: of the first stage. first_rank: its place there, from 1, among the videos (or stretches, as they are grouped) that pass the
            filters; None beyond FARTHEST.
        stage: what kept it out. value, limit: what it reached there and what it would have needed, None where the stage has no figure.
        reason: the same in words.
    """

    video_id: int
    segment_id: int
    path: str
    span: Span
    score: float
    first_rank: int | None
    stage: Stage
    value: float | None
    limit: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """Why a stretch was found, or why it was not.

    Attributes:
        hit: the hit that is explained; None where a video was named that is none, or where there is no hit at all.
        footage: the video of the words, peaks and curve, None where there is none; span: the stretch of it that they are about.
        words: in the order of the query; empty where it has one word.
        rejected: the video that was named where it is no hit, else the nearest candidate; None where all candidates are hits.
    """

    query: str
    hit: Hit | None
    footage: Footage | None
    span: Span | None
    curve: Curve | None
    words: tuple[WordDrop, ...]
    peaks: tuple[Peak, ...]
    rejected: Rejected | None
    warnings: tuple[str, ...] = ()


def why(gear: Equipment, request: Request, open_footage: OpenFootage, *, rank: int = 1, video: int | None = None) -> Why:
    """Why hit ``rank`` of a request was found, or why ``video`` was or was not; raises as Library.why."""
    text = checked_query(request.query)
    if request.like or request.plus or request.minus:
        raise QueryError("words are left out of one sentence alone: leave --like, --plus and --minus out")
    if not 1 <= rank <= request.top_k:
        raise InputError(f"rank must be among the {request.top_k} hits that are asked for, got {rank}")
    # As many as the second look orders: those behind the cut tell what became of them.
    wide = find(gear, replace(request, skip=0, top_k=max(request.top_k, DEPTH)), open_footage)
    hits = wide.hits[: request.top_k]
    judge = _Judge(gear, request, text, wide)
    hit = next((one for one in hits if one.video_id == video), None) if video is not None else None
    if video is None and hits:
        hit = next((one for one in hits if one.rank == rank), None)
        if hit is None:
            raise InputError(f"there is no hit {rank} to explain: the search found {len(hits)}")
    rejected = judge.nearest() if video is None or hit is not None else judge.of_video(video)
    about = (hit.video_id, hit.span) if hit is not None else (video, rejected.span) if video is not None and rejected is not None else None
    if about is None or about[0] is None:
        return Why(query=text, hit=None, footage=None, span=None, curve=None, words=(), peaks=(), rejected=rejected, warnings=wide.warnings)
    part = around(open_footage(about[0]), about[1], ROWS_A_VIDEO)
    curve, words, peaks = explained(gear.reader(), text, part, about[1])
    return Why(
        query=text,
        hit=hit,
        footage=part,
        span=about[1],
        curve=curve,
        words=words,
        peaks=peaks,
        rejected=rejected,
        warnings=wide.warnings,
    )


def explained(reader: Reader, text: str, part: Footage, span: Span) -> tuple[Curve, tuple[WordDrop, ...], tuple[Peak, ...]]:
    """The curve of a text over footage, what each word adds to it within ``span``, and where it peaks there."""
    times = part.features.times + part.offset_seconds
    end = part.offset_seconds + part.features.end
    shorter = list(without_each_word(text))
    found = reader.ground([text, *(rest for _, _, rest in shorter)], part.features)
    curve, *others = (one.curve.astype(np.float64) for one in found)
    rows = _rows_of(times, end, span)
    words = tuple(_drop(word, place, curve - other, times, rows) for (place, word, _), other in zip(shorter, others, strict=True))
    return Curve(tuple(times.tolist()), tuple(curve.tolist()), end), words, _peaks(curve, times, rows)


def without_each_word(text: str) -> Iterator[tuple[int, str, str]]:
    """Each word of a text: its place, itself, and the text without it. Words without which nothing is left to ask are passed over."""
    words = text.split()
    for place, word in enumerate(words):
        rest = " ".join(words[:place] + words[place + 1 :])
        try:
            yield place, word, checked_query(rest)
        except QueryError:
            continue


def _rows_of(times: NDArray[np.float64], end: float, span: Span) -> NDArray[np.int64]:
    """The rows that are shown during ``span``; the nearest one where there is none."""
    ends = np.append(times[1:], end)
    rows = np.flatnonzero((ends > span.start) & (times < span.end))
    return rows if len(rows) else np.array([int(np.abs(times - span.start).argmin())])


def _drop(word: str, place: int, fall: NDArray[np.float64], times: NDArray[np.float64], rows: NDArray[np.int64]) -> WordDrop:
    worst = int(rows[fall[rows].argmax()])
    return WordDrop(
        word=word,
        place=place,
        drop=float(fall[rows].mean()),
        at=float(times[worst]),
        most=float(fall[worst]),
        curve=tuple(fall.tolist()),
    )


def _peaks(curve: NDArray[np.float64], times: NDArray[np.float64], rows: NDArray[np.int64]) -> tuple[Peak, ...]:
    """The highest rows, no two of them neighbours."""
    chosen: list[int] = []
    for row in sorted(rows.tolist(), key=lambda row: (-curve[row], row)):
        if len(chosen) < MOST_PEAKS and all(abs(row - other) > 1 for other in chosen):
            chosen.append(row)
    return tuple(Peak(float(times[row]), float(curve[row])) for row in chosen)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A stretch as the first stage ranks it: the best of its video, or any; ``first_rank`` as in Rejected."""

    score: float
    segment: StoredSegment
    first_rank: int | None


class _Judge:
    """Follows candidates of the first stage through the same rules that made the hits."""

    def __init__(self, gear: Equipment, request: Request, text: str, wide: SearchResult) -> None:
        self._gear, self._request, self._wide = gear, request, wide
        self._hits = wide.hits[: request.top_k]
        encoder = gear.load_encoder()
        embed, self._index = index_and_texts(gear, encoder)
        self._vector = query_vector([Term(text)], embed, None, dim=self._index.dim)
        self._searcher = Searcher(gear.store, self._index)
        self._passing = request.only.passing(gear.store) if request.only else request.videos
        self._measure: Confidence | None = gear.confidence(encoder, self._index) if request.min_confidence is not None else None

    def nearest(self) -> Rejected | None:
        """The best candidate that is no hit."""
        placed = {self._name(hit.video_id, hit.segment_id) for hit in self._hits}
        for candidate in self._candidates():
            if self._name(candidate.segment.video_id, candidate.segment.segment_id) not in placed:
                return self._judged(candidate)
        return None

    def of_video(self, video_id: int) -> Rejected | None:
        """The best stretch of a video that is no hit."""
        own = next((one for one in self._candidates() if one.segment.video_id == video_id), None)
        return self._judged(own or self._far(video_id))

    def _name(self, video_id: int, segment_id: int) -> int:
        return video_id if self._request.group_by == "video" else segment_id

    def _candidates(self) -> Iterator[_Candidate]:
        """All candidates of the first stage up to FARTHEST, best first."""
        total, most, seen, ahead = self._index.num_vectors, max(64, 8 * self._request.top_k), set[int](), 0
        while True:
            for score, segment in self._searcher.nearest(self._vector, most=min(most, total, FARTHEST)):
                if (name := self._name(segment.video_id, segment.segment_id)) not in seen:
                    seen.add(name)
                    yield _Candidate(score, segment, ahead + 1)
                    ahead += self._passes(segment.video_id)
            if most >= min(total, FARTHEST):
                return
            most *= 4

    def _far(self, video_id: int) -> _Candidate:
        """The best stretch of a video that is not among those that were ranked."""
        store = self._gear.store
        ids = store.segment_ids_of([video_id], most=store.num_segments())
        if ids is None or not len(ids):
            raise store.unknown(video_id)  # removed just now by another process
        scores = store.segment_vectors(ids, self._index.dim) @ self._vector[0]
        best = int(scores.argmax())
        return _Candidate(float(scores[best]), store.segments([int(ids[best])])[int(ids[best])], None)

    def _judged(self, candidate: _Candidate) -> Rejected:
        """The first rule on the way of a candidate that it fails; every one fails at the last at the latest."""
        stage, value, limit, reason = (
            self._filtered(candidate) or self._suppressed(candidate) or self._unsure(candidate) or self._outranked(candidate)
        )
        segment = candidate.segment
        paths = self._gear.store.hit_rows([segment.video_id])[segment.video_id][0]
        return Rejected(
            video_id=segment.video_id,
            segment_id=segment.segment_id,
            path=os.fsdecode(paths[0]) if paths else "",
            span=segment.span,
            score=candidate.score,
            first_rank=candidate.first_rank,
            stage=stage,
            value=value,
            limit=limit,
            reason=reason,
        )

    def _filtered(self, candidate: _Candidate) -> _Verdict | None:
        video_id = candidate.segment.video_id
        if self._passes(video_id):
            return None
        return "filter", None, None, f"its video does not pass {_failed_filter(self._request.only, self._gear, video_id)}"

    def _passes(self, video_id: int) -> bool:
        return self._passing is None or video_id in self._passing

    def _suppressed(self, candidate: _Candidate) -> _Verdict | None:
        if self._request.group_by == "video":
            return None
        one = candidate.segment
        for hit in self._hits:
            other = StoredSegment(hit.segment_id, hit.video_id, 0, hit.span)
            if hit.video_id == one.video_id and hit.score >= candidate.score and same_stretch(one, other):
                share = overlap_seconds(one.span, other.span) / min(one.span.seconds, other.span.seconds)
                reason = f"it shares {share:.0%} of the shorter stretch with hit {hit.rank}, which is better: at most {SAME_STRETCH:.0%}"
                return "suppression", share, SAME_STRETCH, reason
        return None

    def _unsure(self, candidate: _Candidate) -> _Verdict | None:
        least = self._request.min_confidence
        if least is None or self._measure is None:
            return None
        sure = float(self._measure.of(self._vector[0], np.array([candidate.score]))[0])
        if sure >= least:
            return None
        return "min-confidence", sure, least, f"the library shows it with confidence {sure:.3f}, and {least:g} was asked for"

    def _outranked(self, candidate: _Candidate) -> _Verdict:
        """By the second look, by the number of videos that it reads, or by the number of hits that were asked for."""
        top_k, rank = self._request.top_k, candidate.first_rank
        name = self._name(candidate.segment.video_id, candidate.segment.segment_id)
        own = next((hit for hit in self._wide.hits if self._name(hit.video_id, hit.segment_id) == name), None)
        last = self._hits[-1] if self._hits else None
        place = f"its rank {rank}" if rank is not None else f"its rank beyond the nearest {FARTHEST:,} stretches"
        if last is not None and last.presence is not None:
            if own is None or own.presence is None:
                told = self._wide.looked.reason if self._wide.looked is not None else ""
                reason = f"{place} in the first stage is not among those that the second look reads" + (f" ({told})" if told else "")
                return "first-stage", None if rank is None else float(rank), float(DEPTH), reason
            if rank is not None and rank <= top_k:
                reason = f"{place} in the first stage became {own.rank}: the second look finds the query in it with probability "
                return "second-look", own.presence, last.presence, f"{reason}{own.presence:.3f}, and in hit {last.rank} {last.presence:.3f}"
        least = f", and hit {last.rank} scores {last.score:.3f}" if last is not None else ""
        reason = f"{place} is behind the {top_k} that were asked for: it scores {candidate.score:.3f}{least}"
        return "top-k", candidate.score, None if last is None else last.score, reason


_Verdict = tuple[Stage, float | None, float | None, str]


def _failed_filter(only: Filters | None, gear: Equipment, video_id: int) -> str:
    """The first filter that a video does not pass alone, with its value."""
    for one in fields(Filters):
        value = getattr(only, one.name, None)
        if only is not None and value and video_id not in Filters(**{one.name: value}).passing(gear.store):
            return f"the filter {one.name} = {value if not isinstance(value, tuple) else ', '.join(value)}"
    return "the videos that the search is limited to"
