"""YouCook2: the steps of recipe videos (Zhou, Xu and Corso 2018), as its authors publish it and as captioning toolkits copy it.

The authors': ``{"database": {VIDEO: {"duration", "subset", "recipe_type", "annotations": [{"segment", "id", "sentence"}],
"video_url"}}}``. The toolkits': the form of ActivityNet Captions, with ids that begin with ``v_`` (written by
activitynet_captions.write_videos).

Traps: the test split is not public: its rows in the toolkits' file hold one step "None" at 0 to 1 s, which is named as a defect here and
must not be scored; times are whole seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from vlm.data.formats import activitynet_captions
from vlm.data.formats.activitynet_captions import CaptionedVideo
from vlm.data.formats.fields import Fields
from vlm.data.formats.files import PathLike, read_object, write_json
from vlm.data.formats.records import Annotations, Caption, Extra, Fault, checked, need_duration, windows_faults

_PLACEHOLDER = "None"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a recipe."""

    step_id: int
    caption: Caption


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeVideo:
    """A video with the steps of its recipe; ``recipe_type`` is the number of the dish."""

    video_id: str
    duration_seconds: float
    subset: str
    recipe_type: str
    steps: tuple[Step, ...]
    extra: Extra = field(default_factory=dict)

    def __post_init__(self) -> None:
        need_duration(self.duration_seconds)

    @property
    def name(self) -> str:
        """The id of the video."""
        return self.video_id

    def faults(self) -> Iterator[Fault]:
        """Steps that are no spans of the video."""
        yield from windows_faults("segment", [step.caption.window for step in self.steps], self.duration_seconds)


def read_recipes(path: PathLike) -> Annotations[RecipeVideo]:
    """The videos of the authors' file."""
    fields = read_object(path)
    videos = [_recipe(video_id, inner) for video_id, inner in fields.inner("database").members()]
    return checked(videos, header=fields.rest())


def write_recipes(path: PathLike, videos: Iterable[RecipeVideo], *, header: Extra | None = None) -> None:
    """Writes the authors' file."""
    write_json(path, {**(header or {}), "database": {video.video_id: _recipe_json(video) for video in videos}})


def read_videos(path: PathLike) -> Annotations[CaptionedVideo]:
    """The videos of a toolkits' file; the stand-ins of the test split are defects."""

    def stand_ins(video: CaptionedVideo) -> Iterator[Fault]:
        for number, caption in enumerate(video.captions):
            if caption.sentence == _PLACEHOLDER:
                yield Fault(f"sentences[{number}]", repr(caption.sentence), "tells a step, and is no stand-in for one that is not public")

    return checked(activitynet_captions.read_videos(path), also=stand_ins)


def _recipe(video_id: str, fields: Fields) -> RecipeVideo:
    steps = (Step(row.integer("id"), Caption(row.window("segment"), row.text("sentence"))) for row in fields.rows("annotations"))
    return RecipeVideo(
        video_id=video_id,
        steps=tuple(steps),
        duration_seconds=fields.positive("duration"),
        subset=fields.text("subset"),
        recipe_type=fields.text("recipe_type"),
        extra=fields.rest(),
    )


def _recipe_json(video: RecipeVideo) -> dict[str, object]:
    annotations = [
        {"segment": [step.caption.window.start, step.caption.window.end], "id": step.step_id, "sentence": step.caption.sentence}
        for step in video.steps
    ]
    known = {"duration": video.duration_seconds, "subset": video.subset, "recipe_type": video.recipe_type}
    return {**known, "annotations": annotations, **video.extra}
