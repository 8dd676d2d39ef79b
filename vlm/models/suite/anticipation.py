"""What is about to be done in a video, told from the frames so far: a causal Mamba over a work memory, and learned queries after it.

After the anticipation model of Video Mamba Suite (arXiv 2403.09626), which puts causal Mamba in the place of TeSTra's attention (Zhao and
Krähenbühl 2022, arXiv 2209.09236). Frames come one by one: ``step`` takes the next one, keeps what the blocks carry and nothing that grows,
and tells what ``forward`` tells of all frames so far. What differs from the released code, and why, is in docs/suite.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor, nn

from vlm.data.action_names import verb_and_noun
from vlm.errors import InputError
from vlm.models.adapter import TimeEmbedding
from vlm.models.suite.checks import check_at_least, check_classes, check_positive
from vlm.models.suite.folder import SavedModel
from vlm.models.suite.front import Front, FrontConfig, fronted
from vlm.models.suite.rows import Rows, Standardised, packed, wide
from vlm.ssm.stack import MixerConfig, MixerName, StackConfig, StackState, check_word


@dataclass(frozen=True, slots=True, kw_only=True)
class AnticipationConfig:
    """An Anticipator and the encoder that it was made for.

    Attributes:
        encoder, fingerprint, dim: of the encoder whose vectors come in; no other's can be used.
        classes: names of the actions (``vlm.data.action_names``); the verbs and nouns in them are classes of their own.
        horizons: seconds. For each one it is told what begins so long after the last frame, if anything does.
        frames_per_second: of the rows.
        front: the tracks of a trained model, through which the rows of the memory pass first; see FrontConfig. None takes them as they are.
        width: of the tokens. mixer: what carries information along time; ``vim`` and ``dbm`` look both ways within the memory.
        memory_seconds: M of the work memory, which holds the last M to 2 M seconds; None is all that came before.
        num_layers: blocks.
        d_state, expand: of mamba, vim and dbm. num_heads, ffn_expand: of attention, which has a feed-forward of that width.
        dropout, drop_path: of the blocks; before the heads ``dropout`` too.
    """

    encoder: str
    fingerprint: str
    dim: int
    classes: tuple[str, ...]
    horizons: tuple[float, ...] = (1.0,)
    frames_per_second: float = 2.0
    front: FrontConfig | None = None
    width: int = 128
    mixer: MixerName = "mamba"
    memory_seconds: float | None = 5.0
    num_layers: int = 3
    d_state: int = 16
    expand: float | None = None
    num_heads: int = 4
    ffn_expand: float | None = None
    dropout: float = 0.1
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "front", FrontConfig.read(self.front))
        check_word("mixer", self.mixer, get_args(MixerName))
        check_classes(self.classes, least=2)
        for name in self.classes:
            verb_and_noun(name)
        if not self.horizons or list(self.horizons) != sorted(set(self.horizons)) or not self.horizons[0] > 0:
            raise InputError(f"horizons must be seconds above 0 that rise, at least one, got {list(self.horizons)}")
        check_at_least(self, 1, "dim", "width", "num_layers", "num_heads")
        check_positive(self, "frames_per_second", *(["memory_seconds"] if self.memory_seconds is not None else []))

    @property
    def seen_dim(self) -> int:
        """Numbers of a row behind the front."""
        return self.dim if self.front is None else self.front.dim

    @property
    def carries(self) -> bool:
        """Whether a stream carries states along, and needs no rows of before: a front looks both ways within the memory."""
        return self.mixer == "mamba" and self.front is None

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs of the classes, in order of appearance."""
        return tuple(dict.fromkeys(verb_and_noun(name)[0] for name in self.classes))

    @property
    def nouns(self) -> tuple[str, ...]:
        """The nouns of the classes, in order of appearance."""
        return tuple(dict.fromkeys(verb_and_noun(name)[1] for name in self.classes))

    @property
    def memory_rows(self) -> int | None:
        """M in rows."""
        return None if self.memory_seconds is None else max(1, round(self.memory_seconds * self.frames_per_second))

    def memory_starts(self, rows: Tensor) -> Tensor:
        """The first row (n) that is in memory when ``rows`` (n) are the last ones: the start of the block of M rows before theirs."""
        if self.memory_rows is None:
            return torch.zeros_like(rows)
        return ((rows // self.memory_rows - 1) * self.memory_rows).clamp(min=0)

    def stack(self) -> StackConfig:
        """Its blocks."""
        is_attention = self.mixer == "attention"
        mixer = MixerConfig(self.mixer, self.width, d_state=self.d_state, expand=self.expand, causal=is_attention, num_heads=self.num_heads)
        ffn_expand = self.ffn_expand if is_attention else None
        return StackConfig(mixer, self.num_layers, dropout=self.dropout, drop_path=self.drop_path, ffn_expand=ffn_expand)


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """What begins after n moments, by horizon h, as logits: verbs (n, h, v), nouns (n, h, o), actions (n, h, classes)."""

    verbs: Tensor
    nouns: Tensor
    actions: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """What is kept of b streams since a row, and of nothing before it.

    Attributes:
        count: rows. total: (b, dim) their sum. last: (b, dim) the last one; None before the first.
        states: what the blocks of ``mamba`` carry.
        rows: (b, n, dim) the rows themselves, where nothing is carried (``config.carries``) and they are looked at anew; at most 2 M.
    """

    count: int
    total: Tensor
    last: Tensor | None
    states: StackState | None
    rows: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class StreamState:
    """Where streams are: how many rows were seen, the work memory, and the memory that will follow it, which is M rows younger."""

    seen: int
    older: Memory
    newer: Memory


class Anticipator(SavedModel):
    """Frame vectors to what begins soon; what comes out for an item is what the item alone gives."""

    kind = "anticipation"
    config_type = AnticipationConfig
    config: AnticipationConfig
    verb_of: Tensor
    noun_of: Tensor

    def __init__(self, config: AnticipationConfig) -> None:
        super().__init__(config)
        width, verbs, nouns = config.width, config.verbs, config.nouns
        self.front = Front(config.front, config.dim) if config.front else None
        self.standardise = Standardised(config.seen_dim)
        # What moves is told by how a row differs from the one before: little against all that it shows, so that it has its own scale.
        self.standardise_changes = Standardised(config.seen_dim)
        self.enter = nn.Sequential(nn.Linear(3 * config.seen_dim, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width))
        # Attention alone does not know the order of what it sees.
        self.age = TimeEmbedding(width) if config.mixer == "attention" else None
        self.queries = nn.Parameter(torch.empty(len(config.horizons), width))
        self.stack = config.stack().build()
        self.dropout = nn.Dropout(config.dropout)
        self.verb = nn.Linear(width, len(verbs))
        self.noun = nn.Linear(width, len(nouns))
        self.action = nn.Linear(width, len(config.classes))
        # What goes on in a row: the verb, the noun of who does it, the noun of whom it is done to; in each the first is none.
        self.present = nn.ModuleList([nn.Linear(width, 1 + count) for count in (len(verbs), len(nouns), len(nouns))])
        pairs = [verb_and_noun(name) for name in config.classes]
        self.register_buffer("verb_of", torch.tensor([verbs.index(verb) for verb, _ in pairs]), persistent=False)
        self.register_buffer("noun_of", torch.tensor([nouns.index(noun) for _, noun in pairs]), persistent=False)
        nn.init.trunc_normal_(self.queries, std=0.02)
        # At first an action is as likely as its verb and its noun are.
        nn.init.zeros_(self.action.weight)
        nn.init.zeros_(self.action.bias)

    def forward(self, frames: Tensor, mask: Tensor | None = None) -> Outlook:
        """What begins after the last row of each of b items.

        Args:
            frames: (b, t, dim) vectors of the encoder at ``frames_per_second``. mask: (b, t) bool, True for a row; None where all are.

        Raises:
            InputError: shapes do not agree, an item has no row, or a row is not finite.
        """
        rows, _ = packed(frames, mask, self.config.dim)
        return self.after(rows, torch.arange(len(rows.lengths), device=frames.device), rows.lengths.long() - 1)[0]

    def after(self, rows: Rows, item: Tensor, last: Tensor) -> tuple[Outlook, Rows, Tensor]:
        """What begins after n moments, each told from the rows in memory at it.

        Args:
            rows: packed vectors of the encoder. item, last: (n) int64, whose each moment is, and the place of its last row, from 0.

        Returns:
            The outlooks; what the blocks made of the rows in memory (m, width), moment after moment; and which of ``rows`` (m) they are.
        """
        first = self.config.memory_starts(last)
        bounds = torch.cat([last.new_zeros(1), (last + 1 - first).cumsum(dim=0)])
        held = Rows.of(rows.values.new_empty(int(bounds[-1]), 0), bounds)
        source = rows.bounds.long()[item[held.item]] + first[held.item] + held.place
        outlook, mixed = self._after(held.having(rows.values[source]))
        return outlook, mixed, source

    def _after(self, held: Rows) -> tuple[Outlook, Rows]:
        """What begins after the rows of each item, and what the blocks made of these."""
        x, n, num_queries = fronted(self.front, held).values, len(held.bounds) - 1, len(self.queries)
        before = torch.cat([x[:1], x[:-1]])
        change = (x - before).masked_fill((held.place == 0)[:, None], 0.0)
        # In float64: the sums run over all items, and what differs between two of them is small.
        sums = torch.cat([x.new_zeros(1, x.shape[1], dtype=torch.float64), x.double().cumsum(dim=0)])
        mean = (sums[1:] - sums[held.bounds[held.item].long()]) / (held.place + 1)[:, None]
        # The queries of an item follow its rows.
        at_rows = torch.arange(len(x), device=x.device) + num_queries * held.item
        each = torch.arange(n, device=x.device)[:, None] * num_queries + torch.arange(num_queries, device=x.device)
        at_queries = held.bounds[1:, None].long() + each
        entered = self._entered(x, change, mean.to(x))
        tokens = entered.new_empty(len(x) + n * num_queries, self.config.width)
        tokens = tokens.index_copy(0, at_rows, entered)
        tokens = tokens.index_copy(0, at_queries.flatten(), self.queries.to(entered).repeat(n, 1))
        if self.age is not None:
            rows_ago = torch.zeros(len(tokens), dtype=torch.float64, device=x.device)
            rows_ago = rows_ago.index_copy(0, at_rows, (held.lengths[held.item] - held.place).double())
            tokens = tokens + self.age(rows_ago[None] / self.config.frames_per_second)[0]
        bounds = held.bounds.to(torch.int32) + num_queries * torch.arange(n + 1, device=x.device, dtype=torch.int32)
        mixed = self.stack(tokens[None], cu_seqlens=bounds)[0]
        return self._outlook(mixed[at_queries]), held.having(mixed[at_rows])

    def _entered(self, row: Tensor, change: Tensor, mean: Tensor) -> Tensor:
        """Tokens (m, width) of rows (m, seen_dim), of how they differ from those before, and from the mean of the memory up to them."""
        seen = [self.standardise(row), self.standardise_changes(change), (row - mean) / self.standardise.spread]
        tokens: Tensor = self.enter(torch.cat(seen, dim=1))
        return tokens

    def _outlook(self, mixed: Tensor) -> Outlook:
        """The logits of what the blocks made of the queries (n, h, width)."""
        seen = self.dropout(mixed)
        verbs, nouns = wide(self.verb(seen)), wide(self.noun(seen))
        own = wide(self.action(seen))
        return Outlook(verbs, nouns, own + verbs.log_softmax(dim=-1)[..., self.verb_of] + nouns.log_softmax(dim=-1)[..., self.noun_of])

    def start(self, batch: int = 1) -> StreamState:
        """The state of ``batch`` streams before their first row."""
        return StreamState(0, self._no_memory(batch), self._no_memory(batch))

    @torch.inference_mode()
    def step(self, frame: Tensor, state: StreamState) -> tuple[Outlook, StreamState]:
        """What begins after the next row (b, dim) of each stream, and the state after it; ``state`` itself is not changed.

        It is what ``forward`` tells of all rows so far. Neither time nor state grows with their number, unless ``memory_seconds`` is None
        and nothing is carried (``config.carries``).

        Raises:
            InputError: another shape, or a row that is not finite.
        """
        wanted = (len(state.older.rows), self.config.dim)
        if tuple(frame.shape) != wanted or not bool(frame.isfinite().all()):
            raise InputError(f"frame must be finite, of the shape {wanted}, got {tuple(frame.shape)}; start streams by start(batch)")
        older, newer = state.older, state.newer
        length = self.config.memory_rows
        if length is not None and state.seen and state.seen % length == 0:
            older, newer = newer, self._no_memory(len(frame))
        older = self._remembered(older, frame)
        if length is not None:
            newer = self._remembered(newer, frame)
        return self._recalled(older), StreamState(state.seen + 1, older, newer)

    def _no_memory(self, batch: int) -> Memory:
        """A memory before its first row."""
        like = self.standardise.mean
        states = self.stack.init_state(batch) if self.config.carries else None
        return Memory(0, like.new_zeros(batch, self.config.dim), None, states, like.new_empty(batch, 0, self.config.dim))

    def _remembered(self, memory: Memory, frame: Tensor) -> Memory:
        """The memory after the next row (b, dim)."""
        if memory.states is None:
            return replace(memory, rows=torch.cat([memory.rows, frame[:, None]], dim=1))
        count, total = memory.count + 1, memory.total + frame
        change = torch.zeros_like(frame) if memory.last is None else frame - memory.last
        _, states = self.stack.step(self._entered(frame, change, total / count), memory.states)
        return replace(memory, count=count, total=total, last=frame, states=states)

    def _recalled(self, memory: Memory) -> Outlook:
        """What begins after the last row of a memory."""
        batch = len(memory.rows)
        if memory.states is not None:
            return self._outlook(self.stack.forward_on(self.queries.expand(batch, -1, -1), memory.states)[0])
        bounds = torch.arange(batch + 1, device=memory.rows.device) * memory.rows.shape[1]
        return self._after(Rows.of(memory.rows.flatten(0, 1), bounds))[0]
