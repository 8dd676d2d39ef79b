"""What ``vlm add --json`` prints; see ``vlm.app.schemas``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from vlm.app.schemas import Named, Output, PlaceOutput, name_fields

if TYPE_CHECKING:
    from vlm.index.records import AddEstimate, AddReport, FileDone


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
