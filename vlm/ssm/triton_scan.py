"""The ``triton`` backend: the selective scan on a GPU, forward and backward, in either direction, with items of any length.

Kernels: ``vlm.ssm.triton_kernels``. Without a GPU they run under Triton's interpreter (``TRITON_INTERPRET=1`` in the environment before
Python starts): correct and very slow.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec

import torch
from torch import Tensor

from vlm.ssm.inputs import ScanInputs
from vlm.ssm.operators import Scanned, define_operator

# Steps between two states that the forward pass keeps.
TILE = 32
# Channels of one program: their states, 16 of each, fill 16 registers of the 32 threads of one warp.
BLOCK_D = 32
MAX_STATES = 256


def missing() -> str | None:
    """Why the kernels cannot run on this machine; None where they can."""
    if find_spec("triton") is None:
        return "the package triton is not installed; 'pip install triton' (Linux)"
    if not (torch.cuda.is_available() or is_interpreted()):
        return "it needs a CUDA device, and torch sees none"
    return None


def unsupported(inputs: ScanInputs) -> str | None:
    """Why they cannot take ``inputs``; None where they can."""
    if inputs.u.device.type != "cuda" and not is_interpreted():
        return f"needs tensors on a CUDA device, got {inputs.u.device}"
    if inputs.compute_dtype == torch.float64:
        return "computes in float32, got float64 tensors"
    if inputs.A.shape[1] > MAX_STATES:
        return f"keeps at most {MAX_STATES} states a channel in registers, got {inputs.A.shape[1]}"
    return None


def is_interpreted() -> bool:
    """Whether Triton runs its kernels in Python, on any device."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def checkpoint_shape(inputs: ScanInputs) -> tuple[int, int, int]:
    """(tiles, d, n), as far as shapes tell: packed items begin a tile of their own."""
    b, t, _ = inputs.u.shape
    tiles = b * -(-t // TILE) if inputs.cu_seqlens is None else t // TILE + inputs.num_items
    return tiles, *inputs.A.shape


def forward(inputs: ScanInputs, keep: bool) -> Scanned:
    """Output, last states, and with ``keep`` the state before every TILE-th step of each item."""
    from vlm.ssm.triton_kernels import scan_forward

    given = _Given(inputs)
    (b, t, d), n = inputs.u.shape, inputs.A.shape[1]
    out = inputs.u.new_empty(b, t, d) if inputs.lengths is None else inputs.u.new_zeros(b, t, d)
    last_state = inputs.A.new_empty(inputs.num_items, d, n, dtype=torch.float32)
    checkpoints = last_state.new_empty(checkpoint_shape(inputs) if keep else (0,))
    if given.programs:
        with _device_of(inputs.u):
            scan_forward[given.grid](
                *given.tensors, given.initial_state, out, last_state, checkpoints if keep else None, *given.items, *given.strides, d, n,
                **given.constants, num_warps=1,
            )  # fmt: skip
    return Scanned(out, last_state, checkpoints)


def backward(grad_out: Tensor, grad_last: Tensor | None, inputs: ScanInputs, checkpoints: Tensor) -> list[Tensor | None]:
    """The gradient of every tensor in its own type; None for absent ones."""
    from vlm.ssm.triton_kernels import scan_backward

    given = _Given(inputs)
    (b, t, d), n = inputs.u.shape, inputs.A.shape[1]
    items, blocks = given.grid

    def zeros(*shape: int) -> Tensor:
        return inputs.A.new_zeros(*shape, dtype=torch.float32)

    # Rows beyond an item's length are not visited, and stay zero.
    grad_u, grad_delta, grad_z = (
        None if tensor is None else torch.zeros(b, t, d, dtype=tensor.dtype, device=tensor.device)
        for tensor in (inputs.u, inputs.delta, inputs.z)
    )
    grad_A, grad_D, grad_bias, grad_initial = zeros(items, d, n), zeros(items, d), zeros(items, d), zeros(items, d, n)
    grad_B, grad_C = zeros(blocks, b, t, n), zeros(blocks, b, t, n)
    if given.programs:
        scratch = grad_A.new_empty(given.programs * TILE * BLOCK_D * given.constants["BLOCK_N"])
        last = None if grad_last is None else grad_last.float().contiguous()
        with _device_of(inputs.u):
            scan_backward[given.grid](
                *given.tensors, grad_out.contiguous(), last, checkpoints, scratch,
                grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_z, grad_bias, grad_initial,
                *given.items, *given.strides, d, n, b * t, **given.constants, num_warps=1,
            )  # fmt: skip
    found = (grad_u, grad_delta, grad_A.sum(0), grad_B.sum(0), grad_C.sum(0), grad_D.sum(0), grad_z, grad_bias.sum(0), grad_initial)
    wanted = (inputs.u, inputs.delta, inputs.A, inputs.B, inputs.C, inputs.D, inputs.z, inputs.delta_bias, inputs.initial_state)
    return [
        None if tensor is None or gradient is None else gradient.to(tensor.dtype) for gradient, tensor in zip(found, wanted, strict=True)
    ]


class _Given:
    """The inputs as the kernels take them: (rows, width) matrices, and where in them each item lies."""

    def __init__(self, inputs: ScanInputs) -> None:
        (b, t, d), n = inputs.u.shape, inputs.A.shape[1]
        u, delta, z, B, C = (None if tensor is None else _rows(tensor) for tensor in (inputs.u, inputs.delta, inputs.z, inputs.B, inputs.C))
        A, D, bias = (None if tensor is None else tensor.float().contiguous() for tensor in (inputs.A, inputs.D, inputs.delta_bias))
        self.tensors = (u, delta, A, B, C, D, z, bias)
        self.strides = [0 if tensor is None else tensor.stride(0) for tensor in (u, delta, B, C, z)]
        self.initial_state = None if inputs.initial_state is None else inputs.initial_state.float().contiguous()
        self.items = _items(inputs, b, t)
        self.grid = (inputs.num_items, -(-d // BLOCK_D))
        self.programs = self.grid[0] * self.grid[1]
        self.constants = {
            "SOFTPLUS": inputs.delta_softplus,
            "REVERSE": inputs.reverse,
            "TILE": TILE,
            "BLOCK_D": BLOCK_D,
            "BLOCK_N": 1 << (n - 1).bit_length(),
        }


def _items(inputs: ScanInputs, b: int, t: int) -> tuple[Tensor, Tensor, Tensor]:
    """First row, length and first tile of each item, on the device and never looked at here. Kept inside the tensors, whatever they say."""
    if inputs.cu_seqlens is not None:
        bounds = inputs.cu_seqlens.long().clamp(0, t)
        starts, item = bounds[:-1], torch.arange(inputs.num_items, device=bounds.device)
        return starts.contiguous(), bounds.diff().clamp(min=0), starts // TILE + item
    item = torch.arange(b, device=inputs.u.device)
    lengths = torch.full_like(item, t) if inputs.lengths is None else inputs.lengths.long().clamp(0, t)
    return item * t, lengths, item * -(-t // TILE)


def _device_of(tensor: Tensor) -> AbstractContextManager[object]:
    """Triton launches on torch's current device, which need not be where the tensors are."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _rows(tensor: Tensor) -> Tensor:
    """(b, t, width) as (b * t, width) with neighbours side by side: a view where one exists, else a copy."""
    rows = tensor.reshape(-1, tensor.shape[2]) if tensor.numel() else tensor.new_empty(0, tensor.shape[2])
    return rows if rows.stride(1) == 1 else rows.contiguous()


scan = define_operator("triton_scan", forward, backward, checkpoint_shape)
