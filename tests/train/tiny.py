"""A task small enough for many runs, also run as a program so that it can be killed: ``python tiny.py FOLDER STEPS [--resume]``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from vlm.train.loop import LoopConfig, run
from vlm.train.optim import Average

CONFIG = LoopConfig(steps=12, accumulation=2, peak_rate=0.05, warmup_steps=3, save_every=4, log_every=100, seed=3)


class Regression(nn.Module):
    """Learns a straight line, with dropout: a part of the loss that draws from the process's own generator."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        x, y = batch
        error = self.layers(x)[:, 0] - y
        return error.square().mean(), {"worst": error.detach().abs().max()}


def regression() -> Regression:
    torch.manual_seed(0)
    return Regression()


class Line:
    def __init__(self, *, poison: int | None = None) -> None:
        self.poison = poison

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(index))
        return x, x.sum(dim=1) * (float("nan") if index == self.poison else 1.0)

    def describe_batch(self, index: int) -> str:
        return f"batch {index} of the line"


def train(folder: Path, config: LoopConfig = CONFIG, *, resume: bool = False, stop_after: int | None = None, workers: int = 0) -> Average:
    return run(regression(), Line(), config, folder, resume=resume, stop_after=stop_after, workers=workers)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), replace(CONFIG, steps=int(sys.argv[2]), save_every=1), resume="--resume" in sys.argv)
