"""What an anticipator learns by: what begins a while after each moment, and what goes on in every row that it remembers."""

from __future__ import annotations

from collections.abc import Sequence

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


def present_loss(logits: Sequence[Tensor], held: Sequence[Tensor]) -> Tensor:
    """The sum over groups of the cross-entropies of what goes on in each row, means over the rows (m) of all ranks.

    Args:
        logits: of each group (m, 1 + c), of none and of its classes.
        held: of each group (m, c), 0 or 1; what goes on together shares a row.
    """
    m = len(logits[0])
    weight = weights_of_means({"rows": m}, logits[0].device).get("rows", 0.0)
    found = []
    for group, goes_on in zip(logits, held, strict=True):
        wanted = torch.cat([(goes_on.sum(dim=1, keepdim=True) == 0).to(goes_on), goes_on], dim=1)
        found.append(F.cross_entropy(group, wanted / wanted.sum(dim=1, keepdim=True), reduction="sum"))
    return weight * torch.stack(found).sum() / max(1, m)
