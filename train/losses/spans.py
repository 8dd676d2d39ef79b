"""How far one stretch of time is from another, in ways that have a gradient also where they do not touch."""

from __future__ import annotations

from torch import Tensor


def giou_loss(predicted: Tensor, true: Tensor) -> Tensor:
    """``1 - gIoU`` of stretches (..., 2) of start and end, in [0, 2): (...).

    gIoU is IoU less the share of the hull that neither covers (Rezatofighi et al. 2019, arXiv 1902.09630). ``true`` must not be empty.
    """
    inside, union, hull = _measures(predicted, true)
    return 1 - inside / union + (hull - union) / hull


def diou_loss(predicted: Tensor, true: Tensor) -> Tensor:
    """``1 - IoU + (distance of the centres / hull)^2`` of stretches (..., 2), in [0, 2): (...) (Zheng et al. 2020, arXiv 1911.08287)."""
    inside, union, hull = _measures(predicted, true)
    distance = (predicted.sum(dim=-1) - true.sum(dim=-1)) / 2
    return 1 - inside / union + (distance / hull).square()


def _measures(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What both share, what either covers, and the hull."""
    (a, b), (c, d) = one.unbind(-1), other.unbind(-1)
    inside = (b.minimum(d) - a.maximum(c)).clamp(min=0)
    return inside, (b - a) + (d - c) - inside, b.maximum(d) - a.minimum(c)
