"""Results of a search or a grounding, as one record that every result format writes and reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vlm.data.formats.fields import Fields
from vlm.data.formats.qvhighlights import Submission
from vlm.data.formats.records import ScoredWindow, Window, is_finite
from vlm.errors import InputError
from vlm.types import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMoment:
    """A stretch of a video that answers a query.

    Attributes:
        video: the path; bytes that are not UTF-8 as ``os.fsdecode`` carries them.
        score: orders the moments of one query; higher is surer.
        rank: place among the moments of its query, from 1.
        confidence: a probability, None where nothing was calibrated to tell.
    """

    query: str
    video: str
    span: Span
    score: float
    rank: int
    video_id: int | None
    confidence: float | None = None

    def __post_init__(self) -> None:
        if not is_finite(self.score):
            raise InputError(f"score must be finite, got {self.score!r}")
        if self.rank < 1:
            raise InputError(f"rank must be at least 1, got {self.rank}")
        if self.confidence is not None and not 0.0 <= self.confidence <= 1.0:
            raise InputError(f"confidence must be within 0..1, got {self.confidence!r}")

    @property
    def source(self) -> int | str:
        """What tells its video from others: the id, or the path where there is none. Files that have gone share an empty path."""
        return self.video if self.video_id is None else self.video_id

    @property
    def video_name(self) -> str:
        """The path of its video, or ``video-ID`` where the file has gone."""
        return self.video if self.video or self.video_id is None else f"video-{self.video_id}"


def moment_of(fields: Fields, *, absent: object) -> FoundMoment:
    """The moment of a row with a field for each attribute; ``absent`` is what the format writes where a moment has no such figure."""
    return FoundMoment(
        query=fields.text("query"),
        video=fields.text("video"),
        span=Span(fields.number("start"), fields.number("end")),
        score=fields.number("score"),
        rank=fields.integer("rank"),
        video_id=None if fields.take("video_id") == absent else fields.integer("video_id"),
        confidence=None if fields.take("confidence") == absent else fields.number("confidence"),
    )


def found_row(moment: FoundMoment) -> dict[str, object]:
    """The fields that ``moment_of`` reads, None for what a moment has not."""
    return {
        "query": moment.query,
        "video": moment.video,
        "start": moment.span.start,
        "end": moment.span.end,
        "score": moment.score,
        "rank": moment.rank,
        "video_id": moment.video_id,
        "confidence": moment.confidence,
    }


def submissions_of(found: Iterable[FoundMoment]) -> tuple[Submission, ...]:
    """A submission for each pair of query and video, in the order of their first moments; ``qid`` counts them from 0."""
    together: dict[tuple[str, int | str], list[FoundMoment]] = {}
    for moment in found:
        together.setdefault((moment.query, moment.source), []).append(moment)
    return tuple(
        Submission(
            query_id=number,
            query=query,
            video_id=moments[0].video_name,
            windows=tuple(ScoredWindow(Window(moment.span.start, moment.span.end), moment.score) for moment in moments),
        )
        for number, ((query, _), moments) in enumerate(together.items())
    )


def only_video_of(found: Sequence[FoundMoment]) -> str:
    """The video that all moments lie in; raises ``InputError`` where they lie in several, or there are none."""
    videos = list({moment.source: moment.video_name for moment in found}.values())
    if len(videos) != 1:
        raise InputError(
            f"subtitles and chapters belong to one video, got moments of {len(videos)} {videos[:3]}: write one file for each, with -o DIR"
        )
    return videos[0]
