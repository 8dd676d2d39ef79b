"""InfoNCE where several texts belong to a video, or several videos to a text."""

from __future__ import annotations

import torch
from torch import Tensor


def multi_positive_nce(similarity: Tensor, positive: Tensor) -> Tensor:
    """The mean of both directions of ``-log(sum of exp over positives / sum of exp over all)``: a scalar (MIL-NCE, arXiv 1912.06430).

    Args:
        similarity: (n, m) scaled similarities. positive: (n, m) bool. Rows and columns without a positive are left out; a direction that
            has none gives 0.
    """
    return (_direction(similarity, positive) + _direction(similarity.T, positive.T)) / 2


def _direction(similarity: Tensor, positive: Tensor) -> Tensor:
    has_any = positive.any(dim=1)
    own = similarity.masked_fill(~positive, -torch.inf).logsumexp(dim=1).masked_fill(~has_any, 0.0)
    losses = torch.where(has_any, similarity.logsumexp(dim=1) - own, 0.0)
    return losses.sum() / has_any.sum().clamp(min=1)
