"""The one trainer of the suite's tasks: videos with their truth, a model, and what it learns by; a task adds only what is its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn

from vlm.data.toybox.vocabulary import VERSION
from vlm.encoders.base import Encoder
from vlm.errors import InputError
from vlm.models.model import VideoTextModel, read_config
from vlm.models.shipped import shipped_with
from vlm.models.suite.folder import SavedModel
from vlm.models.suite.front import FrontConfig, fronted
from vlm.models.suite.rows import Rows, Standardised
from vlm.train.examples import FeatureSource
from vlm.train.held_out import held_out_loss
from vlm.train.loop import LoopConfig, SharedSource, run
from vlm.train.ranks import rank_and_ranks, share
from vlm.train.recipe import read_recipe
from vlm.train.suite_data import SuiteDataConfig
from vlm.types import Features

# Vectors from which a model learns how the encoder's vectors are spread.
MOST_VECTORS = 20_000
Given = Callable[[Encoder, tuple[str, ...], Any], Any]
# What every config of a model holds that no recipe says; one that has no such field is given none.
GIVEN: dict[str, Given] = {
    "encoder": lambda encoder, classes, data: encoder.name,
    "fingerprint": lambda encoder, classes, data: encoder.fingerprint,
    "dim": lambda encoder, classes, data: encoder.dim,
    "classes": lambda encoder, classes, data: classes,
    "frames_per_second": lambda encoder, classes, data: data.frames_per_second,
    "front": lambda encoder, classes, data: None if (model := front_of(encoder, data)) is None else FrontConfig.of(read_config(model)),
}

T = TypeVar("T")


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


class TaskVideos(Protocol):
    """Videos with their truth, whose shape is the task's own."""

    @property
    def ids(self) -> Sequence[str]:
        """Their names."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of all that may be told of them."""


@dataclass(frozen=True, slots=True)
class OwnFiles:
    """One's own videos as the command line names them.

    Attributes:
        annotations, videos: the file or folder of what is known of them, and the folder of their files.
        subset, label_rate: ``--subset`` and ``--label-rate``; None where they are not given.
        data: the section [data] of the recipe.
    """

    annotations: Path
    videos: Path
    subset: str | None
    label_rate: float | None
    data: Any

    @property
    def rate(self) -> float:
        """Frames a second of the rows."""
        rate: float = self.data.frames_per_second
        return rate


def learn_spread(model: Any, videos: Any) -> None:
    """Let a model that has a part ``standardise`` learn how the vectors of ``videos`` are spread."""
    spread: Standardised = model.standardise
    spread.learn(torch.cat(some_videos(model, videos.features)))


def some_videos(model: Any, features: FeatureSource) -> list[Tensor]:
    """Rows (n, d) of each of the first videos, about MOST_VECTORS together or all, as a model sees them: behind its front."""
    shown: list[Tensor] = []
    for number in range(len(features)):
        rows = Rows.side_by_side([torch.from_numpy(np.ascontiguousarray(features[number].vectors, dtype=np.float32))])
        shown.append(fronted(getattr(model, "front", None), rows).values)
        if sum(map(len, shown)) >= MOST_VECTORS:
            break
    return shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a task of the suite adds to what all share; each module ``suite_…`` of train holds one.

    Attributes:
        model: a SavedModel; its ``kind`` names the task in recipes. The section ``[model]`` is its config without ``given``.
        training: the module that the loop trains, for a model: a batch in, the loss and its parts out.
        worlds: the videos (TaskVideos) of a split of Toybox, of ``(data, encoder, cache)``, ``split`` and ``workers``.
        files: one's own videos (TaskVideos), of ``(files, encoder, cache)``.
        classes: the names of all that may be told of worlds of Toybox, for its section ``[data]``.
        source: batches (SuiteSource) of ``(videos, data, model)`` with a ``seed``.
        given: fields of the model's config that the encoder, the classes and ``[data]`` give, each by a function of the three.
        data: the section ``[data]``: SuiteDataConfig, or a subclass with fields that only this task has.
        prepare: what a new model takes from the videos before it learns.
    """

    model: type[SavedModel]
    training: Callable[[Any], nn.Module]
    worlds: Callable[..., Any]
    files: Callable[[OwnFiles, Encoder, Path], Any]
    classes: Callable[[Any], tuple[str, ...]]
    source: Callable[..., SharedSource]
    given: Mapping[str, Given] = field(default_factory=dict)
    data: type[SuiteDataConfig] = SuiteDataConfig
    prepare: Callable[[Any, Any], None] = learn_spread

    @property
    def name(self) -> str:
        """As recipes and the folders of models name it."""
        return self.model.kind

    @property
    def section(self) -> type[Any]:
        """The section ``[model]`` of its recipe."""
        return _section(self.model.config_type, frozenset(GIVEN | dict(self.given)))

    @property
    def sections(self) -> dict[str, type[Any]]:
        """All sections of its recipe."""
        return {"model": self.section, "data": self.data, "loop": LoopConfig}

    def build(self, config: Any, classes: Sequence[str], encoder: Encoder, data: SuiteDataConfig) -> Any:
        """A new model for an encoder and classes, of the section ``config`` of a recipe."""
        names = {one.name for one in fields(self.model.config_type)}
        given = {name: make(encoder, tuple(classes), data) for name, make in (GIVEN | dict(self.given)).items() if name in names}
        held = {one.name: getattr(config, one.name) for one in fields(config)}
        return self.model(self.model.config_type(**given, **held))


def front_of(encoder: Encoder, data: SuiteDataConfig) -> Path | None:
    """The folder of the trained model whose tracks rows pass first: of what comes with the encoder, where ``[data] front`` is ``shipped``
    and any does."""
    return shipped_with(encoder.fingerprint) if data.front == "shipped" else None


def _section(config: type[Any], given: frozenset[str]) -> type[Any]:
    """A config without the fields that are not a recipe's to say."""
    kinds = get_type_hints(config)
    own = [(one.name, kinds[one.name], field(default=one.default)) for one in fields(config) if one.name not in given]
    return make_dataclass(f"{config.__name__}Section", own, frozen=True, slots=True, kw_only=True)


def train_suite(
    task: Task,
    recipe: Path,
    out: Path,
    encoder: Encoder,
    *,
    cache: Path,
    videos: TaskVideos | None = None,
    resume: bool = False,
    workers: int = 1,
    **instead: Any,
) -> Any:
    """Train by a recipe, give the model, and write it to ``out/model``; averaged weights. Early stop looks at the split val of Toybox.

    Args:
        cache: where features are kept. workers: processes that render.
        videos: to learn from, instead of the recipe's worlds of Toybox; there is no early stop then.
        instead: of the recipe's ``seed`` and ``steps``, and of any field of its sections ``model`` and ``data``.

    Raises:
        InputError: the recipe breaks a rule.
    """
    made = read_recipe(recipe, task.sections)
    wanted = {name: value for name, value in instead.items() if value is not None}
    loop: LoopConfig = replace(made["loop"], **{name: wanted.pop(name) for name in ("seed", "steps") if name in wanted})
    data = _replaced(made["data"], wanted)
    config = _replaced(made["model"], wanted)
    if wanted:
        raise InputError(f"a recipe of {task.name} has no {', '.join(map(repr, wanted))} to be replaced")
    shown = task.worlds(data, encoder, cache, split="train", workers=workers) if videos is None else videos
    torch.manual_seed(loop.seed)
    model = task.build(config, shown.classes, encoder, data)
    source = task.source(shown, data, model, seed=loop.seed)
    if getattr(model, "front", None) is not None:
        trained = front_of(encoder, data)
        assert trained is not None, "the model was built with its tracks"
        model.front.take(VideoTextModel.from_pretrained(trained))
    task.prepare(model, shown)
    validate = None
    if loop.patience and videos is None:
        few = replace(data, worlds=max(data.batch, data.worlds // 8))
        unseen = task.worlds(few, encoder, cache, split="val", workers=workers)
        validate = held_out_loss(task.source(unseen, few, model, seed=loop.seed), batches=max(1, len(unseen.ids) // data.batch))
    module = task.training(model)
    identity = json.dumps([task.name, VERSION, encoder.fingerprint, asdict(model.config), asdict(data), list(shown.ids)])
    # On a processor the model takes far longer than its clips do; a GPU would wait for one thread that draws or decodes them.
    makers = workers if getattr(source, "makes_pixels", False) and torch.cuda.is_available() else 0
    average = run(module, source, loop, out, resume=resume, identity=identity, workers=makers, validate=validate)
    module.load_state_dict(average.values)
    model.cpu().eval()
    if rank_and_ranks()[0] == 0:
        model.save_pretrained(out / "model")
    return model


def _replaced(config: Any, wanted: dict[str, Any]) -> Any:
    """A config with those of ``wanted`` that are its fields, which are taken out."""
    names = [name for name in wanted if name in asdict(config)]
    return replace(config, **{name: wanted.pop(name) for name in names})
