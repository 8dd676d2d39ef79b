"""The one training loop. What is learnt comes in as a module, from what as a ``Source``, how as a ``LoopConfig``.

A run is a pure function of these: batch i is a function of i, the learning rate of the step, and all else is in the checkpoint. Killed at
any step and resumed, it gives the loss curve and the weights of the run that was not killed, bit for bit, on the same machine and number
of threads. How many processes make the batches changes nothing. Ranks of torchrun share each batch: two learn what one does, but for the
rounding of sums.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from vlm.encoders.device import has_bfloat16
from vlm.errors import CheckpointUnusable, InputError
from vlm.train.checkpoint import load_checkpoint, save_checkpoint
from vlm.train.faults import broken_place, diverged_gradient, diverged_loss, too_large
from vlm.train.log import Log
from vlm.train.optim import Average, Muon, learning_rate, optimisers
from vlm.train.ranks import everywhere, mean_figures, of_all_ranks, random_states, rank_and_ranks, set_random_states, wait_for_all
from vlm.train.recompute import recomputing_module
from vlm.train.watch import Validate, Watch

# Batches that each process makes ahead.
AHEAD = 4
# What does not change what is learnt, and may be another on resuming.
FREE = frozenset({"save_every", "log_every", "gradient_checkpointing", "tensorboard"})
# What came later than some checkpoints: those were made as by its default.
LATER = frozenset({"gate_rate", "matrix_rate", "validate_every", "patience", "gradient_checkpointing", "tensorboard"})

# Under which name a checkpoint holds the state of an optimiser.
STATES: dict[type[torch.optim.Optimizer], str] = {torch.optim.AdamW: "optimiser", Muon: "muon"}


class Source(Protocol):
    """Where batches come from. With workers it must be possible to pickle it."""

    def batch(self, index: int) -> Any:
        """Batch number ``index``, on the CPU: the same whenever and wherever it is asked for."""

    def describe_batch(self, index: int) -> str:
        """The ids of what is in the batch, for a message about it."""


@runtime_checkable
class SharedSource(Source, Protocol):
    """A source that several ranks can share."""

    def part(self, index: int, rank: int, ranks: int) -> Any:
        """What ``rank`` (from 0) learns from of batch ``index``: parts of one size (``ranks.share``) that together are the batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """How to optimise.

    Attributes:
        seed: of the weights' beginning and of anything random in ``module``.
        steps: of the optimiser; each takes ``accumulation`` batches.
        peak_rate, warmup_steps, decay_steps, floor: the learning rate, see optim.learning_rate; decay_steps 0 is all after the warm-up.
        gate_rate: how many times the learning rate is that of gates, which begin at zero; see optim.parameter_groups.
        matrix_rate: how many times the learning rate is that of matrices, which Muon then optimises; 0: AdamW does. See optim.optimisers.
        clip_norm: largest norm of the gradient.
        average_decay: of the exponential moving average of the weights.
        precision: bfloat16 runs matrix products in it; weights, sums and the loss stay in float32. auto is bfloat16 where the device has it
            in hardware: elsewhere it is a hundred times slower than float32.
        validate_every, patience: steps between measurements, and how many in a row may bring no gain before the end (0: any); see Watch.
        gradient_checkpointing: compute the layers of stacks and adapters again in the backward pass, for less memory.
        tensorboard: write the figures for TensorBoard too, into ``tensorboard`` beside the log.
        save_every, log_every: steps.
    """

    seed: int = 0
    steps: int
    accumulation: int = 1
    peak_rate: float = 1e-3
    warmup_steps: int = 100
    decay_steps: int = 0
    floor: float = 0.0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    gate_rate: float = 1.0
    matrix_rate: float = 0.0
    clip_norm: float = 1.0
    average_decay: float = 0.998
    precision: str = "float32"
    validate_every: int = 200
    patience: int = 0
    gradient_checkpointing: bool = False
    tensorboard: bool = False
    save_every: int = 200
    log_every: int = 20

    def __post_init__(self) -> None:
        for name in ("steps", "accumulation", "validate_every", "save_every", "log_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.matrix_rate < 0:
            raise InputError(f"matrix_rate must be 0 (AdamW for matrices too) or more, got {self.matrix_rate}")
        if self.patience < 0:
            raise InputError(f"patience must be 0 (never stop early) or more, got {self.patience}")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise InputError(f"precision must be 'auto', 'float32' or 'bfloat16', got {self.precision!r}")


def run(
    module: nn.Module,
    source: Source,
    config: LoopConfig,
    folder: Path,
    *,
    resume: bool = False,
    identity: str = "",
    stop_after: int | None = None,
    workers: int = 0,
    validate: Validate | None = None,
) -> Average:
    """Train to the end and return the averaged weights; ``folder`` then holds the log and the last checkpoint.

    Under torchrun every rank calls it alike; only the first writes.

    Args:
        module: everything trainable. Called with a batch, it gives the loss (a scalar to be lowered) and figures for the log. On several
            ranks the mean of their losses must be the loss of the whole batch; see vlm.train.ranks.
        resume: go on from the checkpoint in ``folder``, or begin where there is none.
        identity: what else the run depends on (data, architecture); a checkpoint of another identity is refused.
        stop_after: end after this step as a time limit would; the learning rate still aims at ``config.steps``.
        workers: processes that make batches; 0 is one thread of this process, one batch ahead.
        validate: measures the module, then with averaged weights and in evaluation, every ``config.validate_every`` steps: a figure to be
            raised. The best weights that it measured are returned.

    Raises:
        InputError: ``folder`` holds a checkpoint and ``resume`` is False; or several ranks are to share a source that has no parts.
        CheckpointUnusable: damaged, or made by another recipe. CheckpointUnsaved: it cannot be written; the one before remains.
        TrainingDiverged: a loss that is NaN or infinite; the last good checkpoint remains.
        TrainingTooLarge: a step does not fit the memory of the device.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if config.precision == "auto":
        config = replace(config, precision="bfloat16" if has_bfloat16(Accelerator(cpu=_only_processors()).device) else "float32")
    watch = Watch(validate, every=config.validate_every, patience=config.patience)
    learner = _Learner(module, source, config, folder)
    first = learner.restore(_digest(config, identity), watch, resume=resume)
    last = first if watch.is_over else config.steps if stop_after is None else min(stop_after, config.steps)
    batches = _batches(_own_part(source), first * config.accumulation, last * config.accumulation, workers=workers)
    log = None
    if rank_and_ranks()[0] == 0:
        log = Log(folder, total=config.steps, first_step=first, every=config.log_every, tensorboard=config.tensorboard)
    recomputed = recomputing_module(learner.bare) if config.gradient_checkpointing else nullcontext()
    with closing(log) if log else nullcontext(), closing(batches), recomputed:
        for step in range(first, last):
            figures = learner.learn(step, batches)
            figures |= watch.look(step, learner.bare, learner.average)
            if log:
                log.write(step, figures)
            if (step + 1) % config.save_every == 0 or step + 1 == last or watch.is_over:
                state = learner.state(step + 1, _digest(config, identity), watch)
                if log:
                    log.flush()
                    save_checkpoint(folder, state)
                wait_for_all()
            if watch.is_over:
                if log:
                    log.say(watch.told(step))
                break
    return watch.best(learner.average)


class _Learner:
    """A module and all that changes it: one call of ``learn`` is one step."""

    def __init__(self, module: nn.Module, source: Source, config: LoopConfig, folder: Path) -> None:
        self._source, self._config, self._folder = source, config, folder
        # Parts of a module may have nothing to do in a batch.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        # Its precision is one for the whole process; ours may be another in the next run.
        self._accelerator = Accelerator(mixed_precision="no", cpu=_only_processors(), kwargs_handlers=[unused])
        # The run owns its process: what draws without a generator (dropout) must be resumable too, and differ between ranks.
        torch.manual_seed(config.seed + rank_and_ranks()[0])
        self._module = self._accelerator.prepare(module)
        self.bare: nn.Module = self._accelerator.unwrap_model(self._module)
        made = optimisers(
            self.bare.named_parameters(),
            rate=config.peak_rate,
            weight_decay=config.weight_decay,
            betas=config.betas,
            gate_rate=config.gate_rate,
            matrix_rate=config.matrix_rate,
            fused=self._accelerator.device.type == "cuda",
        )
        self._optimisers = {STATES[type(one)]: self._accelerator.prepare(one) for one in made}
        self.average = Average(self.bare, decay=config.average_decay)

    def learn(self, step: int, batches: Generator[tuple[int, Any], None, None]) -> dict[str, float]:
        """Step ``step`` (from 0); its figures."""
        rate = _rate(self._config, step)
        for optimiser in self._optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = rate * group.get("scale", 1.0)
        sums: dict[str, float] = {}
        index, batch = -1, None
        try:
            for _ in range(self._config.accumulation):
                index, batch = next(batches)
                for name, value in self._backward(step, index, batch).items():
                    sums[name] = sums.get(name, 0.0) + value / self._config.accumulation
            norm = float(self._accelerator.clip_grad_norm_(self._module.parameters(), self._config.clip_norm))
            if not math.isfinite(norm):
                raise diverged_gradient(self.bare, step, self._source.describe_batch(index), self._folder)
            for optimiser in self._optimisers.values():
                optimiser.step()
        except torch.OutOfMemoryError as error:
            raise too_large(error, step, self._source.describe_batch(index), batch) from error
        for optimiser in self._optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        self.average.update(self.bare, step)
        return mean_figures(sums) | {"gradient": norm, "rate": rate}

    def _backward(self, step: int, index: int, batch: Any) -> dict[str, float]:
        """Add the gradient of one batch; its loss and figures."""
        loss, figures = self._forward(self._module, batch)
        value = float(loss.detach())
        if not everywhere(math.isfinite(value), self._accelerator.device):
            place = broken_place(self.bare, lambda: self._forward(self.bare, batch))
            raise diverged_loss(value, step, self._source.describe_batch(index), place, self._folder)
        self._accelerator.backward(loss / self._config.accumulation)
        return {"loss": value} | {name: float(figure) for name, figure in figures.items()}

    def _forward(self, module: Callable[[Any], tuple[Tensor, dict[str, Tensor]]], batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.autocast(self._accelerator.device.type, torch.bfloat16, enabled=self._config.precision == "bfloat16"):
            loss, figures = module(batch)
        return loss.to(torch.promote_types(loss.dtype, torch.float32)), figures

    def state(self, step: int, digest: str, watch: Watch) -> dict[str, Any]:
        """The checkpoint after ``step`` steps; every rank must ask for it."""
        return {
            "step": step,
            "digest": digest,
            "module": self.bare.state_dict(),
            **{name: optimiser.state_dict() for name, optimiser in self._optimisers.items()},
            "average": self.average.values,
            "random": random_states(self._accelerator.device),
            "watch": watch.state(),
        }

    def restore(self, digest: str, watch: Watch, *, resume: bool) -> int:
        """The step to begin with, everything set as it was before that step."""
        state, folder = load_checkpoint(self._folder), str(self._folder)
        steps = of_all_ranks(None if state is None else state["step"])
        if len(set(steps)) > 1:
            raise CheckpointUnusable(f"the ranks read checkpoints of steps {steps} in {folder!r}: give all of them the same shared folder")
        if state is None:
            return 0
        if not resume:
            raise InputError(f"{folder!r} holds a checkpoint of step {state['step']}: resume it (--resume) or name another folder")
        if state["digest"] != digest:
            raise CheckpointUnusable(
                f"the checkpoint in {folder!r} was made by another recipe: resume with that one, or name another folder"
            )
        self.bare.load_state_dict(state["module"])
        for name, optimiser in self._optimisers.items():
            optimiser.load_state_dict(state[name])
        self.average.values = {name: value.to(self.average.values[name].device) for name, value in state["average"].items()}
        random = state["random"]  # of checkpoints before there were ranks: one state
        set_random_states([[random]] if isinstance(random, Tensor) else random, self._accelerator.device)
        watch.restore(state.get("watch", {}), self._accelerator.device)
        return int(state["step"])


def _only_processors() -> bool:
    """Whether Accelerate must be told of processors in words: with several ranks it would guess a backend for GPUs that are not there."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available()


def _own_part(source: Source) -> Source:
    """What this rank learns from."""
    rank, ranks = rank_and_ranks()
    if ranks == 1:
        return source
    if not isinstance(source, SharedSource):
        raise InputError(
            f"{type(source).__name__} cannot be shared by {ranks} ranks: give it part(index, rank, ranks), or run it without torchrun"
        )
    return _Part(source, rank, ranks)


@dataclass(frozen=True, slots=True)
class _Part:
    """A rank's part of a source, as a source."""

    source: SharedSource
    rank: int
    ranks: int

    def batch(self, index: int) -> Any:
        return self.source.part(index, self.rank, self.ranks)

    def describe_batch(self, index: int) -> str:
        return self.source.describe_batch(index)


def _batches(source: Source, first: int, last: int, *, workers: int) -> Generator[tuple[int, Any], None, None]:
    """Batches [first, last) with their numbers, in order, made ahead of time by a thread or by ``workers`` processes."""
    if workers and last > first:
        # Spawned, not forked: torch's threads and a GPU's context do not survive a fork. A generator of its own: that of the process
        # belongs to the run.
        yield from DataLoader(
            _Numbered(source),
            sampler=range(first, last),
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=workers,
            prefetch_factor=AHEAD,
            multiprocessing_context="spawn",
            generator=torch.Generator(),
        )
        return
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(source.batch, first)
        for index in range(first, last):
            batch = coming.result()
            if index + 1 < last:
                coming = ahead.submit(source.batch, index + 1)
            yield index, batch


class _Numbered(Dataset[Any]):
    """A source as torch's loader takes it."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self._source.batch(index)


def _unchanged(item: Any) -> Any:
    return item


def _rate(config: LoopConfig, step: int) -> float:
    decay = config.decay_steps or None
    return learning_rate(step, peak=config.peak_rate, warmup=config.warmup_steps, total=config.steps, decay=decay, floor=config.floor)


def settings(config: LoopConfig) -> dict[str, Any]:
    """The config as a dictionary for identities: what came later and is at its default is left out, so that older runs stay the same."""
    defaults = {field.name: field.default for field in fields(config)}
    return {name: value for name, value in asdict(config).items() if name not in LATER or value != defaults[name]}


def _digest(config: LoopConfig, identity: str) -> str:
    """What must be the same for a resumed run to be the same run."""
    kept = {name: value for name, value in settings(config).items() if name not in FREE}
    return hashlib.sha256(json.dumps([kept, identity], sort_keys=True).encode()).hexdigest()
