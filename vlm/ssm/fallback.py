"""The scan in plain torch, in chunks: what trains and runs where nothing was compiled. A torch operator with a backward pass of its own.

Only one chunk at a time becomes a tensor (items, CHUNK_STEPS, d, n), never the whole length; the backward pass recomputes each chunk from
the state at its start. Inside a chunk the loop over time is one multiply-add a step, everything else is done for all its steps at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vlm.ssm.inputs import ScanInputs
from vlm.ssm.operators import Scanned, define_operator

# At d 1536 and n 16 a tensor of a chunk is 1.5 MB an item: a few of them stay in the cache.
CHUNK_STEPS = 16


def missing() -> str | None:
    """Never: there is nothing it needs."""
    return None


def unsupported(inputs: ScanInputs) -> str | None:
    """Nothing is."""
    return None


def scan(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """Output (b, t, d) in the type of u, and last states (items, d, n) in ``inputs.compute_dtype``."""
    return _operator(inputs)


@dataclass(frozen=True, slots=True, eq=False)
class _Order:
    """Where the steps of the items lie: row numbers (items, steps) in scan order, and which of them are real (items, steps, 1)."""

    rows: Tensor
    real: Tensor
    first_checkpoint: Tensor

    @classmethod
    def of(cls, inputs: ScanInputs) -> _Order:
        (b, t, _), device = inputs.u.shape, inputs.u.device
        if inputs.cu_seqlens is None:
            starts = torch.arange(b, device=device) * t
            lengths = torch.full((b,), t, device=device) if inputs.lengths is None else inputs.lengths.to(device)
            first = torch.arange(b, device=device) * -(-t // CHUNK_STEPS)
        else:
            bounds = inputs.cu_seqlens.to(device)
            starts, lengths = bounds[:-1], bounds.diff()
            first = starts // CHUNK_STEPS + torch.arange(len(starts), device=device)
        steps = torch.arange(int(lengths.max()) if len(lengths) else 0, device=device)
        real = steps < lengths[:, None]
        offset = lengths[:, None] - 1 - steps if inputs.reverse else steps.expand(len(lengths), -1)
        return cls((starts[:, None] + offset).masked_fill(~real, 0), real[:, :, None], first)

    def take(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """(items, steps, width) of a tensor (b, t, width); zeros where no step is: what lies there may be NaN."""
        if self.rows.numel() == 0:
            return tensor.new_zeros(*self.rows.shape, tensor.shape[2], dtype=dtype)
        return tensor.flatten(0, 1)[self.rows].to(dtype).masked_fill(~self.real, 0)

    def put(self, values: Tensor, like: Tensor) -> Tensor:
        """The inverse of ``take``, in the shape and type of ``like``; zeros where no item is."""
        real = self.real[:, :, 0]
        found = torch.zeros(like.shape, dtype=like.dtype, device=like.device)
        found.flatten(0, 1)[self.rows[real]] = values[real].to(like.dtype)
        return found

    def chunks(self) -> list[slice]:
        """The steps of each chunk."""
        steps = self.rows.shape[1]
        return [slice(begin, min(begin + CHUNK_STEPS, steps)) for begin in range(0, steps, CHUNK_STEPS)]

    def checkpoint_rows(self, number: int) -> tuple[Tensor, Tensor]:
        """Which items have a chunk of that number, and the row of its checkpoint."""
        present = self.real[:, number * CHUNK_STEPS, 0]
        return present, self.first_checkpoint[present] + number


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """Inputs of all steps in scan order and in the type of the arithmetic."""

    u: Tensor
    delta: Tensor
    slope: Tensor
    B: Tensor
    C: Tensor
    A: Tensor

    @classmethod
    def of(cls, inputs: ScanInputs, order: _Order) -> _Steps:
        dtype = inputs.compute_dtype
        delta = order.take(inputs.delta, dtype)
        if inputs.delta_bias is not None:
            delta = delta + inputs.delta_bias.to(dtype)
        slope = delta.sigmoid() if inputs.delta_softplus else torch.ones_like(delta)
        if inputs.delta_softplus:
            delta = torch.logaddexp(delta, delta.new_zeros(()))
        # Where no step is the state waits: exp(0 A) = 1.
        delta, slope = delta.masked_fill(~order.real, 0), slope.masked_fill(~order.real, 0)
        return cls(
            u=order.take(inputs.u, dtype),
            delta=delta,
            slope=slope,
            B=order.take(inputs.B, dtype),
            C=order.take(inputs.C, dtype),
            A=inputs.A.to(dtype),
        )

    def states(self, at: slice, state: Tensor) -> tuple[Tensor, Tensor]:
        """Decays, and states after each step of a chunk, both (items, steps, d, n)."""
        decay = torch.exp(self.delta[:, at, :, None] * self.A)
        states = (self.delta[:, at] * self.u[:, at])[..., None] * self.B[:, at, None]
        for i in range(states.shape[1]):
            state = states[:, i].addcmul_(decay[:, i], state)
        return decay, states


def _initial(inputs: ScanInputs) -> Tensor:
    if inputs.initial_state is not None:
        return inputs.initial_state.to(inputs.compute_dtype, copy=True)
    return inputs.u.new_zeros(inputs.num_items, *inputs.A.shape, dtype=inputs.compute_dtype)


def _forward(inputs: ScanInputs, keep: bool) -> Scanned:
    order = _Order.of(inputs)
    steps = _Steps.of(inputs, order)
    state = _initial(inputs)
    checkpoints = state.new_zeros(_checkpoint_shape(inputs) if keep else (0,))
    y = torch.empty_like(steps.u)
    for number, at in enumerate(order.chunks()):
        if keep:
            present, rows = order.checkpoint_rows(number)
            checkpoints[rows] = state[present]
        _, states = steps.states(at, state)
        state = states[:, -1].clone()
        y[:, at] = (states @ steps.C[:, at, :, None])[..., 0]
    if inputs.D is not None:
        y += inputs.D.to(y.dtype) * steps.u
    if inputs.z is not None:
        y *= functional.silu(order.take(inputs.z, y.dtype))
    return Scanned(order.put(y, inputs.u), state, checkpoints)


def _backward(grad_out: Tensor, grad_last: Tensor | None, inputs: ScanInputs, checkpoints: Tensor) -> list[Tensor | None]:
    order = _Order.of(inputs)
    steps = _Steps.of(inputs, order)
    u, delta, A = steps.u, steps.delta, steps.A
    given = g = order.take(grad_out, u.dtype)
    if inputs.z is not None:
        z = order.take(inputs.z, u.dtype)
        g = given * functional.silu(z)
    carry = _initial(inputs).zero_() if grad_last is None else grad_last.to(u.dtype, copy=True)
    y, of_input, of_delta = torch.empty_like(u), torch.empty_like(u), torch.empty_like(u)
    grad_A, grad_B, grad_C = torch.zeros_like(A), torch.empty_like(steps.B), torch.empty_like(steps.C)
    for number, at in reversed(list(enumerate(order.chunks()))):
        start = torch.zeros_like(carry)
        present, rows = order.checkpoint_rows(number)
        start[present] = checkpoints[rows]
        decay, states = steps.states(at, start)
        y[:, at] = (states @ steps.C[:, at, :, None])[..., 0]
        grad_C[:, at] = (g[:, at, None] @ states)[:, :, 0]
        of_state = g[:, at, :, None] * steps.C[:, at, None]
        for i in reversed(range(of_state.shape[1])):
            carry = decay[:, i] * of_state[:, i].add_(carry)
        of_input[:, at] = (of_state @ steps.B[:, at, :, None])[..., 0]
        grad_B[:, at] = ((delta[:, at] * u[:, at])[:, :, None] @ of_state)[:, :, 0]
        before = torch.cat([start[:, None], states[:, :-1]], dim=1)
        of_decay = of_state.mul_(decay).mul_(before)  # gradient of delta A
        of_delta[:, at] = (of_decay * A).sum(-1)
        grad_A += torch.einsum("bsdn,bsd->dn", of_decay, delta[:, at])
    grad_z = grad_D = None
    grad_u = of_input * delta
    if inputs.D is not None:
        D = inputs.D.to(u.dtype)
        grad_D, grad_u, y = (g * u).sum((0, 1)), grad_u + D * g, y + D * u
    if inputs.z is not None:
        open_gate = z.sigmoid()
        grad_z = order.put(given * y * open_gate * (1 + z * (1 - open_gate)), inputs.z)
    raw = (of_input * u + of_delta) * steps.slope
    return [
        order.put(grad_u, inputs.u),
        order.put(raw, inputs.delta),
        grad_A.to(inputs.A.dtype),
        order.put(grad_B, inputs.B),
        order.put(grad_C, inputs.C),
        None if inputs.D is None or grad_D is None else grad_D.to(inputs.D.dtype),
        grad_z,
        None if inputs.delta_bias is None else raw.sum((0, 1)).to(inputs.delta_bias.dtype),
        None if inputs.initial_state is None else carry.to(inputs.initial_state.dtype),
    ]


def _checkpoint_shape(inputs: ScanInputs) -> tuple[int, int, int]:
    b, t, d = inputs.u.shape
    chunks = b * -(-t // CHUNK_STEPS) if inputs.cu_seqlens is None else t // CHUNK_STEPS + inputs.num_items
    return chunks, d, inputs.A.shape[1]


_operator = define_operator("torch_scan", _forward, _backward, _checkpoint_shape)
