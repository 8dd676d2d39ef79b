"""The suite's tasks on several ranks, as a program: ``torchrun --nproc-per-node 2 -m tests.train.suite_sharing FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch import distributed as dist

from tests.train.suite_toys import ToyEncoder, toy_rows, toy_videos
from vlm.train.suite import SuiteSource, Task
from vlm.train.suite_command import task_named
from vlm.train.suite_data import SuiteDataConfig
from vlm.train.suite_localization import LocalizerConfig
from vlm.train.suite_segmentation import SegmenterConfig

NAMES = ("localization", "segmentation")


def made(name: str) -> tuple[nn.Module, SuiteSource[object]]:
    """What learns and from what; drop path and hidden channels would draw other numbers on each rank."""
    task: Task = task_named(name)
    data = SuiteDataConfig(batch=4, longest=30)
    videos = (toy_videos if name == "localization" else toy_rows)(8)
    localizer = LocalizerConfig(width=16, d_state=2, branch_layers=2, drop_path=0.0)
    config = localizer if name == "localization" else SegmenterConfig(width=16, d_state=2, num_layers=3, channel_dropout=0.0)
    torch.manual_seed(0)
    model = task.build(config, videos.classes, ToyEncoder(), data)  # type: ignore[arg-type]
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
    learnt = {name: learn(name, dist.get_rank(), dist.get_world_size()) for name in NAMES}
    if dist.get_rank() == 0:
        torch.save(learnt, Path(sys.argv[1]) / "found.pt")
    dist.destroy_process_group()
