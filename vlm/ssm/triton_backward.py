# mypy: ignore-errors
# Triton gives no types to what stands in a kernel.
"""The Triton kernels of the selective scan's backward pass: ``vlm.ssm.triton_kernels`` says how time and channels are divided.

As forward, from the other end: ``chunk_flows`` finds what each chunk passes to the one before it, ``link_chunks`` carries that along, and
``scan_backward`` computes all gradients of a chunk, with the states of a tile computed again from the slot that the forward pass has kept.
Gradients of B and C are summed over the channels of a program, and by ``sum_weights`` over programs, always in the same order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from vlm.ssm.triton_kernels import COUNTS, channels_of, load_or_zeros, load_sizes, place_of, recur, row_of, rows_of, sigmoid

LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def recur_back(decay, slope, initial, TILE: tl.constexpr):
    """k_i = decay_i (slope_i + k_(i+1)), and k_(i+1); the last comes after ``initial``. Flips are renamed registers, no instructions."""
    flow, before = recur(tl.flip(decay, 0), tl.flip(decay * slope, 0), initial, TILE)
    return tl.flip(flow, 0), tl.flip(before, 0)


@triton.jit
def load_slope(grad_out, z, places, gate_places, is_real):
    """The gradient of the output before its gate."""
    slope = tl.load(grad_out + places, mask=is_real, other=0.0).to(tl.float32)
    if z is not None:
        gate = tl.load(z + gate_places, mask=is_real, other=0.0).to(tl.float32)
        slope *= gate * sigmoid(gate)
    return slope


@triton.jit(do_not_specialize=COUNTS)
def chunk_flows(
    delta, rates, z, delta_bias, packed_C, grad_out, flows, sums, bounds, items, lengths,
    t, chunk_steps, delta_stride, z_stride, d, n, tiles,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, TILE: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """What each chunk but an item's first adds to the gradient of the state before it, at the chunk before; and its sum of step sizes."""
    chunk = tl.program_id(0).to(tl.int64)
    _item, number, first_row, steps, _is_last = place_of(chunk, bounds, items, lengths, t, chunk_steps, REVERSE)
    channels = channels_of(tl.program_id(1), BLOCK_D)
    in_d = channels < d
    bias = load_or_zeros(delta_bias, channels, in_d, BLOCK_D)
    delta += first_row * delta_stride
    grad_out += first_row * d
    if z is not None:
        z += first_row * z_stride
    flows += (chunk - 1) * n * d
    sum_sizes = tl.zeros([BLOCK_D], tl.float32)
    num_tiles = tl.where(number == 0, 0, (steps + TILE - 1) // TILE)
    for back in range(num_tiles):
        tile = num_tiles - 1 - back
        rows = rows_of(tile * TILE, TILE, REVERSE)
        is_real = ((tile * TILE + tl.arange(0, TILE)) < steps)[:, None] & in_d[None, :]
        _raw, size = load_sizes(delta, rows * delta_stride + channels[None, :], is_real, bias, SOFTPLUS)
        slope = load_slope(grad_out, z, rows * d + channels[None, :], rows * z_stride + channels[None, :], is_real)
        sum_sizes += tl.sum(size, axis=0)
        weights = packed_C + (chunk * tiles + tile) * n * TILE + tl.arange(0, TILE)
        for state in range(n):
            initial = tl.load(flows + state * d + channels, mask=in_d & (back > 0), other=0.0)
            rate = tl.load(rates + state * d + channels, mask=in_d, other=0.0)
            flow, _after = recur_back(tl.exp2(size * rate[None, :]), slope * tl.load(weights + state * TILE)[:, None], initial, TILE)
            tl.store(flows + state * d + channels, row_of(flow, 0, TILE), mask=in_d)
        tl.debug_barrier()
    if num_tiles > 0:
        tl.store(sums + chunk * d + channels, sum_sizes, mask=in_d)


@triton.jit(do_not_specialize=COUNTS)
def scan_backward(
    u, delta, rates, D, z, delta_bias, packed_B, packed_C, grad_out, states, flows, scratch,
    grad_u, grad_delta, grad_z, grad_A, grad_B, grad_C, grad_D, grad_bias, grad_initial, bounds, items, lengths,
    t, chunk_steps, u_stride, delta_stride, z_stride, d, n, tiles, num_slots,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, TILE: tl.constexpr, PART: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Gradients: of u, delta and z by row; of A, D and delta_bias by chunk; of B and C by block of channels and slot. Others sum them.

    A tile is taken in parts of PART steps, which fit into registers; ``scratch`` keeps the states between its parts.
    """
    chunk = tl.program_id(0).to(tl.int64)
    item, number, first_row, steps, _is_last = place_of(chunk, bounds, items, lengths, t, chunk_steps, REVERSE)
    block = tl.program_id(1).to(tl.int64)
    channels = channels_of(tl.program_id(1), BLOCK_D)
    in_d = channels < d
    bias = load_or_zeros(delta_bias, channels, in_d, BLOCK_D)
    skip = load_or_zeros(D, channels, in_d, BLOCK_D)
    u += first_row * u_stride
    delta += first_row * delta_stride
    grad_out += first_row * d
    grad_u += first_row * d
    grad_delta += first_row * d
    if z is not None:
        z += first_row * z_stride
        grad_z += first_row * d
    states += chunk * tiles * n * d
    flows += chunk * n * d
    grad_A += chunk * n * d
    scratch += chunk * (TILE // PART - 1) * n * d
    grad_B += (block * num_slots + chunk * tiles) * n * TILE
    grad_C += (block * num_slots + chunk * tiles) * n * TILE
    packed_B += chunk * tiles * n * TILE
    packed_C += chunk * tiles * n * TILE
    sum_D = tl.zeros([BLOCK_D], tl.float32)
    sum_bias = tl.zeros([BLOCK_D], tl.float32)
    within = tl.arange(0, PART)
    num_tiles = (steps + TILE - 1) // TILE
    for tiles_back in range(num_tiles):
        tile = num_tiles - 1 - tiles_back
        slot = states + tile * n * d
        for part in range(TILE // PART - 1):
            rows = rows_of(tile * TILE + part * PART, PART, REVERSE)
            is_real = ((tile * TILE + part * PART + within) < steps)[:, None] & in_d[None, :]
            x = tl.load(u + rows * u_stride + channels[None, :], mask=is_real, other=0.0).to(tl.float32)
            _raw, size = load_sizes(delta, rows * delta_stride + channels[None, :], is_real, bias, SOFTPLUS)
            if part > 0:
                slot = scratch + (part - 1) * n * d
            for state in range(n):
                initial = tl.load(slot + state * d + channels, mask=in_d, other=0.0)
                rate = tl.load(rates + state * d + channels, mask=in_d, other=0.0)
                weigh_in = tl.load(packed_B + (tile * n + state) * TILE + part * PART + within)
                h, _before = recur(tl.exp2(size * rate[None, :]), (size * x) * weigh_in[:, None], initial, PART)
                tl.store(scratch + (part * n + state) * d + channels, row_of(h, PART - 1, PART), mask=in_d)
            tl.debug_barrier()
        for parts_back in range(TILE // PART):
            part = TILE // PART - 1 - parts_back
            slot = states + tile * n * d
            if part > 0:
                slot = scratch + (part - 1) * n * d
            is_start = (tiles_back == 0) & (parts_back == 0)
            rows = rows_of(tile * TILE + part * PART, PART, REVERSE)
            is_real = ((tile * TILE + part * PART + within) < steps)[:, None] & in_d[None, :]
            x = tl.load(u + rows * u_stride + channels[None, :], mask=is_real, other=0.0).to(tl.float32)
            _raw, size = load_sizes(delta, rows * delta_stride + channels[None, :], is_real, bias, SOFTPLUS)
            inflow = size * x
            slope = load_slope(grad_out, z, rows * d + channels[None, :], rows * z_stride + channels[None, :], is_real)
            y = skip[None, :] * x
            through = tl.zeros([PART, BLOCK_D], tl.float32)  # gradient of delta u, summed over the states
            grad_size = tl.zeros([PART, BLOCK_D], tl.float32)
            for state in range(n):
                initial = tl.load(slot + state * d + channels, mask=in_d, other=0.0)
                arriving = tl.load(flows + state * d + channels, mask=in_d, other=0.0)
                sum_A = tl.load(grad_A + state * d + channels, mask=in_d & (is_start == 0), other=0.0)
                rate = tl.load(rates + state * d + channels, mask=in_d, other=0.0)
                weights = (tile * n + state) * TILE + part * PART + within
                weigh_in, weigh_out = tl.load(packed_B + weights)[:, None], tl.load(packed_C + weights)[:, None]
                decay = tl.exp2(size * rate[None, :])
                h, before = recur(decay, inflow * weigh_in, initial, PART)
                flow, flow_after = recur_back(decay, slope * weigh_out, arriving, PART)
                grad_h = slope * weigh_out + flow_after
                if z is not None:
                    y += h * weigh_out
                through += grad_h * weigh_in
                decayed = flow * before
                grad_size += decayed * rate[None, :]
                tl.store(grad_A + state * d + channels, sum_A + tl.sum(decayed * size, axis=0), mask=in_d)
                tl.store(flows + state * d + channels, row_of(flow, 0, PART), mask=in_d)
                tl.store(grad_B + weights, tl.sum(grad_h * inflow, axis=1))
                tl.store(grad_C + weights, tl.sum(h * slope, axis=1))
            if z is not None:
                gate = tl.load(z + rows * z_stride + channels[None, :], mask=is_real, other=0.0).to(tl.float32)
                upstream = tl.load(grad_out + rows * d + channels[None, :], mask=is_real, other=0.0).to(tl.float32)
                open_ = sigmoid(gate)
                tl.store(grad_z + rows * d + channels[None, :], upstream * y * open_ * (1.0 + gate * (1.0 - open_)), mask=is_real)
            # Read again, rather than held in registers through the loop over the states.
            x = tl.load(u + rows * u_stride + channels[None, :], mask=is_real, other=0.0).to(tl.float32)
            grad_size = grad_size * LN_2 + through * x
            if SOFTPLUS:
                raw, size = load_sizes(delta, rows * delta_stride + channels[None, :], is_real, bias, SOFTPLUS)
                grad_size *= sigmoid(raw)
            tl.store(grad_u + rows * d + channels[None, :], through * size + skip[None, :] * slope, mask=is_real)
            tl.store(grad_delta + rows * d + channels[None, :], grad_size, mask=is_real)
            sum_D += tl.sum(slope * x, axis=0)
            sum_bias += tl.sum(tl.where(is_real, grad_size, 0.0), axis=0)
            tl.debug_barrier()
    tl.store(grad_D + chunk * d + channels, sum_D, mask=in_d)
    tl.store(grad_bias + chunk * d + channels, sum_bias, mask=in_d)
    if (number == 0) & (steps > 0):
        for state in range(n):
            leaving = tl.load(flows + state * d + channels, mask=in_d, other=0.0)
            tl.store(grad_initial + (item * d + channels) * n + state, leaving, mask=in_d)


@triton.jit(do_not_specialize=COUNTS)
def sum_weights(
    parts_B, parts_C, grad_B, grad_C, bounds, items, lengths, t, chunk_steps, n, tiles, num_slots, blocks,
    REVERSE: tl.constexpr, TILE: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """The gradients of B and C by row, summed over the blocks of channels."""
    chunk = tl.program_id(0).to(tl.int64)
    tile = tl.program_id(1)
    _item, _number, first_row, steps, _is_last = place_of(chunk, bounds, items, lengths, t, chunk_steps, REVERSE)
    grad_B += first_row * n
    grad_C += first_row * n
    states = tl.arange(0, BLOCK_N)
    if tile * TILE < steps:
        in_n = (states < n)[:, None]
        places = (chunk * tiles + tile) * n * TILE + states[:, None] * TILE + tl.arange(0, TILE)[None, :]
        sum_B = tl.zeros([BLOCK_N, TILE], tl.float32)
        sum_C = tl.zeros([BLOCK_N, TILE], tl.float32)
        for _ in range(blocks):
            sum_B += tl.load(parts_B + places, mask=in_n, other=0.0)
            sum_C += tl.load(parts_C + places, mask=in_n, other=0.0)
            places += num_slots * n * TILE
        rows = tl.trans(rows_of(tile * TILE, TILE, REVERSE))
        is_real = ((tile * TILE + tl.arange(0, TILE)) < steps)[None, :] & in_n
        tl.store(grad_B + rows * n + states[:, None], sum_B, mask=is_real)
        tl.store(grad_C + rows * n + states[:, None], sum_C, mask=is_real)
