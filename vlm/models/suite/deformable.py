"""Deformable attention along time: a token looks at a few places of each level, which it chooses itself, and at nothing else.

Source: Deformable DETR (Zhu et al. 2021, arXiv 2010.04159); over time and several levels as in PDVC (Wang et al. 2021, arXiv 2108.07781).
Time and memory grow with the length, not with its square.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.errors import InputError
from vlm.models.suite.levels import Levels


class Aim(nn.Module):
    """A linear map that is its bias before anything is learnt: where to look, and how far to move.

    Not an ``nn.Linear``: Muon (``vlm.train.optim``) moves the weight of such by a step of one length whatever the gradient, and what is
    aimed at would be out of the video after some of them.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(outputs, width))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (n, outputs)."""
        return F.linear(x, self.slope, self.bias)


class DeformableAttention(nn.Module):
    """What tokens take from places around their own: of each level and head some points, weighed together.

    A token stands at a centre and has a reach; a point lies ``offset * reach`` rows of level 0 from the centre. Before anything is learnt
    the points of a head are spread evenly over ``[-reach, reach]`` and weigh the same.

    Args:
        width: of tokens and rows. num_heads: each takes its share of the width. num_levels, num_points: of each head.
    """

    def __init__(self, width: int, *, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        if width % num_heads:
            raise InputError(f"width must be a multiple of num_heads, got width={width}, num_heads={num_heads}")
        self.heads, self.levels, self.points = num_heads, num_levels, num_points
        self.offsets = Aim(width, num_heads * num_levels * num_points)
        self.weights = Aim(width, num_heads * num_levels * num_points)
        self.value = nn.Linear(width, width)
        self.leave = nn.Linear(width, width)
        spread = (2 * torch.arange(num_points) + 1) / num_points - 1
        with torch.no_grad():
            self.offsets.bias.copy_(spread.repeat(num_heads * num_levels))

    def forward(self, tokens: Tensor, item: Tensor, centres: Tensor, reach: Tensor, held: Levels) -> Tensor:
        """What the tokens take (n, width).

        Args:
            tokens: (n, width). item: (n) int64, whose they are. centres, reach: (n) float32, rows of level 0; a reach is above 0.
            held: the rows (m, width) of the items.
        """
        n, width = tokens.shape
        shape = (n, self.heads, self.levels, self.points)
        places = centres.view(n, 1, 1, 1) + self.offsets(tokens).view(shape) * reach.view(n, 1, 1, 1)
        weights = self.weights(tokens).view(n, self.heads, self.levels * self.points).softmax(dim=2).view(shape)
        # A head's share of a row is a row of its own, so that all can be taken by number.
        values = self.value(held.values).view(len(held.values) * self.heads, width // self.heads)
        head = torch.arange(self.heads, device=tokens.device)[:, None]
        numbers, shares = [], []
        for level in range(self.levels):
            before, behind, nearness = held.between(item, places[:, :, level], level)  # (n, heads, points) each
            numbers += [before * self.heads + head, behind * self.heads + head]
            shares += [weights[:, :, level] * (1 - nearness), weights[:, :, level] * nearness]
        number, part = torch.cat(numbers, dim=2), torch.cat(shares, dim=2)  # (n, heads, 2 levels points)
        taken = values.index_select(0, number.flatten()).view(*number.shape, width // self.heads)
        mixed: Tensor = self.leave((taken * part[..., None].to(taken)).sum(dim=2).reshape(n, width))
        return mixed
