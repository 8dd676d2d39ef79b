# mypy: ignore-errors
# Triton gives no types to what stands in a kernel.
"""The Triton kernels of the selective scan's forward pass, and what both passes share. Imported only where Triton is there.

Time is cut into chunks, so that one long sequence fills a GPU: (1) ``chunk_states`` scans every chunk from a state of zeros and keeps
where it ends, (2) ``link_chunks`` carries the states from chunk to chunk, (3) ``scan_forward`` scans every chunk from its true state.
Step (1) costs a second pass over u and delta, and is left out where the items alone fill the GPU.

A program is one warp with BLOCK_D channels, two or four for each thread, and walks through TILE steps at once, for one state after the
other: a thread holds all of these steps of its channels, so that the scan along them needs no other thread. Steps count in the direction
of the scan; a program computes the row of each, so that nothing is flipped or copied. States lie as (slots, n, d), and B and C, packed by
``pack_weights``, as (slots, n, TILE): a slot for each tile. No tensor (b, t, d, n) exists, nothing is added atomically, and the same call
gives the same bits.

Letters as in Mamba (arXiv 2312.00752). Rates come as log2(e) A: the GPU's own exponential is that of 2.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Numbers that a kernel is not compiled anew for.
COUNTS = ("t", "chunk_steps", "tiles", "slots", "num_slots", "blocks")
LOG2_E = tl.constexpr(1.4426950408889634)  # Triton lets a kernel see a global only if it is a constexpr


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x)), without an overflow."""
    w = tl.exp2(-tl.abs(x) * LOG2_E)
    return tl.where(x >= 0, 1.0, w) / (1.0 + w)


@triton.jit
def softplus(x):
    """log(1 + exp(x)), exact to the last digits also where it is small: log(1 + w) = 2 artanh(w / (2 + w)), by a polynomial within 4e-9."""
    w = tl.exp2(-tl.abs(x) * LOG2_E)
    s = w / (2.0 + w)
    q = s * s
    artanh2 = s * (2.0 + q * (0.66666317 + q * (0.40024853 + q * (0.27961418 + q * 0.28174657))))
    return tl.maximum(x, 0.0) + artanh2


@triton.jit
def place_of(chunk, bounds, items, lengths, t, chunk_steps, REVERSE: tl.constexpr):
    """Of a chunk: its item, its number within the item, the row of its first step, how many steps it has, and whether it is the last.

    Packed items begin a chunk of their own; the chunks that this leaves over have no step.
    """
    if bounds is not None:
        item = tl.load(items + chunk)
        start = tl.load(bounds + item)
        length = tl.load(bounds + item + 1) - start
        number = chunk - start // chunk_steps - item
    else:
        chunks_of_item = (t + chunk_steps - 1) // chunk_steps
        item = chunk // chunks_of_item
        number = chunk % chunks_of_item
        start = item * t
        length = start * 0 + t
        if lengths is not None:
            length = tl.load(lengths + item)
    before = number * chunk_steps
    steps = tl.minimum(tl.maximum(length - before, 0), chunk_steps).to(tl.int32)
    first_row = start + before
    if REVERSE:
        first_row = start + length - 1 - before
    return item, number, first_row, steps, (steps > 0) & (before + steps == length)


@triton.jit
def rows_of(begin, TILE: tl.constexpr, REVERSE: tl.constexpr):
    """The rows of the steps ``begin`` and after, as a column, counted from the row of the chunk's first step."""
    steps = begin + tl.arange(0, TILE)[:, None]
    if REVERSE:
        return -steps
    return steps


@triton.jit
def channels_of(block, BLOCK_D: tl.constexpr):
    """The channels of a block. The hint spreads them over all 32 threads of the warp: else some would hold other steps of the same ones."""
    return tl.max_contiguous(block * BLOCK_D + tl.arange(0, BLOCK_D), [BLOCK_D // 32 if BLOCK_D > 32 else 1])


@triton.jit
def load_sizes(delta, places, is_real, bias, SOFTPLUS: tl.constexpr):
    """Step sizes before and after softplus. Where there is no step they are 0: the state waits."""
    raw = tl.load(delta + places, mask=is_real, other=0.0).to(tl.float32) + bias[None, :]
    if SOFTPLUS:
        return raw, tl.where(is_real, softplus(raw), 0.0)
    return raw, tl.where(is_real, raw, 0.0)


@triton.jit
def load_or_zeros(pointer, channels, in_d, BLOCK_D: tl.constexpr):
    """A number for each channel; zeros where there is no tensor."""
    if pointer is not None:
        return tl.load(pointer + channels, mask=in_d, other=0.0)
    return tl.zeros([BLOCK_D], tl.float32)


@triton.jit
def follow(decay, state, before, kept, next_decay, next_state, next_before, next_kept):
    """A stretch of steps and the one after it as one: its decay, the state after it and before its last step, the decay before that."""
    return next_decay * decay, next_decay * state + next_state, next_kept * state + next_before, next_kept * decay


@triton.jit
def recur(decay, inflow, initial, TILE: tl.constexpr):
    """The states x_i = decay_i x_(i-1) + inflow_i of a tile, and x_(i-1); the first follows ``initial``. TILE steps within a thread.

    -0.0 and 1.0 are what a compiler may leave out of a sum and a product.
    """
    is_first = tl.arange(0, TILE)[:, None] == 0
    inflow = tl.where(is_first, inflow + decay * initial[None, :], inflow)
    before = tl.where(is_first, initial[None, :], tl.full(decay.shape, -0.0, tl.float32))
    _decay, state, before, _kept = tl.associative_scan((decay, inflow, before, tl.full(decay.shape, 1.0, tl.float32)), 0, follow)
    return state, before


@triton.jit
def row_of(x, row, TILE: tl.constexpr):
    """One row of a tile."""
    return tl.sum(tl.where(tl.arange(0, TILE)[:, None] == row, x, 0.0), axis=0)


@triton.jit(do_not_specialize=COUNTS)
def pack_weights(
    B, C, packed_B, packed_C, bounds, items, lengths, t, chunk_steps, B_stride, C_stride, n, tiles,
    REVERSE: tl.constexpr, TILE: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """B and C as (slots, n, TILE) in the direction of the scan, zeros where there is no step."""
    chunk = tl.program_id(0).to(tl.int64)
    tile = tl.program_id(1)
    _item, _number, first_row, steps, _is_last = place_of(chunk, bounds, items, lengths, t, chunk_steps, REVERSE)
    B += first_row * B_stride
    C += first_row * C_stride
    states = tl.arange(0, BLOCK_N)
    rows = rows_of(tile * TILE, TILE, REVERSE)
    is_real = ((tile * TILE + tl.arange(0, TILE)) < steps)[:, None] & (states < n)[None, :]
    places = (chunk * tiles + tile) * n * TILE + states[None, :] * TILE + tl.arange(0, TILE)[:, None]
    if tile * TILE < steps:
        in_n = (states < n)[None, :]
        tl.store(packed_B + places, tl.load(B + rows * B_stride + states[None, :], mask=is_real, other=0.0).to(tl.float32), mask=in_n)
        tl.store(packed_C + places, tl.load(C + rows * C_stride + states[None, :], mask=is_real, other=0.0).to(tl.float32), mask=in_n)


@triton.jit(do_not_specialize=COUNTS)
def chunk_states(
    u, delta, rates, delta_bias, packed_B, states, sums, bounds, items, lengths, t, chunk_steps, u_stride, delta_stride, d, n, tiles, slots,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, TILE: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Where each chunk but an item's last leads from a state of zeros, into the first slot of the next; and its sum of step sizes."""
    chunk = tl.program_id(0).to(tl.int64)
    _item, _number, first_row, steps, is_last = place_of(chunk, bounds, items, lengths, t, chunk_steps, REVERSE)
    channels = channels_of(tl.program_id(1), BLOCK_D)
    in_d = channels < d
    bias = load_or_zeros(delta_bias, channels, in_d, BLOCK_D)
    u += first_row * u_stride
    delta += first_row * delta_stride
    states += (chunk + 1) * slots * n * d
    sum_sizes = tl.zeros([BLOCK_D], tl.float32)
    for tile in range(tl.where(is_last, 0, (steps + TILE - 1) // TILE)):
        rows = rows_of(tile * TILE, TILE, REVERSE)
        is_real = ((tile * TILE + tl.arange(0, TILE)) < steps)[:, None] & in_d[None, :]
        x = tl.load(u + rows * u_stride + channels[None, :], mask=is_real, other=0.0).to(tl.float32)
        _raw, size = load_sizes(delta, rows * delta_stride + channels[None, :], is_real, bias, SOFTPLUS)
        sum_sizes += tl.sum(size, axis=0)
        weights = packed_B + (chunk * tiles + tile) * n * TILE + tl.arange(0, TILE)
        for state in range(n):
            initial = tl.load(states + state * d + channels, mask=in_d & (tile > 0), other=0.0)
            rate = tl.load(rates + state * d + channels, mask=in_d, other=0.0)
            inflow = (size * x) * tl.load(weights + state * TILE)[:, None]
            h, _before = recur(tl.exp2(size * rate[None, :]), inflow, initial, TILE)
            tl.store(states + state * d + channels, row_of(h, TILE - 1, TILE), mask=in_d)
        tl.debug_barrier()
    if (steps > 0) & (is_last == 0):
        tl.store(sums + chunk * d + channels, sum_sizes, mask=in_d)


@triton.jit(do_not_specialize=COUNTS)
def link_chunks(
    states, sums, rates, initial, unmoved, bounds, lengths, t, chunk_steps, d, n, slots,
    BACKWARD: tl.constexpr, GROUP: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Turns what each chunk adds into the true state before it; the initial one stands in an item's first chunk. One program per item.

    Backward it goes from an item's last chunk to its first and carries gradients of the states after the chunks. ``unmoved`` is the last
    state of items without a step.
    """
    item = tl.program_id(0).to(tl.int64)
    if bounds is not None:
        start = tl.load(bounds + item)
        length = tl.maximum(tl.load(bounds + item + 1) - start, 0)
        first = start // chunk_steps + item
    else:
        first = item * ((t + chunk_steps - 1) // chunk_steps)
        length = item * 0 + t
        if lengths is not None:
            length = tl.load(lengths + item)
    count = ((length + chunk_steps - 1) // chunk_steps).to(tl.int32)
    places = channels_of(tl.program_id(1), BLOCK_D)  # of one state after the other, each with all its channels
    is_inside = places < n * d
    channels, state = places % d, places // d
    rate = tl.load(rates + places, mask=is_inside, other=0.0)
    h = tl.zeros([BLOCK_D], tl.float32)
    if initial is not None:
        h = tl.load(initial + item * n * d + channels * n + state, mask=is_inside, other=0.0)
    if count == 0:
        tl.store(unmoved + item * n * d + channels * n + state, h, mask=is_inside)
    else:
        chunk = first
        if BACKWARD:
            chunk = first + count - 1
        tl.store(states + chunk * slots * n * d + places, h, mask=is_inside)
    for group in range(0, count - 1, GROUP):
        numbers = group + tl.arange(0, GROUP)[:, None]
        is_real = (numbers < count - 1) & is_inside[None, :]
        chunk, following = first + numbers, first + numbers + 1
        if BACKWARD:
            chunk, following = first + count - 1 - numbers, first + count - 2 - numbers
        decay = tl.exp2(tl.load(sums + chunk * d + channels[None, :], mask=is_real, other=0.0) * rate[None, :])
        target = states + following * slots * n * d + places[None, :]
        after, _before = recur(decay, tl.load(target, mask=is_real, other=0.0), h, GROUP)
        tl.store(target, after, mask=is_real)
        h = row_of(after, GROUP - 1, GROUP)


@triton.jit(do_not_specialize=COUNTS)
def scan_forward(
    u, delta, rates, D, z, delta_bias, packed_B, packed_C, states, scratch, out, last_state, bounds, items, lengths,
    t, chunk_steps, u_stride, delta_stride, z_stride, d, n, tiles,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, KEEP: tl.constexpr, TILE: tl.constexpr, PART: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Output and last states. With KEEP the state before each tile stays in its slot, else a chunk has one slot.

    A tile is taken in parts of PART steps, which fit into registers; with KEEP, ``scratch`` keeps the states between its parts.
    """
    PARTS: tl.constexpr = TILE // PART
    chunk = tl.program_id(0).to(tl.int64)
    item, _number, first_row, steps, is_last = place_of(chunk, bounds, items, lengths, t, chunk_steps, REVERSE)
    channels = channels_of(tl.program_id(1), BLOCK_D)
    in_d = channels < d
    bias = load_or_zeros(delta_bias, channels, in_d, BLOCK_D)
    skip = load_or_zeros(D, channels, in_d, BLOCK_D)
    u += first_row * u_stride
    delta += first_row * delta_stride
    out += first_row * d
    if z is not None:
        z += first_row * z_stride
    within = tl.arange(0, PART)
    num_parts = (steps + PART - 1) // PART
    for part in range(num_parts):
        rows = rows_of(part * PART, PART, REVERSE)
        is_real = (part * PART + within < steps)[:, None] & in_d[None, :]
        x = tl.load(u + rows * u_stride + channels[None, :], mask=is_real, other=0.0).to(tl.float32)
        _raw, size = load_sizes(delta, rows * delta_stride + channels[None, :], is_real, bias, SOFTPLUS)
        weights = (chunk * tiles + part // PARTS) * n * TILE + part % PARTS * PART + within
        is_end = part == num_parts - 1
        slot = states + chunk * n * d
        next_slot = slot
        if KEEP:
            slot = scratch + chunk * n * d
            next_slot = slot
            if part % PARTS == 0:
                slot = states + (chunk * tiles + part // PARTS) * n * d
            if (part + 1) % PARTS == 0:
                next_slot = states + (chunk * tiles + part // PARTS + 1) * n * d
        y = skip[None, :] * x
        inflow = size * x
        for state in range(n):
            initial = tl.load(slot + state * d + channels, mask=in_d, other=0.0)
            rate = tl.load(rates + state * d + channels, mask=in_d, other=0.0)
            weigh_in = tl.load(packed_B + weights + state * TILE)
            h, _before = recur(tl.exp2(size * rate[None, :]), inflow * weigh_in[:, None], initial, PART)
            y += h * tl.load(packed_C + weights + state * TILE)[:, None]
            after = row_of(h, PART - 1, PART)
            tl.store(next_slot + state * d + channels, after, mask=in_d & (is_end == 0))
            tl.store(last_state + (item * d + channels) * n + state, after, mask=in_d & is_end & is_last)
        if z is not None:
            gate = tl.load(z + rows * z_stride + channels[None, :], mask=is_real, other=0.0).to(tl.float32)
            y *= gate * sigmoid(gate)
        tl.store(out + rows * d + channels[None, :], y, mask=is_real)
        tl.debug_barrier()
