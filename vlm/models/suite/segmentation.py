"""ASMamba: the action that each frame of a video shows, from all of its frame vectors at once.

After ASFormer (Yi et al. 2021, arXiv 2110.08568) with the blocks of Video Mamba Suite (arXiv 2403.09626): layers of a dilated convolution,
a normalisation over time and a block; then decoders that look at what the stage before said. What differs from the released code, and why,
is in docs/suite.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from torch import Tensor, nn
from torch.nn import functional as F

from vlm.errors import InputError
from vlm.models.suite.checks import check_at_least, check_classes, check_positive
from vlm.models.suite.folder import SavedModel
from vlm.models.suite.front import Front, FrontConfig, fronted
from vlm.models.suite.rows import ConvTower, RowConv, Rows, Standardised, instance_normed, packed, wide
from vlm.ssm.local_attention import local_attention
from vlm.ssm.stack import MixerConfig, MixerName, check_word


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationConfig:
    """An ASMamba and the encoder that it was made for.

    Attributes:
        encoder, fingerprint, dim: of the encoder whose vectors come in; no other's can be used.
        classes: names of the labels, in the order of their numbers. background: which of them are no action.
        frames_per_second: of the rows.
        front: the tracks of a trained model, through which rows pass first; see FrontConfig. None takes them as they are.
        width: of the tokens. mixer: what carries information along time; ``attention`` of layer i sees ``2^i`` rows on each side.
        embed_layers: convolutions of width 3 before all; 0 is none, as in the paper, whose vectors know of motion.
        num_layers: of the encoder and of each decoder; layer i looks ``2^i`` rows away. num_decoders: 0 is the encoder alone.
        d_state, expand: of mamba, vim and dbm. num_heads: of attention.
        channel_dropout: share of the encoder's channels that training hides in a whole video.
    """

    encoder: str
    fingerprint: str
    dim: int
    classes: tuple[str, ...]
    background: tuple[str, ...] = ()
    frames_per_second: float = 2.0
    front: FrontConfig | None = None
    width: int = 64
    mixer: MixerName = "dbm"
    embed_layers: int = 0
    num_layers: int = 8
    num_decoders: int = 0
    d_state: int = 16
    expand: float | None = None
    num_heads: int = 1
    channel_dropout: float = 0.3

    def __post_init__(self) -> None:
        object.__setattr__(self, "front", FrontConfig.read(self.front))
        check_word("mixer", self.mixer, get_args(MixerName))
        check_classes(self.classes, least=2)
        if not set(self.background) <= set(self.classes):
            raise InputError(f"background {list(self.background)} must be among the classes {list(self.classes)}")
        check_at_least(self, 1, "dim", "width", "num_layers", "num_heads")
        check_at_least(self, 0, "embed_layers", "num_decoders")
        check_positive(self, "frames_per_second")
        if not 0 <= self.channel_dropout < 1:
            raise InputError(f"channel_dropout must be in [0, 1), got {self.channel_dropout:g}")

    @property
    def seen_dim(self) -> int:
        """Numbers of a row behind the front."""
        return self.dim if self.front is None else self.front.dim

    def mixer_of(self, number: int) -> nn.Module:
        """The mixer of layer ``number``, from 0."""
        window = 2**number if self.mixer == "attention" else None
        config = MixerConfig(self.mixer, self.width, d_state=self.d_state, expand=self.expand, num_heads=self.num_heads, window=window)
        return config.build()


class ASMamba(SavedModel):
    """Frame vectors to a label a frame; what comes out for an item is what the item alone gives."""

    kind = "segmentation"
    config_type = SegmentationConfig
    config: SegmentationConfig

    def __init__(self, config: SegmentationConfig) -> None:
        super().__init__(config)
        width, classes = config.width, len(config.classes)
        self.front = Front(config.front, config.dim) if config.front else None
        self.standardise = Standardised(config.seen_dim)
        self.embed = ConvTower(config.seen_dim, width, config.embed_layers)
        self.enter = nn.Linear(width if config.embed_layers else config.seen_dim, width)
        self.layers = nn.ModuleList([_EncoderLayer(width, config.mixer_of(i), dilation=2**i) for i in range(config.num_layers)])
        self.last_norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, classes)
        self.decoders = nn.ModuleList([_Decoder(config, math.exp(-3.0 * number)) for number in range(config.num_decoders)])

    def forward(self, frames: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Logits (b, t, classes) of every stage, the last one last; zeros at pads.

        Args:
            frames: (b, t, dim) vectors of the encoder at ``frames_per_second``. mask: (b, t) bool, True for a row; None where all are.

        Raises:
            InputError: shapes do not agree, an item has no row, or a row is not finite.
        """
        rows, packing = packed(frames, mask, self.config.dim)
        return [packing.unpack(stage[None]) for stage in self.stages(rows)]

    def stages(self, rows: Rows) -> list[Tensor]:
        """Logits (m, classes) of every stage for rows that are all real."""
        rows = fronted(self.front, rows)
        seen = self.standardise(rows.values)
        if self.training and self.config.channel_dropout:
            kept = seen.new_empty(len(rows.bounds) - 1, seen.shape[1]).bernoulli_(1 - self.config.channel_dropout)
            seen = seen * kept[rows.item] / (1 - self.config.channel_dropout)
        embedded = self.embed(rows.having(seen))
        held = rows.having(self.enter(embedded.values))
        for layer in self.layers:
            held = layer(held)
        said = [wide(self.leave(self.last_norm(held.values)))]
        for decoder in self.decoders:
            held, logits = decoder(rows.having(said[-1].softmax(dim=1)), held)
            said.append(logits)
        return said


class _EncoderLayer(nn.Module):
    """``x + linear(c + mixer(time_norm(c)))`` with c the dilated convolution of ``norm(x)``, after a ReLU."""

    def __init__(self, width: int, mixer: nn.Module, *, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = RowConv(width, width, dilation=dilation)
        self.mixer = mixer
        self.linear = nn.Linear(width, width)

    def forward(self, rows: Rows) -> Rows:
        convolved = self.conv(rows.having(self.norm(rows.values)))
        convolved = convolved.having(F.relu(convolved.values))
        mixed = instance_normed(convolved).mixed(self.mixer)
        return rows.having(rows.values + self.linear(convolved.values + mixed.values))


class _DecoderLayer(nn.Module):
    """As the encoder's, but by attention: where a row looks is told by labels of the stage before, what it takes by that stage's rows."""

    def __init__(self, width: int, *, reach: int, share: float) -> None:
        super().__init__()
        self.reach, self.share = reach, share
        self.norm = nn.LayerNorm(width)
        self.conv = RowConv(width, width, dilation=reach)
        self.look = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width // 2, bias=False)
        self.take = nn.Linear(width // 2, width)
        self.linear = nn.Linear(width, width)

    def forward(self, rows: Rows, held: Rows) -> Rows:
        convolved = self.conv(rows.having(self.norm(rows.values)))
        convolved = convolved.having(F.relu(convolved.values))
        queries, keys = self.look(instance_normed(convolved).values).chunk(2, dim=1)
        taken = local_attention(queries[None], keys[None], self.value(held.values)[None], rows.item, window=self.reach)[0]
        return rows.having(rows.values + self.linear(convolved.values + self.share * self.take(F.relu(taken))))


class _Decoder(nn.Module):
    """The labels of the stage before, looked at again."""

    def __init__(self, config: SegmentationConfig, share: float) -> None:
        super().__init__()
        width, classes = config.width, len(config.classes)
        self.enter = nn.Linear(classes, width)
        self.layers = nn.ModuleList([_DecoderLayer(width, reach=2**i, share=share) for i in range(config.num_layers)])
        self.last_norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, classes)

    def forward(self, said: Rows, held: Rows) -> tuple[Rows, Tensor]:
        """The rows (m, width) after this stage, and its logits (m, classes)."""
        rows = said.having(self.enter(said.values))
        for layer in self.layers:
            rows = layer(rows, held)
        return rows, wide(self.leave(self.last_norm(rows.values)))
