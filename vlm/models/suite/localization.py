"""ActionMamba: which actions take place in a video and from when to when, found in one pass over its frame vectors.

After ActionFormer (Zhang et al. 2022, arXiv 2202.07925) with the blocks of Video Mamba Suite (arXiv 2403.09626): two convolutions, stem
blocks, then blocks that are each followed by a pooling to every second row. Every row of every level proposes one stretch for each class.
What differs from the released code, and why, is in docs/suite.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.models.suite.checks import check_at_least, check_classes, check_positive
from vlm.models.suite.folder import SavedModel
from vlm.models.suite.front import Front, FrontConfig, fronted
from vlm.models.suite.rows import ConvTower, RowConv, Rows, Standardised, packed, pooled, stretch_middles, wide
from vlm.ssm.stack import Layer, MixerConfig, MixerName, check_word

# How probable every class is at every row before anything is learnt: most rows show nothing (Lin et al. 2017, arXiv 1708.02002).
PRIOR = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalizationConfig:
    """An ActionMamba and the encoder that it was made for.

    Attributes:
        encoder, fingerprint, dim: of the encoder whose vectors come in; no other's can be used.
        classes: names of the actions.
        frames_per_second: of the rows.
        front: the tracks of a trained model, through which rows pass first; see FrontConfig. None takes them as they are.
        width: of the tokens. mixer: what carries information along time; ``attention`` sees ``window`` rows on each side.
        embed_layers, stem_layers, branch_layers, head_layers: convolutions at the door, blocks at full rate, blocks with a pooling after
            each, and convolutions before the last one of each head. There are ``branch_layers + 1`` levels.
        first_range: rows; level l answers for actions whose farther end is ``first_range * (2^(l-1), 2^l]`` rows away, the first from 0 on,
            the last without limit.
        d_state, expand: of mamba, vim and dbm. num_heads, window, ffn_expand: of attention, which has a feed-forward of that width.
    """

    encoder: str
    fingerprint: str
    dim: int
    classes: tuple[str, ...]
    frames_per_second: float = 2.0
    front: FrontConfig | None = None
    width: int = 128
    mixer: MixerName = "dbm"
    embed_layers: int = 2
    stem_layers: int = 2
    branch_layers: int = 5
    head_layers: int = 2
    first_range: float = 4.0
    d_state: int = 16
    expand: float | None = None
    num_heads: int = 4
    window: int = 9
    ffn_expand: float | None = None
    dropout: float = 0.0
    drop_path: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "front", FrontConfig.read(self.front))
        check_word("mixer", self.mixer, get_args(MixerName))
        check_classes(self.classes, least=1)
        check_at_least(self, 1, "dim", "width", "num_heads", "window", "embed_layers")
        check_at_least(self, 0, "stem_layers", "branch_layers", "head_layers")
        check_positive(self, "frames_per_second", "first_range")

    @property
    def seen_dim(self) -> int:
        """Numbers of a row behind the front."""
        return self.dim if self.front is None else self.front.dim

    @property
    def num_levels(self) -> int:
        """Levels of the pyramid."""
        return self.branch_layers + 1

    def layer(self, number: int) -> Layer:
        """Block ``number`` of all, from 0; drop path rises evenly."""
        is_attention = self.mixer == "attention"
        mixer = MixerConfig(
            self.mixer,
            self.width,
            d_state=self.d_state,
            expand=self.expand,
            num_heads=self.num_heads,
            window=self.window if is_attention else None,
        )
        share = number / max(1, self.stem_layers + self.branch_layers - 1)
        return Layer(
            self.width,
            mixer.build(),
            dropout=self.dropout,
            drop_path=self.drop_path * share,
            ffn_expand=self.ffn_expand if is_attention else None,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """The rows of all levels of some items: level by level, within a level item by item.

    Shapes:
        item, level: (n) int64. centres: (n) float64 seconds. stride: (n) float64 seconds from one row of the level to the next.
    """

    item: Tensor
    level: Tensor
    centres: Tensor
    stride: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """What each point proposes: logits (n, classes), and offsets (n, 2) back to the start and on to the end, in strides, above 0."""

    logits: Tensor
    offsets: Tensor

    def bounds(self, points: Points) -> Tensor:
        """Start and end (n, 2) float64 seconds, not yet cut at the ends of the video."""
        seconds = self.offsets.double() * points.stride[:, None]
        return torch.stack([points.centres - seconds[:, 0], points.centres + seconds[:, 1]], dim=1)


class ActionMamba(SavedModel):
    """Frame vectors to proposals at several levels of time; what comes out for an item is what the item alone gives."""

    kind = "localization"
    config_type = LocalizationConfig
    config: LocalizationConfig

    def __init__(self, config: LocalizationConfig) -> None:
        super().__init__(config)
        width = config.width
        self.front = Front(config.front, config.dim) if config.front else None
        self.standardise = Standardised(config.seen_dim)
        self.embed = ConvTower(config.seen_dim, width, config.embed_layers)
        self.stem = nn.ModuleList([config.layer(number) for number in range(config.stem_layers)])
        self.branch = nn.ModuleList([config.layer(config.stem_layers + number) for number in range(config.branch_layers)])
        self.level_norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(config.num_levels)])
        self.classify = _Head(width, len(config.classes), config.head_layers)
        self.regress = _Head(width, 2, config.head_layers)
        self.scales = nn.Parameter(torch.ones(config.num_levels))
        assert self.classify.last.linear.bias is not None
        nn.init.constant_(self.classify.last.linear.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, frames: Tensor, mask: Tensor | None = None) -> Proposals:
        """Proposals of the points of ``points_of``.

        Args:
            frames: (b, t, dim) vectors of the encoder at ``frames_per_second``. mask: (b, t) bool, True for a row; None where all are.

        Raises:
            InputError: shapes do not agree, an item has no row, or a row is not finite.
        """
        rows, _ = packed(frames, mask, self.config.dim)
        rows = fronted(self.front, rows)
        rows = self.embed(rows.having(self.standardise(rows.values)))
        for layer in self.stem:
            rows = rows.mixed(layer)
        levels = [rows]
        for layer in self.branch:
            levels.append(pooled(levels[-1].mixed(layer)))
        logits, offsets = [], []
        for rows, norm, scale in zip(levels, self.level_norms, self.scales, strict=True):
            seen = rows.having(norm(rows.values))
            logits.append(wide(self.classify(seen)))
            # softplus, not the released ReLU: a row that proposes nothing still learns.
            offsets.append(F.softplus(scale * wide(self.regress(seen))))
        return Proposals(torch.cat(logits), torch.cat(offsets))

    def points(self, lengths: Tensor, times: Tensor, durations: Tensor) -> Points:
        """The points that ``forward`` makes proposals for; see ``points_of``."""
        return points_of(lengths, times, durations, levels=self.config.num_levels, frames_per_second=self.config.frames_per_second)


def points_of(lengths: Tensor, times: Tensor, durations: Tensor, *, levels: int, frames_per_second: float) -> Points:
    """The points of items at all levels. Row j of level l stands where row ``j * 2^l`` of the item does: in the middle of its stretch.

    Args:
        lengths: (b) int64, the rows of each item. times: (m) float64 seconds of all rows, item after item. durations: (b) seconds.
    """
    parts = torch.split(times, [int(length) for length in lengths])
    middles = [stretch_middles(part, float(end)) for part, end in zip(parts, durations, strict=True)]
    item, level, centres = [], [], []
    for number in range(levels):
        kept = [middle[:: 2**number] for middle in middles]
        centres += kept
        item += [torch.full((len(middle),), place) for place, middle in enumerate(kept)]
        level += [torch.full((sum(map(len, kept)),), number)]
    levels_of = torch.cat(level)
    return Points(torch.cat(item), levels_of, torch.cat(centres), 2.0 ** levels_of.double() / frames_per_second)


class _Head(nn.Module):
    """Convolutions along time, the same for all levels."""

    def __init__(self, width: int, outputs: int, num_layers: int) -> None:
        super().__init__()
        self.tower = ConvTower(width, width, num_layers)
        self.last = RowConv(width, outputs)

    def forward(self, rows: Rows) -> Tensor:
        """Outputs (m, outputs)."""
        found: Rows = self.last(self.tower(rows))
        return found.values
