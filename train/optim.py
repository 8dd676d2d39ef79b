"""What is optimised how: optimisers and their parameter groups, and the learning rate as a pure function of the step."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from math import cos, pi
from typing import Any

import torch
from torch import Tensor, nn

from vlm.encoders.device import has_bfloat16

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
    vectors to vectors, matrices and kernels of convolutions (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural
    networks"), which AdamW then leaves alone.

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
        made.append(Muon(matrices, rate=rate, scale=matrix_rate, weight_decay=weight_decay))
    return made


class Muon(torch.optim.Optimizer):
    """Muon over matrices (out, in) and kernels (out, in, ...); a kernel is the matrix from all that lies under it to its outputs.

    The same steps as torch.optim.Muon, which takes no kernels and multiplies in bfloat16 whatever the device: on a processor that has none
    in hardware that is a hundred times slower than all the rest of a step.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, rate: float, scale: float = 1.0, weight_decay: float = 0.1, momentum: float = 0.95
    ) -> None:
        held = {"lr": rate, "scale": scale, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(parameters, held)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step by the gradients of the parameters that have one."""
        assert closure is None, "no loss is computed again"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group)

    def _step(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        matrix = gradient.flatten(1)
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        momentum = state["momentum_buffer"]
        momentum.lerp_(matrix, 1 - group["momentum"])
        ahead = matrix.lerp(momentum, group["momentum"])  # Nesterov's
        turned = orthogonal(ahead.to(_fast_type(parameter.device))).to(parameter.dtype)
        stretch = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(turned.view_as(gradient), alpha=-group["lr"] * stretch)


@cache
def _fast_type(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if has_bfloat16(device) else torch.float32


# Of the odd polynomial of degree five whose repetition drives singular values towards 1 (Jordan et al. 2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonal(matrix: Tensor, *, rounds: int = 5) -> Tensor:
    """About the nearest matrix (m, n) with orthonormal rows or columns: singular values of 0.7 to 1.2, by Newton and Schulz's iteration."""
    first, second, third = _QUINTIC
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if is_tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(rounds):
        squared = x @ x.mT
        x = torch.addmm(x, torch.addmm(squared, squared, squared, beta=second, alpha=third), x, beta=first)
    return x.mT if is_tall else x


def _maps(name: str, parameter: nn.Parameter) -> bool:
    """Whether it is a map from vectors to vectors: a table of vectors is none, and a step of one length in all directions would move words
    that were not read; nor are kernels that take each channel by itself."""
    return parameter.ndim > 1 and parameter.shape[1] > 1 and name.endswith("weight") and "embed" not in name


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
