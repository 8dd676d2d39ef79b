"""What every backend of the selective scan is given: the tensors, checked once, and what follows from their shapes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from vlm.errors import InputError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, slots=True, eq=False)
class ScanInputs:
    """The arguments of ``selective_scan`` after their check; the letters are those of Mamba (arXiv 2312.00752).

    An item is one sequence: a row of the batch, or with ``cu_seqlens`` one stretch ``[cu_seqlens[i], cu_seqlens[i + 1])`` of the only row.
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None = None
    z: Tensor | None = None
    delta_bias: Tensor | None = None
    initial_state: Tensor | None = None
    lengths: Tensor | None = None
    cu_seqlens: Tensor | None = None
    delta_softplus: bool = False
    reverse: bool = False

    @property
    def floats(self) -> dict[str, Tensor]:
        """Every tensor that can have a gradient, by name."""
        names = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")
        return {name: tensor for name in names if (tensor := getattr(self, name)) is not None}

    @property
    def compute_dtype(self) -> torch.dtype:
        """In what the recurrence runs, and the last state comes back: float64 where any tensor is, else float32."""
        return torch.float64 if any(tensor.dtype == torch.float64 for tensor in self.floats.values()) else torch.float32

    @property
    def num_items(self) -> int:
        """How many sequences are scanned."""
        return self.u.shape[0] if self.cu_seqlens is None else self.cu_seqlens.shape[0] - 1


def check(inputs: ScanInputs) -> ScanInputs:
    """``inputs``, when their shapes, types and devices fit together.

    The values of ``lengths`` and ``cu_seqlens`` are checked where they lie on the CPU: reading them from a GPU would stall it.

    Raises:
        InputError: naming the argument, what it is, and what it must be.
    """
    u, A = inputs.u, inputs.A
    if u.ndim != 3:
        raise InputError(f"u must have the shape (b, t, d), got {tuple(u.shape)}")
    if A.ndim != 2 or A.shape[0] != u.shape[2]:
        raise InputError(f"A must have the shape (d, n) with d = {u.shape[2]} as in u, got {tuple(A.shape)}")
    b, t, d = u.shape
    n = A.shape[1]
    if n == 0:
        raise InputError(f"A must hold at least one state, got the shape {tuple(A.shape)}")
    _check_items(inputs, b, t)
    wanted: dict[str, tuple[str, tuple[int, ...]]] = {
        "delta": ("(b, t, d)", (b, t, d)),
        "B": ("(b, t, n)", (b, t, n)),
        "C": ("(b, t, n)", (b, t, n)),
        "D": ("(d)", (d,)),
        "z": ("(b, t, d)", (b, t, d)),
        "delta_bias": ("(d)", (d,)),
        "initial_state": ("(b, d, n)" if inputs.cu_seqlens is None else "(items, d, n)", (inputs.num_items, d, n)),
    }
    for name, tensor in inputs.floats.items():
        letters, shape = wanted.get(name, ("", tuple(tensor.shape)))
        if tuple(tensor.shape) != shape:
            raise InputError(f"{name} must have the shape {letters} = {shape}, got {tuple(tensor.shape)}")
        if tensor.dtype not in FLOATS:
            raise InputError(f"{name} must be float16, bfloat16, float32 or float64, got {tensor.dtype}")
        if tensor.device != u.device:
            raise InputError(f"{name} must be on {u.device} as u is, got {tensor.device}; move it with .to({str(u.device)!r})")
    return inputs


def _check_items(inputs: ScanInputs, b: int, t: int) -> None:
    """The two ways to say where items lie."""
    if inputs.lengths is not None and inputs.cu_seqlens is not None:
        raise InputError("lengths and cu_seqlens exclude each other: give lengths for a padded batch, cu_seqlens for a packed one")
    for name, tensor in (("lengths", inputs.lengths), ("cu_seqlens", inputs.cu_seqlens)):
        if tensor is not None and tensor.dtype not in (torch.int32, torch.int64):
            raise InputError(f"{name} must be int32 or int64, got {tensor.dtype}")
    if (lengths := inputs.lengths) is not None:
        if tuple(lengths.shape) != (b,):
            raise InputError(f"lengths must have the shape (b) = ({b},), got {tuple(lengths.shape)}")
        if _is_readable(lengths) and b and (lengths.min() < 0 or lengths.max() > t):
            raise InputError(f"lengths must lie in [0, {t}], got {lengths.tolist()}")
    if (bounds := inputs.cu_seqlens) is not None:
        if b != 1:
            raise InputError(f"cu_seqlens needs all items in one row, so u of the shape (1, t, d); got b = {b}")
        if bounds.ndim != 1 or bounds.shape[0] == 0:
            raise InputError(f"cu_seqlens must have the shape (items + 1), got {tuple(bounds.shape)}")
        if _is_readable(bounds) and not (bounds[0] == 0 and bounds[-1] == t and (bounds.diff() >= 0).all()):
            raise InputError(f"cu_seqlens must rise from 0 to t = {t}, got {bounds.tolist()}")


def _is_readable(tensor: Tensor) -> bool:
    """Whether looking at values is possible (a compiler's stand-ins hold none) and cheap."""
    return tensor.device.type == "cpu" and not isinstance(tensor, FakeTensor) and not torch.compiler.is_compiling()
