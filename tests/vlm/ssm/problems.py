"""Problems for the scan's tests, and the oracle: a loop in numpy over items, steps, channels and states, in float64."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm.ssm.scan import selective_scan

# Largest |found - truth| over largest |truth|. bfloat16: its outputs are rounded by 4e-3.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 1e-2}
GRADIENT_TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 2e-2}


def repeated_rounding(dtype: torch.dtype, steps: int) -> float:
    """What equal steps add to an error where nothing is forgotten: each rounds exp(delta A), just below 1, by the same half place."""
    return steps * torch.finfo(dtype).eps / 4


@dataclass(frozen=True)
class Problem:
    """Arguments of ``selective_scan``, in its order."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    initial_state: Tensor | None
    lengths: Tensor | None = None
    cu_seqlens: Tensor | None = None
    delta_softplus: bool = True
    reverse: bool = False

    def arguments(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def floats(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.arguments().items() if isinstance(value, Tensor) and value.is_floating_point()}

    def to(self, dtype: torch.dtype) -> Problem:
        return replace(self, **{name: value.detach().to(dtype) for name, value in self.floats().items()})


def problem(
    b: int = 2, t: int = 7, d: int = 5, n: int = 4, *, dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any
) -> Problem:
    """A random problem in the range of a real layer; ``changes`` replaces arguments."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    items = b if changes.get("cu_seqlens") is None else len(changes["cu_seqlens"]) - 1
    made = Problem(
        u=normal(b, t, d),
        delta=normal(b, t, d) - 1,
        A=-torch.exp(normal(d, n)),
        B=normal(b, t, n),
        C=normal(b, t, n),
        D=normal(d),
        z=normal(b, t, d),
        delta_bias=normal(d) * 0.5,
        initial_state=normal(items, d, n),
    )
    return replace(made, **changes)


def run(given: Problem, backend: str) -> tuple[Tensor, Tensor]:
    output, state = selective_scan(**given.arguments(), return_last_state=True, backend=backend)
    return output, state


def gradients(given: Problem, backend: str, *, seed: int = 7) -> dict[str, Tensor]:
    """Output, last state, and the gradient of a random linear function of both with respect to every tensor."""
    leaves = replace(given, **{name: value.detach().requires_grad_() for name, value in given.floats().items()})
    output, state = run(leaves, backend)
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(found.shape, generator=generator, dtype=torch.float64).to(found.dtype) for found in (output, state)]
    torch.autograd.backward([output, state], weights)
    return {"out": output.detach(), "last_state": state.detach()} | {
        f"grad {name}": leaf.grad for name, leaf in leaves.floats().items() if leaf.grad is not None
    }


def distance(found: Tensor, truth: Tensor) -> float:
    """Largest difference over the largest true magnitude, 1e-25 at least; infinite where anything is not finite."""
    if found.numel() == 0:
        return 0.0 if found.shape == truth.shape else float("inf")
    difference = (found.double() - truth.double()).abs().max().item()
    return difference / max(truth.double().abs().max().item(), 1e-25) if np.isfinite(difference) else float("inf")


def naive(given: Problem) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The recurrence by four nested loops."""
    a: dict[str, Any] = {
        name: value.detach().double().numpy() if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in given.arguments().items()
    }
    b, t, d = a["u"].shape
    n = a["A"].shape[1]
    if given.cu_seqlens is not None:
        bounds = given.cu_seqlens.tolist()
        items = [(0, start, end) for start, end in pairwise(bounds)]
    else:
        ends = [t] * b if given.lengths is None else given.lengths.tolist()
        items = [(row, 0, end) for row, end in enumerate(ends)]
    out, states = np.zeros((b, t, d)), np.zeros((len(items), d, n))
    for item, (row, start, end) in enumerate(items):
        for channel in range(d):
            h = np.zeros(n) if a["initial_state"] is None else a["initial_state"][item, channel].copy()
            for i in reversed(range(start, end)) if given.reverse else range(start, end):
                u, step = a["u"][row, i, channel], a["delta"][row, i, channel]
                if a["delta_bias"] is not None:
                    step = step + a["delta_bias"][channel]
                if given.delta_softplus:
                    step = np.log1p(np.exp(step))
                y = 0.0
                for k in range(n):
                    h[k] = np.exp(step * a["A"][channel, k]) * h[k] + step * a["B"][row, i, k] * u
                    y += a["C"][row, i, k] * h[k]
                if a["D"] is not None:
                    y += a["D"][channel] * u
                if a["z"] is not None:
                    y *= a["z"][row, i, channel] / (1 + np.exp(-a["z"][row, i, channel]))
                out[row, i, channel] = y
            states[item, channel] = h
    return out, states
