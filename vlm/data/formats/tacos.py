"""TACoS: sentences with stretches of frames of cooking videos (Regneri et al. 2013), in the form of the two-dimensional proposal networks.

``{"VIDEO.avi": {"timestamps": [[first, last], ...], "sentences": [...], "fps", "num_frames"}}``. Later toolkits publish the same as JSON
lines in seconds, which qvhighlights.py reads.

Traps: ``timestamps`` are FRAME numbers; the id ends in ``.avi`` here and not in the JSON lines; one stretch has many sentences, in three
grades of detail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from vlm.data.formats.fields import Fields
from vlm.data.formats.files import PathLike, read_object, write_json
from vlm.data.formats.records import Annotations, Caption, Extra, Fault, Window, checked
from vlm.errors import InputError


@dataclass(frozen=True, slots=True)
class FrameCaption:
    """A sentence and the first and last frame that it describes."""

    first_frame: int
    last_frame: int
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CookingVideo:
    """A video with the sentences that describe its stretches of frames."""

    video_id: str
    frame_rate: float
    num_frames: int
    frame_captions: tuple[FrameCaption, ...]
    extra: Extra = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.frame_rate <= 0:
            raise InputError(f"frame_rate must be above 0, got {self.frame_rate!r}")

    @property
    def name(self) -> str:
        """The id of the video."""
        return self.video_id

    @property
    def duration_seconds(self) -> float:
        """Frames over frame rate."""
        return self.num_frames / self.frame_rate

    @property
    def captions(self) -> tuple[Caption, ...]:
        """The sentences with windows in seconds: frame numbers over frame rate, as the evaluations of TACoS have it."""
        rate = self.frame_rate
        return tuple(Caption(Window(row.first_frame / rate, row.last_frame / rate), row.sentence) for row in self.frame_captions)

    def faults(self) -> Iterator[Fault]:
        """Stretches that do not lie in the video, sentences that say nothing."""
        for number, row in enumerate(self.frame_captions):
            if not 0 <= row.first_frame < row.last_frame <= self.num_frames:
                value = f"[{row.first_frame}, {row.last_frame}]"
                yield Fault(f"timestamps[{number}]", value, f"ascends within the {self.num_frames} frames")
            if not row.sentence.strip():
                yield Fault(f"sentences[{number}]", repr(row.sentence), "says something")


def read_videos(path: PathLike) -> Annotations[CookingVideo]:
    """The videos of a file."""
    return checked(_video(video_id, fields) for video_id, fields in read_object(path).members())


def write_videos(path: PathLike, videos: Iterable[CookingVideo]) -> None:
    """Writes videos."""
    write_json(path, {video.video_id: _video_json(video) for video in videos})


def _video(video_id: str, fields: Fields) -> CookingVideo:
    stretches, sentences = fields.pairs("timestamps"), fields.texts("sentences")
    if len(stretches) != len(sentences):
        fields.refuse("sentences", f"{len(sentences)} sentences", f"as long as timestamps, {len(stretches)}")
    return CookingVideo(
        video_id=video_id,
        frame_rate=fields.positive("fps"),
        num_frames=fields.integer("num_frames"),
        frame_captions=tuple(FrameCaption(*stretch, sentence) for stretch, sentence in zip(stretches, sentences, strict=True)),
        extra=fields.rest(),
    )


def _video_json(video: CookingVideo) -> dict[str, object]:
    return {
        "timestamps": [(row.first_frame, row.last_frame) for row in video.frame_captions],
        "sentences": [row.sentence for row in video.frame_captions],
        "fps": video.frame_rate,
        "num_frames": video.num_frames,
        **video.extra,
    }
