"""What is optimised how: optimisers and their parameter groups, and the learning rate as a pure function of the step."""

from __future__ import annotations

from collections.abc import Iterable
from math import cos, pi
from typing import Any

import torch
from torch import Tensor, nn

# Names, between the dots of a parameter's own, that weight decay would pull away from what they mean: the state-space parameters of Mamba
# (Gu and Dao 2023), gates, positions and learned queries, temperatures.
UNDECAYED = frozenset({"A_log", "A_b_log", "D", "D_b", "dt_bias", "gate", "position", "queries", "near", "log_scale"})


def optimisers(
    named: Iterable[tuple[str, nn.Parameter]],
    *,
    rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    gate_rate: float = 1.0,
    matrix_rate: float = 0.0,
    fused: bool = False,
) -> list[torch.optim.Optimizer]:
    """AdamW over ``parameter_groups``; and where ``matrix_rate`` is above 0, Muon at ``matrix_rate`` times the rate over all that maps
    vectors to vectors, matrices and the kernels of images (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"),
    which AdamW then leaves alone.

    Muon's step has the same length in all directions of a matrix. What a tower learns last, which word belongs to which thing or how
    textures differ, are directions with small gradients: it needs half the examples (docs/pocket.md). The parameters must be on their
    device already.
    """
    named = list(named)
    matrices = [parameter for name, parameter in named if matrix_rate and parameter.requires_grad and _maps(name, parameter)]
    taken = set(map(id, matrices))
    groups = parameter_groups(((n, p) for n, p in named if id(p) not in taken), weight_decay=weight_decay, gate_rate=gate_rate)
    made: list[torch.optim.Optimizer] = []
    if groups or not matrices:
        made.append(torch.optim.AdamW(groups, lr=rate, betas=betas, fused=fused))
    if matrices:
        made.append(KernelMuon(matrices, rate=rate, scale=matrix_rate, weight_decay=weight_decay))
    return made


class KernelMuon(torch.optim.Muon):
    """Muon over matrices and kernels (out, in, h, w); a kernel is the matrix from all that lies under it to its outputs."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, rate: float, scale: float, weight_decay: float) -> None:
        whole = list(parameters)
        matrices = [p if p.ndim == 2 else nn.Parameter(_as_matrix(p.detach(), p)) for p in whole]
        self._kernels = [(kernel, matrix) for kernel, matrix in zip(whole, matrices, strict=True) if kernel is not matrix]
        super().__init__([{"params": matrices, "scale": scale}], lr=rate, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step by the gradients of the matrices and kernels."""
        for kernel, matrix in self._kernels:
            assert matrix.data_ptr() == kernel.data_ptr(), "the kernels have moved since the optimiser was made"
            matrix.grad = None if kernel.grad is None else _as_matrix(kernel.grad, kernel)
        return super().step(closure)  # type: ignore[no-untyped-call]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients, those of the kernels too."""
        super().zero_grad(set_to_none)
        for kernel, _ in self._kernels:
            kernel.grad = None


def _as_matrix(values: Tensor, kernel: Tensor) -> Tensor:
    """Values of a kernel's shape as (out, the rest), in the order in which the kernel lies in memory."""
    lying = values if kernel.is_contiguous() else values.permute(0, 2, 3, 1)
    return lying.reshape(len(values), -1)


def _maps(name: str, parameter: nn.Parameter) -> bool:
    """Whether it is a map: a table of vectors is none, and a step of one length in all directions would move words that were not read."""
    return parameter.ndim in (2, 4) and name.endswith("weight") and "embed" not in name


def parameter_groups(named: Iterable[tuple[str, nn.Parameter]], *, weight_decay: float, gate_rate: float = 1.0) -> list[dict[str, Any]]:
    """Groups for AdamW: matrices and kernels with ``weight_decay``; norms, biases and UNDECAYED names without; gates.

    Each has the ``scale`` of its learning rate: ``gate_rate`` for parameters named ``gate``, which begin at zero and hold back all that
    lies behind them, 1 for all others. Frozen parameters are in none, and empty groups are left out.
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    gates: list[nn.Parameter] = []
    for name, parameter in named:
        if parameter.requires_grad:
            parts = name.split(".")
            is_plain = parameter.ndim < 2 or not UNDECAYED.isdisjoint(parts)
            (gates if parts[-1] == "gate" else plain if is_plain else decayed).append(parameter)
    groups = ((decayed, weight_decay, 1.0), (plain, 0.0, 1.0), (gates, 0.0, gate_rate))
    return [{"params": params, "weight_decay": decay, "scale": scale} for params, decay, scale in groups if params]


def learning_rate(step: int, *, peak: float, warmup: int, total: int, decay: int | None = None, floor: float = 0.0) -> float:
    """The rate of step ``step`` (from 0): linear warm-up to ``peak`` over ``warmup`` steps, ``peak``, then down to ``floor * peak``.

    The way down is half a cosine over the last ``decay`` steps; None is all that the warm-up leaves (Loshchilov and Hutter 2017). With a
    shorter one (Hägele et al. 2024) the steps before it do not depend on ``total``.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    decay = total - warmup if decay is None else min(decay, total - warmup)
    progress = min(1.0, max(0, step - (total - decay)) / max(1, decay))
    return peak * (floor + (1 - floor) * (1 + cos(pi * progress)) / 2)


class Average:
    """An exponential moving average of a module's parameters and buffers, in float32 (Polyak and Juditsky 1992).

    The decay grows with the step, ``min(decay, (1 + step) / (10 + step))``, so that the first weights are soon forgotten.
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.values: dict[str, Tensor] = {name: value.detach().float().clone() for name, value in module.state_dict().items()}

    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after step ``step`` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            self.values[name].lerp_(value.detach().float(), 1 - decay)
