# mypy: ignore-errors
# Triton gives no types to what stands in a kernel.
"""The Triton kernels of the short convolution: a program computes TILE rows of BLOCK_D channels. Imported only where Triton is there."""

from __future__ import annotations

import triton
import triton.language as tl

from vlm.ssm.triton_kernels import sigmoid


@triton.jit
def steps_before(before, rows, num_rows, t, REVERSE: tl.constexpr):
    """How many steps of its item come before each row, in the direction of the convolution."""
    if before is not None:
        return tl.load(before + rows, mask=rows < num_rows, other=0)
    if REVERSE:
        return t - 1 - rows % t
    return rows % t


@triton.jit
def load_shifted(x, rows, channels, is_real, before, stride, shift, REVERSE: tl.constexpr):
    """The inputs ``shift`` steps before each row, zeros before an item's first."""
    source = rows - shift
    if REVERSE:
        source = rows + shift
    is_there = is_real & (before >= shift)[:, None]
    return tl.load(x + source[:, None] * stride + channels[None, :], mask=is_there, other=0.0).to(tl.float32)


@triton.jit
def weighed_sum(
    x, weight, bias, rows, channels, is_real, in_d, before, stride, TAPS: tl.constexpr, REVERSE: tl.constexpr, TILE: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The convolution before its SiLU."""
    found = tl.zeros([TILE, BLOCK_D], tl.float32)
    if bias is not None:
        found += tl.load(bias + channels, mask=in_d, other=0.0).to(tl.float32)[None, :]
    for shift in tl.static_range(TAPS):
        tap = tl.load(weight + channels * TAPS + (TAPS - 1 - shift), mask=in_d, other=0.0).to(tl.float32)
        found += tap[None, :] * load_shifted(x, rows, channels, is_real, before, stride, shift, REVERSE)
    return found


@triton.jit(do_not_specialize=("num_rows", "t"))
def convolve(
    x, weight, bias, out, before, num_rows, t, stride, d,
    TAPS: tl.constexpr, REVERSE: tl.constexpr, TILE: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The convolution by row; with a bias, its SiLU."""
    rows = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    channels = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    in_d = channels < d
    is_real = (rows < num_rows)[:, None] & in_d[None, :]
    steps = steps_before(before, rows, num_rows, t, REVERSE)
    found = weighed_sum(x, weight, bias, rows, channels, is_real, in_d, steps, stride, TAPS, REVERSE, TILE, BLOCK_D)
    if bias is not None:
        found *= sigmoid(found)
    tl.store(out + rows[:, None] * d + channels[None, :], found, mask=is_real)


@triton.jit(do_not_specialize=("num_rows", "t"))
def conv_slopes(
    x, weight, bias, grad, slopes, parts, before, num_rows, t, stride, d,
    TAPS: tl.constexpr, REVERSE: tl.constexpr, TILE: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Gradients before the SiLU by row, and of the taps and the bias by tile: (tiles, TAPS + 1, d), the bias last."""
    tile = tl.program_id(0).to(tl.int64)
    rows = tile * TILE + tl.arange(0, TILE)
    channels = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    in_d = channels < d
    is_real = (rows < num_rows)[:, None] & in_d[None, :]
    steps = steps_before(before, rows, num_rows, t, REVERSE)
    linear = weighed_sum(x, weight, bias, rows, channels, is_real, in_d, steps, stride, TAPS, REVERSE, TILE, BLOCK_D)
    places = rows[:, None] * d + channels[None, :]
    slope = tl.load(grad + places, mask=is_real, other=0.0).to(tl.float32)
    open_ = sigmoid(linear)
    slope *= open_ * (1.0 + linear * (1.0 - open_))
    tl.store(slopes + places, slope, mask=is_real)
    parts += tile * (TAPS + 1) * d
    for shift in tl.static_range(TAPS):
        shifted = load_shifted(x, rows, channels, is_real, steps, stride, shift, REVERSE)
        tl.store(parts + (TAPS - 1 - shift) * d + channels, tl.sum(slope * shifted, axis=0), mask=in_d)
    tl.store(parts + TAPS * d + channels, tl.sum(slope, axis=0), mask=in_d)
