"""Where the events of a video are: queries that stand along it, look at a few places of all levels, and say which stretch each is.

After PDVC (Wang et al. 2021, arXiv 2108.07781) and Deformable DETR (Zhu et al. 2021, arXiv 2010.04159). What differs is in docs/suite.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.models.adapter import TimeEmbedding
from vlm.models.suite.deformable import Aim, DeformableAttention
from vlm.models.suite.levels import Levels
from vlm.models.suite.rows import wide
from vlm.ssm.attention import Attention

# How probable an event is at every query before anything is learnt.
PRIOR = 0.1
# Seconds: positions repeat after that, so that a video may be longer than any that was learnt from.
LONGEST_PERIOD = 32.0
# The most that one layer makes a stretch longer or shorter, as a factor, in its logarithm.
MOST_GROWTH = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Stretches of items, item after item.

    Shapes:
        item: (n) int64. bounds: (items + 1) int32, whose are which. centres, lengths: (n) float32, in rows of level 0; lengths above 0.
    """

    item: Tensor
    bounds: Tensor
    centres: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, stretches: Tensor, counts: Tensor) -> Places:
        """Of stretches (n, 2), starts and ends, and how many each item has (items)."""
        bounds = torch.cat([counts.new_zeros(1), counts.cumsum(dim=0)]).int()
        item = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        return cls(item, bounds, stretches.float().mean(dim=1), (stretches[:, 1] - stretches[:, 0]).float())

    @property
    def stretches(self) -> Tensor:
        """Starts and ends (n, 2), not cut at the ends of the item."""
        return torch.stack([self.centres - self.lengths / 2, self.centres + self.lengths / 2], dim=1)


def evenly(held: Levels, *, every: int, length: float) -> Places:
    """A stretch every so many rows of each item, at least one."""
    counts = -(-held.lengths[:, 0] // every)
    starts = torch.cat([torch.arange(int(count), device=counts.device) * float(every) for count in counts])
    places = Places.of(torch.stack([starts, starts + every], dim=1), counts)
    return Places(places.item, places.bounds, places.centres, torch.full_like(places.centres, length))


@dataclass(frozen=True, slots=True, eq=False)
class Proposed:
    """What a layer makes of the queries (n, width): logits (n) of being an event, and the stretch of each."""

    queries: Tensor
    logits: Tensor
    places: Places


class EventDecoder(nn.Module):
    """Queries through layers; ``finds`` where they move to events, else they stay on the stretches that are given.

    Args:
        window: how many queries on each side a query sees. num_levels, num_points: see DeformableAttention.
    """

    def __init__(
        self,
        width: int,
        *,
        num_layers: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        window: int,
        ffn_expand: float,
        dropout: float,
        frames_per_second: float,
        finds: bool,
    ) -> None:
        super().__init__()
        self.frames_per_second = frames_per_second
        self.queries = nn.Parameter(torch.zeros(width))
        self.begin = nn.Linear(width, width)
        self.time = TimeEmbedding(width, longest=LONGEST_PERIOD)
        self.size = nn.Linear(1, width)
        self.layers = nn.ModuleList(
            [_EventLayer(width, num_heads, num_levels, num_points, window, ffn_expand, dropout) for _ in range(num_layers)]
        )
        self.norm = nn.LayerNorm(width)
        self.classify = nn.Linear(width, 1) if finds else None
        self.count = nn.Linear(width, 1) if finds else None
        self.moves = nn.ModuleList([_Move(width) for _ in range(num_layers if finds else 0)])
        if self.classify is not None and self.count is not None:
            nn.init.constant_(self.classify.bias, -math.log((1 - PRIOR) / PRIOR))
            nn.init.constant_(self.count.bias, math.log(math.expm1(PRIOR)))

    def forward(self, held: Levels, places: Places) -> tuple[Tensor, list[Proposed]]:
        """The queries (n, width) after the last layer, and what each layer proposes; nothing where stretches are given."""
        tokens = self.queries + self.begin(held.at(places.item, places.centres[:, None])[:, 0])
        proposed: list[Proposed] = []
        for number, layer in enumerate(self.layers):
            where = self.time(places.centres / self.frames_per_second) + self.size(places.lengths.log()[:, None].to(self.queries))
            tokens = layer(tokens, where, places, held)
            seen = self.norm(tokens)
            if self.classify is not None:
                moved: Places = self.moves[number](seen, places)
                proposed.append(Proposed(seen, wide(self.classify(seen))[:, 0], moved))
                places = Places(places.item, places.bounds, moved.centres.detach(), moved.lengths.detach())
        return self.norm(tokens), proposed

    def expected(self, tokens: Tensor, places: Places) -> Tensor:
        """How many events are expected in each item (items), above 0: what its queries (n, width) say, together."""
        assert self.count is not None
        rates = F.softplus(wide(self.count(tokens))[:, 0])
        return rates.new_zeros(len(places.bounds) - 1).index_add(0, places.item, rates)


class _EventLayer(nn.Module):
    """Attention among the queries of an item, deformable attention to its rows, and a feed-forward, each on a norm and added."""

    def __init__(
        self, width: int, num_heads: int, num_levels: int, num_points: int, window: int, ffn_expand: float, dropout: float
    ) -> None:
        super().__init__()
        self.among_norm, self.look_norm, self.ffn_norm = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.among = Attention(width, num_heads, window=window)
        self.look = DeformableAttention(width, num_heads=num_heads, num_levels=num_levels, num_points=num_points)
        hidden = int(ffn_expand * width)
        self.ffn = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, where: Tensor, places: Places, held: Levels) -> Tensor:
        among: Tensor = self.among(self.among_norm(tokens + where)[None], cu_seqlens=places.bounds)
        tokens = tokens + self.dropout(among[0])
        seen = self.look(self.look_norm(tokens + where), places.item, places.centres, places.lengths / 2, held)
        tokens = tokens + self.dropout(seen)
        found: Tensor = tokens + self.dropout(self.ffn(self.ffn_norm(tokens)))
        return found


class _Move(nn.Module):
    """A stretch from the one before: its centre so many of its lengths further, and so many times as long."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.leave = Aim(width, 2)

    def forward(self, tokens: Tensor, places: Places) -> Places:
        step = wide(self.leave(F.relu(self.hidden(tokens))))
        lengths = places.lengths * step[:, 1].clamp(-MOST_GROWTH, MOST_GROWTH).exp()
        return Places(places.item, places.bounds, places.centres + step[:, 0] * places.lengths, lengths)
