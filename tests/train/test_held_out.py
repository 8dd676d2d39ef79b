"""Early stop of recipes: what is measured, and on which split."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.train.test_retrieval import RECIPE, Encoder
from vlm.train.held_out import held_out_loss
from vlm.train.log import read_log
from vlm.train.retrieval import train_retrieval


class Numbers:
    def batch(self, index: int) -> Tensor:
        return self.part(index, 0, 1)

    def part(self, index: int, rank: int, ranks: int) -> Tensor:
        return torch.tensor([float(index), index + 1.0])

    def describe_batch(self, index: int) -> str:
        return f"batch {index}"


class Mean(nn.Module):
    def forward(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return batch.mean(), {}


def test_the_figure_is_minus_the_mean_loss_of_the_first_batches() -> None:
    assert held_out_loss(Numbers(), batches=3)(Mean()) == pytest.approx(-1.5)


def test_a_recipe_with_patience_measures_on_held_out_videos_and_keeps_the_best(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE + "validate_every = 1\npatience = 2\n")
    train_retrieval(recipe, tmp_path / "out", Encoder(), cache=tmp_path / "cache")  # type: ignore[arg-type]
    assert all("validation" in line for line in read_log(tmp_path / "out"))
    assert len(list((tmp_path / "cache").glob("features-*"))) == 2  # features of train and of val
