"""What is optimised how: parameter groups, and the learning rate as a pure function of the step."""

from __future__ import annotations

from collections.abc import Iterable
from math import cos, pi
from typing import Any

from torch import Tensor, nn

# Names, between the dots of a parameter's own, that weight decay would pull away from what they mean: the state-space parameters of Mamba
# (Gu and Dao 2023), gates, positions and learned queries, temperatures.
UNDECAYED = frozenset({"A_log", "A_b_log", "D", "D_b", "dt_bias", "gate", "position", "queries", "near", "log_scale"})


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
