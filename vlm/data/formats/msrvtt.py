"""MSR-VTT: twenty captions a video, and the 1k-A test of text-to-video retrieval (Xu et al. 2016; split of Yu, Kim and Kim 2018).

``MSRVTT_JSFUSION_test.csv``: ``key, vid_key, video_id, sentence``, one caption of each of 1,000 videos. ``MSRVTT_train.9k.csv`` and the
like: a column ``video_id`` (lists.py reads them, and the ``.txt`` lists). ``MSRVTT_data.json``: ``{"videos": [...], "sentences": [...]}``
with all captions.

Traps: 1k-A trains on 9,000 videos, of which its own lists name 7,010 ("7k") or 9,000; the 1,000 test captions are one of twenty, chosen
once: other choices are other benchmarks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from vlm.data.formats.fields import Fields
from vlm.data.formats.files import PathLike, read_csv, read_object, write_csv, write_json
from vlm.data.formats.records import Annotations, Extra, Fault, Window, checked

_PAIR_COLUMNS = ("key", "vid_key", "video_id", "sentence")


@dataclass(frozen=True, slots=True)
class CaptionPair:
    """A caption of the 1k-A test and its video; ``key`` and ``video_key`` are the names of the two in the file."""

    key: str
    video_key: str
    video_id: str
    sentence: str

    @property
    def name(self) -> str:
        """The key of the row."""
        return self.key

    def faults(self) -> Iterator[Fault]:
        """A sentence that says nothing."""
        if not self.sentence.strip():
            yield Fault("sentence", repr(self.sentence), "says something")


@dataclass(frozen=True, slots=True)
class VideoCaptions:
    """A video of ``MSRVTT_data.json`` with its captions.

    Attributes:
        window: of the clip in the video that ``url`` names.
        sentences: number and text of each caption; the numbers run through the file.
    """

    video_id: str
    split: str
    sentences: tuple[tuple[int, str], ...]
    window: Window | None = None
    extra: Extra = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The id of the video."""
        return self.video_id

    def faults(self) -> Iterator[Fault]:
        """A window that is no span, a video without captions."""
        if self.window is not None:
            yield from self.window.faults("start time, end time")
        if not self.sentences:
            yield Fault("sentences", "[]", "has at least one caption")


def read_pairs(path: PathLike) -> Annotations[CaptionPair]:
    """The pairs of a 1k-A test file."""
    return checked(
        (CaptionPair(*(fields.text(name) for name in _PAIR_COLUMNS)) for fields in read_csv(path)),
        unique="key",
    )


def write_pairs(path: PathLike, pairs: Iterable[CaptionPair]) -> None:
    """Writes a 1k-A test file."""
    write_csv(path, _PAIR_COLUMNS, ((pair.key, pair.video_key, pair.video_id, pair.sentence) for pair in pairs))


def read_videos(path: PathLike) -> Annotations[VideoCaptions]:
    """The videos of a ``MSRVTT_data.json``; raises ``InputError`` for a caption of a video that the file does not list."""
    fields = read_object(path)
    sentences: dict[str, list[tuple[int, str]]] = {}
    videos = list(fields.rows("videos"))
    for row in videos:
        sentences[row.text("video_id")] = []
    for row in fields.rows("sentences"):
        video_id = row.text("video_id")
        if video_id not in sentences:
            row.refuse("video_id", video_id, "one of the file's videos")
        sentences[video_id].append((row.integer("sen_id"), row.text("caption")))
    return checked((_video(row, sentences) for row in videos), unique="video_id", header=fields.rest())


def write_videos(path: PathLike, videos: Iterable[VideoCaptions], *, header: Extra | None = None) -> None:
    """Writes a ``MSRVTT_data.json``, the captions video by video."""
    kept = tuple(videos)
    sentences = [{"caption": text, "video_id": video.video_id, "sen_id": number} for video in kept for number, text in video.sentences]
    write_json(path, {**(header or {}), "videos": [_video_json(video) for video in kept], "sentences": sentences})


def _video(fields: Fields, sentences: dict[str, list[tuple[int, str]]]) -> VideoCaptions:
    video_id, split = fields.text("video_id"), fields.text("split")
    has_window = "start time" in fields and "end time" in fields
    window = Window(fields.number("start time"), fields.number("end time")) if has_window else None
    return VideoCaptions(video_id, split, tuple(sentences[video_id]), window, fields.rest())


def _video_json(video: VideoCaptions) -> dict[str, object]:
    window = {} if video.window is None else {"start time": video.window.start, "end time": video.window.end}
    return {"video_id": video.video_id, "split": video.split, **window, **video.extra}
