"""Matrix products of the mixers: torch's own, into memory that costs little where gradients are not wanted."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vlm.ssm.native import missing
from vlm.ssm.native.memory import fresh

# Smaller results lie in memory that the allocator has used before, and cost no page faults.
LARGE_BYTES = 1 << 22


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """``x`` (..., d) times the rows of ``weight`` (e, d): (..., e)."""
    if not _is_large(x, weight):
        return functional.linear(x, weight)
    out = fresh((*x.shape[:-1], weight.shape[0]), x.dtype)
    torch.mm(x.reshape(-1, x.shape[-1]), weight.t(), out=out.view(-1, weight.shape[0]))
    return out


def add_linear(total: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """``total + linear(x, weight)``; where no gradient is wanted it may be ``total`` itself, changed."""
    if not _is_large(x, weight):
        return total + functional.linear(x, weight)
    total.view(-1, weight.shape[0]).addmm_(x.reshape(-1, x.shape[-1]), weight.t())
    return total


def _is_large(x: Tensor, weight: Tensor) -> bool:
    """Whether the result is worth memory of its own kind, and nothing looks on that has to see an ordinary product."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or type(x) is not Tensor or x.device.type != "cpu":
        return False
    is_plain = x.dtype == weight.dtype and not torch.is_autocast_enabled("cpu")
    return is_plain and x.shape[:-1].numel() * weight.shape[0] * x.itemsize >= LARGE_BYTES and missing() is None
