"""The temporal adapter on frame embeddings: what makes a video more than the mean of its frames.

Each layer adds ``tanh(gate) * mixer(norm(x) + time)`` to its tokens, and every gate is zero at first, so that an adapter which has learnt
nothing gives exactly CLIP's mean pooling (Video Mamba Suite, arXiv 2403.09626; the gate is that of Flamingo, arXiv 2204.14198).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.errors import InputError
from vlm.ssm.stack import MixerConfig, MixerName, check_word

# Periods of the sines that tell time, in seconds: from two frames of 2 a second to longer than any video is likely to be.
SHORTEST_PERIOD, LONGEST_PERIOD = 1.0, 16_384.0
NUM_PERIODS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterConfig:
    """A temporal adapter and the text adapter before it.

    Attributes:
        dim: width d of the encoder's space.
        mixer: what carries information along time; see MixerConfig.
        num_layers, text_layers: gated layers over frames, and over the words of a text; 0 leaves that side as it is.
        d_state, expand: of the mixer; expand None makes all mixers of about equal weights.
        first_gate: what every gate begins at. 0, and nothing else, begins with the encoder's own pooling; others are for measuring that.
    """

    dim: int
    mixer: MixerName = "dbm"
    num_layers: int = 2
    text_layers: int = 1
    d_state: int = 16
    expand: float | None = None
    first_gate: float = 0.0

    def __post_init__(self) -> None:
        check_word("mixer", self.mixer, get_args(MixerName))
        if self.dim < 1 or self.num_layers < 0 or self.text_layers < 0:
            raise InputError(f"dim must be at least 1 and numbers of layers at least 0, got {self}")

    def mixer_config(self) -> MixerConfig:
        """The mixer of one layer."""
        return MixerConfig(self.mixer, self.dim, d_state=self.d_state, expand=self.expand)


@dataclass(frozen=True, slots=True, eq=False)
class Adapted:
    """Frames (b, t, d) that know of each other, zeros at pads, and their pooled unit vector (b, d)."""

    frames: Tensor
    pooled: Tensor


class TemporalAdapter(nn.Module):
    """Frame embeddings with their times to embeddings that know what comes before and after, and one vector for all of them."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.time = TimeEmbedding(config.dim) if config.num_layers else None
        self.layers = nn.ModuleList([GatedLayer(config.mixer_config(), config.first_gate) for _ in range(config.num_layers)])

    def forward(self, frames: Tensor, times: Tensor, mask: Tensor | None = None) -> Adapted:
        """Adapted frames and their pooled vector: at first the frames themselves and their normalised mean.

        Args:
            frames: (b, t, d) unit vectors.
            times: (b, t) seconds from the start of each video; they need not be evenly spaced.
            mask: (b, t) bool, True for a frame; None where all are.

        Raises:
            InputError: no frames at all, an item without a frame, shapes that do not agree, or frames that are not finite.
        """
        check_frames(frames, times, mask, self.config.dim)
        x, when = frames, None if self.time is None else self.time(times)
        for layer in self.layers:
            x = layer(x, mask, extra=when)
        if mask is not None:
            x = x.masked_fill(~mask[..., None], 0.0)
        return Adapted(x, masked_mean(x, mask))


class TextAdapter(nn.Module):
    """Words and the pooled vector of a text to a pooled vector that may know more, such as which of two events comes first."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList([GatedLayer(config.mixer_config(), config.first_gate) for _ in range(config.text_layers)])
        if config.text_layers:
            self.place = TimeEmbedding(config.dim)
            self.norm, self.project = nn.LayerNorm(config.dim), nn.Linear(config.dim, config.dim)
            self.gate = nn.Parameter(torch.tensor(config.first_gate))

    def forward(self, pooled: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors (b, d); at first ``pooled`` itself, normalised.

        Args:
            pooled: (b, d) of the text tower. tokens: (b, q, d) of its words. mask: (b, q) bool, True for a word.

        Raises:
            InputError: a text without a word, or shapes that do not agree.
        """
        if pooled.shape != (tokens.shape[0], self.config.dim) or mask.shape != tokens.shape[:2]:
            raise InputError(
                f"pooled (b, {self.config.dim}), tokens (b, q, d) and mask (b, q) must agree, got {tuple(pooled.shape)}, "
                f"{tuple(tokens.shape)} and {tuple(mask.shape)}"
            )
        if len(self.layers):
            x, place = tokens, self.place((mask.cumsum(dim=1) - 1).clamp(min=0))
            for layer in self.layers:
                x = layer(x, mask, extra=place)
            pooled = pooled + torch.tanh(self.gate) * self.project(self.norm(masked_mean(x, mask, normalise=False)))
        return F.normalize(pooled, dim=-1)


class GatedLayer(nn.Module):
    """``x + tanh(gate) * mixer(norm(x) + extra)``; the gate is zero at first, unless ``first_gate`` is another number."""

    def __init__(self, mixer: MixerConfig, first_gate: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(mixer.d_model)
        self.mixer = mixer.build()
        self.gate = nn.Parameter(torch.tensor(first_gate))

    def forward(self, x: Tensor, mask: Tensor | None = None, *, extra: Tensor | None = None) -> Tensor:
        """The same shape (b, t, d); what stands at pads is as it was."""
        seen = self.norm(x)
        mixed: Tensor = x + torch.tanh(self.gate) * self.mixer(seen if extra is None else seen + extra, mask)
        return mixed


class TimeEmbedding(nn.Module):
    """Seconds (b, t) to vectors (b, t, d): sines and cosines of geometrically spaced periods (Vaswani et al. 2017), and a learnt map.

    Real time, not the number of a row: frames may be sampled unevenly, and a model may be used at another rate than it was trained at.

    Args:
        longest: the longest period, seconds. Where it is no longer than what was trained on, later times are like earlier ones.
    """

    periods: Tensor

    def __init__(self, dim: int, *, longest: float = LONGEST_PERIOD) -> None:
        super().__init__()
        periods = torch.logspace(math.log2(SHORTEST_PERIOD), math.log2(longest), NUM_PERIODS, base=2.0, dtype=torch.float64)
        self.register_buffer("periods", periods, persistent=False)
        self.project = nn.Linear(2 * NUM_PERIODS, dim)

    def forward(self, seconds: Tensor) -> Tensor:
        """Vectors (b, t, d) in the type of the weights."""
        # In float64: ten hours in periods of a second leave float32 three digits of the phase.
        phase = 2 * math.pi * torch.frac(seconds.double()[..., None] / self.periods)
        waves = torch.cat([phase.sin(), phase.cos()], dim=-1).to(self.project.weight.dtype)
        embedded: Tensor = self.project(waves)
        return embedded


def masked_mean(x: Tensor, mask: Tensor | None, *, normalise: bool = True) -> Tensor:
    """The mean (b, d) over the real rows of (b, t, d), made unit length; every item must have a real row."""
    mean = x.mean(dim=1) if mask is None else x.masked_fill(~mask[..., None], 0.0).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    return F.normalize(mean, dim=-1) if normalise else mean


def check_frames(frames: Tensor, times: Tensor, mask: Tensor | None, dim: int) -> None:
    """Raises InputError unless frames (b, t, dim), times (b, t) and mask (b, t) agree, items have frames, and real frames are finite."""
    if frames.ndim != 3 or frames.shape[2] != dim or times.shape != frames.shape[:2]:
        raise InputError(f"frames must be (b, t, {dim}) and times (b, t), got {tuple(frames.shape)} and {tuple(times.shape)}")
    if mask is not None and (mask.dtype != torch.bool or mask.shape != frames.shape[:2]):
        raise InputError(f"mask must be bool {tuple(frames.shape[:2])}, True for a frame, got {mask.dtype} {tuple(mask.shape)}")
    if frames.shape[1] == 0:
        raise InputError(f"a video needs at least one frame, got frames of the shape {tuple(frames.shape)}")
    if mask is not None and not bool(mask.any(dim=1).all()):
        empty = (~mask.any(dim=1)).nonzero()[:, 0].tolist()
        raise InputError(f"every video needs at least one frame, but all of item {empty[0]} are masked; leave such items out of the batch")
    finite = torch.isfinite(frames).all(dim=-1)
    if not bool((finite if mask is None else finite | ~mask).all()):
        item, row = (~(finite if mask is None else finite | ~mask)).nonzero()[0].tolist()
        raise InputError(f"frames must be finite, got NaN or infinity in row {row} of item {item}; encode that video again")
