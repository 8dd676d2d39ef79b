"""ActivityNet's detection files: actions with their windows, and predictions (Heilbron et al. 2015). HACS and THUMOS-14 are published in
the same form.

Truth ``{"version", "taxonomy", "database": {VIDEO: {"subset", "duration", "annotations": [{"segment": [start, end], "label"}]}}}``;
predictions ``{"version", "results": {VIDEO: [{"score", "segment", "label"}]}, "external_data"}``, without ``segment`` for classification
of whole videos.

Traps: THUMOS gives no duration and its times as text (``"18.6"``: write with ``times_as_text``); a toolkit's flat copy has no
``database`` and says ``duration_second`` (write with ``flat``); ids begin with ``v_`` in some files and not in others; prediction files
hold no truth of the duration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from vlm.data.formats.fields import Fields
from vlm.data.formats.files import PathLike, read_object, write_json
from vlm.data.formats.records import Annotations, Extra, Fault, Window, checked, is_finite, need_duration, windows_faults
from vlm.errors import InputError


@dataclass(frozen=True, slots=True)
class ActionWindow:
    """A window in which an action takes place."""

    window: Window
    label: str
    extra: Extra = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionVideo:
    """A video with its actions; ``subset`` and ``duration_seconds`` are None where the file does not give them."""

    video_id: str
    actions: tuple[ActionWindow, ...]
    duration_seconds: float | None = None
    subset: str | None = None
    extra: Extra = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.duration_seconds is not None:
            need_duration(self.duration_seconds)

    @property
    def name(self) -> str:
        """The id of the video."""
        return self.video_id

    def faults(self) -> Iterator[Fault]:
        """Windows that are no spans of the video, and actions that stand twice."""
        yield from windows_faults("segment", [action.window for action in self.actions], self.duration_seconds)
        seen: set[tuple[Window, str]] = set()
        for number, action in enumerate(self.actions):
            if (action.window, action.label) in seen:
                yield Fault(f"annotations[{number}]", f"{action.label!r} at {action.window.start!r} s", "stands once in a video")
            seen.add((action.window, action.label))


@dataclass(frozen=True, slots=True)
class ActionPrediction:
    """A predicted action; ``window`` is None where the whole video is classified."""

    score: float
    label: str
    window: Window | None = None
    extra: Extra = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_finite(self.score):
            raise InputError(f"a score must be finite, got {self.score!r}")


@dataclass(frozen=True, slots=True)
class VideoPredictions:
    """All predictions for one video."""

    video_id: str
    predictions: tuple[ActionPrediction, ...]

    @property
    def name(self) -> str:
        """The id of the video."""
        return self.video_id

    def faults(self) -> Iterator[Fault]:
        """Windows that are no spans."""
        for number, prediction in enumerate(self.predictions):
            if prediction.window is not None:
                yield from prediction.window.faults(f"segment[{number}]")


def read_truth(path: PathLike) -> Annotations[ActionVideo]:
    """The videos of a truth file, flat or under ``database``; the header holds version and taxonomy."""
    fields = read_object(path, numbers_as_text=True)
    database = fields.inner("database") if "database" in fields else fields
    videos = [_video(video_id, inner) for video_id, inner in database.members()]
    return checked(videos, header=fields.rest() if "database" in fields else None)


def write_truth(
    path: PathLike,
    videos: Iterable[ActionVideo],
    *,
    header: Extra | None = None,
    times_as_text: bool = False,
    flat: bool = False,
) -> None:
    """Writes a truth file. ``times_as_text`` writes times as THUMOS does, ``flat`` without the ``database`` around the videos."""
    rows = {video.video_id: _video_json(video, times_as_text=times_as_text, flat=flat) for video in videos}
    write_json(path, rows if flat else {**(header or {}), "database": rows})


def read_predictions(path: PathLike) -> Annotations[VideoPredictions]:
    """The predictions of a file; the header holds version and external data."""
    fields = read_object(path)
    results = fields.inner("results")
    videos = [VideoPredictions(video_id, tuple(_prediction(row) for row in results.rows(video_id))) for video_id in tuple(results.rest())]
    return checked(videos, header=fields.rest())


def write_predictions(path: PathLike, videos: Iterable[VideoPredictions], *, header: Extra | None = None) -> None:
    """Writes predictions as the public scorer reads them."""
    rest = dict(header or {})
    version = {"version": rest.pop("version", "VERSION 1.3")}
    results = {video.video_id: [_prediction_json(prediction) for prediction in video.predictions] for video in videos}
    write_json(path, {**version, "results": results, "external_data": rest.pop("external_data", {"used": False, "details": ""}), **rest})


def _video(video_id: str, fields: Fields) -> ActionVideo:
    duration = next((name for name in ("duration", "duration_second") if name in fields), None)
    actions = []
    for row in fields.rows("annotations"):
        window, label = row.window("segment"), row.text("label")
        actions.append(ActionWindow(window, label, row.rest()))
    return ActionVideo(
        video_id=video_id,
        actions=tuple(actions),
        duration_seconds=None if duration is None else fields.positive(duration),
        subset=fields.text("subset") if "subset" in fields else None,
        extra=fields.rest(),
    )


def _video_json(video: ActionVideo, *, times_as_text: bool, flat: bool) -> dict[str, object]:
    row: dict[str, object] = {} if video.subset is None else {"subset": video.subset}
    if video.duration_seconds is not None:
        row["duration_second" if flat else "duration"] = video.duration_seconds
    annotations = []
    for action in video.actions:
        times: list[object] = [action.window.start, action.window.end]
        annotations.append({"segment": [repr(time) for time in times] if times_as_text else times, "label": action.label, **action.extra})
    return {**row, "annotations": annotations, **video.extra}


def _prediction(fields: Fields) -> ActionPrediction:
    return ActionPrediction(
        score=fields.number("score"),
        label=fields.text("label"),
        window=fields.window("segment") if "segment" in fields else None,
        extra=fields.rest(),
    )


def _prediction_json(prediction: ActionPrediction) -> dict[str, object]:
    row: dict[str, object] = {"score": prediction.score}
    if prediction.window is not None:
        row["segment"] = [prediction.window.start, prediction.window.end]
    return {**row, "label": prediction.label, **prediction.extra}
