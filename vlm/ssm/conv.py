"""The short convolution before the scan: depthwise, causal, with bias and SiLU, on (b, t, d) without a transpose.

``nn.Conv1d`` wants (b, d, t) and is slow for one channel a group. The C++ kernels (``vlm.ssm.native.conv``) take what they can where they
were built, and those in Triton (``vlm.ssm.triton_conv``) on a GPU; elsewhere K shifted multiply-adds do it, on any device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vlm.ssm import triton_conv
from vlm.ssm.native import conv as native
from vlm.ssm.packed import item_of_row


def causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor, *, cu_seqlens: Tensor | None = None, reverse: bool = False) -> Tensor:
    """SiLU(bias + the last K inputs of each channel, weighed), (b, t, d) in the type of ``x``; arithmetic at least in float32.

    Before an item's first step there are zeros. Gradients of the first order.

    Args:
        x: inputs (b, t, d); the last axis should be contiguous.
        weight: (d, K); the last column weighs the present step. bias: (d).
        cu_seqlens: (items + 1), as in ``selective_scan``: b is 1 and items never see each other.
        reverse: the window of a step holds the K - 1 steps after it: the causal convolution of each item read from its end.
    """
    output: Tensor = _causal_conv1d(x, weight, bias, cu_seqlens, reverse)
    return output


@torch.library.custom_op("vlm::causal_conv1d", mutates_args=())
def _causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor, cu_seqlens: Tensor | None, reverse: bool) -> Tensor:
    if native.can_take(x, weight):
        return native.forward(x, weight, bias, cu_seqlens, reverse)
    if triton_conv.can_take(x, weight):
        return triton_conv.forward(x, weight, bias, cu_seqlens, reverse)
    linear = _convolve(x, weight, bias, _breaks(x, weight, cu_seqlens), reverse)
    return functional.silu(linear, inplace=True).to(x.dtype)


@_causal_conv1d.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, cu_seqlens: Tensor | None, reverse: bool) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("vlm::causal_conv1d_backward", mutates_args=())
def _causal_conv1d_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, cu_seqlens: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    if native.can_take(x, weight):
        return native.backward(grad, x, weight, bias, cu_seqlens, reverse)
    if triton_conv.can_take(x, weight):
        return triton_conv.backward(grad, x, weight, bias, cu_seqlens, reverse)
    breaks = _breaks(x, weight, cu_seqlens)
    linear = _convolve(x, weight, bias, breaks, reverse)
    slope = torch.ops.aten.silu_backward(grad.to(linear.dtype), linear)
    t, K = x.shape[1], weight.shape[1]
    grad_weight = weight.new_empty(weight.shape, dtype=slope.dtype)
    for shift in range(K):
        now, then = _pair(t, shift, reverse)
        product = slope[:, now] * x[:, then]
        if shift and breaks is not None:
            product = product.masked_fill_(breaks[shift], 0)
        grad_weight[:, K - 1 - shift] = product.sum(dim=(0, 1))
    # The adjoint of looking back is looking ahead.
    grad_x = _convolve(slope, weight, None, breaks, not reverse)
    return grad_x.to(x.dtype), grad_weight.to(weight.dtype), slope.sum(dim=(0, 1)).to(bias.dtype)


@_causal_conv1d_backward.register_fake
def _(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, cu_seqlens: Tensor | None, reverse: bool) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), torch.empty_like(weight), torch.empty_like(bias)


def _keep(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, Tensor, Tensor, Tensor | None, bool], output: Tensor) -> None:
    *tensors, ctx.reverse = inputs  # type: ignore[attr-defined]
    ctx.save_for_backward(*tensors)  # type: ignore[arg-type]  # None may be saved, as the documentation says


def _differentiate(ctx: torch.autograd.function.BackwardCFunction, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
    grads = _causal_conv1d_backward(grad, *ctx.saved_tensors, ctx.reverse)  # type: ignore[attr-defined]
    return *grads, None, None


_causal_conv1d.register_autograd(_differentiate, setup_context=_keep)


def _pair(t: int, shift: int, reverse: bool) -> tuple[slice, slice]:
    """The steps that have a step ``shift`` before them (after them, in reverse), and those other steps."""
    late, early = slice(min(shift, t), t), slice(0, max(t - shift, 0))
    return (early, late) if reverse else (late, early)


def _breaks(x: Tensor, weight: Tensor, cu_seqlens: Tensor | None) -> list[Tensor] | None:
    """For each shift, which pairs of steps lie in different items, (t - shift, 1)."""
    if cu_seqlens is None:
        return None
    item = item_of_row(cu_seqlens, x.shape[1])
    return [(item[shift:] != item[: max(len(item) - shift, 0)])[:, None] for shift in range(weight.shape[1])]


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, breaks: list[Tensor] | None, reverse: bool) -> Tensor:
    """A new tensor of the convolution alone."""
    dtype = torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32)
    x, columns = x.to(dtype), weight.to(dtype).t().contiguous()
    K, t = columns.shape[0], x.shape[1]
    output = x * columns[-1] if bias is None else torch.addcmul(bias.to(dtype), x, columns[-1])
    for shift in range(1, K):
        now, then = _pair(t, shift, reverse)
        if breaks is None:
            output[:, now].addcmul_(x[:, then], columns[K - 1 - shift])
        else:
            output[:, now].add_((x[:, then] * columns[K - 1 - shift]).masked_fill_(breaks[shift], 0))
    return output
