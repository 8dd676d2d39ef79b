"""Learning to label frames: ASMamba before videos in which every row's label is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vlm.data.toybox.truth import NOTHING, classes_of
from vlm.encoders.base import Encoder
from vlm.errors import InputError
from vlm.models.suite.rows import packed
from vlm.models.suite.segmentation import ASMamba
from vlm.train.losses.segments import segment_loss
from vlm.train.suite import Batch, OwnFiles, SuiteSource, Task
from vlm.train.suite_data import LabelledRows, SuiteDataConfig, toybox_rows
from vlm.train.suite_files import read_rows
from vlm.types import Features

# Labels that public data sets give to frames in which nothing of interest happens.
BACKGROUNDS = (NOTHING, "background")


class SegmentationTraining(nn.Module):
    """A model before batches of videos with the labels (m) of their real rows."""

    def __init__(self, model: ASMamba) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a scalar, and how many rows are right."""
        device = self.model.leave.weight.device
        rows, _ = packed(batch.frames.to(device), batch.mask.to(device), self.model.config.dim)
        labels = batch.truth.to(device)
        stages = self.model.stages(rows)
        right = (stages[-1].argmax(dim=1) == labels).float().mean()
        return segment_loss(stages, labels, rows.item), {"right": right.detach()}


@dataclass(frozen=True, slots=True)
class _Truth:
    """The labels of videos."""

    labels: tuple[NDArray[np.int64], ...]

    def cut(self, number: int, first: int, last: int, whole: Features) -> Tensor:
        """The labels of rows ``[first, last)`` of a video."""
        return torch.from_numpy(self.labels[number][first:last])


def _collate(batch: Batch[Any]) -> Batch[Tensor]:
    return replace(batch, truth=torch.cat(batch.truth))


def source_of(videos: LabelledRows, data: SuiteDataConfig, model: ASMamba, *, seed: int) -> SuiteSource[Tensor]:
    """Batches of videos with the labels of their rows."""
    return SuiteSource(videos.features, _Truth(videos.labels).cut, _collate, data, seed)


def files_of_task(files: OwnFiles, encoder: Encoder, cache: Path) -> LabelledRows:
    """Videos of a folder of frame labels; raises as ``read_rows``, and where ``--subset`` or ``--label-rate`` is missing."""
    if files.subset is None or files.label_rate is None:
        raise InputError("a folder of frame labels needs --subset (a file of its folder splits) and --label-rate (labels a second)")
    return read_rows(files.annotations, files.subset, files.videos, encoder, cache, rate=files.rate, label_rate=files.label_rate)


TASK = Task(
    model=ASMamba,
    training=SegmentationTraining,
    worlds=toybox_rows,
    files=files_of_task,
    classes=lambda data: classes_of(data.labels),
    source=source_of,
    given={"background": lambda encoder, classes, data: tuple(name for name in classes if name in BACKGROUNDS)},
)
