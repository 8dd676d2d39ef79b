"""Learning to recognise clips: a model of pixels before clips whose classes are known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.models.suite.clip_classes import class_groups
from vlm.models.suite.recognition import Recognizer
from vlm.models.suite.rows import wide
from vlm.models.suite.vim_weights import load_vim
from vlm.train.suite import Task
from vlm.train.suite_clips import ClipDataConfig, ClipLabelSource, Clips, LabelledClips, clips_of_files, toybox_classes, toybox_clips


class RecognitionTraining(nn.Module):
    """A recogniser before batches of clips with their classes."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: LabelledClips) -> tuple[Tensor, dict[str, Tensor]]:
        """The cross-entropy, a mean over clips and groups, and how many clips are right in all groups."""
        logits = wide(self.model(batch.pixels))
        labels = batch.labels.to(logits.device)
        parts = [logits[:, part] for part in class_groups(self.model.classes).values()]
        losses = [F.cross_entropy(part, labels[:, group]) for group, part in enumerate(parts)]
        right = torch.stack([part.argmax(dim=1) == labels[:, group] for group, part in enumerate(parts)]).all(dim=0)
        return torch.stack(losses).mean(), {"right": right.float().mean().detach()}


def source_of(clips: Clips, data: ClipDataConfig, model: Any, *, seed: int) -> ClipLabelSource:
    """Batches of clips."""
    return ClipLabelSource(clips, model.reading, data.batch, seed)


def begin(model: Any, clips: Clips) -> None:
    """Let a ViViM begin with Vim's weights, where its config names a file; raises as ``load_vim``."""
    if model.config.weights:
        load_vim(model.tower, model.config.weights)


TASK = Task(
    model=Recognizer,
    training=RecognitionTraining,
    worlds=toybox_clips,
    files=clips_of_files,
    classes=toybox_classes,
    source=source_of,
    data=ClipDataConfig,
    prepare=begin,
)
