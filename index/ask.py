"""From a question to an answer with its evidence: in one video, in a stretch of it, or in the library's best videos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vlm.errors import QueryError
from vlm.index.footage import Footage
from vlm.index.records import SearchResult
from vlm.models.evidence import weighed
from vlm.models.reader import Reader
from vlm.types import Answer, Hit, Span

# So many of the library's videos are asked.
VIDEOS_ASKED = 5
# Of a longer video, so many seconds around the hit are read.
MOST_SECONDS = 600.0
# From this probability on that a video shows what is asked, its answer stands.
ANSWERABLE = 0.5


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
        raise QueryError(f"nothing in the library could be asked {question!r}: vlm add VIDEOS first")
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
