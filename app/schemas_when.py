"""What ``vlm when --json`` prints; see ``vlm.app.schemas``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from vlm.app.schemas import Named, Output, PlaceOutput, name_fields

if TYPE_CHECKING:
    from vlm.index.temporal import HeldInterval, When
    from vlm.temporal.meaning import Proof


class ProofOutput(Output):
    """A part of what made an interval hold."""

    sentence: str
    shows: bool
    start: float
    end: float
    peak: float
    peak_seconds: float
    mean: float

    @classmethod
    def of(cls, proof: Proof) -> Self:
        """The output of a part of a proof."""
        return cls(
            sentence=proof.sentence,
            shows=proof.shows,
            start=proof.span.start,
            end=proof.span.end,
            peak=proof.peak,
            peak_seconds=proof.peak_seconds,
            mean=proof.mean,
        )


class HeldIntervalOutput(Named):
    """An interval in which the query holds."""

    rank: int
    probability: float
    video_id: int | None
    start: float
    end: float
    duration: float
    proof: list[ProofOutput]

    @classmethod
    def of(cls, held: HeldInterval) -> Self:
        """The output of an interval."""
        return cls(
            **name_fields(held.path),
            rank=held.rank,
            probability=held.probability,
            video_id=held.video_id,
            start=held.span.start,
            end=held.span.end,
            duration=held.duration_seconds,
            proof=[ProofOutput.of(part) for part in held.proof],
        )


class WhenOutput(Output):
    """``vlm when --json``."""

    schema_name: Literal["vlm.when/1"] = Field(default="vlm.when/1", serialization_alias="schema")
    library: PlaceOutput | None
    query: str
    sentences: list[str]
    min_probability: float
    join_seconds: float
    num_found: int
    num_videos: int
    num_rows: int
    num_read: int
    intervals: list[HeldIntervalOutput]
    warnings: list[str]
    timings: dict[str, float]

    @classmethod
    def of(cls, told: When, *, library: str | None) -> Self:
        """The output of a query; ``library`` is None where a file was asked without one."""
        return cls(
            library=None if library is None else PlaceOutput.of(library),
            query=told.query,
            sentences=list(told.sentences),
            min_probability=told.min_probability,
            join_seconds=told.join_seconds,
            num_found=told.num_found,
            num_videos=told.num_videos,
            num_rows=told.num_rows,
            num_read=told.num_read,
            intervals=[HeldIntervalOutput.of(one) for one in told.intervals],
            warnings=list(told.warnings),
            timings=told.timings,
        )
