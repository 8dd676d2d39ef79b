"""One direction of a mixer: convolution, input-dependent step sizes and weights, selective scan; its parameters and how they start.

Sources: Mamba (arXiv 2312.00752), section 3.4 and its released code, whose names the parameters keep.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vlm.errors import InputError
from vlm.ssm.conv import causal_conv1d
from vlm.ssm.products import linear
from vlm.ssm.scan import selective_scan

# What softplus(dt_proj.bias) is drawn from at the start, evenly in its logarithm, and the least it may be.
DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 1e-1, 1e-4


@dataclass(frozen=True, slots=True)
class Sizes:
    """The widths of a state-space mixer.

    Raises:
        InputError: a width is not a whole number above 0.
    """

    d_model: int
    d_state: int
    d_conv: int
    expand: float
    dt_rank: int | None = None  # None: d_model / 16, rounded up

    def __post_init__(self) -> None:
        for name in ("d_model", "d_state", "d_conv"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.dt_rank is not None and self.dt_rank < 1:
            raise InputError(f"dt_rank must be at least 1, or None for d_model / 16, got {self.dt_rank}")
        if self.d_inner < 1 or self.d_inner != self.expand * self.d_model:
            raise InputError(f"expand * d_model must be a whole number above 0, got {self.expand:g} * {self.d_model}")

    @property
    def d_inner(self) -> int:
        """Channels of the scan."""
        return int(self.expand * self.d_model)

    @property
    def rank(self) -> int:
        """Width of what the step sizes are computed from."""
        return math.ceil(self.d_model / 16) if self.dt_rank is None else self.dt_rank


@dataclass(frozen=True, slots=True, eq=False)
class Theta:
    """The parameters of one direction."""

    conv1d: nn.Conv1d  # (d, 1, K) and a bias
    x_proj: nn.Linear  # (rank + 2 n, d)
    dt_proj: nn.Linear  # (d, rank) and a bias
    A_log: nn.Parameter  # (d, n)
    D: nn.Parameter  # (d)


def add_theta(module: nn.Module, sizes: Sizes, suffix: str = "") -> None:
    """Registers a new, initialised set of one direction's parameters on ``module``; ``suffix`` is '' or '_b'."""
    d, n, rank = sizes.d_inner, sizes.d_state, sizes.rank
    module.add_module(f"conv1d{suffix}", nn.Conv1d(d, d, sizes.d_conv, groups=d, padding=sizes.d_conv - 1))
    module.add_module(f"x_proj{suffix}", nn.Linear(d, rank + 2 * n, bias=False))
    dt_proj = nn.Linear(rank, d)
    # Released ViM code leaves out this initialisation in the backward branch, whose memory then starts about 30 times shorter.
    nn.init.uniform_(dt_proj.weight, -(rank**-0.5), rank**-0.5)
    with torch.no_grad():
        delta = torch.empty(d).uniform_(math.log(DT_MIN), math.log(DT_MAX)).exp_().clamp_(min=DT_FLOOR)
        dt_proj.bias.copy_(delta + torch.log(-torch.expm1(-delta)))  # the inverse of softplus
    module.add_module(f"dt_proj{suffix}", dt_proj)
    # Real S4D: the rates 1 to n in every channel. Float32 whatever the default type is: autocast then leaves them alone.
    module.register_parameter(_rates_name(suffix), nn.Parameter(torch.arange(1, n + 1, dtype=torch.float32).log().repeat(d, 1)))
    module.register_parameter(f"D{suffix}", nn.Parameter(torch.ones(d, dtype=torch.float32)))


def theta_of(module: nn.Module, suffix: str = "") -> Theta:
    """The set of parameters that ``add_theta`` registered under ``suffix``."""
    return Theta(
        conv1d=cast(nn.Conv1d, module.get_submodule(f"conv1d{suffix}")),
        x_proj=cast(nn.Linear, module.get_submodule(f"x_proj{suffix}")),
        dt_proj=cast(nn.Linear, module.get_submodule(f"dt_proj{suffix}")),
        A_log=module.get_parameter(_rates_name(suffix)),
        D=module.get_parameter(f"D{suffix}"),
    )


def undecayed(module: nn.Module) -> set[str]:
    """The names in ``module``, however deep, of all rates, skips and step sizes: weight decay would pull them away from what they mean."""
    ends = ("A_log", "A_b_log", "D", "D_b", "dt_proj.bias", "dt_proj_b.bias")
    return {name for name, _ in module.named_parameters() if f".{name}".endswith(tuple(f".{end}" for end in ends))}


def branch(x: Tensor, z: Tensor, theta: Theta, *, cu_seqlens: Tensor | None, reverse: bool = False, backend: str = "auto") -> Tensor:
    """The gated output (b, t, d) of one direction for inputs ``x`` and gates ``z``, both (b, t, d)."""
    conv = theta.conv1d
    u = causal_conv1d(x, conv.weight[:, 0], _bias(conv), cu_seqlens=cu_seqlens, reverse=reverse)
    delta, B, C = step_inputs(u, theta)
    return selective_scan(
        u, delta, rates(theta), B, C, theta.D, z, theta.dt_proj.bias, True, cu_seqlens=cu_seqlens, reverse=reverse, backend=backend
    )


def step_inputs(u: Tensor, theta: Theta) -> tuple[Tensor, Tensor, Tensor]:
    """What the input decides at each step: delta (..., d) before its bias and softplus, B and C (..., n)."""
    rank, n = theta.dt_proj.in_features, theta.A_log.shape[1]
    low, B, C = theta.x_proj(u).split([rank, n, n], dim=-1)
    return linear(low, theta.dt_proj.weight), B, C


def rates(theta: Theta) -> Tensor:
    """A (d, n), negative, at least in float32: exp(delta * A) in bf16 loses whole steps when delta < 1e-3."""
    return -torch.exp(theta.A_log.to(torch.promote_types(theta.A_log.dtype, torch.float32)))


def _bias(conv: nn.Conv1d) -> Tensor:
    return cast(Tensor, conv.bias)


def _rates_name(suffix: str) -> str:
    return f"A{suffix}_log"
