"""What ``vlm search --json`` prints; see ``vlm.app.schemas``."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from vlm.app.schemas import Named, Output, PlaceOutput, name_fields

if TYPE_CHECKING:
    from vlm.index.records import SearchResult
    from vlm.types import Hit, Thumbnail


class CurveOutput(Output):
    """How relevant the rows of a stretch of video are to a query."""

    times: list[float]
    values: list[float]
    end: float


class LookedOutput(Output):
    """What the second look at the best videos did."""

    num_videos: int
    num_skipped: int
    reason: str


class HitOutput(Named):
    """One hit of a search."""

    rank: int
    score: float
    presence: float | None
    confidence: float | None
    false_alarm_rate: float | None
    video_id: int
    segment_id: int
    start: float
    end: float
    duration: float
    coverage: float
    curve: CurveOutput | None
    thumbnail: str | None
    locations: list[PlaceOutput]

    @classmethod
    def of(cls, hit: Hit, thumbnail: Thumbnail | None) -> Self:
        """The output of a hit."""
        return cls(
            **name_fields(hit.path),
            rank=hit.rank,
            score=hit.score,
            presence=hit.presence,
            confidence=hit.confidence,
            false_alarm_rate=hit.false_alarm_rate,
            video_id=hit.video_id,
            segment_id=hit.segment_id,
            start=hit.span.start,
            end=hit.span.end,
            duration=hit.duration_seconds,
            coverage=hit.coverage,
            curve=None if hit.curve is None else CurveOutput(times=list(hit.curve.times), values=list(hit.curve.values), end=hit.curve.end),
            thumbnail=None if thumbnail is None else base64.b64encode(thumbnail.jpeg).decode("ascii"),
            locations=[PlaceOutput.of(path) for path in hit.locations],
        )


class SearchOutput(Output):
    """``vlm search --json``."""

    schema_name: Literal["vlm.search/1"] = Field(default="vlm.search/1", serialization_alias="schema")
    library: PlaceOutput
    query: str
    group_by: Literal["video", "segment"]
    min_confidence: float | None
    hits: list[HitOutput]
    looked: LookedOutput | None
    warnings: list[str]
    timings: dict[str, float]

    @classmethod
    def of(
        cls,
        result: SearchResult,
        *,
        library: str,
        group_by: Literal["video", "segment"],
        min_confidence: float | None,
        warnings: list[str],
        thumbnails: Sequence[Thumbnail | None] = (),
    ) -> Self:
        """The output of a search, with all that is to be warned of; ``thumbnails`` are of the hits in their order, or none."""
        pictures = thumbnails or [None] * len(result.hits)
        return cls(
            library=PlaceOutput.of(library),
            query=result.query,
            group_by=group_by,
            min_confidence=min_confidence,
            hits=[HitOutput.of(hit, picture) for hit, picture in zip(result.hits, pictures, strict=True)],
            looked=None if result.looked is None else LookedOutput(**asdict(result.looked)),
            warnings=warnings,
            timings=result.timings,
        )
