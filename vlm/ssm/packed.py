"""Exact padding: the real tokens of a batch gathered side by side, one item after another, and put back where they came from.

A pad that is only zeroed still counts: the convolution's window sees the gap, and a backward scan starts in it. Tokens that are not there
cannot be seen. Everything between ``pack`` and ``unpack`` works on rows of real tokens and knows items by ``cu_seqlens``, so that pads also
cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vlm.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """Where the real tokens of a batch (b, t) are: the places of ``mask`` that are True, anywhere in each item."""

    index: Tensor  # (m) int64, of each real token in the flattened (b * t), rising
    cu_seqlens: Tensor  # (b + 1) int32, rising from 0 to m: item i owns the rows [cu_seqlens[i], cu_seqlens[i + 1])
    batch: int
    time: int

    @classmethod
    def of_mask(cls, mask: Tensor) -> Packing:
        """The packing of a mask (b, t) bool, True for a real token. Reads the mask: on a GPU this waits for it."""
        counts = mask.sum(dim=1, dtype=torch.int32).cumsum(dim=0, dtype=torch.int32)
        bounds = torch.cat((counts.new_zeros(1), counts))
        return cls(mask.flatten().nonzero()[:, 0], bounds, mask.shape[0], mask.shape[1])

    def pack(self, x: Tensor) -> Tensor:
        """The real tokens (1, m, d) of ``x`` (b, t, d)."""
        rows: Tensor = _Gather.apply(x.reshape(self.batch * self.time, x.shape[2]), self.index)
        return rows[None]

    def unpack(self, rows: Tensor) -> Tensor:
        """``rows`` (1, m, d) put back into (b, t, d), zeros where no token is real."""
        placed: Tensor = _Scatter.apply(rows[0], self.index, self.batch * self.time)
        return placed.view(self.batch, self.time, rows.shape[2])


def without_pads(
    mix: Callable[[Tensor, Tensor | None], Tensor], x: Tensor, mask: Tensor | None, cu_seqlens: Tensor | None, d_model: int
) -> Tensor:
    """``mix`` of the real tokens of ``x``, (b, t, d_model): each item as it would be alone and without pads; at pads there are zeros.

    Args:
        mix: takes tokens that are all real and ``cu_seqlens``, gives as many tokens.
        x: tokens (b, t, d_model).
        mask: (b, t) bool, True for a real token, anywhere in the item; None where all are.
        cu_seqlens: (items + 1) int32 or int64: b is 1, and item i holds the tokens ``[cu_seqlens[i], cu_seqlens[i + 1])``.
        d_model: the width that ``x`` must have.

    Raises:
        InputError: a shape or type breaks its rule, or items are told apart in both ways.
    """
    check_tokens(x, mask, cu_seqlens, d_model)
    if (packing := packing_of(mask)) is None:
        return mix(x, cu_seqlens)
    return packing.unpack(mix(packing.pack(x), packing.cu_seqlens))


def packing_of(mask: Tensor | None) -> Packing | None:
    """How to pack a batch with this mask (b, t) bool; None where there is no pad, and so nothing to do."""
    return None if mask is None or bool(mask.all()) else Packing.of_mask(mask)


def check_tokens(x: Tensor, mask: Tensor | None, cu_seqlens: Tensor | None, d_model: int) -> None:
    """Raises InputError, as ``without_pads`` says."""
    if x.ndim != 3 or x.shape[2] != d_model:
        raise InputError(f"x must have the shape (b, t, {d_model}), got {tuple(x.shape)}")
    if mask is not None and cu_seqlens is not None:
        raise InputError("mask and cu_seqlens exclude each other: give a mask for a padded batch, cu_seqlens for a packed one")
    if mask is not None and (mask.dtype != torch.bool or tuple(mask.shape) != tuple(x.shape[:2])):
        raise InputError(
            f"mask must be bool of the shape (b, t) = {tuple(x.shape[:2])}, True for a real token, got {mask.dtype} {tuple(mask.shape)}"
        )
    if cu_seqlens is not None and (x.shape[0] != 1 or cu_seqlens.ndim != 1 or len(cu_seqlens) == 0):
        raise InputError(
            f"cu_seqlens must have the shape (items + 1) and x be (1, t, d), got {tuple(cu_seqlens.shape)} and {tuple(x.shape)}"
        )


def item_of_row(cu_seqlens: Tensor, num_rows: int) -> Tensor:
    """The number (m) of the item that each packed row belongs to."""
    rows = torch.arange(num_rows, device=cu_seqlens.device, dtype=cu_seqlens.dtype)
    return torch.searchsorted(cu_seqlens[1:].contiguous(), rows, right=True)


# torch's own index_select adds in its backward; every row is taken once here, so copying does, three times as fast.
class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.num_rows = x.shape[0]
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return _Scatter.apply(grads[0], index, ctx.num_rows), None


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, num_rows: int) -> Tensor:
        ctx.save_for_backward(index)
        return rows.new_zeros(num_rows, rows.shape[1]).index_copy_(0, index, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        return _Gather.apply(grads[0], index), None, None
