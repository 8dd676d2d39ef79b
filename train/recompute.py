"""Gradient checkpointing: layers keep only what goes in, and compute the rest again in the backward pass.

Chen et al. 2016, "Training deep nets with sublinear memory cost": the memory of one layer instead of all, for one more forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from vlm.models.adapter import GatedLayer
from vlm.ssm.stack import Layer

# What the second run of a layer must stand in, made while the first one runs.
Around = Callable[[], AbstractContextManager[None]]


@runtime_checkable
class Recomputes(Protocol):
    """A module that knows better than ``stacked_layers`` which of its layers to compute again."""

    def recomputing(self) -> AbstractContextManager[None]:
        """As the function ``recomputing``, of its own layers."""


def recomputing_module(module: nn.Module) -> AbstractContextManager[None]:
    """``recomputing`` of the layers that ``module`` names, else of all of stacks and adapters in it."""
    return module.recomputing() if isinstance(module, Recomputes) else recomputing(stacked_layers(module))


def stacked_layers(module: nn.Module) -> list[nn.Module]:
    """The layers of all stacks (vlm.ssm.stack) and adapters (vlm.models.adapter) in ``module``."""
    return [part for part in module.modules() if isinstance(part, Layer | GatedLayer)]


@contextmanager
def recomputing(layers: Iterable[nn.Module], around: Around = nullcontext) -> Iterator[None]:
    """While it lasts, ``layers`` are computed again in the backward pass. Values, gradients and random numbers are the same."""
    held = list(layers)
    for layer in held:
        layer.forward = partial(_run, layer.forward, around)
    try:
        yield
    finally:
        for layer in held:
            del layer.forward


def _run(forward: Callable[..., Any], around: Around, *inputs: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **named)
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), around()), **named)
