"""What is said when a training cannot go on: which number broke where, and what was too large for the memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vlm.errors import TrainingDiverged, TrainingTooLarge


def diverged_loss(value: float, step: int, batch: str, place: str, folder: Path) -> TrainingDiverged:
    """The error for a loss that is no finite number; ``place`` as ``broken_place`` gives it."""
    told = f"is {value:g}" if not math.isfinite(value) else "of another rank is not finite"
    return TrainingDiverged(
        f"the loss {told} at step {step}, {batch}: {place}; lower peak_rate or mend the batch; "
        f"the last good checkpoint is in {str(folder)!r}"
    )


def diverged_gradient(module: nn.Module, step: int, batch: str, folder: Path) -> TrainingDiverged:
    """The error for a gradient whose norm is no finite number."""
    broken = [name for name, p in module.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
    return TrainingDiverged(
        f"the gradient of {broken[0] if broken else 'the whole'} is not finite at step {step}, {batch}; "
        f"the last good checkpoint is in {str(folder)!r}"
    )


def broken_place(module: nn.Module, run_again: Callable[[], object]) -> str:
    """Which layer of ``module`` is the first whose output is not finite while ``run_again`` runs it; a part of a sentence."""
    found: list[str] = []

    def hook_of(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(part: nn.Module, inputs: Any, output: Any) -> None:
            if not found and not _is_finite(output):
                before = "from a finite input" if _is_finite(inputs) else "and its input is not finite either: look at the batch"
                found.append(f"the first layer whose output is not finite is {name!r} ({type(part).__name__}), {before}")

        return hook

    hooks = [part.register_forward_hook(hook_of(name)) for name, part in module.named_modules() if name]
    try:
        with torch.no_grad():
            run_again()
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else "the outputs of all layers are finite: look at the batch's targets and the loss itself"


def too_large(error: BaseException, step: int, batch: str, held: Any) -> TrainingTooLarge:
    """The error for a step that does not fit the memory of its device; ``held`` is the batch."""
    largest = max(named_tensors(held), key=lambda named: named[1].numel(), default=None)
    size = "" if largest is None else f" (largest tensor {largest[0]} {tuple(largest[1].shape)})"
    reason = str(error).strip().splitlines()
    return TrainingTooLarge(
        f"the memory of the device is full at step {step}, {batch}{size}: make the batch smaller (with more accumulation) or its items "
        f"shorter, or set gradient_checkpointing = true or precision = 'bfloat16' in [loop] ({reason[0] if reason else 'no reason told'})"
    )


def named_tensors(held: Any, name: str = "batch") -> Iterator[tuple[str, Tensor]]:
    """All tensors of nested tuples, lists, dictionaries and dataclasses, each with where it stands."""
    if isinstance(held, Tensor):
        yield name, held
    elif isinstance(held, Mapping):
        for key, value in held.items():
            yield from named_tensors(value, f"{name}.{key}")
    elif isinstance(held, list | tuple):
        for place, value in enumerate(held):
            yield from named_tensors(value, f"{name}[{place}]")
    elif is_dataclass(held) and not isinstance(held, type):
        for field in fields(held):
            yield from named_tensors(getattr(held, field.name), f"{name}.{field.name}")


def _is_finite(held: Any) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for _, tensor in named_tensors(held))
