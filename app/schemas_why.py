"""What ``vlm why --json`` prints; see ``vlm.app.schemas``."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from vlm.app.schemas import Named, Output, PlaceOutput, name_fields
from vlm.app.schemas_ask import FootageOutput
from vlm.app.schemas_search import CurveOutput, HitOutput

if TYPE_CHECKING:
    from vlm.index.why import Peak, Rejected, Why, WordDrop
    from vlm.types import Thumbnail


class WordDropOutput(Output):
    """What the query loses without one of its words."""

    word: str
    place: int
    drop: float
    at: float
    most: float
    curve: list[float]

    @classmethod
    def of(cls, word: WordDrop) -> Self:
        """The output of a word."""
        return cls(word=word.word, place=word.place, drop=word.drop, at=word.at, most=word.most, curve=list(word.curve))


class PeakOutput(Output):
    """A row where the query is nearest."""

    at: float
    value: float
    thumbnail: str | None

    @classmethod
    def of(cls, peak: Peak, thumbnail: Thumbnail | None) -> Self:
        """The output of a peak."""
        picture = None if thumbnail is None else base64.b64encode(thumbnail.jpeg).decode("ascii")
        return cls(at=peak.seconds, value=peak.value, thumbnail=picture)


class RejectedOutput(Named):
    """A candidate that is no hit."""

    video_id: int
    segment_id: int
    start: float
    end: float
    score: float
    first_rank: int | None
    stage: Literal["filter", "suppression", "min-confidence", "first-stage", "second-look", "top-k"]
    value: float | None
    limit: float | None
    reason: str

    @classmethod
    def of(cls, rejected: Rejected) -> Self:
        """The output of a rejected candidate."""
        return cls(
            **name_fields(rejected.path),
            video_id=rejected.video_id,
            segment_id=rejected.segment_id,
            start=rejected.span.start,
            end=rejected.span.end,
            score=rejected.score,
            first_rank=rejected.first_rank,
            stage=rejected.stage,
            value=rejected.value,
            limit=rejected.limit,
            reason=rejected.reason,
        )


class WhyOutput(Output):
    """``vlm why --json``."""

    schema_name: Literal["vlm.why/1"] = Field(default="vlm.why/1", serialization_alias="schema")
    library: PlaceOutput
    query: str
    hit: HitOutput | None
    video: FootageOutput | None
    start: float | None
    end: float | None
    curve: CurveOutput | None
    words: list[WordDropOutput]
    peaks: list[PeakOutput]
    rejected: RejectedOutput | None
    warnings: list[str]

    @classmethod
    def of(cls, told: Why, *, library: str, thumbnails: Sequence[Thumbnail | None]) -> Self:
        """The output of an explanation; ``thumbnails`` are of the peaks in their order, or none."""
        curve = told.curve
        pictures = thumbnails or [None] * len(told.peaks)
        return cls(
            library=PlaceOutput.of(library),
            query=told.query,
            hit=None if told.hit is None else HitOutput.of(told.hit, None),
            video=None if told.footage is None else FootageOutput.of(told.footage),
            start=None if told.span is None else told.span.start,
            end=None if told.span is None else told.span.end,
            curve=None if curve is None else CurveOutput(times=list(curve.times), values=list(curve.values), end=curve.end),
            words=[WordDropOutput.of(word) for word in told.words],
            peaks=[PeakOutput.of(peak, picture) for peak, picture in zip(told.peaks, pictures, strict=True)],
            rejected=None if told.rejected is None else RejectedOutput.of(told.rejected),
            warnings=list(told.warnings),
        )
