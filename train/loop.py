"""The one training loop. What is learnt comes in as a module, from what as a ``Source``, how as a ``LoopConfig``.

A run is a pure function of these: batch i is a function of i, the learning rate of the step, and all else is in the checkpoint. Killed at
any step and resumed, it gives the loss curve and the weights of the run that was not killed, bit for bit, on the same machine and number
of threads. How many processes make the batches changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from vlm.errors import CheckpointUnusable, InputError, TrainingDiverged
from vlm.train.checkpoint import load_checkpoint, save_checkpoint
from vlm.train.log import Log
from vlm.train.optim import Average, learning_rate, parameter_groups

# Batches that each process makes ahead.
AHEAD = 4


class Source(Protocol):
    """Where batches come from. With workers it must be possible to pickle it."""

    def batch(self, index: int) -> Any:
        """Batch number ``index``, on the CPU: the same whenever and wherever it is asked for."""

    def describe_batch(self, index: int) -> str:
        """The ids of what is in the batch, for a message about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """How to optimise.

    Attributes:
        seed: of the weights' beginning and of anything random in ``module``.
        steps: of the optimiser; each takes ``accumulation`` batches.
        peak_rate, warmup_steps, decay_steps, floor: the learning rate, see optim.learning_rate; decay_steps 0 is all after the warm-up.
        gate_rate: how many times the learning rate is that of gates, which begin at zero; see optim.parameter_groups.
        clip_norm: largest norm of the gradient.
        average_decay: of the exponential moving average of the weights.
        precision: bfloat16 runs matrix products in it; weights, sums and the loss stay in float32.
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
    clip_norm: float = 1.0
    average_decay: float = 0.998
    precision: str = "float32"
    save_every: int = 200
    log_every: int = 20

    def __post_init__(self) -> None:
        for name in ("steps", "accumulation", "save_every", "log_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.precision not in ("float32", "bfloat16"):
            raise InputError(f"precision must be 'float32' or 'bfloat16', got {self.precision!r}")


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
) -> Average:
    """Train to the end and return the averaged weights; ``folder`` then holds the log and the last checkpoint.

    Args:
        module: everything trainable. Called with a batch, it gives the loss (a scalar to be lowered) and figures for the log.
        resume: go on from the checkpoint in ``folder``, or begin where there is none.
        identity: what else the run depends on (data, architecture); a checkpoint of another identity is refused.
        stop_after: end after this step as a time limit would; the learning rate still aims at ``config.steps``.
        workers: processes that make batches; 0 is one thread of this process, one batch ahead.

    Raises:
        InputError: ``folder`` holds a checkpoint and ``resume`` is False.
        CheckpointUnusable: damaged, or made by another recipe.
        TrainingDiverged: a loss that is NaN or infinite; the last good checkpoint remains.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)  # the run owns its process: what draws without a generator (dropout) must be resumable too
    accelerator = Accelerator(mixed_precision="bf16" if config.precision == "bfloat16" else "no")
    groups = parameter_groups(module.named_parameters(), weight_decay=config.weight_decay, gate_rate=config.gate_rate)
    module, optimiser = accelerator.prepare(
        module, torch.optim.AdamW(groups, lr=config.peak_rate, betas=config.betas, fused=accelerator.device.type == "cuda")
    )
    bare = accelerator.unwrap_model(module)
    average = Average(bare, decay=config.average_decay)
    first = _restore(folder, _digest(config, identity), bare, optimiser, average, resume=resume)
    last = config.steps if stop_after is None else min(stop_after, config.steps)
    batches = _batches(source, first * config.accumulation, last * config.accumulation, workers=workers)
    with closing(Log(folder, total=config.steps, first_step=first, every=config.log_every)) as log, closing(batches):
        for step in range(first, last):
            rate = _rate(config, step)
            for group in optimiser.param_groups:
                group["lr"] = rate * group["scale"]
            sums: dict[str, float] = {}
            for _ in range(config.accumulation):
                index, batch = next(batches)
                with accelerator.autocast():
                    loss, figures = module(batch)
                _check_finite(loss, step, source.describe_batch(index), folder)
                accelerator.backward(loss / config.accumulation)
                for name, value in {"loss": loss.detach(), **figures}.items():
                    sums[name] = sums.get(name, 0.0) + float(value) / config.accumulation
            norm = accelerator.clip_grad_norm_(module.parameters(), config.clip_norm)
            _check_gradient(norm, bare, step, source.describe_batch(index), folder)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            average.update(bare, step)
            log.write(step, sums | {"gradient": float(norm), "rate": rate})
            if (step + 1) % config.save_every == 0 or step + 1 == last:
                log.flush()
                save_checkpoint(folder, _state(step + 1, _digest(config, identity), bare, optimiser, average))
    return average


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


def _state(step: int, digest: str, module: nn.Module, optimiser: Any, average: Average) -> dict[str, Any]:
    return {
        "step": step,
        "digest": digest,
        "module": module.state_dict(),
        "optimiser": optimiser.state_dict(),
        "average": average.values,
        "random": torch.get_rng_state(),
    }


def _restore(folder: Path, digest: str, module: nn.Module, optimiser: Any, average: Average, *, resume: bool) -> int:
    """The step to begin with, everything set as it was before that step."""
    state = load_checkpoint(folder)
    if state is None:
        return 0
    if not resume:
        raise InputError(f"{str(folder)!r} holds a checkpoint of step {state['step']}: resume it (--resume) or name another folder")
    if state["digest"] != digest:
        raise CheckpointUnusable(
            f"the checkpoint in {str(folder)!r} was made by another recipe: resume with that one, or name another folder"
        )
    module.load_state_dict(state["module"])
    optimiser.load_state_dict(state["optimiser"])
    average.values = {name: value.to(average.values[name].device) for name, value in state["average"].items()}
    torch.set_rng_state(state["random"])
    return int(state["step"])


def _digest(config: LoopConfig, identity: str) -> str:
    """What must be the same for a resumed run to be the same run; how often it is saved or logged does not matter."""
    kept = {name: value for name, value in asdict(config).items() if name not in ("save_every", "log_every")}
    return hashlib.sha256(json.dumps([kept, identity], sort_keys=True).encode()).hexdigest()


def _check_finite(loss: Tensor, step: int, batch: str, folder: Path) -> None:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingDiverged(f"the loss is {value:g} at step {step}, {batch}; the last good checkpoint is in {str(folder)!r}")


def _check_gradient(norm: Any, module: nn.Module, step: int, batch: str, folder: Path) -> None:
    if not math.isfinite(float(norm)):
        broken = [name for name, p in module.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
        raise TrainingDiverged(
            f"the gradient of {broken[0] if broken else 'the whole'} is not finite at step {step}, {batch}; "
            f"the last good checkpoint is in {str(folder)!r}"
        )
