"""Clips with what each shows: what recognisers learn from, drawn from Toybox or read from files beside their annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm.data.formats import activitynet_detection
from vlm.data.toybox.plan import event_clip
from vlm.data.toybox.render import render
from vlm.data.toybox.truth import classes_of, label_of
from vlm.data.toybox.vocabulary import SHAPES
from vlm.data.toybox.world import World
from vlm.encoders.base import Encoder
from vlm.errors import InputError
from vlm.models.suite.clip_classes import ClipReading
from vlm.train.clips_source import Clip, read_narrated
from vlm.train.ranks import share
from vlm.train.suite import OwnFiles
from vlm.train.suite_data import SuiteDataConfig
from vlm.train.suite_files import files_of

Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipDataConfig(SuiteDataConfig):
    """Which clips: of ``worlds`` of Toybox each one, of one event; what rows are made of has no meaning here.

    Attributes:
        nouns: tell verbs (the action) and nouns (the shape of what acts), as EPIC-KITCHENS does, instead of the action alone.
    """

    nouns: bool = False


class Clips(Protocol):
    """Clips with their classes."""

    @property
    def ids(self) -> Sequence[str]:
        """Their names."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes, see ``clip_classes.class_groups``."""

    @property
    def labels(self) -> Labels:
        """The class numbers (n, groups) of each clip, from 0 in each group."""

    def pixels(self, number: int, reads: ClipReading, random: np.random.Generator | None) -> NDArray[np.uint8]:
        """The pictures (t, h, w, 3) of a clip as a model reads them: in the middles of equal parts, or anywhere in these by ``random``."""


@dataclass(frozen=True, slots=True)
class ToyboxClips:
    """Clips of Toybox, drawn when they are asked for: that takes a twentieth of learning from them."""

    seed: int
    split: str
    ids: tuple[str, ...]
    classes: tuple[str, ...]
    labels: Labels

    def pixels(self, number: int, reads: ClipReading, random: np.random.Generator | None) -> NDArray[np.uint8]:
        """As Clips."""
        world = self.world(number)
        size = reads.framing.height
        return render(world, moments(world.seconds, reads.num_frames, random), size=size)

    def world(self, number: int) -> World:
        """The world of a clip."""
        return event_clip(self.seed, number, split=self.split)


@dataclass(frozen=True, slots=True)
class FileClips:
    """Stretches of video files, decoded when they are asked for."""

    clips: tuple[Clip, ...]
    ids: tuple[str, ...]
    classes: tuple[str, ...]
    labels: Labels

    def pixels(self, number: int, reads: ClipReading, random: np.random.Generator | None) -> NDArray[np.uint8]:
        """As Clips, but always in the middles of equal parts; raises as ``clip_frames``."""
        return self.clips[number].pixels(reads.framing, reads.num_frames)


@dataclass(frozen=True, slots=True)
class LabelledClips:
    """A batch: pixels (b, t, h, w, 3) uint8, and class numbers (b, groups) int64."""

    pixels: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class ClipLabelSource:
    """Batches of clips, each once an epoch, with pictures at other moments each time."""

    makes_pixels: ClassVar[bool] = True

    clips: Clips
    reads: ClipReading
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.batch_size > len(self.clips.ids):
            raise InputError(f"batch {self.batch_size} is more than the {len(self.clips.ids)} clips there are")

    def numbers(self, index: int) -> list[int]:
        """The clips of batch ``index``: the same whenever it is asked for."""
        epoch, place = divmod(index, len(self.clips.ids) // self.batch_size)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.clips.ids))
        chosen: list[int] = order[place * self.batch_size : (place + 1) * self.batch_size].tolist()
        return chosen

    def batch(self, index: int) -> LabelledClips:
        """The clips with their classes."""
        return self.part(index, 0, 1)

    def part(self, index: int, rank: int, ranks: int) -> LabelledClips:
        """A rank's share of them."""
        numbers = self.numbers(index)[share(self.batch_size, rank, ranks)]
        pixels = [self.clips.pixels(number, self.reads, np.random.default_rng([self.seed, index, number])) for number in numbers]
        return LabelledClips(torch.from_numpy(np.stack(pixels)), torch.from_numpy(self.clips.labels[numbers]))

    def describe_batch(self, index: int) -> str:
        """The clips of the batch."""
        return f"batch {index} with clips {[self.clips.ids[number] for number in self.numbers(index)]}"


def moments(seconds: float, count: int, random: np.random.Generator | None = None) -> NDArray[np.float64]:
    """A moment in each of ``count`` equal parts of ``[0, seconds)``: its middle, or one drawn by ``random``."""
    within = 0.5 if random is None else random.random(count)
    times: NDArray[np.float64] = (np.arange(count) + within) * seconds / count
    return times


def toybox_classes(data: ClipDataConfig) -> tuple[str, ...]:
    """What clips of Toybox are told by."""
    actions = classes_of(data.labels)[1:]
    return (*(f"verb:{name}" for name in actions), *(f"noun:{name}" for name in SHAPES)) if data.nouns else actions


def toybox_clips(data: ClipDataConfig, encoder: Encoder, cache: Path, *, split: str, workers: int = 1) -> ToyboxClips:
    """Clips of a split of Toybox; nothing of them is kept in ``cache``, and no encoder sees them."""
    actions, ids, labels = classes_of(data.labels)[1:], [], []
    for number in range(data.worlds):
        world = event_clip(data.seed, number, split=split)
        (event,) = world.events
        verb = actions.index(label_of(event.label, data.labels))
        ids.append(world.name)
        labels.append((verb, SHAPES.index(event.look.shape)) if data.nouns else (verb,))
    return ToyboxClips(data.seed, split, tuple(ids), toybox_classes(data), np.array(labels, dtype=np.int64))


def clips_of_files(files: OwnFiles, encoder: Encoder, cache: Path) -> FileClips:
    """Clips of one's own videos: every action of a detection file (.json) with its label, or every narration of EPIC-KITCHENS-100 (.csv).

    Raises:
        InputError: the file is neither, breaks its format, holds no clip, or a video is missing.
    """
    read = {".json": _actions, ".csv": _narrations}.get(files.annotations.suffix.lower())
    if read is None:
        raise InputError(f"{str(files.annotations)!r} must be a detection file (.json) or narrations of EPIC-KITCHENS-100 (.csv)")
    return read(files)


def _actions(files: OwnFiles) -> FileClips:
    videos = [one for one in activitynet_detection.read_truth(files.annotations).rows if files.subset in (None, one.subset)]
    found = [
        (video.video_id, action.window.span, action.label)
        for video in videos
        for action in video.actions
        if not any(action.window.faults("segment", video.duration_seconds))  # published files hold some; they are told by the reader
    ]
    classes = tuple(sorted({label for _, _, label in found}))
    if len(classes) < 2:
        raise InputError(f"{str(files.annotations)!r} needs actions of at least two labels in the subset {files.subset!r}, got {classes}")
    paths = dict(zip(ids := sorted({video for video, _, _ in found}), files_of(files.videos, ids), strict=True))
    return FileClips(
        tuple(Clip(paths[video], label, span) for video, span, label in found),
        tuple(f"{video} {span.start:g}-{span.end:g}" for video, span, _ in found),
        classes,
        np.array([[classes.index(label)] for _, _, label in found], dtype=np.int64),
    )


def _narrations(files: OwnFiles) -> FileClips:
    clips = read_narrated(files.annotations, files.videos)
    actions = [clip.action for clip in clips if clip.action is not None]
    verbs, nouns = (_named_classes({getattr(one, f"{kind}_class"): getattr(one, kind) for one in actions}) for kind in ("verb", "noun"))
    return FileClips(
        clips,
        tuple(map(str, clips)),
        (*(f"verb:{name}" for name in verbs.values()), *(f"noun:{name}" for name in nouns.values())),
        np.array([[list(verbs).index(one.verb_class), list(nouns).index(one.noun_class)] for one in actions], dtype=np.int64),
    )


def _named_classes(words: dict[int, str]) -> dict[int, str]:
    """The classes that occur, by their number: each by a word of it, with the number where two classes share the word."""
    shared = {word for word in words.values() if list(words.values()).count(word) > 1}
    return {number: f"{word} {number}" if word in shared else word for number, word in sorted(words.items())}
