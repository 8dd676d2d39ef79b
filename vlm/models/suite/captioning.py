"""PDVC-Mamba: the events of a video, from when to when each is, and what happens in it in words, in one pass over its frame vectors.

After PDVC (Wang et al. 2021, arXiv 2108.07781) with the blocks of Video Mamba Suite (arXiv 2403.09626): an encoder over several levels of
time as one sequence, event queries with deformable attention (events.py), a count of events, and a causal Mamba that tells each event
(teller.py). Where the stretches are given, only the telling is left: paragraph captioning. What differs from the released code, and why, is
in docs/suite.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from vlm.encoders.pocket_text import PocketTokenizer
from vlm.errors import InputError
from vlm.models.adapter import TimeEmbedding
from vlm.models.suite.checks import check_at_least, check_positive
from vlm.models.suite.deformable import DeformableAttention
from vlm.models.suite.events import LONGEST_PERIOD, EventDecoder, Places, Proposed, evenly
from vlm.models.suite.folder import SavedModel
from vlm.models.suite.front import Front, FrontConfig, fronted
from vlm.models.suite.levels import Levels, Pyramid
from vlm.models.suite.rows import ConvTower, Rows, WithSpread, packed
from vlm.models.suite.teller import EventTeller
from vlm.ssm.stack import Layer, MixerConfig, MixerName, check_word

# Whether a model finds the stretches that it tells of.
Segments = Literal["found", "given"]
# What of a video a model sees: nothing of its frames is the baseline that tells what is usual.
Sight = Literal["all", "none"]
# A stretch is looked at with so much of its length before and behind it.
AROUND = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptioningConfig:
    """A PDVC-Mamba and the encoder that it was made for.

    Attributes:
        encoder, fingerprint, dim: of the encoder whose vectors come in; no other's can be used.
        vocabulary: the tokens of its sentences (``pocket_text.build_vocabulary``).
        segments: ``found`` or ``given``. sight: ``all`` or ``none``, see Sight.
        frames_per_second: of the rows.
        front: the tracks of a trained model, through which rows pass first; see FrontConfig. None takes them as they are.
        width: of the tokens. mixer: what carries information along time in the encoder; ``attention`` is deformable attention, as in PDVC.
        spread_rows: how many rows on each side tell how a channel varies around a row (WithSpread); 0 is none.
        embed_layers, num_levels, encoder_layers: convolutions at the door, levels of time, blocks over all of them as one sequence.
        decoder_layers: of the queries. query_rows: a query stands every so many rows, at first for a stretch of ``first_rows``.
            query_window: how many queries on each side a query sees.
        num_heads, num_points: of all deformable attention; points of each head and level. ffn_expand: of its layers.
        d_state, expand: of mamba, vim and dbm.
        caption_rows, caption_layers, most_words: places of an event that its sentence is told from, layers of the causal Mamba that tells
            it, and the most tokens of a sentence.
        shake: by how much of its length each end of a stretch is moved at most, while sentences are learnt from true ones.
    """

    encoder: str
    fingerprint: str
    dim: int
    vocabulary: tuple[str, ...]
    segments: Segments = "found"
    sight: Sight = "all"
    frames_per_second: float = 2.0
    front: FrontConfig | None = None
    width: int = 128
    mixer: MixerName = "dbm"
    spread_rows: int = 3
    embed_layers: int = 2
    num_levels: int = 4
    encoder_layers: int = 2
    decoder_layers: int = 2
    query_rows: int = 4
    first_rows: float = 8.0
    query_window: int = 8
    num_heads: int = 4
    num_points: int = 4
    ffn_expand: float = 2.0
    d_state: int = 16
    expand: float | None = None
    caption_rows: int = 12
    caption_layers: int = 2
    most_words: int = 40
    shake: float = 0.1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "front", FrontConfig.read(self.front))
        check_word("mixer", self.mixer, get_args(MixerName))
        check_word("segments", self.segments, get_args(Segments))
        check_word("sight", self.sight, get_args(Sight))
        check_at_least(
            self, 1, "dim", "width", "embed_layers", "num_levels", "encoder_layers", "decoder_layers", "query_rows", "query_window"
        )
        check_at_least(self, 1, "num_heads", "num_points", "caption_rows", "caption_layers", "most_words")
        check_at_least(self, 0, "spread_rows", "shake")
        check_positive(self, "frames_per_second", "first_rows", "ffn_expand")

    @property
    def seen_dim(self) -> int:
        """Numbers of a row behind the front."""
        return self.dim if self.front is None else self.front.dim

    def layer(self) -> nn.Module:
        """A layer of the encoder: levels in, levels out."""
        if self.mixer == "attention":
            return _DeformableLayer(self)
        mixer = MixerConfig(self.mixer, self.width, d_state=self.d_state, expand=self.expand)
        return _MixedLayer(Layer(self.width, mixer.build(), dropout=self.dropout))


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What was made of a batch of videos.

    Attributes:
        held: their rows after the encoder. item: (n) int64, whose each query is. queries: (n, width) after the last layer.
        proposed: of each layer; none where stretches are given. expected: (b) how many events there are; None where stretches are given.
    """

    held: Levels
    item: Tensor
    queries: Tensor
    proposed: list[Proposed]
    expected: Tensor | None


class EventCaptioner(SavedModel):
    """Frame vectors to events with sentences; what comes out for an item is what the item alone gives."""

    kind = "captioning"
    config_type = CaptioningConfig
    config: CaptioningConfig

    def __init__(self, config: CaptioningConfig) -> None:
        super().__init__(config)
        width = config.width
        self.tokenizer = PocketTokenizer(config.vocabulary, context=config.most_words + 2)
        self.front = Front(config.front, config.dim) if config.front else None
        self.enter = WithSpread(config.seen_dim, config.spread_rows)
        self.embed = ConvTower(self.enter.dim, width, config.embed_layers)
        self.time = TimeEmbedding(width, longest=LONGEST_PERIOD)
        self.pyramid = Pyramid(width, config.num_levels)
        self.position = nn.Parameter(torch.zeros(config.num_levels, width))
        self.encoder = nn.ModuleList([config.layer() for _ in range(config.encoder_layers)])
        self.encoder_norm = nn.LayerNorm(width)
        self.decoder = EventDecoder(
            width,
            num_layers=config.decoder_layers,
            num_heads=config.num_heads,
            num_levels=config.num_levels,
            num_points=config.num_points,
            window=config.query_window,
            ffn_expand=config.ffn_expand,
            dropout=config.dropout,
            frames_per_second=config.frames_per_second,
            finds=config.segments == "found",
        )
        self.within = nn.Parameter(torch.zeros(config.caption_rows, width))
        self.teller = EventTeller(
            width,
            vocabulary_size=self.tokenizer.vocabulary_size,
            start=self.tokenizer.start,
            end=self.tokenizer.end,
            num_layers=config.caption_layers,
            num_heads=config.num_heads,
            d_state=config.d_state,
            dropout=config.dropout,
        )
        nn.init.normal_(self.position, std=0.02)
        nn.init.normal_(self.within, std=0.02)

    def forward(self, frames: Tensor, mask: Tensor | None = None, *, given: Places | None = None) -> Seen:
        """What is seen of videos.

        Args:
            frames: (b, t, dim) vectors of the encoder at ``frames_per_second``. mask: (b, t) bool, True for a row; None where all are.
            given: the stretches to tell of, which a model of given segments needs, and no other takes.

        Raises:
            InputError: shapes do not agree, an item has no row, a row is not finite, or stretches are missing or too many.
        """
        if (given is None) != (self.config.segments == "found"):
            asked = "finds its stretches and takes none" if given is not None else "tells of stretches that are given: name them"
            raise InputError(f"this model {asked}")
        rows, _ = packed(frames, mask, self.config.dim)
        held = self.encode(rows)
        places = given if given is not None else evenly(held, every=self.config.query_rows, length=self.config.first_rows)
        queries, proposed = self.decoder(held, places)
        return Seen(held, places.item, queries, proposed, None if given is not None else self.decoder.expected(queries, places))

    def encode(self, rows: Rows) -> Levels:
        """The rows (m, dim) at all levels, mixed (., width)."""
        seen = self.enter(fronted(self.front, rows))
        if self.config.sight == "none":
            seen = seen.having(torch.zeros_like(seen.values))
        rows = self.embed(seen)
        held = Levels.of(self.pyramid(rows))
        where = self.time(held.middles / self.config.frames_per_second) + self.position[held.level]
        held = held.having(held.values + where)
        for layer in self.encoder:
            held = layer(held)
        return held.having(self.encoder_norm(held.values))

    def told_from(self, held: Levels, item: Tensor, stretches: Tensor) -> Tensor:
        """The rows (n, caption_rows, width) that sentences of stretches (n, 2), starts and ends in rows, of items (n) are told from."""
        start, end = stretches.float().unbind(dim=1)
        more = AROUND * (end - start)
        along = (torch.arange(self.config.caption_rows, device=start.device) + 0.5) / self.config.caption_rows
        places = (start - more)[:, None] + (end - start + 2 * more)[:, None] * along
        return held.at(item, places) + self.within

    def knows(self) -> str:
        """Which stretches it tells of, and how many words it has."""
        stretches = "It finds the events of a video" if self.config.segments == "found" else "It needs stretches of a video"
        blind = " It sees no frames: a baseline." if self.config.sight == "none" else ""
        return f"{stretches} and tells each in a sentence of {len(self.config.vocabulary):,} words and pieces of words.{blind}"


class _MixedLayer(nn.Module):
    """A layer of ``vlm.ssm.stack`` over all levels of an item as one sequence."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, held: Levels) -> Levels:
        return held.mixed(self.layer)


class _DeformableLayer(nn.Module):
    """A layer of PDVC's encoder: every row looks at a few places of all levels around its own, then a feed-forward."""

    def __init__(self, config: CaptioningConfig) -> None:
        super().__init__()
        width, hidden = config.width, int(config.ffn_expand * config.width)
        self.norm, self.ffn_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.look = DeformableAttention(width, num_heads=config.num_heads, num_levels=config.num_levels, num_points=config.num_points)
        self.ffn = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(config.dropout)
        self.reach = config.num_points / 2

    def forward(self, held: Levels) -> Levels:
        x = held.values
        reach = self.reach * 2.0**held.level
        x = x + self.dropout(self.look(self.norm(x), held.item, held.middles, reach, held.having(self.norm(x))))
        return held.having(x + self.dropout(self.ffn(self.ffn_norm(x))))
