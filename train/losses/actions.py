"""Localising actions: which points of a pyramid answer for which action, and how far what they propose is from it.

Source: ActionFormer (Zhang et al. 2022, arXiv 2202.07925) and its released code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm.models.suite.localization import Points, Proposals
from vlm.train.losses.focal import focal_loss
from vlm.train.losses.spans import diou_loss
from vlm.train.ranks import rank_and_ranks, weights_of_means

# A point answers for an action while it is at most so many of its level's rows from the action's middle.
CENTRE_RADIUS = 1.5
# Two actions that differ in length by less, in seconds, are both told of by a point that lies in both.
SAME_LENGTH = 1e-3
# What positives weigh in the focal loss, and negatives the rest (Lin et al. 2017).
POSITIVE_SHARE = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class PointTargets:
    """What points answer for: classes (n, c) 0 or 1, true start and end (n, 2) float64 seconds, and whether there is any (n) bool."""

    classes: Tensor
    bounds: Tensor
    is_inside: Tensor

    def to(self, device: torch.device | str) -> PointTargets:
        """The same on a device."""
        return PointTargets(self.classes.to(device), self.bounds.to(device), self.is_inside.to(device))


def point_targets(
    points: Points,
    spans: Sequence[Tensor],
    labels: Sequence[Tensor],
    *,
    num_classes: int,
    num_levels: int,
    first_range: float,
    seconds_per_row: float,
) -> PointTargets:
    """The targets of points.

    A point answers for the shortest action that holds it, whose middle is at most CENTRE_RADIUS rows of its level away, and whose farther
    end lies in the range of its level.

    Args:
        spans: for each item (k, 2) float64 start and end in seconds. labels: for each item (k) int64.
        first_range: see LocalizationConfig. seconds_per_row: of level 0.
    """
    classes = torch.zeros(len(points.centres), num_classes)
    bounds = torch.zeros(len(points.centres), 2, dtype=torch.float64)
    least, most = _ranges(num_levels, first_range * seconds_per_row)
    for item, (spans_of, labels_of) in enumerate(zip(spans, labels, strict=True)):
        own = (points.item == item).nonzero()[:, 0]
        if not len(spans_of):
            continue
        at, stride, level = points.centres[own, None], points.stride[own, None], points.level[own]
        start, end = spans_of[:, 0], spans_of[:, 1]
        middle = (start + end) / 2
        left, right = at - start, end - at  # (n, k)
        is_near = (at > start.maximum(middle - CENTRE_RADIUS * stride)) & (at < end.minimum(middle + CENTRE_RADIUS * stride))
        farther = left.maximum(right)
        answers = is_near & (farther >= least[level, None]) & (farther <= most[level, None])
        length = torch.where(answers, end - start, torch.inf)
        shortest, which = length.min(dim=1)
        is_inside = shortest.isfinite()
        chosen = answers & (length <= shortest[:, None] + SAME_LENGTH)
        told = chosen.float() @ torch.nn.functional.one_hot(labels_of, num_classes).float()
        classes[own] = told.clamp(max=1)
        bounds[own] = torch.where(is_inside[:, None], spans_of[which], 0.0)
    return PointTargets(classes, bounds, classes.any(dim=1))


def action_loss(proposals: Proposals, points: Points, targets: PointTargets) -> tuple[Tensor, dict[str, Tensor]]:
    """Focal loss of the classes over how many points answer, plus the mean ``1 - DIoU`` of what those propose: a scalar, and each part."""
    inside = targets.is_inside
    focal = focal_loss(
        proposals.logits, targets.classes, torch.ones_like(proposals.logits, dtype=torch.bool), positive_share=POSITIVE_SHARE
    )
    near = diou_loss(proposals.bounds(points)[inside], targets.bounds[inside]) if bool(inside.any()) else proposals.offsets[:0, 0]
    weights = weights_of_means({"classes": int(targets.classes.sum()), "spans": int(inside.sum())}, proposals.logits.device)
    spans = near.mean().float() if len(near) else 0.0 * proposals.offsets.sum()
    # Where no point of any rank answers, there is still what should not have been found: a sum over all ranks.
    total = weights.get("classes", float(rank_and_ranks()[1])) * focal + weights.get("spans", 0.0) * spans
    return total, {"classes": focal.detach(), "spans": spans.detach()}


def _ranges(num_levels: int, first: float) -> tuple[Tensor, Tensor]:
    """The least and the most seconds to the farther end that each level answers for."""
    edges = first * 2.0 ** torch.arange(num_levels, dtype=torch.float64)
    least, most = edges / 2, edges.clone()
    least[0], most[-1] = 0.0, torch.inf
    return least, most
