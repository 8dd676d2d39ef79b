"""Attention in which a token sees its neighbours alone: memory and time grow with the length, not with its square."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def local_attention(queries: Tensor, keys: Tensor, values: Tensor, item: Tensor, *, window: int, causal: bool = False) -> Tensor:
    """What each token takes from the tokens of its item that are at most ``window`` places away, (heads, m, d).

    Tokens are cut into blocks of at least ``window``; a block's queries look at their own block and those beside it.

    Args:
        queries, keys, values: (heads, m, d) of tokens that lie side by side, one item after the other.
        item: (m) the number of the item that each token belongs to.
        window: places on each side, 0 or more. causal: only the side before.
    """
    heads, m, d = queries.shape
    block = max(1, min(window, m))
    blocks = -(-m // block)
    short = blocks * block - m
    q = functional.pad(queries, (0, 0, 0, short)).view(heads, blocks, block, d)
    # A block before the first and one after the last: places that no item owns.
    around = (functional.pad(x, (0, 0, block, block + short)) for x in (keys, values))
    k, v = (x.unfold(1, 3 * block, block).transpose(2, 3) for x in around)  # (heads, blocks, 3 block, d)
    owner = functional.pad(item, (0, short), value=-1).view(blocks, block)
    owners = functional.pad(item, (block, block + short), value=-1).unfold(0, 3 * block, block)  # (blocks, 3 block)
    place = torch.arange(block, device=item.device)
    ahead = torch.arange(3 * block, device=item.device) - block - place[:, None]  # (block, 3 block)
    near = (ahead.abs() <= window) & (ahead <= 0 if causal else torch.ones_like(ahead, dtype=torch.bool))
    seen = near & ((owner[:, :, None] == owners[:, None]) | (ahead == 0))  # a token sees itself, also one that no item owns
    mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    return mixed.reshape(heads, blocks * block, v.shape[3])[:, :m]
