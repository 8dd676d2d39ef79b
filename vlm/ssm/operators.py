"""Makes torch operators of functions that scan: with a schema, autograd, and fake kernels for compilers.

A backend that computes gradients itself defines its operator of a pair of functions, forward and backward; one that is made of torch's own
operators has a composite one. All have one schema, and one way of saving tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vlm.ssm.inputs import ScanInputs

# Names and order of what an operator takes: the fields of ScanInputs.
FLOAT_NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")
TENSOR_NAMES = (*FLOAT_NAMES, "lengths", "cu_seqlens")
_ARGUMENTS = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, Tensor? initial_state, "
    "Tensor? lengths, Tensor? cu_seqlens, bool delta_softplus, bool reverse"
)
_GRADIENTS = ", ".join(["Tensor"] * len(FLOAT_NAMES))


class Scanned(NamedTuple):
    """Results of a forward pass; ``checkpoints`` is whatever the backward pass wants to find again, empty where none will be run."""

    out: Tensor
    last_state: Tensor
    checkpoints: Tensor


Forward = Callable[[ScanInputs, bool], Scanned]
# grad_out, grad_last (None where nobody used the last state), inputs, checkpoints -> a gradient per FLOAT_NAMES, None for absent ones.
Backward = Callable[[Tensor, Tensor | None, ScanInputs, Tensor], Sequence[Tensor | None]]
CheckpointShape = Callable[[ScanInputs], Sequence[int]]


def define_operator(
    name: str, forward: Forward, backward: Backward, checkpoint_shape: CheckpointShape
) -> Callable[[ScanInputs], tuple[Tensor, Tensor]]:
    """Registers ``vlm::{name}`` and ``vlm::{name}_backward``; returns the function that calls the first.

    Args:
        checkpoint_shape: of the checkpoints, which have ``compute_dtype``, as far as shapes tell: compilers ask without values.
    """

    def run(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(forward(ScanInputs(*arguments[:-1]), arguments[-1]))  # type: ignore[return-value]  # three, as Scanned has

    def run_backward(grad_out: Tensor, grad_last: Tensor | None, *arguments: Any) -> tuple[Tensor, ...]:
        inputs = ScanInputs(*arguments[:-1])
        # Autograd may call this while autocast is on.
        with torch.autocast(inputs.u.device.type, enabled=False):
            found = backward(grad_out, grad_last, inputs, arguments[-1])
        return tuple(inputs.u.new_empty(0) if gradient is None else gradient for gradient in found)

    scan = torch.library.custom_op(f"vlm::{name}", run, mutates_args=(), schema=f"({_ARGUMENTS}, bool keep) -> (Tensor, Tensor, Tensor)")
    scan_backward = torch.library.custom_op(
        f"vlm::{name}_backward",
        run_backward,
        mutates_args=(),
        schema=f"(Tensor grad_out, Tensor? grad_last, {_ARGUMENTS}, Tensor checkpoints) -> ({_GRADIENTS})",
    )

    def fake(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        inputs = ScanInputs(*arguments[:-1])
        empty = inputs.u.new_empty
        out = torch.empty_like(inputs.u, memory_format=torch.contiguous_format)
        last = empty((inputs.num_items, *inputs.A.shape), dtype=inputs.compute_dtype)
        return out, last, empty(tuple(checkpoint_shape(inputs)) if arguments[-1] else (0,), dtype=inputs.compute_dtype)

    def fake_backward(grad_out: Tensor, grad_last: Tensor | None, *arguments: Any) -> tuple[Tensor, ...]:
        inputs = ScanInputs(*arguments[:-1])
        tensors = (getattr(inputs, name) for name in FLOAT_NAMES)
        return tuple(
            inputs.u.new_empty(0) if tensor is None else torch.empty_like(tensor, memory_format=torch.contiguous_format)
            for tensor in tensors
        )

    def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs[: len(TENSOR_NAMES)], output[2])
        ctx.options = inputs[len(TENSOR_NAMES) : -1]
        ctx.mark_non_differentiable(output[2])
        ctx.set_materialize_grads(False)

    def differentiate(ctx: Any, grad_out: Tensor | None, grad_last: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, checkpoints = ctx.saved_tensors
        if grad_out is None:
            grad_out = torch.zeros_like(tensors[0])
        found = scan_backward(grad_out, grad_last, *tensors, *ctx.options, checkpoints)
        wanted = [
            gradient if tensor is not None and needed else None
            for gradient, tensor, needed in zip(found, tensors, ctx.needs_input_grad, strict=False)
        ]
        return (*wanted, *([None] * (len(ctx.needs_input_grad) - len(wanted))))

    scan.register_fake(fake)
    scan_backward.register_fake(fake_backward)
    scan.register_autograd(differentiate, setup_context=save)

    def call(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
        keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs.floats.values())
        tensors = (getattr(inputs, name) for name in TENSOR_NAMES)
        out, last_state, _ = scan(*tensors, inputs.delta_softplus, inputs.reverse, keep)
        return out, last_state

    return call


def define_composite(
    name: str, scan: Callable[[ScanInputs, Any], tuple[Tensor, Tensor]], *, option: str
) -> Callable[[ScanInputs, Any], tuple[Tensor, Tensor]]:
    """Registers ``vlm::{name}`` as a composition of torch's operators, through which autograd and compilers see; returns what calls it.

    Args:
        option: the schema of one more argument, which ``scan`` takes after the inputs.
    """
    torch.library.define(f"vlm::{name}", f"({_ARGUMENTS}, {option}) -> (Tensor, Tensor)")
    torch.library.impl(f"vlm::{name}", "CompositeImplicitAutograd", lambda *given: scan(ScanInputs(*given[:-1]), given[-1]))
    operator = getattr(torch.ops.vlm, name)

    def call(inputs: ScanInputs, chosen: Any) -> tuple[Tensor, Tensor]:
        tensors = (getattr(inputs, name) for name in TENSOR_NAMES)
        out, last_state = operator(*tensors, inputs.delta_softplus, inputs.reverse, chosen)
        return out, last_state

    return call
