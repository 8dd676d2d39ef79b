"""What the Triton kernels need to know of the machine, and the tensors as they take them."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec

import torch
from torch import Tensor


def missing() -> str | None:
    """Why the kernels cannot run on this machine; None where they can."""
    if find_spec("triton") is None:
        return "the package triton is not installed; 'pip install triton' (Linux)"
    if not (torch.cuda.is_available() or is_interpreted()):
        return "it needs a CUDA device, and torch sees none"
    return None


def is_interpreted() -> bool:
    """Whether Triton runs its kernels in Python, on any device."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def device_of(tensor: Tensor) -> AbstractContextManager[object]:
    """Triton launches on torch's current device, which need not be where the tensors are."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def rows_of(tensor: Tensor) -> Tensor:
    """(b, t, width) as (b * t, width) with neighbours side by side: a view where one exists, else a copy."""
    rows = tensor.reshape(-1, tensor.shape[2]) if tensor.numel() else tensor.new_empty(0, tensor.shape[2])
    return rows if rows.stride(1) == 1 else rows.contiguous()
