"""The short convolution in C++: its C interface (vlm/ssm/native/conv.h is mirrored here), and tensors in and out."""

from __future__ import annotations

import ctypes
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from vlm.ssm.native.library import Item, Rows, instructions, load, missing
from vlm.ssm.native.memory import fresh

# Below so many numbers a second thread costs more than it brings.
MIN_NUMBERS_OF_A_THREAD = 1 << 17
_TYPES = {torch.float32: 0, torch.bfloat16: 1}


class Conv(ctypes.Structure):
    """All that a forward or backward pass is given."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("num_items", "d", "taps", "reverse", "threads")),
        ("items", ctypes.POINTER(Item)),
        ("x", Rows),
        ("out", Rows),
        ("weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("grad_out", Rows),
        ("grad_x", Rows),
        ("parts", ctypes.c_void_p),
    )


def can_take(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernels are there and compute this: float32 or bfloat16 inputs on the CPU, weights that are no float64."""
    return x.device.type == "cpu" and x.dtype in _TYPES and weight.dtype != torch.float64 and _functions() is not None


def forward(x: Tensor, weight: Tensor, bias: Tensor, cu_seqlens: Tensor | None, reverse: bool) -> Tensor:
    """SiLU of the convolution, contiguous, in the type of ``x``."""
    given = _Given(x, weight, bias, cu_seqlens, reverse)
    out = fresh(x.shape, x.dtype)
    given.conv.out = _rows(out)
    given.run("forward")
    return out


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, cu_seqlens: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias in their own types."""
    given = _Given(x, weight, bias, cu_seqlens, reverse)
    grad = _readable(grad.to(x.dtype))
    grad_x = fresh(x.shape, x.dtype)
    parts = torch.empty(given.num_units, weight.shape[1] + 1, x.shape[2])
    given.conv.grad_out, given.conv.grad_x, given.conv.parts = _rows(grad), _rows(grad_x), parts.data_ptr()
    given.run("backward")
    sums = parts.sum(dim=0)
    return grad_x, sums[:-1].t().to(weight.dtype).contiguous(), sums[-1].to(bias.dtype, copy=True)


class _Given:
    """The inputs as the kernels take them: the structure of addresses, and the tensors that must live as long."""

    def __init__(self, x: Tensor, weight: Tensor, bias: Tensor, cu_seqlens: Tensor | None, reverse: bool) -> None:
        b, t, d = x.shape
        self.kept = x, weight, bias = _readable(x), weight.float().t().contiguous(), bias.float().contiguous()
        bounds = None if cu_seqlens is None else [min(max(bound, 0), t) for bound in cu_seqlens.tolist()]
        places = (
            [(row, 0, t) for row in range(b)] if bounds is None else [(0, start, max(end - start, 0)) for start, end in pairwise(bounds)]
        )
        self.items = (Item * len(places))(*(Item(row, start, length, length, 0) for row, start, length in places))
        self.conv = Conv(num_items=len(places), d=d, taps=weight.shape[0], reverse=reverse, items=self.items, x=_rows(x))
        self.conv.weight, self.conv.bias = weight.data_ptr(), bias.data_ptr()
        self.conv.threads = max(1, min(torch.get_num_threads(), x.numel() // MIN_NUMBERS_OF_A_THREAD))
        rows = load().functions.vlm_conv_rows()
        self.num_units = sum(-(-length // rows) for _, _, length in places)

    def run(self, direction: str) -> None:
        """Calls the kernel."""
        if getattr(load().functions, f"vlm_conv_{direction}")(instructions().encode(), ctypes.byref(self.conv)):
            raise MemoryError("no memory for the convolution's working buffers")


@cache
def _functions() -> ctypes.CDLL | None:
    """The library, when it is there and holds this version of the convolution."""
    if missing() is not None:
        return None
    functions = load().functions
    if not hasattr(functions, "vlm_conv_abi"):
        return None
    for name in ("abi", "rows"):
        getattr(functions, f"vlm_conv_{name}").restype = ctypes.c_int64
    for name in ("forward", "backward"):
        function = getattr(functions, f"vlm_conv_{name}")
        function.argtypes, function.restype = (ctypes.c_char_p, ctypes.POINTER(Conv)), ctypes.c_int64
    return functions if functions.vlm_conv_abi() == ctypes.sizeof(Conv) else None


def _readable(tensor: Tensor) -> Tensor:
    """``tensor`` with neighbouring channels side by side: itself, or a copy where it must be."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def _rows(tensor: Tensor) -> Rows:
    return Rows(tensor.data_ptr(), tensor.stride(0), tensor.stride(1), _TYPES[tensor.dtype])
