"""Everything that ``--json`` prints, as pydantic models. docs/json.md explains every field; a test compares the two.

``schema`` names the document and its version. A version gains fields; one that goes away or changes its meaning makes a new version.
Seconds count from the start of the video as a player shows it.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

if TYPE_CHECKING:
    from vlm.encoders.presets import Preset
    from vlm.index.records import AddEstimate, AddReport, FileDone, LibraryStats, Location, Quarantined, SearchResult, VideoRecord
    from vlm.types import Hit, Thumbnail


class Output(BaseModel):
    """Base of all that is printed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PathFields(TypedDict):
    """The fields of ``Named``."""

    path: str
    path_base64: str | None


def name_fields(path: str) -> PathFields:
    """``path`` and ``path_base64`` of a file name as ``os.fsdecode`` gives it.

    The text of a name that is not UTF-8 has its strange bytes as ``\\xe9``, and the exact bytes stand beside it in base64.
    """
    raw = os.fsencode(path)
    try:
        return {"path": raw.decode("utf-8"), "path_base64": None}
    except UnicodeDecodeError:
        return {"path": raw.decode("utf-8", "backslashreplace"), "path_base64": base64.b64encode(raw).decode("ascii")}


class Named(Output):
    """Something that lies at a path."""

    path: str
    path_base64: str | None = None

    @model_serializer(mode="wrap")
    def _without_needless_bytes(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        if self.path_base64 is None:
            del fields["path_base64"]
        return fields


class LocationOutput(Named):
    """One place at which a video's content lies."""

    num_bytes: int

    @classmethod
    def of(cls, location: Location) -> Self:
        """The output of a record."""
        return cls(**name_fields(location.path), num_bytes=location.num_bytes)


class PlaceOutput(Named):
    """A path and nothing more."""

    @classmethod
    def of(cls, path: str) -> Self:
        """The output of a path."""
        return cls(**name_fields(path))


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


class AddFileOutput(Named):
    """``vlm add --json``: one line as soon as a file is settled."""

    schema_name: Literal["vlm.add.file/1"] = Field(default="vlm.add.file/1", serialization_alias="schema")
    status: Literal["added", "updated", "resumed", "linked", "unchanged", "quarantined"]
    video_id: int | None
    coverage: float
    reason: str

    @classmethod
    def of(cls, file: FileDone) -> Self:
        """The output of an event."""
        return cls(**name_fields(file.path), status=file.status, video_id=file.video_id, coverage=file.coverage, reason=file.reason)


class AddReportOutput(Output):
    """``vlm add --json``: the last line."""

    schema_name: Literal["vlm.add.report/1"] = Field(default="vlm.add.report/1", serialization_alias="schema")
    library: PlaceOutput
    num_files: int
    num_partial: int
    statuses: dict[str, int]
    num_rows: int
    seconds_of_video: float
    elapsed_seconds: float
    ignored_files: int
    interrupted: bool
    warnings: list[str]

    @classmethod
    def of(cls, report: AddReport, *, library: str) -> Self:
        """The output of a report, without its files: each had its own line."""
        found = [file.status for file in report.files]
        return cls(
            library=PlaceOutput.of(library),
            num_files=len(found),
            num_partial=len(report.partial),
            statuses={status: found.count(status) for status in dict.fromkeys(found)},
            num_rows=report.num_rows,
            seconds_of_video=report.seconds_of_video,
            elapsed_seconds=report.elapsed_seconds,
            ignored_files=report.ignored_files,
            interrupted=report.interrupted,
            warnings=list(report.warnings),
        )


class UnreadableOutput(Named):
    """A file that would go into quarantine."""

    reason: str


class AddEstimateOutput(Output):
    """``vlm add --dry-run --json``."""

    schema_name: Literal["vlm.add.estimate/1"] = Field(default="vlm.add.estimate/1", serialization_alias="schema")
    library: PlaceOutput
    num_files: int
    num_new: int
    num_unreadable: int
    unreadable: list[UnreadableOutput]
    hours_of_video: float
    num_rows: int
    minutes: float | None
    speed_source: str
    download_bytes: int
    library_bytes: int
    free_bytes: int

    @classmethod
    def of(cls, estimate: AddEstimate, *, library: str) -> Self:
        """The output of an estimate."""
        same = [name for name in cls.model_fields if name not in ("schema_name", "library", "unreadable")]
        return cls(
            library=PlaceOutput.of(library),
            unreadable=[UnreadableOutput(**name_fields(path), reason=reason) for path, reason in estimate.unreadable],
            **{name: getattr(estimate, name) for name in same},
        )


class CheckOutput(Output):
    """``vlm check --json``."""

    schema_name: Literal["vlm.check/1"] = Field(default="vlm.check/1", serialization_alias="schema")
    library: PlaceOutput
    done: list[Literal["rebuilt", "compacted"]]
    problems: list[str]
    changed_files: list[PlaceOutput]
    missing_files: list[PlaceOutput]


class MeasuredOutput(Output):
    """A speed that was measured."""

    frames_per_second: float
    precision: str
    machine: str


class PresetOutput(Output):
    """A model that has a preset."""

    spec: str
    is_default: bool
    cached: bool
    good_for: str
    dim: int
    parameters: int
    download_bytes: int
    licence: str
    languages: list[str]
    repository: str
    measured: list[MeasuredOutput]

    @classmethod
    def of(cls, preset: Preset, *, is_default: bool, cached: bool) -> Self:
        """The output of a preset."""
        same = ("spec", "good_for", "dim", "parameters", "download_bytes", "licence", "repository")
        return cls(
            **{name: getattr(preset, name) for name in same},
            is_default=is_default,
            cached=cached,
            languages=list(preset.languages),
            measured=[
                MeasuredOutput(frames_per_second=speed.frames_per_second, precision=speed.precision, machine=speed.machine)
                for speed in preset.measured
            ],
        )


class PluginOutput(Output):
    """An encoder that an installed package offers."""

    name: str
    target: str


class ModelsOutput(Output):
    """``vlm models --json``."""

    schema_name: Literal["vlm.models/1"] = Field(default="vlm.models/1", serialization_alias="schema")
    cache: PlaceOutput
    presets: list[PresetOutput]
    plugins: list[PluginOutput]


class FindingOutput(Output):
    """One line of ``vlm doctor``."""

    area: str
    name: str
    status: Literal["ok", "warn", "fail"]
    finding: str
    reason: str


class DoctorOutput(Output):
    """``vlm doctor --json``."""

    schema_name: Literal["vlm.doctor/1"] = Field(default="vlm.doctor/1", serialization_alias="schema")
    status: Literal["ok", "warn", "fail"]
    findings: list[FindingOutput]
