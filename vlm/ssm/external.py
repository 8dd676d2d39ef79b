"""The ``mamba_ssm`` backend: the official CUDA kernel behind our contract, where its package is installed.

That kernel takes (b, d, t), scans from the left, and knows neither lengths nor a state to start from. What it lacks is done around it:
items are gathered, in scan order, into a batch of their own and put back; the steps beyond an item's end have a step size of exactly 0, at
which the state waits. It makes copies that our kernels do not, so it is the third choice of ``auto``.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from vlm.errors import BackendUnavailable
from vlm.ssm.inputs import ScanInputs

MAX_STATES = 256
# softplus of this is 0 in float32, and it is a number in float16.
CLOSED = -1e4


def missing() -> str | None:
    """Why the kernel cannot run on this machine; None where it can."""
    if find_spec("mamba_ssm") is None:
        return "the package mamba_ssm is not installed; pip install --no-build-isolation 'vlm-retrieval[mamba-ssm]' (Linux, CUDA compiler)"
    if not torch.cuda.is_available():
        return "it needs a CUDA device, and torch sees none"
    return None


def unsupported(inputs: ScanInputs) -> str | None:
    """Why it cannot take ``inputs``; None where it can."""
    if inputs.compute_dtype == torch.float64:
        return "computes in float32, got float64 tensors"
    if inputs.initial_state is not None:
        return "always starts from a state of zeros, got initial_state"
    if inputs.A.shape[1] > MAX_STATES:
        return f"takes at most {MAX_STATES} states a channel, got {inputs.A.shape[1]}"
    if inputs.u.device.type != "cuda":
        return f"needs tensors on a CUDA device, got {inputs.u.device}"
    return None


def scan(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """Output (b, t, d) in the type of u, and last states (items, d, n) in float32, through which no gradient can be asked for."""
    if 0 in inputs.u.shape or inputs.num_items == 0:
        return torch.zeros_like(inputs.u), inputs.A.new_zeros(inputs.num_items, *inputs.A.shape, dtype=torch.float32)
    if inputs.lengths is None and inputs.cu_seqlens is None and not inputs.reverse:
        return _scan_batch(inputs)
    rows, is_real = _places(inputs)
    b, t, d = inputs.u.shape

    def gather(tensor: Tensor, fill: float) -> Tensor:
        return tensor.reshape(b * t, -1)[rows].masked_fill(~is_real[:, :, None], fill)

    delta, bias = inputs.delta, inputs.delta_bias
    if bias is not None and not inputs.delta_softplus:
        delta, bias = delta + bias, None  # only then does a step size of 0 stay 0
    gathered = replace(
        inputs,
        u=gather(inputs.u, 0),
        delta=gather(delta, CLOSED if inputs.delta_softplus else 0),
        B=gather(inputs.B, 0),
        C=gather(inputs.C, 0),
        z=None if inputs.z is None else gather(inputs.z, 0),
        delta_bias=bias,
        lengths=None,
        cu_seqlens=None,
    )
    out, last_state = _scan_batch(gathered)
    placed = out.new_zeros(b * t, d).index_put((rows[is_real],), out[is_real])
    return placed.view(b, t, d), last_state


def _scan_batch(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """The official kernel from the left over whole rows."""
    selective_scan_fn: Any = import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    dtype = inputs.u.dtype
    u, delta, B, C, z = (
        None if tensor is None else tensor.to(dtype).transpose(1, 2).contiguous()  # (b, d, t)
        for tensor in (inputs.u, inputs.delta, inputs.B, inputs.C, inputs.z)
    )
    A, D, bias = (None if tensor is None else tensor.float() for tensor in (inputs.A, inputs.D, inputs.delta_bias))
    out, last_state = selective_scan_fn(
        u, delta, A, B, C, D=D, z=z, delta_bias=bias, delta_softplus=inputs.delta_softplus, return_last_state=True
    )
    guarded: Tensor = _Refuse.apply(last_state.float())
    return out.transpose(1, 2).to(dtype), guarded


def _places(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """For each item and step of its scan: the row of the flattened (b * t) that it reads, and whether there is such a step."""
    b, t, _ = inputs.u.shape
    device = inputs.u.device
    if inputs.cu_seqlens is not None:
        starts, lengths = inputs.cu_seqlens[:-1].long(), inputs.cu_seqlens.long().diff()
    else:
        starts = t * torch.arange(b, device=device)
        lengths = torch.full_like(starts, t) if inputs.lengths is None else inputs.lengths.long()
    step = torch.arange(max(1, int(lengths.max())), device=device).expand(len(starts), -1)
    is_real = step < lengths[:, None]
    place = lengths[:, None] - 1 - step if inputs.reverse else step
    return (starts[:, None] + place).clamp(0, b * t - 1), is_real


class _Refuse(torch.autograd.Function):
    """Passes a tensor on. Its gradient is refused: the official backward pass would take it for zero."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Tensor | None:
        if grads[0] is not None:
            raise BackendUnavailable("scan backend 'mamba_ssm' gives no gradient of the last state; use backend='auto' or 'triton'")
        return None
