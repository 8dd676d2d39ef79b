"""MSVD: about forty sentences a short clip (Chen and Dolan 2011), in a JSON list of ``{"caption": [...], "id"}``. lists.py reads the
splits.

Traps: the id is ``YOUTUBE_START_END`` in whole seconds, and a YouTube id can hold underscores: only the last two parts are times; the
captions' file has ``.avi`` behind the id and the lists have not; retrieval counts every sentence of a clip as right, which makes
text-to-video and video-to-text different tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from vlm.data.formats.fields import Fields, whole_of
from vlm.data.formats.files import PathLike, read_objects, write_json
from vlm.data.formats.records import Annotations, Extra, Fault, Window, checked


@dataclass(frozen=True, slots=True)
class ClipCaptions:
    """A clip with its sentences."""

    video_id: str
    sentences: tuple[str, ...]
    extra: Extra = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The id of the clip."""
        return self.video_id

    @property
    def source(self) -> tuple[str, Window] | None:
        """The YouTube id and the window of the clip in that video; None where the id is not of that form."""
        parts = self.video_id.removesuffix(".avi").rsplit("_", 2)
        times = [time for time in map(whole_of, parts[1:]) if time is not None]
        return (parts[0], Window(times[0], times[1])) if len(times) == 2 else None

    def faults(self) -> Iterator[Fault]:
        """A clip without sentences, or with one that says nothing."""
        if not self.sentences:
            yield Fault("caption", "[]", "has at least one sentence")
        for number, sentence in enumerate(self.sentences):
            if not sentence.strip():
                yield Fault(f"caption[{number}]", repr(sentence), "says something")


def read_clips(path: PathLike) -> Annotations[ClipCaptions]:
    """The clips of a file."""
    return checked((_clip(fields) for fields in read_objects(path)), unique="id")


def write_clips(path: PathLike, clips: Iterable[ClipCaptions]) -> None:
    """Writes clips, indented by four as the published file is, with its space behind each comma."""
    write_json(path, [{"caption": clip.sentences, "id": clip.video_id, **clip.extra} for clip in clips], indent=4, comma=", ")


def _clip(fields: Fields) -> ClipCaptions:
    return ClipCaptions(fields.text("id"), fields.texts("caption"), fields.rest())
