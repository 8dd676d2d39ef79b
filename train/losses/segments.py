"""Labelling frames: cross-entropy, and a smoothness that lets labels change where they must (Farha and Gall 2019, MS-TCN)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vlm.train.ranks import weights_of_means

# How much smoothness weighs, and the largest step of a log-probability that counts.
SMOOTHNESS, LARGEST_STEP = 0.15, 4.0


def smoothness(logits: Tensor, item: Tensor) -> Tensor:
    """The mean over neighbouring frames and classes of the squared step of the log-probabilities, each at most LARGEST_STEP: a scalar.

    The frame before is taken as given and has no gradient. 0 where no frame has a neighbour.

    Args:
        logits: (m, c) of frames that lie side by side. item: (m) whose frame each is; frames of two items are no neighbours.
    """
    told = F.log_softmax(logits, dim=1)
    step = (told[1:] - told[:-1].detach()).abs().clamp(max=LARGEST_STEP)
    is_neighbour = item[1:] == item[:-1]
    return step[is_neighbour].square().sum() / max(1, int(is_neighbour.sum()) * logits.shape[1])


def segment_loss(stages: list[Tensor], labels: Tensor, item: Tensor) -> Tensor:
    """Cross-entropy (the mean over frames) plus SMOOTHNESS times ``smoothness``, summed over the stages (m, c): a scalar.

    On several ranks its mean over them is the loss of all their frames.
    """
    steps = int((item[1:] == item[:-1]).sum())
    weights = weights_of_means({"frames": len(labels), "steps": steps}, labels.device)
    losses = [
        weights["frames"] * F.cross_entropy(logits, labels) + weights.get("steps", 0.0) * SMOOTHNESS * smoothness(logits, item)
        for logits in stages
    ]
    return torch.stack(losses).sum()
