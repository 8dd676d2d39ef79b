"""The one trainer of the suite's tasks: videos with their truth, a model, and what it learns by; a task adds only what is its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from vlm.data.toybox.vocabulary import VERSION
from vlm.encoders.base import Encoder
from vlm.errors import InputError
from vlm.models.suite.rows import Standardised
from vlm.train.examples import FeatureSource
from vlm.train.held_out import held_out_loss
from vlm.train.loop import LoopConfig, run
from vlm.train.ranks import rank_and_ranks, share
from vlm.train.recipe import read_recipe
from vlm.train.suite_data import SuiteDataConfig
from vlm.types import Features

# Vectors from which a model learns how the encoder's vectors are spread.
MOST_VECTORS = 20_000
# The sections of every recipe beside [model], which is the task's.
SECTIONS: dict[str, type[Any]] = {"data": SuiteDataConfig, "loop": LoopConfig}

T = TypeVar("T")


class SuiteModel(Protocol):
    """What a model of the suite offers the trainer; it is a module too."""

    standardise: Standardised
    config: Any

    def save_pretrained(self, folder: Path | str, *, card: str = "") -> Path:
        """Write its folder."""


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """Videos as a model takes them, frames (b, t, d) with mask (b, t), times (m) of the real rows and durations (b); and the truth."""

    frames: Tensor
    mask: Tensor
    times: Tensor
    durations: Tensor
    truth: T

    @property
    def lengths(self) -> Tensor:
        """How many rows each video has (b)."""
        return self.mask.sum(dim=1)


@dataclass(frozen=True, slots=True)
class SuiteSource(Generic[T]):
    """Batches of videos, each video once an epoch; of a longer one than ``longest`` rows a stretch, each time another.

    Attributes:
        cut: the truth of video ``number`` between rows ``first`` and ``last``. collate: the truth of a batch from that of its videos.
    """

    features: FeatureSource
    cut: Callable[[int, int, int, Features], Any]
    collate: Callable[[Batch[Any]], Batch[T]]
    config: SuiteDataConfig
    seed: int

    def __post_init__(self) -> None:
        if self.config.batch > len(self.features):
            raise InputError(f"batch {self.config.batch} is more than the {len(self.features)} videos there are")

    def numbers(self, index: int) -> list[int]:
        """The videos of batch ``index``: the same whenever it is asked for."""
        size = self.config.batch
        epoch, number = divmod(index, len(self.features) // size)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.features))
        chosen: list[int] = order[number * size : (number + 1) * size].tolist()
        return chosen

    def batch(self, index: int) -> Batch[T]:
        """The videos with their truth."""
        return self.part(index, 0, 1)

    def part(self, index: int, rank: int, ranks: int) -> Batch[T]:
        """A rank's share of the videos."""
        shown, truths = [], []
        for number in self.numbers(index)[share(self.config.batch, rank, ranks)]:
            whole = self.features[number]
            rows = len(whole.times)
            random = np.random.default_rng([self.seed, index, number])
            first = int(random.integers(0, max(0, rows - self.config.longest) + 1))
            last = min(rows, first + self.config.longest)
            shown.append(whole.part(first, last))
            truths.append(self.cut(number, first, last, whole))
        return self.collate(batch_of_videos(shown, truths))

    def describe_batch(self, index: int) -> str:
        """The videos of the batch."""
        return f"batch {index} with videos {self.numbers(index)}"


def batch_of_videos(shown: Sequence[Features], truth: T) -> Batch[T]:
    """Videos with a truth as one batch."""
    vectors = [torch.from_numpy(np.ascontiguousarray(one.vectors, dtype=np.float32)) for one in shown]
    lengths = torch.tensor([len(rows) for rows in vectors])
    return Batch(
        nn.utils.rnn.pad_sequence(vectors, batch_first=True),
        torch.arange(int(lengths.max())) < lengths[:, None],
        torch.from_numpy(np.concatenate([one.times for one in shown])),
        torch.tensor([one.end for one in shown], dtype=torch.float64),
        truth,
    )


class Task(Protocol):
    """What a task of the suite adds: its model, what it learns by, and from what."""

    name: str
    model: type[Any]  # the section [model] of its recipe

    def build(self, config: Any, classes: Sequence[str], encoder: Encoder, data: SuiteDataConfig) -> nn.Module:
        """A new model, a SuiteModel, for an encoder and classes."""

    def training(self, model: nn.Module) -> nn.Module:
        """The module that the loop trains: a batch in, the loss and its parts out."""

    def videos(self, data: SuiteDataConfig, encoder: Encoder, cache: Path, *, split: str, workers: int) -> Any:
        """The videos of a split of Toybox, with ``features`` and ``classes``."""

    def source(self, videos: Any, data: SuiteDataConfig, model: nn.Module, *, seed: int) -> SuiteSource[Any]:
        """Batches of videos."""


def train_suite(
    task: Task,
    recipe: Path,
    out: Path,
    encoder: Encoder,
    *,
    cache: Path,
    videos: Any = None,
    resume: bool = False,
    workers: int = 1,
    **instead: Any,
) -> nn.Module:
    """Train by a recipe, and write the model to ``out/model``; averaged weights. Early stop looks at the split val of Toybox.

    Args:
        cache: where features are kept. workers: processes that render.
        videos: to learn from, instead of the recipe's worlds of Toybox; there is no early stop then.
        instead: of the recipe's ``seed`` and ``steps``, and of any field of its sections ``model`` and ``data``.

    Raises:
        InputError: the recipe breaks a rule.
    """
    made = read_recipe(recipe, {"model": task.model, **SECTIONS})
    wanted = {name: value for name, value in instead.items() if value is not None}
    loop: LoopConfig = replace(made["loop"], **{name: wanted.pop(name) for name in ("seed", "steps") if name in wanted})
    data = _replaced(made["data"], wanted)
    config = _replaced(made["model"], wanted)
    if wanted:
        raise InputError(f"a recipe of {task.name} has no {', '.join(map(repr, wanted))} to be replaced")
    own = videos is not None
    videos = videos if own else task.videos(data, encoder, cache, split="train", workers=workers)
    torch.manual_seed(loop.seed)
    model = task.build(config, videos.classes, encoder, data)
    source = task.source(videos, data, model, seed=loop.seed)
    standardised(model).learn(some_vectors(videos.features))
    validate = None
    if loop.patience and not own:
        few = replace(data, worlds=max(data.batch, data.worlds // 8))
        shown = task.videos(few, encoder, cache, split="val", workers=workers)
        validate = held_out_loss(task.source(shown, few, model, seed=loop.seed), batches=max(1, len(shown.features) // data.batch))
    module = task.training(model)
    identity = json.dumps([task.name, VERSION, encoder.fingerprint, asdict(model_config(model)), asdict(data), list(videos.ids)])
    average = run(module, source, loop, out, resume=resume, identity=identity, validate=validate)
    module.load_state_dict(average.values)
    model.cpu().eval()
    if rank_and_ranks()[0] == 0:
        as_suite(model).save_pretrained(out / "model")
    return model


def some_vectors(features: FeatureSource) -> Tensor:
    """Vectors (n, d) of the first videos, about MOST_VECTORS or all."""
    found: list[np.ndarray] = []
    for number in range(len(features)):
        found.append(features[number].vectors)
        if sum(map(len, found)) >= MOST_VECTORS:
            break
    return torch.from_numpy(np.concatenate(found))


def as_suite(model: Any) -> SuiteModel:
    """The model by what the trainer needs of it."""
    found: SuiteModel = model
    return found


def standardised(model: nn.Module) -> Standardised:
    """The part of a model that knows how vectors are spread."""
    return as_suite(model).standardise


def model_config(model: nn.Module) -> Any:
    """The config of a model of the suite."""
    return as_suite(model).config


def _replaced(config: Any, wanted: dict[str, Any]) -> Any:
    """A config with those of ``wanted`` that are its fields, which are taken out."""
    names = [name for name in wanted if name in asdict(config)]
    return replace(config, **{name: wanted.pop(name) for name in names})
