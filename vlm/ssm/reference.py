"""The selective scan as the paper writes it: one loop over time. Slow, float64-capable, and the truth for every other backend.

It needs torch alone. It is made of torch's own operators, so torch derives its gradients, of any order, and its fake kernels.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from vlm.ssm.inputs import ScanInputs

Discretisation = Literal["euler", "zoh"]


def missing() -> str | None:
    """Never: there is nothing it needs."""
    return None


def unsupported(inputs: ScanInputs) -> str | None:
    """Nothing is."""
    return None


def scan(inputs: ScanInputs, discretisation: Discretisation = "euler") -> tuple[Tensor, Tensor]:
    """Output (b, t, d) in the type of u, and last states (items, d, n) in ``inputs.compute_dtype``.

    Mamba (arXiv 2312.00752), equations 2 to 4 with the discretisation

        A_bar = exp(delta A)
        B_bar = delta B                                       euler: what every released kernel computes
        B_bar = (delta A)^-1 (exp(delta A) - 1) delta B       zoh: what the paper writes, zero-order hold
    """
    if inputs.cu_seqlens is None:
        return _scan_batch(inputs, inputs.lengths, inputs.initial_state, 0, inputs.u.shape[1], discretisation)
    bounds = inputs.cu_seqlens.tolist()
    outputs, states = [inputs.u[:, :0]], [inputs.A.new_zeros(0, *inputs.A.shape, dtype=inputs.compute_dtype)]
    for item, (start, end) in enumerate(pairwise(bounds)):
        initial = None if inputs.initial_state is None else inputs.initial_state[item : item + 1]
        output, state = _scan_batch(inputs, None, initial, start, end, discretisation)
        outputs.append(output)
        states.append(state)
    return torch.cat(outputs, dim=1), torch.cat(states)


def _scan_batch(
    inputs: ScanInputs, lengths: Tensor | None, initial_state: Tensor | None, start: int, end: int, discretisation: Discretisation
) -> tuple[Tensor, Tensor]:
    """Steps ``[start, end)`` of every row of the batch."""
    dtype = inputs.compute_dtype
    b, t, d = inputs.u.shape[0], end - start, inputs.u.shape[2]
    real = torch.ones(b, t, 1, dtype=torch.bool, device=inputs.u.device)
    if lengths is not None:
        real = (torch.arange(t, device=real.device) < lengths[:, None])[:, :, None]  # (b, t, 1)

    def steps(tensor: Tensor) -> Tensor:
        # What lies beyond an item's end must not even be multiplied by zero: it may be NaN.
        return tensor[:, start:end].to(dtype).masked_fill(~real, 0)

    u, delta, B, C = steps(inputs.u), steps(inputs.delta), steps(inputs.B), steps(inputs.C)
    A = inputs.A.to(dtype)
    if inputs.delta_bias is not None:
        delta = delta + inputs.delta_bias.to(dtype)
    if inputs.delta_softplus:
        delta = torch.logaddexp(delta, delta.new_zeros(()))
    delta = delta.masked_fill(~real, 0)  # A_bar = 1 and B_bar = 0: the state waits

    state = u.new_zeros(b, d, A.shape[1]) if initial_state is None else initial_state.to(dtype)
    outputs: list[Tensor] = [u.new_empty(0)] * t
    # Unbound before the loop: the gradient of a slice is a tensor of the whole length, once for every step.
    inflow = (u * delta if discretisation == "euler" else u).unbind(1)
    delta_of, B_of, C_of = delta.unbind(1), B.unbind(1), C.unbind(1)
    for i in reversed(range(t)) if inputs.reverse else range(t):
        step = delta_of[i][:, :, None]  # (b, d, 1)
        B_bar_u = inflow[i][:, :, None] * B_of[i][:, None, :]
        if discretisation == "zoh":
            B_bar_u = _zero_order_hold(step, A) * B_bar_u
        state = torch.exp(step * A) * state + B_bar_u
        outputs[i] = (state * C_of[i][:, None, :]).sum(-1)
    output = torch.stack(outputs, dim=1) if t else u
    if inputs.D is not None:
        output = output + inputs.D.to(dtype) * u
    if inputs.z is not None:
        output = output * functional.silu(steps(inputs.z))
    return output.masked_fill(~real, 0).to(inputs.u.dtype), state


def _zero_order_hold(step: Tensor, A: Tensor) -> Tensor:
    """(exp(step A) - 1) / A, which is ``step`` where A is 0."""
    safe = torch.where(A == 0, 1, A)
    return torch.where(A == 0, step, torch.expm1(step * safe) / safe)
