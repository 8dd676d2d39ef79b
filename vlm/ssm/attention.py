"""The attention counterpart of the state-space mixers: the same call, so that a comparison is one word in a config."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlm.errors import InputError
from vlm.ssm.local_attention import local_attention
from vlm.ssm.packed import check_tokens, item_of_row, without_pads

HEAD_WIDTH = 64


class Attention(nn.Module):
    """Multi-head self-attention without positions: 4 d_model^2 weights.

    Args:
        d_model: width of the tokens.
        num_heads: heads; None takes one for every 64 numbers of a token, and at least one.
        causal: a token sees itself and those before it.
        window: how many real tokens a token sees on each side of itself; None is no limit. See ``local_attention``.

    Raises:
        InputError: an argument breaks its rule.
    """

    def __init__(self, d_model: int, num_heads: int | None = None, *, causal: bool = False, window: int | None = None) -> None:
        super().__init__()
        self.num_heads = max(1, d_model // HEAD_WIDTH) if num_heads is None else num_heads
        if d_model < 1 or self.num_heads < 1 or d_model % self.num_heads:
            raise InputError(f"d_model must be above 0 and a multiple of num_heads, got d_model={d_model}, num_heads={self.num_heads}")
        if window is not None and window < 0:
            raise InputError(f"window must be 0 tokens or more, or None, got {window}")
        self.d_model, self.causal, self.window = d_model, causal, window
        self.in_proj = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out_proj = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, cu_seqlens: Tensor | None = None) -> Tensor:
        """Mixed tokens (b, t, d_model); arguments, errors and the exactness under padding are those of ``vlm.ssm.packed.without_pads``."""
        if self.window is not None:
            return without_pads(self._mix_near, x, mask, cu_seqlens, self.d_model)
        check_tokens(x, mask, cu_seqlens, self.d_model)
        if cu_seqlens is not None:
            return self._mix_packed(x, cu_seqlens)
        if mask is None:
            return self._mix(x, None)
        # What stands at a pad may be NaN, and would pass through a weight of zero.
        mixed = self._mix(x.masked_fill(~mask[:, :, None], 0), mask)
        return mixed.masked_fill(~mask[:, :, None], 0)

    def _mix_packed(self, x: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Items side by side in one row, unrolled into a batch that is as long as the longest."""
        lengths = cu_seqlens.diff()
        if not len(lengths) or not x.shape[1]:
            return self._mix(x, None)
        place = torch.arange(int(lengths.max()), device=x.device)
        mask = place < lengths[:, None]
        item = item_of_row(cu_seqlens, x.shape[1])
        index = item * len(place) + torch.arange(x.shape[1], device=x.device) - cu_seqlens[item]
        batch = x.new_zeros(mask.numel(), x.shape[2]).index_copy(0, index, x[0])
        mixed = self._mix(batch.view(*mask.shape, x.shape[2]), None if bool(mask.all()) else mask)
        return mixed.flatten(0, 1).index_select(0, index)[None]

    def _mix_near(self, x: Tensor, cu_seqlens: Tensor | None) -> Tensor:
        """Tokens that are all real, mixed with those in the window."""
        assert self.window is not None
        b, t, d = x.shape
        if not b * t:
            return x
        tokens = torch.arange(b * t, device=x.device)
        item = tokens // t if cu_seqlens is None else item_of_row(cu_seqlens, t)
        queries, keys, values = self.in_proj(x).view(b * t, 3, self.num_heads, d // self.num_heads).permute(1, 2, 0, 3)
        heads = local_attention(queries, keys, values, item, window=self.window, causal=self.causal)  # (heads, b t, d / heads)
        mixed: Tensor = self.out_proj(heads.transpose(0, 1).reshape(b, t, d))
        return mixed

    def _mix(self, x: Tensor, mask: Tensor | None) -> Tensor:
        b, t, d = x.shape
        queries, keys, values = (
            self.in_proj(x).view(b, t, 3, self.num_heads, d // self.num_heads).permute(2, 0, 3, 1, 4)
        )  # (b, heads, t, d / heads) each
        seen = None if mask is None else self._seen(mask)
        heads = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=seen, is_causal=mask is None and self.causal)
        mixed: Tensor = self.out_proj(heads.transpose(1, 2).reshape(b, t, d))
        return mixed

    def _seen(self, real: Tensor) -> Tensor:
        """Which keys each query sees, (b, 1, 1 or t, t) bool; every query sees at least one, so that no softmax is over nothing."""
        if not self.causal:
            return (real | ~real.any(dim=1, keepdim=True))[:, None, None]
        t = real.shape[1]
        place = torch.arange(t, device=real.device)
        seen = real[:, None, :] & (place[None, :] <= place[:, None])
        return (seen | torch.eye(t, dtype=torch.bool, device=real.device))[:, None]

    def no_weight_decay(self) -> set[str]:
        """None: attention has no rates."""
        return set()
