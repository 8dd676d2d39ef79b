"""What an anticipator learns by: what begins a while after each moment, and what goes on in every row that it remembers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vlm.models.suite.anticipation import Outlook
from vlm.train.ranks import weights_of_means


def foresight_loss(outlook: Outlook, horizon: Tensor, wanted: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of the cross-entropies of verb, noun and action, means over the n moments of all ranks; and its parts.

    Args:
        horizon: (n) int64, which horizon each moment is asked about. wanted: (n) int64, its verb, noun and action.
    """
    n, device = len(horizon), horizon.device
    weight = weights_of_means({"moments": n}, device).get("moments", 0.0)
    parts = {}
    for name, logits, target in zip(("verb", "noun", "action"), (outlook.verbs, outlook.nouns, outlook.actions), wanted, strict=True):
        asked = logits[torch.arange(n, device=device), horizon]
        parts[name] = weight * F.cross_entropy(asked, target, reduction="sum") / max(1, n)
    return torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()}


def present_loss(logits: Tensor, held: Tensor) -> Tensor:
    """The mean over rows (m) of all ranks of the summed binary cross-entropies of what goes on in a row, (m, classes) each."""
    m = len(logits)
    weight = weights_of_means({"rows": m}, logits.device).get("rows", 0.0)
    return weight * F.binary_cross_entropy_with_logits(logits, held, reduction="sum") / max(1, m)
