"""Max-margin ranking: the own text must be nearer than any other by a margin."""

from __future__ import annotations

import torch
from torch import Tensor


def max_margin(similarity: Tensor, *, margin: float = 0.2, excluded: Tensor | None = None) -> Tensor:
    """The mean over ordered pairs i != j of ``max(0, margin - s_ii + s_ij)`` and ``max(0, margin - s_jj + s_ij)``: a scalar.

    As LaViLa (arXiv 2212.04501) fine-tunes EPIC-Kitchens multi-instance retrieval.

    Args:
        similarity: (n, n), videos by texts, own pairs on the diagonal.
        excluded: (n, n) bool, pairs that may be true and are no negatives.
    """
    own = similarity.diagonal()
    counted = ~torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    if excluded is not None:
        counted = counted & ~excluded
    over = (margin - own[:, None] + similarity).clamp(min=0) + (margin - own[None, :] + similarity).clamp(min=0)
    return torch.where(counted, over, 0.0).sum() / (2 * counted.sum()).clamp(min=1)
