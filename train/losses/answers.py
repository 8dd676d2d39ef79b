"""Cross-entropies of answers: one of some options, and text token by token."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def choice_loss(logits: Tensor, right: Tensor, options: Tensor) -> Tensor:
    """The mean cross-entropy of the right option: a scalar.

    Args:
        logits: (b, k). right: (b,) int64, the right option. options: (b, k) bool, which options an item has, the right one among them.
    """
    return F.cross_entropy(logits.masked_fill(~options, -torch.inf), right)


def decoder_loss(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """The mean over texts of the mean cross-entropy of their tokens: a scalar. Each text counts the same, however long.

    Args:
        logits: (b, q, words) for each place, before its token is seen. tokens: (b, q) int64. mask: (b, q) bool, True where one is asked.
    """
    each = F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
    counts = mask.sum(dim=1)
    return (torch.where(mask, each, 0.0).sum(dim=1) / counts.clamp(min=1)).sum() / (counts > 0).sum().clamp(min=1)


def mention_loss(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """The mean over texts of the mean cross-entropy of their tokens in any order (Ma et al. 2018, arXiv 1805.04871): a scalar.

    Args:
        logits: (e, words), what each text may hold. tokens: (e, q) int64. mask: (e, q) bool, True for a token; a text has at least one.
    """
    each = -logits.log_softmax(dim=1).gather(1, tokens)
    return (torch.where(mask, each, 0.0).sum(dim=1) / mask.sum(dim=1)).mean() if len(tokens) else 0.0 * logits.sum()
