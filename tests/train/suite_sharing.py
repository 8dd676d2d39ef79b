"""The suite's tasks on several ranks, as a program: ``torchrun --nproc-per-node 2 -m tests.train.suite_sharing FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch import distributed as dist

from tests.train.suite_toys import TOYS, ToyEncoder
from vlm.train.loop import SharedSource
from vlm.train.suite_command import task_named


def made(name: str) -> tuple[nn.Module, SharedSource]:
    """What learns and from what."""
    task, toy = task_named(name), TOYS[name]
    data = task.data(batch=4, longest=30)
    videos = toy.videos(8)
    torch.manual_seed(0)
    model = task.build(task.section(**{**toy.model, **toy.steady}), videos.classes, ToyEncoder(), data)  # type: ignore[arg-type]
    task.prepare(model, videos)
    return task.training(model), task.source(videos, data, model, seed=0)


def learn(name: str, rank: int, ranks: int) -> list[tuple[float, dict[str, Tensor]]]:
    """The loss and the gradients of some batches: means over ranks."""
    module, source = made(name)
    found = []
    for index in range(3):
        module.zero_grad(set_to_none=False)
        loss, _ = module(source.part(index, rank, ranks))
        loss.backward()
        total = loss.detach().clone()
        gradients = {key: torch.zeros_like(p) if p.grad is None else p.grad.clone() for key, p in module.named_parameters()}
        if ranks > 1:
            for value in (total, *gradients.values()):
                dist.all_reduce(value)
        found.append((float(total) / ranks, {key: value / ranks for key, value in gradients.items()}))
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    learnt = {name: learn(name, dist.get_rank(), dist.get_world_size()) for name in TOYS}
    if dist.get_rank() == 0:
        torch.save(learnt, Path(sys.argv[1]) / "found.pt")
    dist.destroy_process_group()
