"""What ``vlm list``, ``show``, ``rm``, ``stats`` and ``check`` print with ``--json``; see ``vlm.app.schemas``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from vlm.app.schemas import Named, Output, PlaceOutput, name_fields

if TYPE_CHECKING:
    from vlm.index.records import LibraryStats, Location, Quarantined, VideoRecord


class LocationOutput(Named):
    """One place at which a video's content lies."""

    num_bytes: int

    @classmethod
    def of(cls, location: Location) -> Self:
        """The output of a record."""
        return cls(**name_fields(location.path), num_bytes=location.num_bytes)


class VideoOutput(Named):
    """One video of a library; ``path`` is its first location."""

    video_id: int
    digest: str
    container: str
    codec: str
    width: int
    height: int
    rotation_degrees: int
    frame_rate: float | None
    duration: float
    decoded_until: float
    coverage: float
    reason: str
    num_rows: int
    num_segments: int
    added_at: str
    locations: list[LocationOutput]

    @classmethod
    def of(cls, record: VideoRecord) -> Self:
        """The output of a record."""
        same = ("video_id", "digest", "container", "codec", "width", "height", "rotation_degrees", "frame_rate", "coverage", "reason")
        return cls(
            **name_fields(record.path),
            **{name: getattr(record, name) for name in same},
            duration=record.duration_seconds,
            decoded_until=record.end_seconds,
            num_rows=record.num_rows,
            num_segments=record.num_segments,
            added_at=record.added_at,
            locations=[LocationOutput.of(location) for location in record.locations],
        )


class ListOutput(Output):
    """``vlm list --json``."""

    schema_name: Literal["vlm.list/1"] = Field(default="vlm.list/1", serialization_alias="schema")
    library: PlaceOutput
    videos: list[VideoOutput]


class QuarantinedOutput(Named):
    """A file that could not be added."""

    error: str
    reason: str
    at: str

    @classmethod
    def of(cls, file: Quarantined) -> Self:
        """The output of a record."""
        return cls(**name_fields(file.path), error=file.error, reason=file.reason, at=file.at)


class QuarantineOutput(Output):
    """``vlm list --quarantined --json``."""

    schema_name: Literal["vlm.quarantine/1"] = Field(default="vlm.quarantine/1", serialization_alias="schema")
    library: PlaceOutput
    files: list[QuarantinedOutput]


class ShowOutput(Output):
    """``vlm show --json``."""

    schema_name: Literal["vlm.show/1"] = Field(default="vlm.show/1", serialization_alias="schema")
    library: PlaceOutput
    video: VideoOutput
    num_thumbnails: int


class RemovedOutput(Named):
    """A video that was removed; ``path`` was its first location."""

    video_id: int
    locations: list[LocationOutput]

    @classmethod
    def of(cls, record: VideoRecord) -> Self:
        """The output of a record."""
        return cls(
            **name_fields(record.path),
            video_id=record.video_id,
            locations=[LocationOutput.of(location) for location in record.locations],
        )


class RemoveOutput(Output):
    """``vlm rm --json``."""

    schema_name: Literal["vlm.rm/1"] = Field(default="vlm.rm/1", serialization_alias="schema")
    library: PlaceOutput
    removed: list[RemovedOutput]


class StatsOutput(Output):
    """``vlm stats --json``."""

    schema_name: Literal["vlm.stats/1"] = Field(default="vlm.stats/1", serialization_alias="schema")
    library: PlaceOutput
    library_id: str
    encoder: str | None
    fingerprint: str | None
    dim: int | None
    sampling: str | None
    model: str | None
    num_videos: int
    num_locations: int
    num_segments: int
    num_rows: int
    num_quarantined: int
    num_unfinished: int
    hours: float
    library_bytes: int
    index_bytes: int
    generation: int
    index: str

    @classmethod
    def of(cls, stats: LibraryStats) -> Self:
        """The output of a library's sizes."""
        same = [name for name in cls.model_fields if name not in ("schema_name", "library")]
        return cls(library=PlaceOutput.of(stats.path), **{name: getattr(stats, name) for name in same})


class CheckOutput(Output):
    """``vlm check --json``."""

    schema_name: Literal["vlm.check/1"] = Field(default="vlm.check/1", serialization_alias="schema")
    library: PlaceOutput
    done: list[Literal["rebuilt", "compacted"]]
    problems: list[str]
    changed_files: list[PlaceOutput]
    missing_files: list[PlaceOutput]
