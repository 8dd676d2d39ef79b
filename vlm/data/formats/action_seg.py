"""Action segmentation as MS-TCN reads it (Farha and Gall 2019): a label for each frame, a table of labels, lists of videos.

``groundTruth/VIDEO.txt`` has a label a line and a line a frame; ``mapping.txt`` a number and a label a line; ``splits/*.bundle`` a file of
``groundTruth`` a line, under ``#bundle``. 50Salads' own files have ``START END LABEL`` a line, in microseconds, with Windows line ends; its
conversions have a label and a coarser label a line.

Traps: no frame rate stands in the files (GTEA and Breakfast 15, 50Salads 30 frames/s; features may be subsampled); labels may hold commas
and numbers, but no spaces at their ends; background is a label like others (``SIL``, ``background``, ``action_start``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from vlm.data.formats.fields import whole_of
from vlm.data.formats.files import PathLike, read_lines, write_lines, write_text
from vlm.data.formats.records import Annotations, Fault, Window, checked
from vlm.errors import InputError
from vlm.types import Span

_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class FrameLabels:
    """A label for each frame of a video."""

    video_id: str
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.labels:
            raise InputError(f"frame labels of {self.video_id!r} must hold at least one frame")

    @property
    def name(self) -> str:
        """The id of the video."""
        return self.video_id

    def faults(self) -> Iterator[Fault]:
        """None: any labels can be right."""
        return iter(())


@dataclass(frozen=True, slots=True)
class LabelledSpan:
    """A stretch of frames that share a label, in seconds."""

    span: Span
    label: str


@dataclass(frozen=True, slots=True)
class Activity:
    """A line of 50Salads' own files: microseconds and a label."""

    start_microseconds: int
    end_microseconds: int
    label: str

    @property
    def window(self) -> Window:
        """The times in seconds."""
        return Window(self.start_microseconds / _MICRO, self.end_microseconds / _MICRO)

    @property
    def name(self) -> str:
        """The label; a file has many rows of it."""
        return self.label

    def faults(self) -> Iterator[Fault]:
        """A window that is no span."""
        yield from self.window.faults("window")


def spans_of(labels: FrameLabels, frame_rate: float) -> tuple[LabelledSpan, ...]:
    """The runs of equal labels; frame i is ``[i, i + 1) / frame_rate`` seconds."""
    found = []
    first = 0
    for label, run in groupby(labels.labels):
        last = first + sum(1 for _ in run)
        found.append(LabelledSpan(Span(first / frame_rate, last / frame_rate), label))
        first = last
    return tuple(found)


def labels_at(spans: Iterable[LabelledSpan], num_frames: int, frame_rate: float, *, background: str) -> tuple[str, ...]:
    """The label of each frame: of the first span that holds its middle, ``background`` where none does."""
    kept = tuple(spans)
    middles = ((number + 0.5) / frame_rate for number in range(num_frames))
    return tuple(next((row.label for row in kept if row.span.start <= middle < row.span.end), background) for middle in middles)


def read_frames(path: PathLike) -> FrameLabels:
    """The labels of one video, named as its file without ``.txt``; raises ``InputError`` for a file without lines."""
    labels = tuple(text for _, text in read_lines(path))
    if not labels:
        raise InputError(f"{path}: must hold a label a line, got none")
    return FrameLabels(Path(path).stem, labels)


def read_folder(folder: PathLike) -> Annotations[FrameLabels]:
    """The labels of all ``*.txt`` of a folder, by name."""
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: must be a folder of frame labels, such as groundTruth")
    return checked(read_frames(path) for path in sorted(Path(folder).glob("*.txt")))


def write_frames(path: PathLike, labels: FrameLabels) -> None:
    """Writes the labels of one video."""
    write_lines(path, labels.labels)


def read_mapping(path: PathLike) -> tuple[str, ...]:
    """The labels of a ``mapping.txt`` by their numbers, which must be 0 to n - 1 in order."""
    labels: list[str] = []
    for place, line in read_lines(path):
        number, _, label = line.partition(" ")
        if whole_of(number) != len(labels) or not label:
            raise InputError(f"{place}: must be '{len(labels)} LABEL', the numbers ascending from 0, got {line!r}")
        if label in labels:
            raise InputError(f"{place}: a label must stand once, got {label!r} as {labels.index(label)} and {len(labels)}")
        labels.append(label)
    return tuple(labels)


def write_mapping(path: PathLike, labels: Iterable[str]) -> None:
    """Writes a ``mapping.txt``."""
    write_lines(path, (f"{number} {label}" for number, label in enumerate(labels)))


def read_bundle(path: PathLike) -> tuple[str, ...]:
    """The files that a ``.bundle`` lists, as they stand in it."""
    return tuple(text for _, text in read_lines(path) if not text.startswith("#"))


def write_bundle(path: PathLike, names: Iterable[str]) -> None:
    """Writes a ``.bundle`` of files."""
    write_lines(path, ["#bundle", *names])


def read_conversion(path: PathLike) -> dict[str, str]:
    """The coarser label of each label."""
    coarser: dict[str, str] = {}
    for place, line in read_lines(path):
        parts = line.split(" ")
        if len(parts) != 2 or not all(parts):
            raise InputError(f"{place}: must be 'LABEL COARSER_LABEL', got {line!r}")
        if parts[0] in coarser:
            raise InputError(f"{place}: a label must stand once, got {parts[0]!r} again")
        coarser[parts[0]] = parts[1]
    return coarser


def write_conversion(path: PathLike, coarser: dict[str, str]) -> None:
    """Writes a conversion of labels."""
    write_lines(path, (f"{label} {other}" for label, other in coarser.items()))


def read_activities(path: PathLike) -> Annotations[Activity]:
    """The rows of one of 50Salads' own files."""
    return checked(_activity(line, place) for place, line in read_lines(path))


def write_activities(path: PathLike, activities: Iterable[Activity]) -> None:
    """Writes rows as 50Salads does, with Windows line ends."""
    write_text(path, "".join(f"{row.start_microseconds} {row.end_microseconds} {row.label}\r\n" for row in activities))


def _activity(line: str, place: str) -> Activity:
    parts = line.split(" ", 2)
    start, end = (whole_of(text) for text in [*parts, "", ""][:2])
    if len(parts) != 3 or start is None or end is None:
        raise InputError(f"{place}: must be 'START END LABEL' with whole microseconds, got {line!r}")
    return Activity(start, end, parts[2])
