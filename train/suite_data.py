"""Videos with timed labels: what the suite's tasks learn from, of Toybox or of annotation files beside a folder of videos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.plan import make_world
from vlm.data.toybox.truth import CLASSES, Labels, classes_of, frame_classes, label_of
from vlm.data.toybox.world import World
from vlm.encoders.base import Encoder
from vlm.errors import InputError
from vlm.ssm.stack import check_word
from vlm.train.examples import FeatureSource
from vlm.train.features import open_features
from vlm.types import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteDataConfig:
    """Which videos.

    Attributes:
        seed, worlds: how many worlds of Toybox, and from which seed.
        batch: videos a batch. longest: rows; of longer videos a stretch of so many is shown, each time another one.
        frames_per_second: of the rows.
        front: through what rows pass first: ``shipped``, the tracks of the trained model that comes with the encoder, which follow what is
            on screen along time (of an encoder that none comes with, rows are taken as they are); or ``none``.
        labels: of Toybox: ``ways`` tells which way an action goes (``move left``: 29 actions), ``actions`` does not (``move``: 12).
    """

    seed: int = 21
    worlds: int = 800
    batch: int = 8
    longest: int = 192
    frames_per_second: float = 2.0
    labels: Labels = "ways"
    front: Literal["shipped", "none"] = "none"

    def __post_init__(self) -> None:
        check_word("labels", self.labels, get_args(Labels))
        check_word("front", self.front, ("shipped", "none"))
        for name in ("worlds", "batch", "longest"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.frames_per_second > 0:
            raise InputError(f"frames_per_second must be positive, got {self.frames_per_second:g}")


@dataclass(frozen=True, slots=True)
class TimedLabel:
    """A stretch of a video with the name of what it shows."""

    span: Span
    label: str


@dataclass(frozen=True, slots=True)
class LabelledVideos:
    """Videos with their features and the actions in them. ``ids`` name them; ``classes`` are all names that may stand in ``actions``."""

    ids: tuple[str, ...]
    features: FeatureSource
    actions: tuple[tuple[TimedLabel, ...], ...]
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """Videos with their features and a class number (t) for each row of each."""

    ids: tuple[str, ...]
    features: FeatureSource
    labels: tuple[NDArray[np.int64], ...]
    classes: tuple[str, ...]


def toybox_worlds(data: SuiteDataConfig, *, split: str) -> list[World]:
    """The worlds of a split that a config names."""
    return [make_world(data.seed, number, split=split) for number in range(data.worlds)]


def toybox_actions(data: SuiteDataConfig, encoder: Encoder, cache: Path, *, split: str, workers: int = 1) -> LabelledVideos:
    """Toybox as a localizer learns it: every event is an action of its label."""
    worlds = toybox_worlds(data, split=split)
    features = open_features(worlds, encoder, cache, frames_per_second=data.frames_per_second, workers=workers)
    actions = tuple(tuple(TimedLabel(event.span, label_of(event.label, data.labels)) for event in world.events) for world in worlds)
    return LabelledVideos(tuple(world.name for world in worlds), features, actions, classes_of(data.labels)[1:])


def toybox_rows(data: SuiteDataConfig, encoder: Encoder, cache: Path, *, split: str, workers: int = 1) -> LabelledRows:
    """Toybox as a segmenter learns it: the class of the label track at every row; where nothing happens it is ``nothing``."""
    worlds = toybox_worlds(data, split=split)
    features = open_features(worlds, encoder, cache, frames_per_second=data.frames_per_second, workers=workers)
    classes = classes_of(data.labels)
    numbers = np.array([classes.index(label_of(name, data.labels)) for name in CLASSES])
    labels = tuple(numbers[frame_classes(world, rate=data.frames_per_second)] for world in worlds)
    return LabelledRows(tuple(world.name for world in worlds), features, labels, classes)
