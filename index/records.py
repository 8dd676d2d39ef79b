"""What the library tells about itself: records, reports and progress events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, overload

from vlm.types import Hit

FileStatus = Literal["added", "updated", "resumed", "linked", "unchanged", "quarantined"]


@dataclass(frozen=True, slots=True)
class Location:
    """One path at which a video's content was seen; ``path`` decodes with ``os.fsdecode`` and opens as it is."""

    path: str
    num_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoRecord:
    """One video of the library: one content, wherever it lies.

    ``end_seconds`` is the end of the last decoded frame, ``duration_seconds`` the later of it and of what the container promises.
    ``coverage`` below 1 comes with a ``reason``.
    """

    video_id: int
    digest: str
    locations: tuple[Location, ...]
    container: str
    codec: str
    width: int
    height: int
    rotation_degrees: int
    frame_rate: float | None
    end_seconds: float
    duration_seconds: float
    num_rows: int
    num_segments: int
    coverage: float
    reason: str
    added_at: str

    @property
    def path(self) -> str:
        """The first known location; empty where none is left."""
        return self.locations[0].path if self.locations else ""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file that could not be added, with its reason; tried again when it changes or on request."""

    path: str
    error: str
    reason: str
    at: str


@dataclass(frozen=True, slots=True)
class FileDone:
    """One file is settled. ``video_id`` is None when it was quarantined."""

    path: str
    status: FileStatus
    video_id: int | None
    coverage: float = 1.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AddProgress:
    """How far one ``add`` is. Bytes weigh the files, rows are frames (or windows) encoded so far."""

    total_files: int
    done_files: int
    total_bytes: int
    done_bytes: float
    num_rows: int
    seconds_of_video: float
    elapsed_seconds: float

    @property
    def eta_seconds(self) -> float | None:
        """Seconds that are left at the speed so far; None while nothing is done."""
        if self.done_bytes <= 0:
            return None
        return self.elapsed_seconds * (self.total_bytes - self.done_bytes) / self.done_bytes


AddEvent = FileDone | AddProgress


@dataclass(frozen=True, slots=True)
class AddReport:
    """What one ``add`` did, file by file. ``interrupted`` means that it was stopped and that a second run goes on from there."""

    files: tuple[FileDone, ...]
    num_rows: int
    seconds_of_video: float
    elapsed_seconds: float
    ignored_files: int
    interrupted: bool = False
    warnings: tuple[str, ...] = ()

    def with_status(self, *statuses: FileStatus) -> tuple[FileDone, ...]:
        """The files that ended with one of ``statuses``."""
        return tuple(f for f in self.files if f.status in statuses)

    @property
    def partial(self) -> tuple[FileDone, ...]:
        """Files that are in the library although some of them could not be decoded."""
        return tuple(f for f in self.files if f.video_id is not None and f.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddEstimate:
    """What an ``add`` would cost. Speeds say where they come from; ``minutes`` is None where no speed is known.

    ``unreadable`` holds (path, reason) of files that would be quarantined.
    """

    num_files: int
    num_new: int
    unreadable: tuple[tuple[str, str], ...]
    hours_of_video: float
    num_rows: int
    minutes: float | None
    speed_source: str
    download_bytes: int
    library_bytes: int
    free_bytes: int

    @property
    def num_unreadable(self) -> int:
        """How many files would be quarantined, as far as their headers tell."""
        return len(self.unreadable)


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryStats:
    """Sizes of a library and what it was made with; ``model`` is the name of its trained model, None where it has none."""

    path: str
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


@dataclass(frozen=True, slots=True)
class FileChanges:
    """Files that differ from what the last ``add`` saw. ``complete`` is False when the time for looking ran out."""

    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    complete: bool = True

    def __bool__(self) -> bool:
        return bool(self.changed or self.missing)


@dataclass(frozen=True, slots=True)
class Looked:
    """What the second look at the best videos did: how many it read, how many of the hits it left as the first had them, and why."""

    num_videos: int
    num_skipped: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SearchResult(Sequence[Hit]):
    """Ranked hits, with the seconds that each stage took and what the user should know about them.

    ``looked`` says how many of the best videos were looked at again; None where none was.
    """

    query: str
    hits: tuple[Hit, ...]
    timings: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    looked: Looked | None = None

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]
