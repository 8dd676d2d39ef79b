"""The short convolution on a GPU, in Triton (``vlm.ssm.triton_conv_kernels``): what ``vlm.ssm.conv`` calls for tensors on a CUDA device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlm.ssm.packed import item_of_row
from vlm.ssm.triton_device import device_of, is_interpreted, missing, rows_of

# Steps and channels of a program of four warps.
TILE, BLOCK_D, NUM_WARPS = 32, 64, 4
FLOATS = (torch.float16, torch.bfloat16, torch.float32)


def can_take(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernels are there and compute this: all but float64, on a CUDA device (under Triton's interpreter on any)."""
    on_device = x.device.type == "cuda" or is_interpreted()
    return on_device and x.dtype in FLOATS and weight.dtype in FLOATS and x.numel() > 0 and missing() is None


def forward(x: Tensor, weight: Tensor, bias: Tensor, cu_seqlens: Tensor | None, reverse: bool) -> Tensor:
    """SiLU of the convolution, contiguous, in the type of ``x``."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    _convolve(x, weight, bias, out, cu_seqlens, reverse)
    return out


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, cu_seqlens: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias in their own types."""
    from vlm.ssm.triton_conv_kernels import conv_slopes

    taps = weight.shape[1]
    slopes = torch.empty_like(x, dtype=torch.float32, memory_format=torch.contiguous_format)
    grid = _grid(x)
    parts = slopes.new_empty(grid[0], taps + 1, x.shape[2])
    rows = rows_of(x)
    with device_of(x):
        conv_slopes[grid](
            rows, weight.contiguous(), bias, grad.contiguous(), slopes, parts, _steps_before(x, cu_seqlens, reverse),
            rows.shape[0], x.shape[1], rows.stride(0), x.shape[2], **_options(taps, reverse),
        )  # fmt: skip
    # The adjoint of looking back is looking ahead.
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    _convolve(slopes, weight, None, grad_x, cu_seqlens, not reverse)
    sums = parts.sum(dim=0)
    return grad_x, sums[:-1].t().to(weight.dtype).contiguous(), sums[-1].to(bias.dtype, copy=True)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor, cu_seqlens: Tensor | None, reverse: bool) -> None:
    """Writes the convolution into ``out``; with a bias also its SiLU."""
    from vlm.ssm.triton_conv_kernels import convolve

    rows = rows_of(x)
    with device_of(x):
        convolve[_grid(x)](
            rows, weight.contiguous(), bias, out, _steps_before(x, cu_seqlens, reverse),
            rows.shape[0], x.shape[1], rows.stride(0), x.shape[2], **_options(weight.shape[1], reverse),
        )  # fmt: skip


def _steps_before(x: Tensor, cu_seqlens: Tensor | None, reverse: bool) -> Tensor | None:
    """How many steps of its item the convolution has read before each packed row; None where a row of the batch is an item."""
    if cu_seqlens is None:
        return None
    place = torch.arange(x.shape[1], device=x.device)
    item = item_of_row(cu_seqlens.long(), x.shape[1])
    return cu_seqlens[item + 1] - 1 - place if reverse else place - cu_seqlens[item]


def _grid(x: Tensor) -> tuple[int, int]:
    return -(-x.shape[0] * x.shape[1] // TILE), -(-x.shape[2] // BLOCK_D)


def _options(taps: int, reverse: bool) -> dict[str, Any]:
    return {"TAPS": taps, "REVERSE": reverse, "TILE": TILE, "BLOCK_D": BLOCK_D, "num_warps": NUM_WARPS}
