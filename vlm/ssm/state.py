"""What Mamba carries from one chunk of a stream to the next, and how it goes on from there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from vlm.errors import InputError
from vlm.ssm.branch import Theta, rates, step_inputs
from vlm.ssm.conv import causal_conv1d
from vlm.ssm.packed import item_of_row
from vlm.ssm.scan import selective_scan


@dataclass(frozen=True, slots=True, eq=False)
class MambaState:
    """The memory of one Mamba mixer for each item of a batch, after some step.

    ``conv`` (b, K - 1, d_inner): the last inputs of the convolution, oldest first. ``scan`` (b, d_inner, n): h of the paper.
    """

    conv: Tensor
    scan: Tensor


def check_state(state: MambaState, num_items: int, theta: Theta) -> None:
    """Raises InputError where ``state`` is not of ``num_items`` items of this mixer."""
    d, n = theta.A_log.shape
    for name, tensor, shape in (
        ("conv", state.conv, (num_items, theta.conv1d.kernel_size[0] - 1, d)),
        ("scan", state.scan, (num_items, d, n)),
    ):
        if tuple(tensor.shape) != shape:
            raise InputError(f"state.{name} must have the shape {shape}, got {tuple(tensor.shape)}; start from init_state({num_items})")


def branch_on(
    x: Tensor, z: Tensor, theta: Theta, state: MambaState, *, cu_seqlens: Tensor | None, backend: str = "auto"
) -> tuple[Tensor, MambaState]:
    """The gated output (b, t, d) of a chunk that follows ``state``, and the state after it: ``branch`` in pieces."""
    u, conv = _convolve_on(x, theta, state.conv, cu_seqlens)
    delta, B, C = step_inputs(u, theta)
    y, scan = selective_scan(
        *(u, delta, rates(theta), B, C, theta.D, z, theta.dt_proj.bias, True),
        initial_state=state.scan,
        cu_seqlens=cu_seqlens,
        return_last_state=True,
        backend=backend,
    )
    return y, MambaState(conv, scan)


def branch_step(x: Tensor, z: Tensor, theta: Theta, state: MambaState) -> tuple[Tensor, MambaState]:
    """The gated output (b, d) of one step, and the state after it; a few vector operations, no kernel."""
    window = torch.cat((state.conv, x[:, None].to(state.conv.dtype)), dim=1)  # (b, K, d)
    conv_weight, conv_bias = theta.conv1d.weight[:, 0].t(), cast(Tensor, theta.conv1d.bias)
    u = functional.silu((window * conv_weight).sum(dim=1) + conv_bias).to(x.dtype)
    delta, B, C = (tensor.to(state.scan.dtype) for tensor in step_inputs(u, theta))
    delta = functional.softplus(delta + theta.dt_proj.bias)[:, :, None]  # (b, d, 1)
    held = u.to(state.scan.dtype)
    scan = torch.exp(delta * rates(theta)) * state.scan + delta * B[:, None] * held[:, :, None]
    y = (scan * C[:, None]).sum(dim=-1) + theta.D * held
    return (y * functional.silu(z.to(y.dtype))).to(x.dtype), MambaState(window[:, 1:], scan)


def _convolve_on(x: Tensor, theta: Theta, history: Tensor, cu_seqlens: Tensor | None) -> tuple[Tensor, Tensor]:
    """The convolution of ``x`` with what came before each item in front of it, and each item's last inputs."""
    weight, bias, before = theta.conv1d.weight[:, 0], cast(Tensor, theta.conv1d.bias), history.shape[1]
    if cu_seqlens is None:
        longer = torch.cat((history.to(x.dtype), x), dim=1)
        return causal_conv1d(longer, weight, bias)[:, before:], longer[:, longer.shape[1] - before :].to(history.dtype)
    rows = torch.arange(x.shape[1], device=x.device) + before * (item_of_row(cu_seqlens, x.shape[1]) + 1)
    bounds = cu_seqlens + before * torch.arange(len(cu_seqlens), device=x.device, dtype=cu_seqlens.dtype)
    first = (bounds[:-1, None] + torch.arange(before, device=x.device)).flatten()
    last = (bounds[1:, None] - before + torch.arange(before, device=x.device)).flatten()
    longer = x.new_zeros(x.shape[1] + before * len(history), x.shape[2])
    longer = longer.index_copy(0, rows, x[0]).index_copy(0, first, history.to(x.dtype).flatten(0, 1))[None]
    u = causal_conv1d(longer, weight, bias, cu_seqlens=bounds)
    return u.index_select(1, rows), longer[0].index_select(0, last).view(history.shape).to(history.dtype)
