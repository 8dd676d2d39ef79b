"""NExT-GQA: the windows that prove the answers to NExT-QA's questions (Xiao, Yao, Li and Chua 2024). The questions are read by nextqa.py.

``gsub_*.json``: ``{VIDEO: {"duration": s, "location": {QUESTION: [[start, end], ...]}, "fps"}}``. ``frame2time_*.json`` and
``upbd_*.json``: the times of the frames that baselines sample, ``{VIDEO: [s, ...]}``.

Traps: durations are whole seconds, so that a true end can lie past them; a question may have several windows, which are all evidence;
only some questions of a video have windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from vlm.data.formats.fields import Fields
from vlm.data.formats.files import PathLike, read_object, write_json
from vlm.data.formats.records import Annotations, Extra, Fault, Window, checked, need_duration, windows_faults


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoEvidence:
    """The windows of one video that prove answers, by the question's id."""

    video_id: str
    duration_seconds: float
    frame_rate: float
    windows: Mapping[str, tuple[Window, ...]]
    extra: Extra = field(default_factory=dict)

    def __post_init__(self) -> None:
        need_duration(self.duration_seconds)

    @property
    def name(self) -> str:
        """The id of the video."""
        return self.video_id

    def faults(self) -> Iterator[Fault]:
        """Windows that are no spans of the video, questions without one."""
        for question_id, windows in self.windows.items():
            yield from windows_faults(f"location {question_id}", windows, self.duration_seconds)
            if not windows:
                yield Fault(f"location {question_id}", "[]", "has at least one window")


def read_evidence(path: PathLike) -> Annotations[VideoEvidence]:
    """The evidence of a ``gsub_*.json``."""
    return checked(_evidence(video_id, fields) for video_id, fields in read_object(path).members())


def write_evidence(path: PathLike, videos: Iterable[VideoEvidence]) -> None:
    """Writes a ``gsub_*.json``."""
    write_json(path, {video.video_id: _evidence_json(video) for video in videos})


def read_frame_times(path: PathLike) -> dict[str, tuple[float, ...]]:
    """The sampled times of each video in seconds."""
    fields = read_object(path)
    return {video_id: fields.numbers(video_id) for video_id in tuple(fields.rest())}


def write_frame_times(path: PathLike, times: Mapping[str, tuple[float, ...]]) -> None:
    """Writes sampled times."""
    write_json(path, dict(times))


def _evidence(video_id: str, fields: Fields) -> VideoEvidence:
    location = fields.inner("location")
    return VideoEvidence(
        video_id=video_id,
        duration_seconds=fields.positive("duration"),
        frame_rate=fields.number("fps"),
        windows={question_id: location.windows(question_id) for question_id in tuple(location.rest())},
        extra=fields.rest(),
    )


def _evidence_json(video: VideoEvidence) -> dict[str, object]:
    windows = {question_id: [(window.start, window.end) for window in found] for question_id, found in video.windows.items()}
    return {"duration": video.duration_seconds, "location": windows, "fps": video.frame_rate, **video.extra}
