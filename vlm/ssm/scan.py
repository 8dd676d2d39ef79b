"""The public operator: one selective scan for training and inference, on whatever backend is there."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from vlm.ssm.backends import choose_backend
from vlm.ssm.inputs import ScanInputs, check

__all__ = ["selective_scan"]


@overload
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    initial_state: Tensor | None = None,
    lengths: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    reverse: bool = False,
    return_last_state: Literal[False] = False,
    backend: str = "auto",
) -> Tensor: ...


@overload
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    initial_state: Tensor | None = None,
    lengths: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    reverse: bool = False,
    return_last_state: Literal[True],
    backend: str = "auto",
) -> tuple[Tensor, Tensor]: ...


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    initial_state: Tensor | None = None,
    lengths: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    reverse: bool = False,
    return_last_state: bool = False,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Output (b, t, d) of a selective state-space model in the type of u; with ``return_last_state`` also the last state of each item.

    Mamba (arXiv 2312.00752), in its letters; per item, channel c and state n, with ``softplus`` only where ``delta_softplus``:

        delta_t = softplus(delta_t + delta_bias)
        h_t     = exp(delta_t A) h_{t-1} + delta_t B_t u_t          h_0 = initial_state or 0
        out_t   = (sum over n of C_t h_t  +  D u_t) * SiLU(z_t)     the gate only where z is given

    Arithmetic is float32, or float64 where any tensor is float64; autocast does not reach inside. Gradients of the first order for every
    tensor, in its own type.

    Args:
        u: inputs (b, t, d).
        delta: step sizes (b, t, d), no unit. z: gates (b, t, d).
        A: decay rates (d, n), negative for a stable model. B, C: input and output weights (b, t, n), shared by all channels.
        D, delta_bias: one number a channel (d).
        initial_state: (items, d, n), the state before the first step that is taken.
        lengths: (b) int32 or int64; item i holds the steps ``[0, lengths[i])``. What lies beyond is not read; output and gradients are 0
            there.
        cu_seqlens: (items + 1) int32 or int64, rising from 0 to t; b is 1, and item i holds the steps
            ``[cu_seqlens[i], cu_seqlens[i + 1])``.
        reverse: scan from each item's own last step to its first; the last state is then the one at the first step.
        return_last_state: the states (items, d, n), float32 or float64, that go into ``initial_state`` to carry on. An item of no step
            gives its initial state.
        backend: ``auto``, or a name of the table in vlm/ssm/backends.py, which is then taken or refused.

    Raises:
        InputError: a shape, type, device or value breaks its rule, or the backend is unknown.
        BackendUnavailable: the named backend is missing, or cannot take these inputs.
    """
    inputs = check(ScanInputs(u, delta, A, B, C, D, z, delta_bias, initial_state, lengths, cu_seqlens, delta_softplus, reverse))
    scanner = choose_backend(backend, inputs).load()
    # A stays in float32 under autocast: exp(delta * A) in bf16 loses whole steps when delta < 1e-3.
    with torch.autocast(u.device.type, enabled=False):
        output, last_state = scanner.scan(inputs)
    return (output, last_state) if return_last_state else output
