"""What recipes measure for early stop: the loss of batches that are not learnt from."""

from __future__ import annotations

from torch import nn

from vlm.train.loop import SharedSource
from vlm.train.ranks import mean_figures, rank_and_ranks
from vlm.train.watch import Validate

# Enough that the figure does not jump: some hundreds of examples.
BATCHES = 8


def held_out_loss(source: SharedSource, *, batches: int = BATCHES) -> Validate:
    """Measures a module by minus its mean loss over the first ``batches`` of ``source``; ranks share each of them."""

    def measure(module: nn.Module) -> float:
        rank, ranks = rank_and_ranks()
        losses = [float(module(source.part(index, rank, ranks))[0]) for index in range(batches)]
        return -mean_figures({"loss": sum(losses) / batches})["loss"]

    return measure
