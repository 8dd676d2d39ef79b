"""Several levels of time of each item as one sequence, and values between its rows: what deformable attention looks at.

A place in an item is told in rows of level 0: row j stands for ``[j, j + 1)``, so that its middle is at j + 0.5. Row k of level l stands
where row ``k * 2^l`` of level 0 does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from vlm.models.suite.rows import RowConv, Rows, every_second


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """Rows (m, d) of items at L levels: item after item, within an item level after level, within a level in order of time.

    Shapes:
        values: (m, d). bounds: (items + 1) int32, from 0 to m.
        item, level, place: (m) int64, whose row it is, of which level, and its place there, from 0.
        starts, lengths: (items, L) int64, the first row of each level of each item, and how many there are.
    """

    values: Tensor
    bounds: Tensor
    item: Tensor
    level: Tensor
    place: Tensor
    starts: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, levels: Sequence[Rows]) -> Levels:
        """The rows of several levels of the same items, finest first, as one sequence."""
        num_levels, device = len(levels), levels[0].values.device
        item = torch.cat([rows.item for rows in levels])
        level = torch.cat([torch.full_like(rows.item, number) for number, rows in enumerate(levels)])
        order = torch.argsort(item * num_levels + level, stable=True)
        lengths = torch.stack([rows.lengths.long() for rows in levels], dim=1)  # (items, L)
        ends = lengths.flatten().cumsum(dim=0).view_as(lengths)
        bounds = torch.cat([torch.zeros(1, dtype=torch.int32, device=device), ends[:, -1].int()])
        values, place = torch.cat([rows.values for rows in levels]), torch.cat([rows.place for rows in levels])
        return cls(values[order], bounds, item[order], level[order], place[order], ends - lengths, lengths)

    @property
    def middles(self) -> Tensor:
        """Where each row stands (m), float32."""
        return self.place * 2.0**self.level + 0.5

    def having(self, values: Tensor) -> Levels:
        """Other values (m, e) for the same rows."""
        return replace(self, values=values)

    def mixed(self, layer: nn.Module) -> Levels:
        """The rows after a layer of ``vlm.ssm.stack``, which sees the levels of an item as one sequence."""
        mixed: Tensor = layer(self.values[None], cu_seqlens=self.bounds)
        return self.having(mixed[0])

    def between(self, item: Tensor, places: Tensor, level: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of places (n, ...) in items (n): the numbers (n, ...) of the rows of a level before and behind each, and how near the latter is.

        Nearness is in [0, 1]; beyond the ends of the item it is as at the ends.
        """
        shape = (-1, *[1] * (places.ndim - 1))
        last = (self.lengths[item, level] - 1).view(shape)
        at = ((places - 0.5) / 2**level).clamp(min=0).minimum(last.to(places))
        before = at.detach().floor().long()
        start = self.starts[item, level].view(shape)
        return start + before, start + (before + 1).minimum(last), at - before

    def at(self, item: Tensor, places: Tensor, level: int = 0) -> Tensor:
        """Values (n, k, d) at places (n, k) of items (n), linear between the rows of a level."""
        before, behind, nearness = self.between(item, places, level)
        one, other = (
            self.values.index_select(0, number.flatten()).view(*places.shape, self.values.shape[1]) for number in (before, behind)
        )
        return one.lerp(other, nearness[..., None].to(one))


class Pyramid(nn.Module):
    """Rows to levels: each is a convolution of width 3 over the one before at every second row, and a normalisation of every row."""

    def __init__(self, width: int, num_levels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([RowConv(width, width, bias=False) for _ in range(num_levels - 1)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(num_levels - 1)])

    def forward(self, rows: Rows) -> list[Rows]:
        """The levels, finest first; an item of n rows has (n + 1) // 2 at the next."""
        levels = [rows]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            halved = every_second(conv(levels[-1]))
            levels.append(halved.having(norm(halved.values)))
        return levels
