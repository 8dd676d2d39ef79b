"""Items of several lengths as rows side by side, and what models of a whole video do along time: convolve, pool, normalise.

Nothing here knows of pads: the rows of an item are followed by those of the next one, and no operation looks across that border. So what
comes out for an item is what the item alone gives, at every layer and level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlm.errors import InputError
from vlm.ssm.packed import Packing, item_of_row

NORM_EPSILON = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows (m, d) of items, one item after the other; item i owns the rows ``[bounds[i], bounds[i + 1])``.

    Shapes:
        values: (m, d). bounds: (items + 1) int32, from 0 to m. item, place: (m) int64, whose row it is and its place there, from 0.
    """

    values: Tensor
    bounds: Tensor
    item: Tensor
    place: Tensor

    @classmethod
    def of(cls, values: Tensor, bounds: Tensor) -> Rows:
        """Rows (m, d) with the bounds of their items."""
        item = item_of_row(bounds, len(values)).long()
        return cls(values, bounds, item, torch.arange(len(values), device=values.device) - bounds[item])

    @classmethod
    def side_by_side(cls, items: Sequence[Tensor]) -> Rows:
        """The rows (n, d) of each of some items, one after the other."""
        lengths = torch.tensor([len(item) for item in items]).cumsum(dim=0)
        return cls.of(torch.cat(list(items)), torch.cat([lengths.new_zeros(1), lengths]).int().to(items[0].device))

    @property
    def lengths(self) -> Tensor:
        """How many rows each item has (items)."""
        return self.bounds.diff()

    def having(self, values: Tensor) -> Rows:
        """Other values (m, e) for the same rows."""
        return replace(self, values=values)

    def mixed(self, layer: nn.Module) -> Rows:
        """The rows after a layer of ``vlm.ssm.stack``."""
        mixed: Tensor = layer(self.values[None], cu_seqlens=self.bounds)
        return self.having(mixed[0])


def packed(frames: Tensor, mask: Tensor | None, dim: int) -> tuple[Rows, Packing]:
    """The real rows of a batch (b, t, d), and how to put what is made of them back.

    Args:
        mask: (b, t) bool, True for a row, anywhere in the item; None where all are.

    Raises:
        InputError: shapes do not agree, an item has no row, or a row is not finite.
    """
    if frames.ndim != 3 or frames.shape[2] != dim or 0 in frames.shape[:2]:
        raise InputError(f"frames must have the shape (b, t, {dim}) with at least one row, got {tuple(frames.shape)}")
    if mask is None:
        mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
    if mask.dtype != torch.bool or mask.shape != frames.shape[:2]:
        raise InputError(f"mask must be bool of the shape {tuple(frames.shape[:2])}, got {mask.dtype} {tuple(mask.shape)}")
    if not bool(mask.any(dim=1).all()):
        raise InputError(f"item {int((~mask.any(dim=1)).nonzero()[0, 0])} has no row: every item needs at least one")
    packing = Packing.of_mask(mask)
    rows = Rows.of(packing.pack(frames)[0], packing.cu_seqlens)
    if not bool(rows.values.isfinite().all()):
        item = int(rows.item[~rows.values.isfinite().all(dim=1)][0])
        raise InputError(f"frames must be finite, got NaN or infinity in item {item}; encode that video again")
    return rows, packing


class RowConv(nn.Module):
    """A convolution of width 3 along each item, zeros beyond its ends: one matrix product of a row and its two neighbours.

    The numbers are those of ``nn.Conv1d(inputs, outputs, 3, padding=dilation, dilation=dilation)``, as one matrix.

    Args:
        dilation: how many rows away the neighbours are.
    """

    def __init__(self, inputs: int, outputs: int, *, dilation: int = 1, bias: bool = True) -> None:
        super().__init__()
        if dilation < 1:
            raise InputError(f"dilation must be at least 1 row, got {dilation}")
        self.dilation = dilation
        self.linear = nn.Linear(3 * inputs, outputs, bias=bias)

    def forward(self, rows: Rows) -> Rows:
        """The rows (m, outputs)."""
        convolved: Tensor = self.linear(torch.cat([*_neighbours(rows, self.dilation, 0.0)], dim=1))
        return rows.having(convolved)


def pooled(rows: Rows) -> Rows:
    """Every second row of each item, the largest of itself and its neighbours: an item of n rows gives (n + 1) // 2."""
    before, here, after = _neighbours(rows, 1, -torch.inf)
    return every_second(rows.having(before.maximum(here).maximum(after)))


def every_second(rows: Rows) -> Rows:
    """The rows 0, 2, 4, ... of each item."""
    kept = rows.place % 2 == 0
    halves = ((rows.lengths + 1) // 2).cumsum(dim=0, dtype=torch.int32)
    bounds = torch.cat([halves.new_zeros(1), halves])
    return Rows(rows.values[kept], bounds, rows.item[kept], rows.place[kept] // 2)


def instance_normed(rows: Rows) -> Rows:
    """Each channel of each item with mean 0 and variance 1 over the item's rows, as ``nn.InstanceNorm1d`` gives for the item alone."""
    x = wide(rows.values)
    count = rows.lengths.to(x)[:, None]
    centred = x - (_sums(rows, x) / count)[rows.item]
    variance = _sums(rows, centred.square()) / count
    return rows.having((centred * (variance + NORM_EPSILON).rsqrt()[rows.item]).to(rows.values))


def spread_near(rows: Rows, reach: int) -> Tensor:
    """How much each channel varies around each row (m, d): the standard deviation over the rows of its item at most ``reach`` away."""
    x, one = wide(rows.values), rows.having(rows.values.new_ones(len(rows.values), 1))
    count, total = torch.ones_like(one.values), x
    # Around the row itself, so that nothing is lost where a channel is far from 0.
    squares = torch.zeros_like(x)
    for distance in range(1, reach + 1):
        (before, _, after), (is_before, _, is_after) = _neighbours(rows, distance, 0.0), _neighbours(one, distance, 0.0)
        for other, is_there in ((wide(before), is_before), (wide(after), is_after)):
            step = (other - x) * is_there
            count, total, squares = count + is_there, total + step + x * is_there, squares + step.square()
    middle = total / count - x  # the mean, from the row itself
    return (squares / count - middle.square()).clamp(min=0).sqrt().to(rows.values)


class Standardised(nn.Module):
    """Frame vectors with the mean and the spread of each channel taken out, as they were in what was trained on; at first the identity."""

    mean: Tensor
    spread: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(dim))

    def learn(self, vectors: Tensor) -> None:
        """Take mean and spread from vectors (n, d)."""
        if len(vectors) < 2:
            raise InputError(f"a spread needs at least 2 vectors, got {len(vectors)}")
        self.mean.copy_(vectors.double().mean(dim=0))
        self.spread.copy_(vectors.double().std(dim=0).clamp(min=1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """The vectors (m, d) standardised."""
        return (x - self.mean) / self.spread


class WithSpread(nn.Module):
    """Frame vectors (m, d) standardised, and beside them how each channel varies nearby, standardised too: (m, 2 d).

    Vectors of single pictures hold all that is on screen; what moves is where they differ, and that no linear map of them tells.

    Args:
        reach: rows on each side. 0 leaves the vectors alone, (m, d).
    """

    def __init__(self, dim: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.vectors = Standardised(dim)
        self.spreads = Standardised(dim if reach else 0)

    @property
    def dim(self) -> int:
        """Numbers of a row that comes out."""
        return len(self.vectors.mean) + len(self.spreads.mean)

    def learn(self, videos: Sequence[Tensor]) -> None:
        """Take means and spreads from the vectors (n, d) of each of some videos."""
        rows = Rows.side_by_side(videos)
        self.vectors.learn(rows.values)
        if self.reach:
            self.spreads.learn(spread_near(rows, self.reach))

    def forward(self, rows: Rows) -> Rows:
        """The rows (m, 2 d)."""
        seen = self.vectors(rows.values)
        return rows.having(torch.cat([seen, self.spreads(spread_near(rows, self.reach))], dim=1) if self.reach else seen)


class ConvTower(nn.Module):
    """Convolutions of width 3 along each item, each with a normalisation of every row and a ReLU after it.

    Args:
        inputs, width: of the first one's rows, and of all that come out. num_layers: 0 gives rows as they are.
    """

    def __init__(self, inputs: int, width: int, num_layers: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([RowConv(width if layer else inputs, width, bias=False) for layer in range(num_layers)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(num_layers)])

    def forward(self, rows: Rows) -> Rows:
        """The rows (m, width)."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            rows = conv(rows)
            rows = rows.having(functional.relu(norm(rows.values)))
        return rows


def wide(x: Tensor) -> Tensor:
    """``x`` in at least float32, in which losses are taken."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def stretch_middles(times: Sequence[float] | Tensor, end: float) -> Tensor:
    """The middle (t) in seconds of the stretch that each row of one item stands for: until the next row, the last until ``end``."""
    starts = torch.as_tensor(times, dtype=torch.float64)
    ends = torch.cat([starts[1:], starts.new_tensor([end])])
    return (starts + ends.maximum(starts)) / 2


def _neighbours(rows: Rows, distance: int, beyond: float) -> tuple[Tensor, Tensor, Tensor]:
    """The rows ``distance`` before, here, and after, each (m, d); ``beyond`` where the item has none."""
    x, m = rows.values, len(rows.values)
    behind = rows.lengths[rows.item] - 1 - rows.place  # how many rows follow in the item
    filler = x.new_full((min(distance, m), x.shape[1]), beyond)
    before = torch.cat([filler, x[: max(0, m - distance)]])
    after = torch.cat([x[distance:], filler])
    return (
        before.masked_fill((rows.place < distance)[:, None], beyond),
        x,
        after.masked_fill((behind < distance)[:, None], beyond),
    )


def _sums(rows: Rows, x: Tensor) -> Tensor:
    """The sum (items, d) of each item's rows."""
    return x.new_zeros(len(rows.bounds) - 1, x.shape[1]).index_add(0, rows.item, x)
