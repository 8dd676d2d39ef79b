"""Learning to localise actions: ActionMamba before videos whose actions are known."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vlm.data.toybox.truth import classes_of
from vlm.encoders.base import Encoder
from vlm.models.suite.localization import ActionMamba, LocalizationConfig, Points, points_of
from vlm.train.losses.actions import PointTargets, action_loss, point_targets
from vlm.train.suite import Batch, OwnFiles, SuiteSource, Task
from vlm.train.suite_data import LabelledVideos, SuiteDataConfig, TimedLabel, toybox_actions
from vlm.train.suite_files import read_actions
from vlm.types import Features

# Of an action that a stretch cuts through, the share that must be left for it to count; ActionFormer's number.
LEAST_SHARE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class LocatedTruth:
    """Points of a batch and what each answers for."""

    points: Points
    targets: PointTargets


class LocalizationTraining(nn.Module):
    """A model before batches of videos with their actions."""

    def __init__(self, model: ActionMamba) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch[LocatedTruth]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a scalar, and its parts."""
        device = self.model.scales.device
        proposals = self.model(batch.frames.to(device), batch.mask.to(device))
        return action_loss(proposals, on_device(batch.truth.points, device), batch.truth.targets.to(device))


@dataclass(frozen=True, slots=True)
class _Truth:
    """The actions of videos, as targets."""

    actions: tuple[tuple[TimedLabel, ...], ...]
    classes: tuple[str, ...]
    config: LocalizationConfig

    def cut(self, number: int, first: int, last: int, whole: Features) -> tuple[Tensor, Tensor]:
        """Spans (k, 2) and class numbers (k) of the actions of a stretch, in its time."""
        start = float(whole.times[first])
        end = whole.end if last == len(whole.times) else float(whole.times[last])
        spans, labels = [], []
        for action in self.actions[number]:
            inside = (max(action.span.start, start), min(action.span.end, end))
            if inside[1] - inside[0] >= LEAST_SHARE * action.span.seconds:
                spans.append((inside[0] - start, inside[1] - start))
                labels.append(self.classes.index(action.label))
        return torch.tensor(spans, dtype=torch.float64).view(-1, 2), torch.tensor(labels, dtype=torch.int64)

    def collate(self, batch: Batch[Any]) -> Batch[LocatedTruth]:
        """The batch with the targets of its points."""
        config = self.config
        model_points = points_for(config, batch)
        targets = point_targets(
            model_points,
            [spans for spans, _ in batch.truth],
            [labels for _, labels in batch.truth],
            num_classes=len(config.classes),
            num_levels=config.num_levels,
            first_range=config.first_range,
            seconds_per_row=1 / config.frames_per_second,
        )
        return replace(batch, truth=LocatedTruth(model_points, targets))


def points_for(config: LocalizationConfig, batch: Batch[Any]) -> Points:
    """The points of a batch."""
    levels, rate = config.num_levels, config.frames_per_second
    return points_of(batch.lengths, batch.times, batch.durations, levels=levels, frames_per_second=rate)


def on_device(points: Points, device: torch.device) -> Points:
    """The same points on a device."""
    return Points(*(getattr(points, field.name).to(device) for field in fields(points)))


def source_of(videos: LabelledVideos, data: SuiteDataConfig, model: ActionMamba, *, seed: int) -> SuiteSource[LocatedTruth]:
    """Batches of videos with the targets of their points."""
    truth = _Truth(videos.actions, videos.classes, model.config)
    return SuiteSource(videos.features, truth.cut, truth.collate, data, seed)


def files_of_task(files: OwnFiles, encoder: Encoder, cache: Path) -> LabelledVideos:
    """Videos of a detection file; raises as ``read_actions``."""
    return read_actions(files.annotations, files.videos, encoder, cache, rate=files.rate, subset=files.subset)


TASK = Task(
    model=ActionMamba,
    training=LocalizationTraining,
    worlds=toybox_actions,
    files=files_of_task,
    classes=lambda data: classes_of(data.labels)[1:],
    source=source_of,
)
