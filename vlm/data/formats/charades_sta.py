"""Charades-STA: a sentence and its window, a line each (Gao, Sun, Yang and Nevatia 2017): ``VIDEO START END##SENTENCE``.

Traps: the durations are in another file, and one window in seven ends past them (give ``durations`` to have that named); the line is cut
at its first ``##`` and its two last spaces, since an id may hold spaces and a sentence ``##``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from vlm.data.formats.fields import number_of
from vlm.data.formats.files import PathLike, read_lines, write_lines
from vlm.data.formats.records import Annotations, Fault, Window, checked
from vlm.errors import InputError


@dataclass(frozen=True, slots=True)
class Moment:
    """A sentence and the window of a video that it describes."""

    video_id: str
    window: Window
    sentence: str

    def __post_init__(self) -> None:
        if "##" in self.video_id or not self.video_id.strip():
            raise InputError(f"a video id must hold something and no '##', got {self.video_id!r}")

    @property
    def name(self) -> str:
        """The id of the video; it has many rows."""
        return self.video_id

    def faults(self) -> Iterator[Fault]:
        """A window that is no span."""
        yield from self.window.faults("window")


def read_moments(path: PathLike, *, durations: Mapping[str, float] | None = None) -> Annotations[Moment]:
    """The moments of a file. With ``durations`` (seconds by video id) a window past the end of its video is a defect too."""

    def late(moment: Moment) -> Iterator[Fault]:
        duration = (durations or {}).get(moment.video_id)
        window = moment.window
        return (fault for fault in window.faults("window", duration) if fault not in set(window.faults("window")))

    return checked((_moment(line, place) for place, line in read_lines(path)), also=late)


def write_moments(path: PathLike, moments: Iterable[Moment]) -> None:
    """Writes moments; raises ``InputError`` for a sentence of more than one line."""
    write_lines(path, (f"{row.video_id} {row.window.start!r} {row.window.end!r}##{row.sentence}" for row in moments))


def _moment(line: str, place: str) -> Moment:
    head, mark, sentence = line.partition("##")
    parts = head.rsplit(" ", 2)
    if not mark or len(parts) != 3 or not parts[0].strip():
        raise InputError(f"{place}: must be 'VIDEO START END##SENTENCE', got {line[:120]!r}")
    times = [number_of(text) for text in parts[1:]]
    for field, text, time in zip(("start", "end"), parts[1:], times, strict=True):
        if time is None:
            raise InputError(f"{place}: field {field!r} must be a finite number of seconds, got {text!r}")
    start, end = (time for time in times if time is not None)
    return Moment(parts[0], Window(start, end), sentence)
