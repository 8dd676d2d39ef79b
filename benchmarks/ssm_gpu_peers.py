"""What benchmarks/ssm_gpu.py compares with: the official kernel of the package mamba_ssm, both directions by flipped copies.

It takes (b, d, t) and is given that: transposing is not counted against it. The blocks are those of the Video Mamba Suite's code around it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vlm.ssm.blocks import DBM, ViM
from vlm.ssm.branch import Theta, rates, theta_of
from vlm.ssm.conv import causal_conv1d


def has_official() -> bool:
    """Whether the package is installed."""
    return find_spec("mamba_ssm") is not None


def official_scan(*tensors: Tensor) -> Tensor:
    """The official kernel for u, delta, A, B, C, D, z, delta_bias in its own layout."""
    selective_scan_fn: Any = import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    found: Tensor = selective_scan_fn(*tensors, delta_softplus=True)
    return found


def official_layout(leaves: list[Tensor]) -> list[Tensor]:
    """Our inputs (b, t, d) as new leaves (b, d, t)."""
    return [
        (tensor.transpose(1, 2) if tensor.ndim == 3 else tensor).detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        for tensor in leaves
    ]


def official_both(leaves: list[Tensor]) -> Tensor:
    """Both directions, summed."""
    flipped = [tensor.flip(-1) if tensor.ndim == 3 else tensor for tensor in leaves]
    return official_scan(*leaves) + official_scan(*flipped).flip(-1)


def suite_block(block: Any, *, own_convolution: bool) -> Callable[[Tensor], Tensor]:
    """What ``block`` computes, as the suite computes it: (b, d, t) inside, flipped copies, and the official kernel."""
    assert isinstance(block, ViM | DBM)

    def direction(x: Tensor, z: Tensor, theta: Theta) -> Tensor:
        """One causal direction of x and z (b, d, t)."""
        conv, t, n = theta.conv1d, x.shape[2], theta.A_log.shape[1]
        if own_convolution:
            u = causal_conv1d(x.transpose(1, 2), conv.weight[:, 0], conv.bias).transpose(1, 2)  # type: ignore[arg-type]
        else:
            u = functional.silu(conv(x)[:, :, :t])
        low, weigh_in, weigh_out = theta.x_proj(u.transpose(1, 2)).split([theta.dt_proj.in_features, n, n], dim=-1)
        delta = functional.linear(low, theta.dt_proj.weight).transpose(1, 2)
        dtype = u.dtype
        with torch.autocast("cuda", enabled=False):
            return official_scan(
                u.contiguous(), delta.to(dtype).contiguous(), rates(theta), weigh_in.to(dtype).transpose(1, 2).contiguous(),
                weigh_out.to(dtype).transpose(1, 2).contiguous(), theta.D, z.to(dtype).contiguous(), theta.dt_proj.bias,
            )  # fmt: skip

    def vim(x: Tensor) -> Tensor:
        xz = block.in_proj(x).transpose(1, 2).contiguous()
        there = direction(*xz.chunk(2, dim=1), theta_of(block))
        back = direction(*xz.flip(-1).chunk(2, dim=1), theta_of(block, "_b"))
        found: Tensor = block.out_proj((there + back.flip(-1)).transpose(1, 2))
        return found

    def dbm(x: Tensor) -> Tensor:
        there, back = block.in_proj(x).transpose(1, 2).contiguous().chunk(2, dim=1)
        joined = torch.cat([there, back.flip(-1)])  # along the batch: one call for both
        y, y_back = direction(*joined.chunk(2, dim=1), theta_of(block)).chunk(2)
        found: Tensor = block.out_proj(torch.cat([y, y_back.flip(-1)], dim=1).transpose(1, 2))
        return found

    return vim if isinstance(block, ViM) else dbm
