"""Learning to recognise clips by TimeMamba in an encoder's frozen vision tower."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlm.encoders.base import Encoder, TowerAccess
from vlm.errors import InputError
from vlm.models.suite.clip_classes import ClipReading
from vlm.models.suite.timemamba import TimeMamba
from vlm.models.tower_adapter import tower_sizes
from vlm.train.suite import OwnFiles, Task
from vlm.train.suite_clips import ClipDataConfig, ClipLabelSource, Clips, Labels, clips_of_files, toybox_classes, toybox_clips
from vlm.train.suite_recognition import RecognitionTraining


@dataclass(frozen=True, slots=True)
class SeenClips:
    """Clips, and the encoder whose tower sees them."""

    clips: Clips
    encoder: Encoder

    @property
    def ids(self) -> tuple[str, ...]:
        """As Clips."""
        return tuple(self.clips.ids)

    @property
    def classes(self) -> tuple[str, ...]:
        """As Clips."""
        return self.clips.classes

    @property
    def labels(self) -> Labels:
        """As Clips."""
        return self.clips.labels

    def pixels(self, number: int, reads: ClipReading, random: np.random.Generator | None) -> NDArray[np.uint8]:
        """As Clips."""
        return self.clips.pixels(number, reads, random)


def worlds(data: ClipDataConfig, encoder: Encoder, cache: Path, *, split: str, workers: int = 1) -> SeenClips:
    """Clips of Toybox."""
    return SeenClips(toybox_clips(data, encoder, cache, split=split, workers=workers), encoder)


def files(given: OwnFiles, encoder: Encoder, cache: Path) -> SeenClips:
    """Clips of one's own; raises as ``clips_of_files``."""
    return SeenClips(clips_of_files(given, encoder, cache), encoder)


def source_of(clips: SeenClips, data: ClipDataConfig, model: TimeMamba, *, seed: int) -> ClipLabelSource:
    """Batches of clips. The source goes to other processes and holds no encoder."""
    reads = ClipReading(model.config.num_frames, clips.encoder.preprocessing.framing)
    return ClipLabelSource(clips.clips, reads, data.batch, seed)


def begin(model: TimeMamba, clips: SeenClips) -> None:
    """Put the model into the tower."""
    model.open(clips.encoder)


def _sizes(encoder: Encoder) -> tuple[int, int]:
    if not isinstance(encoder, TowerAccess):
        raise InputError(f"encoder {encoder.name!r} shows no towers (TowerAccess), so that nothing can be put into them")
    return tower_sizes(encoder)


TASK = Task(
    model=TimeMamba,
    training=RecognitionTraining,
    worlds=worlds,
    files=files,
    classes=toybox_classes,
    source=source_of,
    given={
        "tower_width": lambda encoder, classes, data: _sizes(encoder)[0],
        "blocks": lambda encoder, classes, data: _sizes(encoder)[1],
    },
    data=ClipDataConfig,
    prepare=begin,
)
