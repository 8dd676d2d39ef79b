"""Learning to label frames: ASMamba before videos in which every row's label is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vlm.data.toybox.truth import NOTHING
from vlm.encoders.base import Encoder
from vlm.models.suite.rows import packed
from vlm.models.suite.segmentation import KIND, ASMamba, SegmentationConfig
from vlm.ssm.stack import MixerName
from vlm.train.losses.segments import segment_loss
from vlm.train.suite import Batch, SuiteSource
from vlm.train.suite_data import LabelledRows, SuiteDataConfig, toybox_rows
from vlm.types import Features

# Labels that public data sets give to frames in which nothing of interest happens.
BACKGROUNDS = (NOTHING, "background")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterConfig:
    """What a recipe says of an ASMamba; see SegmentationConfig, which adds the encoder and the classes."""

    width: int = 64
    mixer: MixerName = "dbm"
    embed_layers: int = 0
    num_layers: int = 8
    num_decoders: int = 0
    d_state: int = 16
    expand: float | None = None
    num_heads: int = 1
    channel_dropout: float = 0.3


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


class Segmentation:
    """The task of labelling frames."""

    name = KIND
    model = SegmenterConfig

    def build(self, config: SegmenterConfig, classes: Sequence[str], encoder: Encoder, data: SuiteDataConfig) -> ASMamba:
        """A new model."""
        return ASMamba(segmentation_config(config, classes, encoder, data.frames_per_second))

    def training(self, model: nn.Module) -> SegmentationTraining:
        """What the loop trains."""
        assert isinstance(model, ASMamba)
        return SegmentationTraining(model)

    def videos(self, data: SuiteDataConfig, encoder: Encoder, cache: Path, *, split: str, workers: int) -> LabelledRows:
        """Worlds of a split."""
        return toybox_rows(data, encoder, cache, split=split, workers=workers)

    def source(self, videos: LabelledRows, data: SuiteDataConfig, model: nn.Module, *, seed: int) -> SuiteSource[Tensor]:
        """Batches of videos."""
        return SuiteSource(videos.features, _Truth(videos.labels).cut, _collate, data, seed)


@dataclass(frozen=True, slots=True)
class _Truth:
    """The labels of videos."""

    labels: tuple[NDArray[np.int64], ...]

    def cut(self, number: int, first: int, last: int, whole: Features) -> Tensor:
        """The labels of rows ``[first, last)`` of a video."""
        return torch.from_numpy(self.labels[number][first:last])


def _collate(batch: Batch[Any]) -> Batch[Tensor]:
    return replace(batch, truth=torch.cat(batch.truth))


def segmentation_config(config: SegmenterConfig, classes: Sequence[str], encoder: Encoder, frames_per_second: float) -> SegmentationConfig:
    """What a model is built from."""
    return SegmentationConfig(
        encoder=encoder.name,
        fingerprint=encoder.fingerprint,
        dim=encoder.dim,
        classes=tuple(classes),
        background=tuple(name for name in classes if name in BACKGROUNDS),
        frames_per_second=frames_per_second,
        **{field.name: getattr(config, field.name) for field in fields(config)},
    )
