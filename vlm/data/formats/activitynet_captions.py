"""ActivityNet Captions: the captioned stretches of each video, and paragraphs for its scorers (Krishna et al. 2017).

``{VIDEO: {"duration": s, "timestamps": [[start, end], ...], "sentences": [...]}}``; YouCook2 is published in the same form. Paragraph
files are ``{VIDEO: text}``. What its scorers read of a model is ``{"version", "results": {VIDEO: [{"sentence", "timestamp"}, ...]},
"external_data"}``.

Traps: sentences begin with spaces; stretches overlap, and some end past the duration or before they start; two people have captioned each
validation video, in two files with different stretches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from vlm.data.formats.fields import Fields
from vlm.data.formats.files import PathLike, read_object, write_json
from vlm.data.formats.records import Annotations, Caption, Extra, Fault, checked, need_duration, windows_faults

# What the scorers ask a file of results to hold beside them.
_HEADER: Extra = {"version": "VERSION 1.0", "external_data": {"used": False, "details": ""}}


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionedVideo:
    """A video with the sentences that describe its stretches."""

    video_id: str
    duration_seconds: float
    captions: tuple[Caption, ...]
    extra: Extra = field(default_factory=dict)

    def __post_init__(self) -> None:
        need_duration(self.duration_seconds)

    @property
    def name(self) -> str:
        """The id of the video."""
        return self.video_id

    def faults(self) -> Iterator[Fault]:
        """Stretches that are no spans of the video, and sentences that say nothing."""
        yield from windows_faults("timestamps", [caption.window for caption in self.captions], self.duration_seconds)
        for number, caption in enumerate(self.captions):
            if not caption.sentence.strip():
                yield Fault(f"sentences[{number}]", repr(caption.sentence), "says something")


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A video told in one text."""

    video_id: str
    text: str

    @property
    def name(self) -> str:
        """The id of the video."""
        return self.video_id

    def faults(self) -> Iterator[Fault]:
        """A paragraph that says nothing."""
        if not self.text.strip():
            yield Fault(self.video_id, repr(self.text), "says something")


@dataclass(frozen=True, slots=True)
class CaptionPrediction:
    """A sentence that a model told of a stretch, with what else it said of it."""

    caption: Caption
    extra: Extra = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VideoPredictions:
    """What a model told of a video."""

    video_id: str
    captions: tuple[CaptionPrediction, ...]

    @property
    def name(self) -> str:
        """The id of the video."""
        return self.video_id

    def faults(self) -> Iterator[Fault]:
        """Stretches that are none, and sentences that say nothing."""
        for number, one in enumerate(self.captions):
            yield from one.caption.window.faults(f"[{number}].timestamp")
            if not one.caption.sentence.strip():
                yield Fault(f"[{number}].sentence", repr(one.caption.sentence), "says something")


def read_videos(path: PathLike) -> Annotations[CaptionedVideo]:
    """The captioned videos of a file."""
    return checked(_video(video_id, fields) for video_id, fields in read_object(path).members())


def write_videos(path: PathLike, videos: Iterable[CaptionedVideo]) -> None:
    """Writes captioned videos."""
    write_json(path, {video.video_id: _video_json(video) for video in videos})


def read_paragraphs(path: PathLike) -> Annotations[Paragraph]:
    """The paragraphs of a file."""
    fields = read_object(path)
    return checked([Paragraph(video_id, fields.text(video_id)) for video_id in tuple(fields.rest())])


def write_paragraphs(path: PathLike, paragraphs: Iterable[Paragraph]) -> None:
    """Writes paragraphs."""
    write_json(path, {paragraph.video_id: paragraph.text for paragraph in paragraphs})


def read_predictions(path: PathLike) -> Annotations[VideoPredictions]:
    """What a model told of each video of a file."""
    fields = read_object(path)
    results = fields.inner("results")
    videos = [VideoPredictions(video_id, tuple(map(_predicted, results.rows(video_id)))) for video_id in tuple(results.rest())]
    return checked(videos, header=fields.rest())


def write_predictions(path: PathLike, predictions: Iterable[VideoPredictions], *, header: Extra | None = None) -> None:
    """Writes a file that the scorers read; ``header`` is what it says beside its results."""
    results = {one.video_id: [_predicted_json(caption) for caption in one.captions] for one in predictions}
    write_json(path, {**(_HEADER if header is None else header), "results": results})


def captions_of(fields: Fields) -> tuple[Caption, ...]:
    """The captions that ``timestamps`` and ``sentences`` make, one of each."""
    windows, sentences = fields.windows("timestamps"), fields.texts("sentences")
    if len(windows) != len(sentences):
        fields.refuse("sentences", f"{len(sentences)} sentences", f"as long as timestamps, {len(windows)}")
    return tuple(Caption(window, sentence) for window, sentence in zip(windows, sentences, strict=True))


def _video(video_id: str, fields: Fields) -> CaptionedVideo:
    return CaptionedVideo(
        video_id=video_id,
        duration_seconds=fields.positive("duration"),
        captions=captions_of(fields),
        extra=fields.rest(),
    )


def _video_json(video: CaptionedVideo) -> dict[str, object]:
    return {
        "duration": video.duration_seconds,
        "timestamps": [(caption.window.start, caption.window.end) for caption in video.captions],
        "sentences": [caption.sentence for caption in video.captions],
        **video.extra,
    }


def _predicted(row: Fields) -> CaptionPrediction:
    return CaptionPrediction(Caption(row.window("timestamp"), row.text("sentence")), row.rest())


def _predicted_json(one: CaptionPrediction) -> dict[str, object]:
    window = one.caption.window
    return {"sentence": one.caption.sentence, "timestamp": [window.start, window.end], **one.extra}
