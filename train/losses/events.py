"""Finding events: which query answers for which event, and how far what it proposes is from it; and how many events there are.

Source: DETR's matching (Carion et al. 2020, arXiv 2005.12872) with the costs and weights of PDVC (Wang et al. 2021, arXiv 2108.07781).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vlm.models.suite.events import Proposed
from vlm.train.losses.focal import focal_loss
from vlm.train.losses.spans import giou_loss
from vlm.train.ranks import rank_and_ranks, weights_of_means

# What overlap, events and their count weigh in the loss; the first two in the matching too.
OVERLAP, FOREGROUND, COUNT = 4.0, 2.0, 0.5
# What positives weigh in the focal loss, and negatives the rest; and how little what is told well counts (Lin et al. 2017).
POSITIVE_SHARE, GAMMA = 0.25, 2.0

# How many queries answer for an event before the last layer, which leaves one: with one alone from the start, which of several that see an
# event it is stays a matter of chance for long, and little is learnt (Jia et al. 2023, arXiv 2207.13080).
EARLY_QUERIES = 3


@torch.no_grad()
def match_events(proposed: Proposed, stretches: Tensor, counts: Tensor, *, queries_each: int = 1) -> tuple[Tensor, Tensor]:
    """The numbers (k) of the queries that answer for an event, and of those events (k), item by item: the cheapest pairs together.

    Each event has ``queries_each`` of them where there are as many. A pair costs OVERLAP times ``1 - gIoU``, and FOREGROUND times what the
    query would add to the focal loss as an event rather than as none.

    Args:
        stretches: (e, 2) true starts and ends in rows, item after item. counts: (items) int64, how many each has.
    """
    apart = giou_loss(proposed.places.stretches[:, None], stretches[None].to(proposed.logits))
    cost = OVERLAP * apart + FOREGROUND * _turn(proposed.logits)[:, None]
    first, queries, events = 0, [], []
    bounds = proposed.places.bounds.tolist()
    for (low, high), count in zip(pairwise(bounds), counts.tolist(), strict=True):
        of_item = cost[low:high, first : first + count].repeat(1, queries_each)
        rows, columns = linear_sum_assignment(of_item.cpu().numpy())
        queries.append(torch.from_numpy(rows) + low)
        events.append(torch.from_numpy(columns) % max(1, count) + first)
        first += count
    device = proposed.logits.device
    return torch.cat(queries).to(device), torch.cat(events).to(device)


def event_loss(
    proposed: Sequence[Proposed], expected: Tensor, stretches: Tensor, counts: Tensor
) -> tuple[Tensor, dict[str, Tensor], list[tuple[Tensor, Tensor]]]:
    """The loss of all layers, a scalar; its parts at the last layer; and the pairs of each layer (``match_events``).

    Focal loss of the queries over how many events there are, and the mean ``1 - gIoU`` of those that answer, of every layer; and how
    unlikely the true counts are where ``expected`` (items) come on average (Poisson).

    Args:
        stretches, counts: see ``match_events``.
    """
    total, parts, pairs = expected.new_zeros(()), {}, []
    for number, layer in enumerate(proposed, start=1):
        pairs.append(match_events(layer, stretches, counts, queries_each=1 if number == len(proposed) else EARLY_QUERIES))
        queries, events = pairs[-1]
        target = torch.zeros_like(layer.logits)
        target[queries] = 1.0
        everywhere = torch.ones_like(target, dtype=torch.bool)
        focal = focal_loss(layer.logits, target, everywhere, gamma=GAMMA, positive_share=POSITIVE_SHARE)
        apart = giou_loss(layer.places.stretches[queries], stretches[events].to(layer.logits))
        spans = apart.mean() if len(apart) else 0.0 * layer.places.lengths.sum()
        weights = weights_of_means({"events": len(queries)}, layer.logits.device)
        total = total + weights.get("events", float(rank_and_ranks()[1])) * (FOREGROUND * focal + OVERLAP * spans)
        parts = {"events": focal.detach(), "spans": spans.detach()}
    counted = count_loss(expected, counts)
    return total + COUNT * counted, parts | {"count": counted.detach()}, pairs


def count_loss(expected: Tensor, counts: Tensor) -> Tensor:
    """The mean over items of ``expected - counts log(expected)``, least where what is expected (items) is the count: a scalar."""
    return (expected - counts * expected.log()).mean()


def _turn(logits: Tensor) -> Tensor:
    """What each query (n) adds to the focal loss as an event, less what it adds as none."""
    probability = logits.sigmoid().clamp(1e-6, 1 - 1e-6)
    event = -POSITIVE_SHARE * (1 - probability) ** GAMMA * probability.log()
    none = -(1 - POSITIVE_SHARE) * probability**GAMMA * (1 - probability).log()
    return event - none
