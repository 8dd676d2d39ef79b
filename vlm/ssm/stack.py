"""Mixers by name, and the stack of layers around them: pre-norm residuals in float32, drop path, optional feed-forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, Protocol, cast, get_args

import torch
from torch import Tensor, nn

from vlm.errors import InputError
from vlm.ssm.attention import Attention
from vlm.ssm.blocks import DBM, Combine, Mamba, ViM
from vlm.ssm.branch import undecayed
from vlm.ssm.packed import check_tokens, item_of_row, packing_of
from vlm.ssm.state import MambaState

MixerName = Literal["mamba", "vim", "dbm", "attention"]
NormName = Literal["layer", "rms"]
NORM_EPSILON = 1e-5

# What a stack of Mamba layers carries from one chunk of a stream to the next: the memory of each layer.
StackState = tuple[MambaState, ...]


class Mixer(Protocol):
    """What a mixer offers: tokens in, mixed tokens out, exact under padding (``vlm.ssm.packed.without_pads``)."""

    def __call__(self, x: Tensor, mask: Tensor | None = None, *, cu_seqlens: Tensor | None = None) -> Tensor:
        """Mixed tokens (b, t, d_model)."""


@dataclass(frozen=True, slots=True)
class MixerConfig:
    """A mixer in words and numbers; which of them a mixer reads is in the brackets.

    ``expand`` None is the width that makes all of about equal weights: 2 for mamba and vim, 1 for dbm.
    """

    name: MixerName
    d_model: int
    d_state: int = 16  # mamba, vim, dbm
    d_conv: int = 4  # mamba, vim, dbm
    expand: float | None = None  # mamba, vim, dbm
    backend: str = "auto"  # mamba, vim, dbm
    combine: Combine = "sum"  # vim
    num_heads: int | None = None  # attention
    causal: bool = False  # attention
    window: int | None = None  # attention

    def __post_init__(self) -> None:
        check_word("name", self.name, get_args(MixerName))

    def build(self) -> Mamba | ViM | DBM | Attention:
        """A new mixer.

        Raises:
            InputError: a number breaks the mixer's rule. BackendUnavailable: the backend is missing on this machine.
        """
        if self.name == "attention":
            return Attention(self.d_model, self.num_heads, causal=self.causal, window=self.window)
        expand = self.expand if self.expand is not None else 1 if self.name == "dbm" else 2
        if self.name == "vim":
            return ViM(self.d_model, self.d_state, self.d_conv, expand, combine=self.combine, backend=self.backend)
        kind = Mamba if self.name == "mamba" else DBM
        return kind(self.d_model, self.d_state, self.d_conv, expand, backend=self.backend)


@dataclass(frozen=True, slots=True)
class StackConfig:
    """A stack of equal layers. ``drop_path`` is that of the last layer and rises evenly from 0 at the first."""

    mixer: MixerConfig
    num_layers: int
    norm: NormName = "layer"
    dropout: float = 0.0
    drop_path: float = 0.0
    ffn_expand: float | None = None  # hidden width of a feed-forward after each mixer, as a multiple of d_model; None is none

    def __post_init__(self) -> None:
        check_word("norm", self.norm, get_args(NormName))
        if self.num_layers < 0:
            raise InputError(f"num_layers must be 0 or more, got {self.num_layers}")

    def build(self) -> Stack:
        """A new stack.

        Raises:
            InputError, BackendUnavailable: as the mixer's config, or a share is not in [0, 1).
        """
        d_model = self.mixer.d_model
        layers = [
            Layer(
                d_model,
                self.mixer.build(),
                norm=self.norm,
                dropout=self.dropout,
                drop_path=self.drop_path * i / max(1, self.num_layers - 1),
                ffn_expand=self.ffn_expand,
            )
            for i in range(self.num_layers)
        ]
        return Stack(d_model, layers, norm=self.norm)


class Layer(nn.Module):
    """``h + dropout(drop_path(mixer(norm(h))))``, and the same again around a feed-forward where there is one.

    Args:
        d_model: width of the tokens.
        mixer: a Mixer.
        norm: ``layer`` or ``rms``, before the mixer and before the feed-forward.
        dropout: share of numbers of the mixer's result that are dropped in training.
        drop_path: share of items whose mixer (and feed-forward) is left out in training.
        ffn_expand: hidden width of the feed-forward as a multiple of ``d_model``; None is none.

    Raises:
        InputError: the norm is unknown, or a share is not in [0, 1).
    """

    def __init__(
        self,
        d_model: int,
        mixer: nn.Module,
        *,
        norm: NormName = "layer",
        dropout: float = 0.0,
        drop_path: float = 0.0,
        ffn_expand: float | None = None,
    ) -> None:
        super().__init__()
        for name, share in (("dropout", dropout), ("drop_path", drop_path)):
            if not 0 <= share < 1:
                raise InputError(f"{name} must be in [0, 1), got {share:g}")
        self.norm = build_norm(norm, d_model)
        self.mixer = mixer
        self.ffn_norm: nn.Module | None = None
        self.ffn: nn.Module | None = None
        if ffn_expand is not None:
            hidden = int(ffn_expand * d_model)
            self.ffn_norm = build_norm(norm, d_model)
            self.ffn = nn.Sequential(nn.Linear(d_model, hidden), nn.GELU(), nn.Linear(hidden, d_model))
        self.dropout = nn.Dropout(dropout)
        self.drop_path = drop_path

    def forward(self, h: Tensor, mask: Tensor | None = None, *, cu_seqlens: Tensor | None = None) -> Tensor:
        """The residual stream (b, t, d_model), in its own type, after the layer; at pads it is left as it was, but for a feed-forward."""
        return self._add(h, self.mixer(_norm(self.norm, h), mask, cu_seqlens=cu_seqlens), cu_seqlens)

    def forward_on(self, h: Tensor, state: MambaState, *, cu_seqlens: Tensor | None = None) -> tuple[Tensor, MambaState]:
        """The stream of a chunk that follows ``state``, and the state after it.

        Raises:
            InputError: the mixer is no Mamba, or the state not of these items.
        """
        mixed, state = self.streaming_mixer()(_norm(self.norm, h), cu_seqlens=cu_seqlens, state=state, return_state=True)
        return self._add(h, mixed, cu_seqlens), state

    def step(self, h_t: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        """The stream (b, d_model) of the next token of each item, and the state after it; raises as ``forward_on``."""
        mixed, state = self.streaming_mixer().step(_norm(self.norm, h_t), state)
        return self._add(h_t[:, None], mixed[:, None], None)[:, 0], state

    def streaming_mixer(self) -> Mamba:
        """The mixer, where it sees only what came before; InputError where it sees more."""
        if not isinstance(self.mixer, Mamba):
            raise InputError(f"only 'mamba' carries a state from chunk to chunk, got a layer of {type(self.mixer).__name__}")
        return self.mixer

    def _add(self, h: Tensor, mixed: Tensor, cu_seqlens: Tensor | None) -> Tensor:
        """The stream with what was mixed, and with what the feed-forward makes of both."""
        h = h + self.dropout(self._drop_items(mixed, cu_seqlens))
        if self.ffn is not None and self.ffn_norm is not None:
            h = h + self.dropout(self._drop_items(self.ffn(_norm(self.ffn_norm, h)), cu_seqlens))
        return h

    def _drop_items(self, mixed: Tensor, cu_seqlens: Tensor | None) -> Tensor:
        """``mixed`` with whole items set to zero, and the others scaled so that the mean stays."""
        if not self.training or self.drop_path == 0:
            return mixed
        num_items = mixed.shape[0] if cu_seqlens is None else len(cu_seqlens) - 1
        kept = mixed.new_empty(num_items).bernoulli_(1 - self.drop_path) / (1 - self.drop_path)
        if cu_seqlens is None:
            return mixed * kept[:, None, None]
        return mixed * kept[item_of_row(cu_seqlens, mixed.shape[1])][None, :, None]


class Stack(nn.Module):
    """Layers one after the other on a residual stream in at least float32, and a last norm. Parameters are named as in ``mamba_ssm``."""

    def __init__(self, d_model: int, layers: Sequence[Layer], *, norm: NormName = "layer") -> None:
        super().__init__()
        self.d_model = d_model
        self.layers = nn.ModuleList(layers)
        self.norm_f = build_norm(norm, d_model)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, cu_seqlens: Tensor | None = None) -> Tensor:
        """Tokens (b, t, d_model) after all layers; arguments, errors and exactness under padding as ``vlm.ssm.packed.without_pads``.

        Pads are taken out once, before the first layer, and come back as zeros after the last norm.
        """
        check_tokens(x, mask, cu_seqlens, self.d_model)
        packing = packing_of(mask)
        if packing is not None:
            x, cu_seqlens = packing.pack(x), packing.cu_seqlens
        # Many small steps are added to the stream: in bfloat16 the later ones would be lost.
        h = x.to(torch.promote_types(x.dtype, torch.float32))
        for layer in self.layers:
            h = layer(h, cu_seqlens=cu_seqlens)
        h = _norm(self.norm_f, h)
        return h if packing is None else packing.unpack(h)

    def forward_on(self, x: Tensor, states: StackState, *, cu_seqlens: Tensor | None = None) -> tuple[Tensor, StackState]:
        """Tokens after all layers for a chunk (b, t, d_model) that follows ``states``, and the states after it.

        The whole equals any split into chunks, and equals one ``step`` after the other. ``states`` are not changed.

        Raises:
            InputError: a mixer is no Mamba, a shape breaks its rule, or the states are not of these items and layers.
        """
        check_tokens(x, None, cu_seqlens, self.d_model)
        return self._through(x, states, lambda layer, h, state: layer.forward_on(h, state, cu_seqlens=cu_seqlens))

    def init_state(self, batch: int) -> StackState:
        """The states of all layers before the first token of ``batch`` items; raises as ``forward_on``."""
        return tuple(layer.streaming_mixer().init_state(batch) for layer in self._layers())

    def step(self, x_t: Tensor, states: StackState) -> tuple[Tensor, StackState]:
        """The next token (b, d_model) of each item after all layers, and the states after it; raises as ``forward_on``."""
        return self._through(x_t, states, Layer.step)

    def _layers(self) -> list[Layer]:
        return cast(list[Layer], list(self.layers))

    def _through(
        self, x: Tensor, states: StackState, run: Callable[[Layer, Tensor, MambaState], tuple[Tensor, MambaState]]
    ) -> tuple[Tensor, StackState]:
        if len(states) != len(self.layers):
            raise InputError(f"states must hold one state for each of {len(self.layers)} layers, got {len(states)}; start from init_state")
        h, after = x.to(torch.promote_types(x.dtype, torch.float32)), []
        for layer, state in zip(self._layers(), states, strict=True):
            h, state = run(layer, h, state)
            after.append(state)
        return _norm(self.norm_f, h), tuple(after)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that an optimiser must not decay: rates, skips, step sizes, and the norms."""
        norms = {path for path, part in self.named_modules() if isinstance(part, nn.LayerNorm | nn.RMSNorm)}
        return undecayed(self) | {name for name, _ in self.named_parameters() if name.rpartition(".")[0] in norms}


def count_parameters(module: nn.Module) -> int:
    """How many numbers ``module`` learns."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def build_norm(name: NormName, d_model: int) -> nn.Module:
    """A new norm over the last axis.

    Raises:
        InputError: the name is unknown.
    """
    check_word("norm", name, get_args(NormName))
    return nn.LayerNorm(d_model, eps=NORM_EPSILON) if name == "layer" else nn.RMSNorm(d_model, eps=NORM_EPSILON)


def check_word(argument: str, word: str, known: Sequence[str]) -> None:
    """Raises InputError, naming the nearest known word, where ``word`` is not one."""
    if word not in known:
        near = get_close_matches(str(word), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"{argument} must be one of {', '.join(map(repr, known))}, got {word!r}{hint}")


def _norm(norm: nn.Module, h: Tensor) -> Tensor:
    """``h`` normalised in the type of the norm's weights."""
    normed: Tensor = norm(h.to(next(norm.parameters()).dtype))
    return normed
