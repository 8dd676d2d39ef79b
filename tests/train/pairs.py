"""A contrastive task for several ranks, also run as a program: ``torchrun --nproc-per-node 2 -m tests.train.pairs FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.errors import TrainingDiverged
from vlm.train.loop import LoopConfig, run
from vlm.train.losses.contrastive import info_nce
from vlm.train.ranks import gathered, rank_and_ranks, share

CONFIG = LoopConfig(steps=6, accumulation=2, peak_rate=0.05, warmup_steps=2, save_every=2, log_every=100, seed=3)


class Contrast(nn.Module):
    """Two small towers, InfoNCE over the whole batch, and a loss that is a mean over the own part. In float64: rounding is no excuse."""

    def __init__(self, dropout: float, *, chunk: int | None) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Linear(5, 8), nn.Dropout(dropout), nn.GELU(), nn.Linear(8, 4))
        self.text = nn.Linear(5, 4)
        self.unused = nn.Linear(2, 2)
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        self.chunk = chunk

    def forward(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        image, text = (F.normalize(tower(x), dim=-1) for tower, x in zip((self.image, self.text), batch, strict=True))
        contrast = info_nce(gathered(image), gathered(text), self.log_scale.exp(), chunk=self.chunk)
        length = self.text(batch[1]).square().mean()
        return contrast + 0.1 * length, {"contrast": contrast.detach(), "length": length.detach()}


def contrast(dropout: float = 0.0, *, chunk: int | None = None) -> Contrast:
    torch.manual_seed(0)
    return Contrast(dropout, chunk=chunk).double()


class Pairs:
    def __init__(self, size: int = 6, *, poison: int | None = None) -> None:
        self.size, self.poison = size, poison

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(2, self.size, 5, generator=torch.Generator().manual_seed(index), dtype=torch.float64)
        if index == self.poison:
            x[0, -1] = torch.nan
        return x[0], x[0] + 0.3 * x[1]

    def part(self, index: int, rank: int, ranks: int) -> tuple[Tensor, Tensor]:
        own = share(self.size, rank, ranks)
        image, text = self.batch(index)
        return image[own], text[own]

    def describe_batch(self, index: int) -> str:
        return f"batch {index} of the pairs"


def main(folder: Path) -> None:
    run(contrast(chunk=2), Pairs(), CONFIG, folder / "two")
    run(contrast(0.3), Pairs(), CONFIG, folder / "whole")
    run(contrast(0.3), Pairs(), CONFIG, folder / "cut", stop_after=3)
    run(contrast(0.3), Pairs(), CONFIG, folder / "cut", resume=True)
    try:
        run(contrast(), Pairs(poison=5), CONFIG, folder / "poisoned")
    except TrainingDiverged as error:
        (folder / f"said-{rank_and_ranks()[0]}").write_text(str(error))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
    torch.distributed.destroy_process_group()
