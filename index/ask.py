"""From a question to an answer with its evidence: in one video, in a stretch of it, or in the library's best videos."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vlm.errors import QueryError
from vlm.index.footage import Footage
from vlm.index.records import SearchResult
from vlm.models.answerer import Answerer
from vlm.models.evidence import weighed, without
from vlm.models.plain import Reader
from vlm.types import Answer, Hit, Moment, Span
from vlm.video.strip import frames_at
from vlm.video.supervise import SupervisedDecoder

# So many of the library's videos are asked.
VIDEOS_ASKED = 5
# Of a longer video, so many seconds around the hit are read.
MOST_SECONDS = 600.0
# From this probability on that a video shows what is asked, its answer stands.
ANSWERABLE = 0.5
# How questions begin that are answered by yes or no; what follows is what they ask about.
_YES_NO = re.compile(
    r"(?:(?:is|are|was|were) there|(?:can|could|do|does|did) (?:you|we|one|i|anyone) (?:ever )?see|(?:is|are) (?:it|this) showing|"
    r"does (?:it|this|the video) show|(?:is|are|was|were|does|do|did|has|have|will|can)) (?P<what>\S.*)",
    re.IGNORECASE,
)
# What a larger answerer is shown of its evidence.
FRAMES_SHOWN, LONGEST_SIDE = 8, 448


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An answer, and the footage that it was read from.

    ``is_shown`` is False where the model says that no video it looked at shows what is asked; None where nothing was trained to tell.
    ``videos_read`` are the ids of the videos that were asked, in order. ``warnings`` say what to know before trusting it.
    """

    question: str
    answer: Answer
    footage: Footage
    is_shown: bool | None
    videos_read: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def span_read(self) -> Span:
        """The stretch of the video that was read."""
        start = self.footage.offset_seconds + float(self.footage.features.times[0])
        return Span(start, self.footage.offset_seconds + self.footage.features.end)


def ask(reader: Reader, question: str, footage: Iterable[Footage], *, choices: Sequence[str] = ()) -> Asked:
    """The answer of the first footage whose model says that it shows what is asked; of the likeliest to do so, where none does.

    A reader that cannot tell answers from the first.

    Raises:
        QueryError: there is no footage; or no choices, and the reader has no words of its own. InputError: choices that leave no choice.
    """
    read: list[int] = []
    best: tuple[float, Answer, Footage] | None = None
    for one in footage:
        answer = reader.answer(question, one.features, options=choices)
        if one.video_id is not None:
            read.append(one.video_id)
        shown = 1.0 if answer.answerable is None else answer.answerable
        if best is None or shown > best[0]:
            best = (shown, answer, one)
        if shown >= ANSWERABLE:
            break
    if best is None:
        raise nothing_to_ask(question)
    _, answer, one = best
    whole = weighed(reader, question, answer, one.features, options=choices)
    return Asked(
        question=question,
        answer=one.answered(whole),
        footage=one,
        is_shown=None if answer.answerable is None else answer.answerable >= ANSWERABLE,
        videos_read=tuple(read),
        warnings=one.notes,
    )


def ask_larger(answerer: Answerer, reader: Reader, question: str, footage: Iterable[Footage], *, choices: Sequence[str] = ()) -> Asked:
    """The answer of a larger model that is shown the frames of the moment which ``reader`` finds for the question in the first footage.

    Its ``prior`` is what it says without any frame; ``faithfulness``, of choices alone, what is lost when it sees the rest of the video.

    Raises:
        QueryError: there is no footage. VideoError: the file of it has gone or cannot be decoded. InputError, BackendUnavailable: as the
            answerer.
    """
    one = next(iter(footage), None)
    if one is None:
        raise nothing_to_ask(question)
    texts = [f"{question} {choice}" for choice in choices] or [question]
    found = [moment for grounded in reader.ground(texts, one.features) for moment in grounded.moments[:1]]
    whole_of_it = Moment(Span(float(one.features.times[0]), one.features.end), 0.0)
    best = max(found, key=lambda moment: moment.score, default=whole_of_it)
    shown = one.moment(best)
    with SupervisedDecoder() as decoder:
        seen = frames_at(one.path, _within(shown.span), decoder, longest_side=LONGEST_SIDE)
        answer = answerer.answer(question, np.stack([p.pixels for p in seen]), [p.seconds for p in seen], options=choices)
        faithfulness = None
        left = without([best.span], one.features)
        if choices and left is not None:
            rest = frames_at(one.path, _some(left.times + one.offset_seconds), decoder, longest_side=LONGEST_SIDE)
            blind = answerer.answer(question, np.stack([p.pixels for p in rest]), [p.seconds for p in rest], options=choices)
            faithfulness = answer.probability - dict(blind.options)[answer.text]
    whole = replace(answer, evidence=(shown,), faithfulness=faithfulness)
    read = () if one.video_id is None else (one.video_id,)
    return Asked(question=question, answer=whole, footage=one, is_shown=None, videos_read=read, warnings=one.notes)


def statement_of(question: str) -> str | None:
    """What a question that is answered by yes or no asks about, as a statement; None for any other question."""
    found = _YES_NO.fullmatch(question.strip().rstrip("?").strip())
    return None if found is None else found["what"].strip()


def ask_presence(
    find: Callable[[str], SearchResult], question: str, footage: Footage | None, open_video: Callable[[int], Footage]
) -> Asked | None:
    """Yes or no, by how confident a search of ``footage`` (None: of all the library) is that it shows what is asked; None where the
    question is no such question, or no confidence is measured."""
    statement = statement_of(question)
    hits = () if statement is None else find(statement).hits
    if not hits or hits[0].confidence is None:
        return None
    best, sure = hits[0], hits[0].confidence
    shares = sorted((("yes", sure), ("no", 1 - sure)), key=lambda pair: -pair[1])
    evidence = (Moment(best.span, best.score, sure, best.false_alarm_rate),) if shares[0][0] == "yes" else ()
    read = open_video(best.video_id) if footage is None else footage
    answer = Answer(text=shares[0][0], probability=shares[0][1], options=tuple(shares), evidence=evidence)
    return Asked(question=question, answer=answer, footage=read, is_shown=None, videos_read=(best.video_id,), warnings=read.notes)


def _within(span: Span) -> list[float]:
    """Seconds evenly over a span, the middles of equal parts."""
    return [float(second) for second in span.start + span.seconds * (np.arange(FRAMES_SHOWN) + 0.5) / FRAMES_SHOWN]


def _some(times: NDArray[np.float64]) -> list[float]:
    """At most FRAMES_SHOWN of some times, evenly chosen."""
    places = np.unique(np.linspace(0, len(times) - 1, min(FRAMES_SHOWN, len(times))).round().astype(int))
    return [float(second) for second in times[places]]


def nothing_to_ask(question: str) -> QueryError:
    """The error where no video can be asked."""
    return QueryError(f"nothing in the library could be asked {question!r}: vlm add VIDEOS first")


def found_for(
    question: str, choices: Sequence[str], search: Callable[[str], SearchResult], open_video: Callable[[int], Footage]
) -> Iterable[Footage]:
    """The footage of the library's best videos for a question: of all its choices, where it has some, since an encoder knows statements
    better than questions. Of a long video the part around the hit."""
    texts = [f"{question} {choice}" for choice in choices] or [question]
    best: dict[int, Hit] = {}
    for text in texts:
        for hit in search(text).hits:
            if hit.video_id not in best or hit.score > best[hit.video_id].score:
                best[hit.video_id] = hit
    for hit in sorted(best.values(), key=lambda hit: (-hit.score, hit.video_id))[:VIDEOS_ASKED]:
        yield around(open_video(hit.video_id), hit.span)


def around(footage: Footage, span: Span) -> Footage:
    """The footage, or the MOST_SECONDS of it about the middle of ``span``."""
    if footage.duration_seconds <= MOST_SECONDS:
        return footage
    middle = (span.start + span.end) / 2
    start = min(max(0.0, middle - MOST_SECONDS / 2), footage.duration_seconds - MOST_SECONDS)
    return footage.within(Span(start, start + MOST_SECONDS))
