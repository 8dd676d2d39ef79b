"""Saliency: what is more relevant must score higher within its video."""

from __future__ import annotations

import torch
from torch import Tensor


def saliency_ranking(scores: Tensor, relevance: Tensor, mask: Tensor, *, temperature: float = 0.5) -> Tensor:
    """Rank-aware contrastive loss (QD-DETR, arXiv 2303.13874; Hoffmann et al. 2022): for every level of relevance that occurs in an item,
    the rows at or above it against all rows, ``-log(sum of exp above / sum of exp of all)``. The mean over levels, then over items.

    Args:
        scores: (b, t). relevance: (b, t), whole numbers or few distinct values. mask: (b, t) bool.

    Levels at which every real row is positive say nothing and do not count; a batch without a level gives 0.
    """
    scaled = (scores / temperature).masked_fill(~mask, -torch.inf)
    whole = scaled.logsumexp(dim=1)  # (b,)
    losses, counts = scores.new_zeros(len(scores)), scores.new_zeros(len(scores))
    for level in torch.unique(relevance[mask]).tolist():
        positive = mask & (relevance >= level)
        counts_here = positive.any(dim=1) & (positive != mask).any(dim=1) & (mask & (relevance == level)).any(dim=1)
        above = scaled.masked_fill(~positive, -torch.inf).logsumexp(dim=1)
        # Where nothing is asked an infinite difference must not reach the gradient.
        losses = losses + torch.where(counts_here, whole - above.masked_fill(~counts_here, 0.0), 0.0)
        counts = counts + counts_here
    has_level = counts > 0
    return (losses / counts.clamp(min=1)).sum() / has_level.sum().clamp(min=1)


def ranked_items(relevance: Tensor, mask: Tensor) -> Tensor:
    """Which items (b,) the mean of ``saliency_ranking`` is over: those with two levels or more among their real rows."""
    most = relevance.masked_fill(~mask, -torch.inf).amax(dim=1)
    return most > relevance.masked_fill(~mask, torch.inf).amin(dim=1)
