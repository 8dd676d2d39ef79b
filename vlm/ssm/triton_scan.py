"""The ``triton`` backend: the selective scan on a GPU, forward and backward, in either direction, with items of any length.

Kernels: ``vlm.ssm.triton_kernels`` and ``vlm.ssm.triton_backward``. Without a GPU they run under Triton's interpreter
(``TRITON_INTERPRET=1`` in the environment before Python starts): correct and very slow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vlm.ssm.inputs import ScanInputs
from vlm.ssm.operators import Scanned, define_operator
from vlm.ssm.triton_device import device_of, is_interpreted, missing, rows_of

__all__ = ["TUNING", "Tuning", "backward", "checkpoint_shape", "forward", "missing", "scan", "unsupported"]


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the work is cut up. ``python -m benchmarks.ssm_gpu --sweep`` measured candidates on an H100; these were the best."""

    tile: int = 8  # steps between two states that the forward pass keeps
    forward_part: int = 8  # steps that a thread holds at a time: a divisor of tile
    backward_part: int = 8
    forward_channels: int = 64  # of a program, one warp: 64 or 128
    backward_channels: int = 64
    backward_registers: int | None = None  # of a thread at most; None leaves it to the compiler
    least_chunk: int = 64  # steps of a chunk at least: a multiple of tile
    programs: int = 2112  # chunks times blocks of channels that fill the GPU: 16 warps for each of 132 processors


TUNING = Tuning()
LOG2_E = math.log2(math.e)
# Chunks that are linked at a time: what is read for them is on its way at once.
LINKED = 16


def unsupported(inputs: ScanInputs) -> str | None:
    """Why they cannot take ``inputs``; None where they can."""
    if inputs.u.device.type != "cuda" and not is_interpreted():
        return f"needs tensors on a CUDA device, got {inputs.u.device}"
    if inputs.compute_dtype == torch.float64:
        return "computes in float32, got float64 tensors"
    return None


def checkpoint_shape(inputs: ScanInputs) -> tuple[int, int, int]:
    """(slots, n, d), as far as shapes tell: one slot for each tile of each chunk."""
    chunk_steps = _chunk_steps(inputs)
    return _num_chunks(inputs, chunk_steps) * (chunk_steps // TUNING.tile), inputs.A.shape[1], inputs.A.shape[0]


def forward(inputs: ScanInputs, keep: bool) -> Scanned:
    """Output, last states, and with ``keep`` the state before every tile."""
    from vlm.ssm import triton_kernels as kernels

    given = _Given(inputs)
    (b, t, d), n = inputs.u.shape, inputs.A.shape[1]
    # Rows beyond an item's length are not visited, and stay zero.
    out = inputs.u.new_empty(b, t, d) if inputs.lengths is None else inputs.u.new_zeros(b, t, d)
    last_state = given.empty(inputs.num_items, d, n)
    slots = given.tiles if keep else 1
    states = given.empty(given.chunks * slots, n, d)
    with device_of(inputs.u):
        weights = given.pack_weights()
        grid, options = given.grid(TUNING.forward_channels)
        sums = given.empty(given.chunks, d)
        if given.is_linked:
            kernels.chunk_states[grid](
                given.u, given.delta, given.rates, given.bias, weights[0], states, sums, *given.items, *given.sizes,
                given.stride("u"), given.stride("delta"), d, n, given.tiles, slots, **options,
            )  # fmt: skip
        given.link(states, sums, given.initial_state, last_state, slots)
        if given.chunks and d:
            scratch = given.empty(given.chunks, n, d) if keep else None
            kernels.scan_forward[grid](
                given.u, given.delta, given.rates, given.D, given.z, given.bias, *weights, states, scratch, out, last_state,
                *given.items, *given.sizes, given.stride("u"), given.stride("delta"), given.stride("z"), d, n, given.tiles,
                KEEP=keep, PART=TUNING.forward_part, **options,
            )  # fmt: skip
    return Scanned(out, last_state, states if keep else states.new_empty(0))


def backward(grad_out: Tensor, grad_last: Tensor | None, inputs: ScanInputs, checkpoints: Tensor) -> list[Tensor | None]:
    """The gradient of every tensor in its own type; None for absent ones."""
    from vlm.ssm import triton_backward as kernels

    given = _Given(inputs)
    d, n = inputs.A.shape
    by_row = torch.empty if inputs.lengths is None else torch.zeros
    grad_u, grad_delta, grad_z, grad_B, grad_C = (
        None if tensor is None else by_row(tensor.shape, dtype=tensor.dtype, device=tensor.device)
        for tensor in (inputs.u, inputs.delta, inputs.z, inputs.B, inputs.C)
    )
    # Of packed items some chunks have no step, and nothing is written for them.
    by_chunk = given.empty if given.is_even else given.zeros
    grad_A, grad_D, grad_bias = by_chunk(given.chunks, n, d), by_chunk(given.chunks, d), by_chunk(given.chunks, d)
    grad_initial = given.empty(inputs.num_items, d, n)
    grid, options = given.grid(TUNING.backward_channels)
    flows, sums = given.empty(given.chunks, n, d), given.empty(given.chunks, d)
    grad_out, last = grad_out.contiguous(), None if grad_last is None else grad_last.float().contiguous()
    with device_of(inputs.u):
        weights = given.pack_weights()
        if given.is_linked:
            kernels.chunk_flows[grid](
                given.delta, given.rates, given.z, given.bias, weights[1], grad_out, flows, sums, *given.items, *given.sizes,
                given.stride("delta"), given.stride("z"), d, n, given.tiles, **options,
            )  # fmt: skip
        given.link(flows, sums, last, grad_initial, 1, backward=True)
        if given.chunks and d:
            num_slots = given.chunks * given.tiles
            scratch = given.empty(given.chunks, TUNING.tile // TUNING.backward_part - 1, n, d)
            limit = {} if TUNING.backward_registers is None else {"maxnreg": TUNING.backward_registers}
            parts_B, parts_C = (given.empty(grid[1], num_slots, n, TUNING.tile) for _ in range(2))
            kernels.scan_backward[grid](
                given.u, given.delta, given.rates, given.D, given.z, given.bias, *weights, grad_out, checkpoints, flows, scratch,
                grad_u, grad_delta, grad_z, grad_A, parts_B, parts_C, grad_D, grad_bias, grad_initial, *given.items, *given.sizes,
                given.stride("u"), given.stride("delta"), given.stride("z"), d, n, given.tiles, num_slots,
                PART=TUNING.backward_part, **options, **limit,
            )  # fmt: skip
            kernels.sum_weights[given.tile_grid](
                parts_B, parts_C, grad_B, grad_C, *given.items, *given.sizes, n, given.tiles, num_slots, grid[1], **given.tile_options
            )
    found = (grad_u, grad_delta, grad_A.sum(0).t(), grad_B, grad_C, grad_D.sum(0), grad_z, grad_bias.sum(0), grad_initial)
    wanted = (inputs.u, inputs.delta, inputs.A, inputs.B, inputs.C, inputs.D, inputs.z, inputs.delta_bias, inputs.initial_state)
    return [
        None if tensor is None or gradient is None else gradient.to(tensor.dtype).contiguous()
        for gradient, tensor in zip(found, wanted, strict=True)
    ]


class _Given:
    """The inputs as the kernels take them: (rows, width) matrices, and where in them each item and chunk lies."""

    def __init__(self, inputs: ScanInputs) -> None:
        (_, t, self.d), self.n = inputs.u.shape, inputs.A.shape[1]
        self.u, self.delta, self.B, self.C = (rows_of(tensor) for tensor in (inputs.u, inputs.delta, inputs.B, inputs.C))
        self.z = None if inputs.z is None else rows_of(inputs.z)
        self.rates = (inputs.A.float() * LOG2_E).t().contiguous()
        self.D, self.bias, self.initial_state = (
            None if tensor is None else tensor.float().contiguous() for tensor in (inputs.D, inputs.delta_bias, inputs.initial_state)
        )
        chunk_steps = _chunk_steps(inputs)
        self.sizes = (t, chunk_steps)
        self.chunks, self.tiles = _num_chunks(inputs, chunk_steps), chunk_steps // TUNING.tile
        self.items = _items(inputs, chunk_steps, self.chunks)
        self.num_items = inputs.num_items
        self.is_linked = t > chunk_steps and self.chunks > 0 and self.d > 0
        self.is_even = inputs.lengths is None and inputs.cu_seqlens is None
        self.softplus, self.reverse = inputs.delta_softplus, inputs.reverse

    @property
    def tile_grid(self) -> tuple[int, int]:
        """A program for each tile."""
        return self.chunks, self.tiles

    @property
    def tile_options(self) -> dict[str, Any]:
        """Of the kernels that have a program for each tile."""
        return {"REVERSE": self.reverse, "TILE": TUNING.tile, "BLOCK_N": 1 << (self.n - 1).bit_length(), "num_warps": 1}

    def grid(self, channels: int) -> tuple[tuple[int, int], dict[str, Any]]:
        """A program for each chunk and block of ``channels``; and the options of the kernels that are so divided."""
        options = {"SOFTPLUS": self.softplus, "REVERSE": self.reverse, "TILE": TUNING.tile, "BLOCK_D": channels, "num_warps": 1}
        return (self.chunks, -(-self.d // channels)), options

    def stride(self, name: str) -> int:
        """Between two rows of a matrix; 0 where there is none."""
        tensor: Tensor | None = getattr(self, name)
        return 0 if tensor is None else tensor.stride(0)

    def empty(self, *shape: int) -> Tensor:
        """Memory for float32 numbers."""
        return self.rates.new_empty(shape)

    def zeros(self, *shape: int) -> Tensor:
        """Float32 zeros."""
        return self.rates.new_zeros(shape)

    def pack_weights(self) -> tuple[Tensor, Tensor]:
        """B and C as the kernels read them, (slots, n, tile)."""
        from vlm.ssm.triton_kernels import pack_weights

        packed = self.empty(self.chunks * self.tiles, self.n, TUNING.tile), self.empty(self.chunks * self.tiles, self.n, TUNING.tile)
        if self.chunks:
            pack_weights[self.tile_grid](
                self.B, self.C, *packed, *self.items, *self.sizes, self.stride("B"), self.stride("C"), self.n, self.tiles,
                **self.tile_options,
            )  # fmt: skip
        return packed

    def link(self, states: Tensor, sums: Tensor, initial: Tensor | None, unmoved: Tensor, slots: int, *, backward: bool = False) -> None:
        """Carries states, or backward their gradients, from chunk to chunk; ``unmoved`` is written for items without a step."""
        from vlm.ssm.triton_kernels import link_chunks

        grid = self.num_items, -(-self.n * self.d // TUNING.forward_channels)
        if self.num_items and self.d:
            bounds, _, lengths = self.items
            link_chunks[grid](
                states, sums, self.rates, initial, unmoved, bounds, lengths, *self.sizes, self.d, self.n, slots,
                BACKWARD=backward, GROUP=LINKED, BLOCK_D=TUNING.forward_channels, num_warps=1,
            )  # fmt: skip


def _chunk_steps(inputs: ScanInputs) -> int:
    """Steps of a chunk: long ones save the work of linking, short ones fill the GPU. Depends on shapes alone."""
    b, t, d = inputs.u.shape
    blocks = -(-d // TUNING.forward_channels)
    steps = min(max(TUNING.least_chunk, -(-b * t * blocks // TUNING.programs)), max(t, 1))
    return -(-steps // TUNING.tile) * TUNING.tile


def _num_chunks(inputs: ScanInputs, chunk_steps: int) -> int:
    """Chunks of all items; packed ones begin a chunk of their own."""
    b, t, _ = inputs.u.shape
    return b * -(-t // chunk_steps) if inputs.cu_seqlens is None else t // chunk_steps + inputs.num_items


def _items(inputs: ScanInputs, chunk_steps: int, chunks: int) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Bounds of packed items, the item of each chunk, and lengths, on the device and never looked at here; None what is not needed.

    They are kept inside the tensors, whatever they say.
    """
    t = inputs.u.shape[1]
    if inputs.cu_seqlens is None:
        return None, None, None if inputs.lengths is None else inputs.lengths.long().clamp(0, t)
    bounds = inputs.cu_seqlens.long().clamp(0, t)
    first_chunks = bounds[:-1] // chunk_steps + torch.arange(inputs.num_items, device=bounds.device)
    items = torch.searchsorted(first_chunks, torch.arange(chunks, device=bounds.device), right=True) - 1
    return bounds, items.clamp(min=0), None


scan = define_operator("triton_scan", forward, backward, checkpoint_shape)
