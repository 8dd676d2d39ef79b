"""What ``vlm duplicates --json`` prints; see ``vlm.app.schemas``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from vlm.app.schemas import Named, Output, PlaceOutput, name_fields

if TYPE_CHECKING:
    from vlm.index.duplicates import SharedStretch, Stretch


class StretchOutput(Named):
    """A stretch of a video of the library; ``path`` is its first location."""

    video_id: int
    start: float
    end: float

    @classmethod
    def of(cls, stretch: Stretch) -> Self:
        """The output of a stretch."""
        return cls(**name_fields(stretch.path), video_id=stretch.video_id, start=stretch.span.start, end=stretch.span.end)


class SharedStretchOutput(Output):
    """Two stretches that show the same; also a line of ``--format jsonl``."""

    similarity: float
    information: float
    one: StretchOutput
    other: StretchOutput

    @classmethod
    def of(cls, shared: SharedStretch) -> Self:
        """The output of what two videos share."""
        return cls(
            similarity=shared.similarity,
            information=shared.information,
            one=StretchOutput.of(shared.one),
            other=StretchOutput.of(shared.other),
        )


class DuplicatesOutput(Output):
    """``vlm duplicates --json``."""

    schema_name: Literal["vlm.duplicates/1"] = Field(default="vlm.duplicates/1", serialization_alias="schema")
    library: PlaceOutput
    video_id: int | None
    min_seconds: float
    repeats: bool
    duplicates: list[SharedStretchOutput]
