"""What ``vlm export --json`` prints; see ``vlm.app.schemas``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from vlm.app.schemas import Named, Output, PlaceOutput, name_fields
from vlm.timecode import timecode

if TYPE_CHECKING:
    from vlm.data.formats.found import FoundMoment
    from vlm.data.formats.framed import FrameRange


class FrameRangeOutput(Output):
    """Which frames of its file a moment has."""

    first_frame: int
    last_frame: int
    start_pts: int
    end_pts: int
    time_base: str
    zero: str
    rate: str
    is_variable: bool
    drop_frame: bool
    timecode_in: str
    timecode_out: str

    @classmethod
    def of(cls, frames: FrameRange) -> Self:
        """The output of a range of frames."""
        begin, end = (timecode(label, frames.rate, drop_frame=frames.drop_frame) for label in frames.labels)
        return cls(
            first_frame=frames.first,
            last_frame=frames.last,
            start_pts=frames.start_pts,
            end_pts=frames.end_pts,
            time_base=str(frames.clock.time_base),
            zero=str(frames.clock.zero),
            rate=str(frames.rate),
            is_variable=frames.is_variable,
            drop_frame=frames.drop_frame,
            timecode_in=begin,
            timecode_out=end,
        )


class ExportedOutput(Named):
    """One moment that was exported."""

    query: str
    video_id: int | None
    rank: int
    score: float
    confidence: float | None
    start: float
    end: float
    frames: FrameRangeOutput | None

    @classmethod
    def of(cls, found: FoundMoment, frames: FrameRange | None) -> Self:
        """The output of a moment."""
        return cls(
            **name_fields(found.video),
            query=found.query,
            video_id=found.video_id,
            rank=found.rank,
            score=found.score,
            confidence=found.confidence,
            start=found.span.start,
            end=found.span.end,
            frames=None if frames is None else FrameRangeOutput.of(frames),
        )


class ExportOutput(Output):
    """``vlm export --json``."""

    schema_name: Literal["vlm.export/1"] = Field(default="vlm.export/1", serialization_alias="schema")
    library: PlaceOutput
    result: Literal["last", "query"]
    format: Literal["edl", "otio", "chapters", "qvhighlights", "fiftyone"] | None
    output: PlaceOutput | None
    clips: PlaceOutput | None
    moments: list[ExportedOutput]
    warnings: list[str]
