"""Several processes that learn as one: each has its part of every batch, and features, figures and random numbers come together here.

The loss of a rank must be such that the mean over ranks is the loss of the whole batch: a mean over its own part, all parts being equally
large, or a loss of ``gathered`` features, which every rank computes for the whole batch. The loop averages the gradients over ranks, and
with either they are those of the whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch import distributed as dist

from vlm.errors import InputError


def rank_and_ranks() -> tuple[int, int]:
    """The number of this process, from 0, and how many there are; (0, 1) outside torchrun."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def is_first() -> bool:
    """Whether this is the process that writes and tells; known before the ranks have met."""
    return int(os.environ.get("RANK", "0")) == 0


def share(count: int, rank: int, ranks: int) -> slice:
    """Which of ``count`` items are those of ``rank``: equal stretches, one after the other.

    Raises:
        InputError: the items cannot be shared evenly.
    """
    if count % ranks:
        raise InputError(f"a batch of {count} cannot be shared evenly by {ranks} ranks: make it a multiple of {ranks}, or run fewer ranks")
    return slice(rank * count // ranks, (rank + 1) * count // ranks)


def gathered(rows: Tensor) -> Tensor:
    """The rows (n, ...) of all ranks (ranks * n, ...), in the order of ranks, with gradient; ``rows`` themselves on one rank.

    Every rank must call it with the same shape.
    """
    _, ranks = rank_and_ranks()
    return rows if ranks == 1 else cast(Tensor, _Gather.apply(rows))


class _Gather(torch.autograd.Function):
    """All rows forward; backward the sum over ranks of the gradients of the own rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rank, ranks = rank_and_ranks()
        parts = [torch.empty_like(rows) for _ in range(ranks)]
        dist.all_gather(parts, rows.contiguous())
        ctx.own = slice(rank * len(rows), (rank + 1) * len(rows))
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.own]


def everywhere(is_true: bool, device: torch.device) -> bool:
    """Whether it is true on all ranks."""
    _, ranks = rank_and_ranks()
    if ranks == 1:
        return is_true
    held = torch.tensor(int(is_true), device=device)
    dist.all_reduce(held, dist.ReduceOp.MIN)
    return bool(held)


def weights_of_means(counts: Mapping[str, int], device: torch.device) -> dict[str, float]:
    """What the means of this rank must weigh, so that their plain mean over ranks is the mean over all that was counted on any rank.

    Args:
        counts: over how many things each mean is; one over nothing counts as 0 here, or as a sum divided by 1. The same names on all ranks.

    What no rank counted has no weight. On one rank all weights are exactly 1.
    """
    _, ranks = rank_and_ranks()
    if ranks == 1:
        return {name: 1.0 for name, count in counts.items() if count}
    totals = torch.tensor(list(counts.values()), device=device)
    dist.all_reduce(totals)
    return {name: ranks * max(1, count) / total for (name, count), total in zip(counts.items(), totals.tolist(), strict=True) if total}


def mean_figures(figures: Mapping[str, float]) -> dict[str, float]:
    """Each figure's mean over those ranks that have it."""
    held = of_all_ranks(figures)
    names = dict.fromkeys(name for one in held for name in one)
    found = {name: [one[name] for one in held if name in one] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items()}


def of_all_ranks(held: Any) -> list[Any]:
    """What each rank holds, in the order of ranks."""
    _, ranks = rank_and_ranks()
    if ranks == 1:
        return [held]
    every: list[Any] = [None] * ranks
    dist.all_gather_object(every, held)
    return every


def wait_for_all() -> None:
    """Go on when all ranks have come here."""
    of_all_ranks(None)


def random_states(device: torch.device) -> list[list[Tensor]]:
    """Of each rank: the state of the generator of its processor, and of its GPU where it runs on one."""
    own = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])
    return of_all_ranks(own)


def set_random_states(states: list[list[Tensor]], device: torch.device) -> None:
    """Go on with the random numbers of ``random_states``; a rank that was not there keeps its own."""
    rank, _ = rank_and_ranks()
    if rank < len(states):
        processor, *gpu = states[rank]
        torch.set_rng_state(processor)
        if gpu and device.type == "cuda":
            torch.cuda.set_rng_state(gpu[0], device)
