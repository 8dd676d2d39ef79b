"""The selective scan as the paper writes it: one loop over time. Slow, float64-capable, and the truth for every other backend.

It needs torch alone. The operator ``vlm::reference_scan`` is made of torch's own (a composite one), so torch derives its gradients, of any
order, and its fake kernel: a truth with a backward pass of its own would be one more thing to prove.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from vlm.errors import InputError
from vlm.ssm.inputs import ScanInputs
from vlm.ssm.operators import define_composite
from vlm.ssm.packed import item_of_row

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

    Raises:
        InputError: the discretisation is neither.
    """
    if discretisation not in get_args(Discretisation):
        raise InputError(f"discretisation must be 'euler' or 'zoh', got {discretisation!r}")
    return _operator(inputs, discretisation)


def _scan(inputs: ScanInputs, discretisation: str) -> tuple[Tensor, Tensor]:
    dtype, (b, t, _) = inputs.compute_dtype, inputs.u.shape
    real = torch.ones(b, t, 1, dtype=torch.bool, device=inputs.u.device)
    if inputs.lengths is not None:
        real = (torch.arange(t, device=real.device) < inputs.lengths[:, None])[:, :, None]  # (b, t, 1)

    def steps(tensor: Tensor) -> Tensor:
        # What lies beyond an item's end must not even be multiplied by zero: it may be NaN.
        return tensor.to(dtype).masked_fill(~real, 0)

    u, delta, B, C = steps(inputs.u), steps(inputs.delta), steps(inputs.B), steps(inputs.C)
    A = inputs.A.to(dtype)
    if inputs.delta_bias is not None:
        delta = delta + inputs.delta_bias.to(dtype)
    if inputs.delta_softplus:
        delta = torch.logaddexp(delta, delta.new_zeros(()))
    delta = delta.masked_fill(~real, 0)  # A_bar = 1 and B_bar = 0: the state waits

    before = u.new_zeros(inputs.num_items, *A.shape) if inputs.initial_state is None else inputs.initial_state.to(dtype)
    restart = _Restart(inputs.cu_seqlens, t, inputs.reverse) if inputs.cu_seqlens is not None else None
    state = before if restart is None else u.new_zeros(1, *A.shape)
    outputs: list[Tensor] = [u.new_empty(0)] * t
    states = list(outputs)
    # Unbound before the loop: the gradient of a slice is a tensor of the whole length, once for every step.
    inflow = (u * delta if discretisation == "euler" else u).unbind(1)
    delta_of, B_of, C_of = delta.unbind(1), B.unbind(1), C.unbind(1)
    for i in reversed(range(t)) if inputs.reverse else range(t):
        step = delta_of[i][:, :, None]  # (b, d, 1)
        B_bar_u = inflow[i][:, :, None] * B_of[i][:, None, :]
        if discretisation == "zoh":
            B_bar_u = _zero_order_hold(step, A) * B_bar_u
        if restart is not None:
            state = restart.before(i, state, before)
        state = torch.exp(step * A) * state + B_bar_u
        if restart is not None:
            states[i] = state
        outputs[i] = (state * C_of[i][:, None, :]).sum(-1)
    output = torch.stack(outputs, dim=1) if t else u
    if inputs.D is not None:
        output = output + inputs.D.to(dtype) * u
    if inputs.z is not None:
        output = output * functional.silu(steps(inputs.z))
    # An operator gives new tensors, also where no step was taken.
    last_state = state.clone() if restart is None else restart.last(states, before)
    return output.masked_fill(~real, 0).to(inputs.u.dtype), last_state


class _Restart:
    """Where in one row of t steps a new item begins. Tensors throughout: compilers ask without values."""

    def __init__(self, cu_seqlens: Tensor, t: int, reverse: bool) -> None:
        self.item = item_of_row(cu_seqlens, t)
        firsts, lasts = cu_seqlens[:-1], cu_seqlens[1:] - 1
        if reverse:
            firsts, lasts = lasts, firsts
        self.is_first = firsts[self.item] == torch.arange(t, device=cu_seqlens.device)
        self.lasts, self.is_empty = lasts.clamp(0, max(t - 1, 0)), cu_seqlens.diff() == 0

    def before(self, i: int, state: Tensor, initial: Tensor) -> Tensor:
        """The state (1, d, n) that step i starts from, given that after the step scanned before it."""
        return torch.where(self.is_first[i], initial.index_select(0, self.item[i : i + 1]), state)

    def last(self, states: list[Tensor], initial: Tensor) -> Tensor:
        """The state (items, d, n) after each item's last step."""
        return torch.where(self.is_empty[:, None, None], initial, torch.cat(states)[self.lasts]) if states else initial.clone()


def _zero_order_hold(step: Tensor, A: Tensor) -> Tensor:
    """(exp(step A) - 1) / A, which is ``step`` where A is 0."""
    safe = torch.where(A == 0, 1, A)
    return torch.where(A == 0, step, torch.expm1(step * safe) / safe)


_operator = define_composite("reference_scan", _scan, option="str discretisation")
