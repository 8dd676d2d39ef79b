"""What an ASMamba says of one video: a label for each stretch of it, from its start to its end."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from vlm.errors import InputError
from vlm.models.suite.segmentation import ASMamba
from vlm.types import Features, Span


@dataclass(frozen=True, slots=True)
class LabelledStretch:
    """A stretch of a video with its label, and the mean probability (0, 1] that its rows give the label."""

    label: str
    span: Span
    score: float


@torch.inference_mode()
def row_probabilities(model: ASMamba, features: Features) -> NDArray[np.float64]:
    """How probable each class is at each row of a video of any length, (t, classes).

    Raises:
        InputError: no rows, rows of another width, or rows that are not finite.
    """
    if not len(features.times):
        raise InputError("a video needs at least one row, got none: encode it again")
    device = model.leave.weight.device
    frames = torch.from_numpy(np.ascontiguousarray(features.vectors, dtype=np.float32))[None].to(device)
    found: NDArray[np.float64] = model.eval()(frames)[-1][0].double().softmax(dim=1).cpu().numpy()
    return found


def stretches(probabilities: NDArray[np.float64], features: Features, classes: tuple[str, ...]) -> list[LabelledStretch]:
    """The runs of equal likeliest labels: they meet, and cover the video from its first row to its end."""
    labels = probabilities.argmax(axis=1)
    bounds = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    times = np.append(features.times, features.end)
    return [
        LabelledStretch(
            classes[labels[first]],
            Span(float(times[first]), float(times[last])),
            float(probabilities[first:last, labels[first]].mean()),
        )
        for first, last in pairwise(bounds)
    ]


def label_video(model: ASMamba, features: Features) -> list[LabelledStretch]:
    """The stretches of a video with their labels, in order; raises as ``row_probabilities``."""
    return stretches(row_probabilities(model, features), features, model.config.classes)
