"""Focal loss: binary cross-entropy in which what is already told well counts little (Lin et al. 2017, arXiv 1708.02002)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def focal_loss(logits: Tensor, target: Tensor, mask: Tensor, *, gamma: float = 2.0, positive_share: float | None = None) -> Tensor:
    """``(1 - p_t)^gamma * cross-entropy``, summed over the real places and divided by how many of them are positive (at least 1): a scalar.

    Args:
        logits: (...). target: (...) in [0, 1]. mask: (...) bool, True where it counts.
        gamma: 0 is plain cross-entropy.
        positive_share: weight of positives, and 1 minus it of negatives; None weighs both as 1.
    """
    probability = logits.sigmoid()
    missed = probability * (1 - target) + (1 - probability) * target
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * missed.pow(gamma)
    if positive_share is not None:
        each = each * (positive_share * target + (1 - positive_share) * (1 - target))
    return torch.where(mask, each, 0.0).sum() / (target * mask).sum().clamp(min=1)


def weighted_bce(logits: Tensor, target: Tensor, mask: Tensor, *, background: float) -> Tensor:
    """Binary cross-entropy in which negatives weigh ``background`` (UniVTG, arXiv 2307.16715: 0.1), the mean over the real places of each
    item, then over items: a scalar.

    Args:
        logits, target, mask: (b, t); an item without a real place counts as 0.
    """
    weight = background + (1 - background) * (target > 0.5).to(logits)
    each = weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (torch.where(mask, each, 0.0).sum(dim=1) / mask.sum(dim=1).clamp(min=1)).mean()
