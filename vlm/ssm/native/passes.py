"""The forward and the backward pass of the compiled kernels: tensors in, addresses to C++, tensors out."""

from __future__ import annotations

import ctypes
from itertools import pairwise

import torch
from torch import Tensor

from vlm.ssm.inputs import ScanInputs
from vlm.ssm.native.library import Item, Rows, Scan, instructions, load
from vlm.ssm.native.memory import fresh
from vlm.ssm.operators import Scanned

# Below so many updates of one state on one channel a second thread costs more than it brings.
MIN_UPDATES_OF_A_THREAD = 1 << 19
# Gradients of A, D and delta_bias are summed over items in so many independent sums. Part of the arithmetic.
MAX_SLOTS = 8
_TYPES = {torch.float32: 0, torch.bfloat16: 1}


def checkpoint_shape(inputs: ScanInputs) -> tuple[int, int]:
    """(tiles, floats of one tile), without looking at any length."""
    lib, (b, t, d) = load(), inputs.u.shape
    tiles = b * -(-t // lib.tile) if inputs.cu_seqlens is None else t // lib.tile + inputs.num_items
    return tiles, -(-d // 16) * 16 * -(-inputs.A.shape[1] // 4) * 4


def forward(inputs: ScanInputs, keep: bool) -> Scanned:
    """Output, last states, and with ``keep`` the state at the start of every tile."""
    given = _Given(inputs)
    out = fresh(inputs.u.shape, _kept(inputs.u))
    last_state = fresh((inputs.num_items, *inputs.A.shape))
    # An operator shows no uninitialised memory: where not all of it will be written, it starts as zeros.
    whole = inputs.lengths is None and inputs.cu_seqlens is None and inputs.u.shape[2] % 16 == 0
    make = fresh if whole else torch.zeros
    checkpoints = make(checkpoint_shape(inputs) if keep else (0,))
    scan = given.scan
    scan.out, scan.last_state = _rows(out), last_state.data_ptr()
    scan.checkpoints = checkpoints.data_ptr() if keep else None
    load().forward(instructions(), scan)
    return Scanned(out.to(inputs.u.dtype), last_state, checkpoints)


def backward(grad_out: Tensor, grad_last: Tensor | None, inputs: ScanInputs, checkpoints: Tensor) -> list[Tensor | None]:
    """The gradient of every tensor in its own type; None for absent ones."""
    given, lib = _Given(inputs), load()
    (b, t, d), n = inputs.u.shape, inputs.A.shape[1]
    chunks, slots = -(-d // lib.chunk), min(inputs.num_items, MAX_SLOTS)
    scan = given.scan
    grad_out = _readable(grad_out)
    grad_u, grad_delta, grad_z = (
        None if tensor is None else fresh(tensor.shape, _kept(tensor)) for tensor in (inputs.u, inputs.delta, inputs.z)
    )
    grad_last = None if grad_last is None else grad_last.float().contiguous()
    grad_initial = None if inputs.initial_state is None else fresh(inputs.initial_state.shape)
    parts = {"A": fresh((slots, d, n)), "D": fresh((slots, d)), "bias": fresh((slots, d))}
    parts |= {"B": fresh((chunks, b, t, n)), "C": fresh((chunks, b, t, n))}
    scan.checkpoints, scan.num_slots, scan.num_rows = checkpoints.data_ptr(), slots, b * t
    scan.grad_out, scan.grad_u, scan.grad_delta, scan.grad_z = (_rows(tensor) for tensor in (grad_out, grad_u, grad_delta, grad_z))
    scan.grad_last, scan.grad_initial = _address(grad_last), _address(grad_initial)
    for name, part in parts.items():
        setattr(scan, f"part_{name}", part.data_ptr())
    lib.backward(instructions(), scan)
    sums = {name: _sum(part, scan.threads) for name, part in parts.items()}
    found = (grad_u, grad_delta, sums["A"], sums["B"], sums["C"], sums["D"], grad_z, sums["bias"], grad_initial)
    wanted = (inputs.u, inputs.delta, inputs.A, inputs.B, inputs.C, inputs.D, inputs.z, inputs.delta_bias, inputs.initial_state)
    return [
        None if tensor is None or gradient is None else gradient.to(tensor.dtype) for gradient, tensor in zip(found, wanted, strict=True)
    ]


class _Given:
    """The inputs as the kernels take them: the structure of addresses, and the tensors that must live as long."""

    def __init__(self, inputs: ScanInputs) -> None:
        (b, t, d), n = inputs.u.shape, inputs.A.shape[1]
        tensors = (inputs.u, inputs.delta, inputs.z, inputs.B, inputs.C)
        u, delta, z, B, C = self.rows = [None if tensor is None else _readable(tensor) for tensor in tensors]
        floats = (inputs.A, inputs.D, inputs.delta_bias, inputs.initial_state)
        A, D, delta_bias, initial_state = self.floats = [None if tensor is None else tensor.float().contiguous() for tensor in floats]
        self.items = _items(inputs)
        threads = max(1, min(torch.get_num_threads(), b * t * d * n // MIN_UPDATES_OF_A_THREAD))
        self.scan = Scan(num_items=inputs.num_items, d=d, n=n, t=t, threads=threads, items=self.items)
        self.scan.softplus, self.scan.reverse = inputs.delta_softplus, inputs.reverse
        self.scan.u, self.scan.delta, self.scan.z, self.scan.B, self.scan.C = (_rows(tensor) for tensor in (u, delta, z, B, C))
        self.scan.A, self.scan.D, self.scan.delta_bias = _address(A), _address(D), _address(delta_bias)
        self.scan.initial_state = _address(initial_state)


def _items(inputs: ScanInputs) -> ctypes.Array[Item]:
    """Where each sequence lies. Lengths are kept inside the tensors whatever they say: compiled graphs do not check them."""
    tile, (b, t, _) = load().tile, inputs.u.shape
    if inputs.cu_seqlens is None:
        lengths = [t] * b if inputs.lengths is None else [min(max(length, 0), t) for length in inputs.lengths.tolist()]
        tiles = -(-t // tile)
        return (Item * b)(*(Item(row, 0, length, t, row * tiles) for row, length in enumerate(lengths)))
    bounds = [min(max(bound, 0), t) for bound in inputs.cu_seqlens.tolist()]
    spans = [(start, max(end - start, 0)) for start, end in pairwise(bounds)]
    return (Item * len(spans))(*(Item(0, start, length, length, start // tile + i) for i, (start, length) in enumerate(spans)))


def _kept(tensor: Tensor) -> torch.dtype:
    """The type in which the kernels read or write ``tensor``."""
    return tensor.dtype if tensor.dtype in _TYPES else torch.float32


def _readable(tensor: Tensor) -> Tensor:
    """``tensor`` in a type of the kernels and with neighbouring channels side by side: itself, or a copy where it must be."""
    tensor = tensor.to(_kept(tensor))
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def _rows(tensor: Tensor | None) -> Rows:
    if tensor is None:
        return Rows()
    return Rows(tensor.data_ptr(), tensor.stride(0), tensor.stride(1), _TYPES[tensor.dtype])


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _sum(parts: Tensor, threads: int) -> Tensor:
    """The sum over the first axis, always in the same order."""
    if parts.shape[0] == 1:
        return parts[0]
    total = parts.new_zeros(parts.shape[1:])
    if parts.numel():
        load().functions.vlm_scan_add_parts(parts.data_ptr(), parts.shape[0], total.numel(), total.data_ptr(), threads)
    return total
