"""The scan in C++ on the CPU: forward and backward fused, for AVX-512, AVX2, and any other processor."""

from __future__ import annotations

import torch
from torch import Tensor

from vlm.ssm.inputs import ScanInputs
from vlm.ssm.native import library
from vlm.ssm.native.passes import backward, checkpoint_shape, forward
from vlm.ssm.operators import define_operator

missing = library.missing

_operator = define_operator("native_scan", forward, backward, checkpoint_shape)


def unsupported(inputs: ScanInputs) -> str | None:
    """Other devices, and float64."""
    if inputs.u.device.type != "cpu":
        return f"runs on the CPU, and u is on {inputs.u.device}"
    if inputs.compute_dtype == torch.float64:
        return "computes in float32, and one of the tensors is float64"
    return None


def scan(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """Output (b, t, d) in the type of u, and last states (items, d, n) in float32."""
    return _operator(inputs)
