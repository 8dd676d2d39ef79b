# mypy: ignore-errors
# Triton gives no types to what stands in a kernel.
"""The two Triton kernels of the selective scan. Imported only by ``vlm.ssm.triton_scan``, and only where Triton is there.

One program owns one item and BLOCK_D of its channels, keeps their states in registers, and walks the item's steps in either direction: it
computes the row of a step, so that nothing is flipped or copied. The forward pass stores the state before every TILE-th step; the backward
pass goes through the tiles from the last to the first, recomputes the states of one into a scratch that stays in the cache, and walks back.
No tensor (b, t, d, n) exists. Letters as in Mamba (arXiv 2312.00752).
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x)), without an overflow."""
    w = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, w) / (1.0 + w)


@triton.jit
def softplus(x):
    """log(1 + exp(x)), exact to the last digits also where it is small: a plain log(1 + w) would lose them."""
    w = tl.exp(-tl.abs(x))
    more = 1.0 + w
    log1p = tl.where(more == 1.0, w, tl.log(more) * (w / tl.where(more == 1.0, 1.0, more - 1.0)))
    return tl.maximum(x, 0.0) + log1p


@triton.jit
def load_row(pointer, row, stride, places, is_inside):
    """A row of a matrix as float32, zeros outside."""
    return tl.load(pointer + row * stride + places, mask=is_inside, other=0.0).to(tl.float32)


@triton.jit
def load_delta(delta, row, stride, channels, in_d, bias, SOFTPLUS: tl.constexpr):
    """The step size before and after softplus."""
    raw = load_row(delta, row, stride, channels, in_d) + bias
    if SOFTPLUS:
        return raw, softplus(raw)
    return raw, raw


@triton.jit
def scan_forward(
    u, delta, A, B, C, D, z, delta_bias, initial_state, out, last_state, checkpoints,
    starts, lengths, first_tiles, u_stride, delta_stride, B_stride, C_stride, z_stride, d, n,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, TILE: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Output, last states, and the state before every TILE-th step where ``checkpoints`` is given. Strides are those of rows."""
    item = tl.program_id(0).to(tl.int64)
    channels = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    states = tl.arange(0, BLOCK_N)
    in_d, in_n = channels < d, states < n
    square = in_d[:, None] & in_n[None, :]
    places = channels[:, None] * n + states[None, :]
    start, length = tl.load(starts + item), tl.load(lengths + item)

    rates = tl.load(A + places, mask=square, other=0.0)
    bias = tl.zeros([BLOCK_D], tl.float32)
    if delta_bias is not None:
        bias = tl.load(delta_bias + channels, mask=in_d, other=0.0)
    h = tl.zeros([BLOCK_D, BLOCK_N], tl.float32)
    if initial_state is not None:
        h = tl.load(initial_state + item * d * n + places, mask=square, other=0.0)

    for step in range(length):
        row = start + step
        if REVERSE:
            row = start + length - 1 - step
        # Two questions: whether there are checkpoints is known when the kernel is compiled, and a store to nothing would not compile.
        if checkpoints is not None:  # noqa: SIM102
            if step % TILE == 0:
                tile = tl.load(first_tiles + item) + step // TILE
                tl.store(checkpoints + tile * d * n + places, h, mask=square)
        x = load_row(u, row, u_stride, channels, in_d)
        _, size = load_delta(delta, row, delta_stride, channels, in_d, bias, SOFTPLUS)
        weigh_in = load_row(B, row, B_stride, states, in_n)
        weigh_out = load_row(C, row, C_stride, states, in_n)
        h = tl.exp(size[:, None] * rates) * h + (size * x)[:, None] * weigh_in[None, :]
        y = tl.sum(h * weigh_out[None, :], axis=1)
        if D is not None:
            y += tl.load(D + channels, mask=in_d, other=0.0) * x
        if z is not None:
            gate = load_row(z, row, z_stride, channels, in_d)
            y *= gate * sigmoid(gate)
        tl.store(out + row * d + channels, y, mask=in_d)
    tl.store(last_state + item * d * n + places, h, mask=square)


@triton.jit
def scan_backward(
    u, delta, A, B, C, D, z, delta_bias, grad_out, grad_last, checkpoints, scratch,
    grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_z, grad_bias, grad_initial,
    starts, lengths, first_tiles, u_stride, delta_stride, B_stride, C_stride, z_stride, d, n, num_rows,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, TILE: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Gradients: of u, delta and z by row; of A, D and delta_bias by item; of B and C by block of channels and row. The caller sums."""
    item = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1).to(tl.int64)
    channels = block * BLOCK_D + tl.arange(0, BLOCK_D)
    states = tl.arange(0, BLOCK_N)
    in_d, in_n = channels < d, states < n
    square = in_d[:, None] & in_n[None, :]
    places = channels[:, None] * n + states[None, :]
    start, length = tl.load(starts + item), tl.load(lengths + item)
    first_tile = tl.load(first_tiles + item)
    # Of this program alone: the states before each step of one tile.
    within = tl.arange(0, BLOCK_D)[:, None] * BLOCK_N + states[None, :]
    scratch += (item * tl.num_programs(1) + block) * TILE * BLOCK_D * BLOCK_N

    rates = tl.load(A + places, mask=square, other=0.0)
    bias = tl.zeros([BLOCK_D], tl.float32)
    if delta_bias is not None:
        bias = tl.load(delta_bias + channels, mask=in_d, other=0.0)
    skip = tl.zeros([BLOCK_D], tl.float32)
    if D is not None:
        skip = tl.load(D + channels, mask=in_d, other=0.0)

    carry = tl.zeros([BLOCK_D, BLOCK_N], tl.float32)  # the gradient of the state, from the steps after
    if grad_last is not None:
        carry = tl.load(grad_last + item * d * n + places, mask=square, other=0.0)
    sum_A = tl.zeros([BLOCK_D, BLOCK_N], tl.float32)
    sum_D = tl.zeros([BLOCK_D], tl.float32)
    sum_bias = tl.zeros([BLOCK_D], tl.float32)

    num_tiles = (length + TILE - 1) // TILE
    for back in range(num_tiles):
        tile = num_tiles - 1 - back
        begin = tile * TILE
        end = tl.minimum(begin + TILE, length)
        h = tl.load(checkpoints + (first_tile + tile) * d * n + places, mask=square, other=0.0)
        for step in range(begin, end):
            row = start + step
            if REVERSE:
                row = start + length - 1 - step
            tl.store(scratch + (step - begin) * BLOCK_D * BLOCK_N + within, h)
            x = load_row(u, row, u_stride, channels, in_d)
            _, size = load_delta(delta, row, delta_stride, channels, in_d, bias, SOFTPLUS)
            weigh_in = load_row(B, row, B_stride, states, in_n)
            h = tl.exp(size[:, None] * rates) * h + (size * x)[:, None] * weigh_in[None, :]
        tl.debug_barrier()
        for distance in range(end - begin):
            step = end - 1 - distance
            row = start + step
            if REVERSE:
                row = start + length - 1 - step
            before = tl.load(scratch + (step - begin) * BLOCK_D * BLOCK_N + within)
            x = load_row(u, row, u_stride, channels, in_d)
            raw, size = load_delta(delta, row, delta_stride, channels, in_d, bias, SOFTPLUS)
            weigh_in = load_row(B, row, B_stride, states, in_n)
            weigh_out = load_row(C, row, C_stride, states, in_n)
            decay = tl.exp(size[:, None] * rates)
            kept = decay * before
            h = kept + (size * x)[:, None] * weigh_in[None, :]
            slope = load_row(grad_out, row, d, channels, in_d)
            if z is not None:
                gate = load_row(z, row, z_stride, channels, in_d)
                open_ = sigmoid(gate)
                y = tl.sum(h * weigh_out[None, :], axis=1) + skip * x
                tl.store(grad_z + row * d + channels, slope * y * open_ * (1.0 + gate * (1.0 - open_)), mask=in_d)
                slope *= gate * open_
            grad_h = carry + slope[:, None] * weigh_out[None, :]
            through = tl.sum(grad_h * weigh_in[None, :], axis=1)
            decayed = grad_h * kept
            grad_size = tl.sum(decayed * rates, axis=1) + through * x
            if SOFTPLUS:
                grad_size *= sigmoid(raw)
            partial = (block * num_rows + row) * n + states
            tl.store(grad_B + partial, tl.sum(grad_h * (size * x)[:, None], axis=0), mask=in_n)
            tl.store(grad_C + partial, tl.sum(h * slope[:, None], axis=0), mask=in_n)
            tl.store(grad_u + row * d + channels, through * size + skip * slope, mask=in_d)
            tl.store(grad_delta + row * d + channels, grad_size, mask=in_d)
            sum_A += decayed * size[:, None]
            sum_D += slope * x
            sum_bias += grad_size
            carry = grad_h * decay
        tl.debug_barrier()
    tl.store(grad_A + item * d * n + places, sum_A, mask=square)
    tl.store(grad_D + item * d + channels, sum_D, mask=in_d)
    tl.store(grad_bias + item * d + channels, sum_bias, mask=in_d)
    tl.store(grad_initial + item * d * n + places, carry, mask=square)
