"""Cross-modal interaction: one sequence [text ; video] through a stack of mixers (Video Mamba Suite, arXiv 2403.09626, section 4.2).

Each side is projected by two LayerNorm-Dropout-Linear layers as in UniVTG (arXiv 2307.16715), gets a type embedding and a position: words
their place, frames their real time. What the released code does at pads is not done here: see docs/ssm_padding.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from vlm.errors import InputError
from vlm.models.adapter import TimeEmbedding, check_frames
from vlm.ssm.stack import MixerConfig, MixerName, StackConfig, check_word

TextSide = Literal["left", "right"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InteractionConfig:
    """How words and frames meet.

    Attributes:
        text_dim, video_dim: widths of the word vectors and of the frame vectors that come in.
        width: of the fused tokens. num_layers, mixer, d_state, expand, dropout, drop_path: of the stack; see StackConfig.
        text_side: where the words stand in the sequence. Left is better in the paper, and all that a causal mixer can use.
        slots: learned questions to the words, whose answers are multiplied into every frame (low-rank bilinear pooling, Kim et al. 2017,
            arXiv 1610.04325): a mixer along time adds and forgets, but cannot ask a frame for what a word names. 0 is the paper's plain
            concatenation.
        exact_masks: False lets pads take part, as published models do: for measuring what that costs, and nothing else.
    """

    text_dim: int
    video_dim: int
    width: int = 256
    num_layers: int = 4
    mixer: MixerName = "dbm"
    d_state: int = 16
    expand: float | None = None
    dropout: float = 0.1
    drop_path: float = 0.0
    text_side: TextSide = "left"
    slots: int = 4
    exact_masks: bool = True

    def __post_init__(self) -> None:
        check_word("mixer", self.mixer, get_args(MixerName))
        check_word("text_side", self.text_side, get_args(TextSide))
        for name in ("text_dim", "video_dim", "width", "num_layers"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.slots < 0:
            raise InputError(f"slots must be at least 0, got {self.slots}")

    @property
    def summary_size(self) -> int:
        """Numbers of a summary of a pass (heads.Summary)."""
        return 3 * self.width + 2

    def stack_config(self) -> StackConfig:
        """The stack of mixers."""
        mixer = MixerConfig(self.mixer, self.width, d_state=self.d_state, expand=self.expand)
        return StackConfig(mixer, self.num_layers, dropout=self.dropout, drop_path=self.drop_path)


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """Words and frames that know of each other.

    Shapes:
        text: (b, q, width), text_mask: (b, q) bool. video: (b, t, width), video_mask: (b, t) bool. Zeros where the masks are False.
    """

    text: Tensor
    text_mask: Tensor
    video: Tensor
    video_mask: Tensor

    def rows(self, chosen: Tensor) -> Fused:
        """Some of the items: a mask (b,) or their numbers."""
        return Fused(self.text[chosen], self.text_mask[chosen], self.video[chosen], self.video_mask[chosen])


class Interaction(nn.Module):
    """Words and frames to words and frames that know of each other, in one pass over [text ; video]."""

    def __init__(self, config: InteractionConfig) -> None:
        super().__init__()
        self.config = config
        self.from_text, self.from_video = (_projection(dim, config) for dim in (config.text_dim, config.video_dim))
        self.kind = nn.Parameter(torch.randn(2, config.width) * 0.02)
        self.time = TimeEmbedding(config.width)
        self.place = TimeEmbedding(config.width)
        self.pairing = Pairing(config) if config.slots else None
        self.stack = config.stack_config().build()

    def forward(self, tokens: Tensor, text_mask: Tensor, frames: Tensor, times: Tensor, video_mask: Tensor | None = None) -> Fused:
        """The fused words and frames.

        Args:
            tokens: (b, q, text_dim) words. text_mask: (b, q) bool, True for a word.
            frames: (b, t, video_dim). times: (b, t) seconds. video_mask: (b, t) bool, True for a frame; None where all are.

        Raises:
            InputError: shapes that do not agree, an item without words or frames, or frames that are not finite.
        """
        config = self.config
        check_frames(frames, times, video_mask, config.video_dim)
        if (
            tokens.ndim != 3
            or tokens.shape[0] != frames.shape[0]
            or tokens.shape[2] != config.text_dim
            or text_mask.shape != tokens.shape[:2]
        ):
            raise InputError(
                f"tokens must be ({frames.shape[0]}, q, {config.text_dim}) with a mask (b, q), got {tuple(tokens.shape)} and "
                f"{tuple(text_mask.shape)}"
            )
        if not bool(text_mask.any(dim=1).all()):
            raise InputError("every text needs at least one word, but all words of an item are masked")
        if video_mask is None:
            video_mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        number = (text_mask.cumsum(dim=1) - 1).clamp(min=0)  # of each word, whatever pads stand before it
        text = self.from_text(tokens.masked_fill(~text_mask[..., None], 0.0)) + self.kind[0] + self.place(number)
        frames = frames.masked_fill(~video_mask[..., None], 0.0)
        video = self.from_video(frames) + self.kind[1] + self.time(times)
        if self.pairing is not None:
            video = video + self.pairing(text, text_mask, frames)
        parts, masks = [text, video], [text_mask, video_mask]
        if config.text_side == "right":
            parts, masks = parts[::-1], masks[::-1]
        fused = self.stack(torch.cat(parts, dim=1), torch.cat(masks, dim=1) if config.exact_masks else None)
        first, second = fused.split([part.shape[1] for part in parts], dim=1)
        text, video = (first, second) if config.text_side == "left" else (second, first)
        text, video = (x.masked_fill(~mask[..., None], 0.0) for x, mask in ((text, text_mask), (video, video_mask)))
        return Fused(text, text_mask, video, video_mask)


class Pairing(nn.Module):
    """What frames hold of what words name: each slot reads the words by a learned query, and its answer is multiplied into the frames."""

    def __init__(self, config: InteractionConfig) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(config.slots, config.width) * config.width**-0.5)
        self.ask = nn.Linear(config.width, config.width)
        self.see = nn.Sequential(nn.LayerNorm(config.video_dim), nn.Linear(config.video_dim, config.slots * config.width))
        self.join = nn.Linear(config.slots * config.width, config.width)

    def forward(self, text: Tensor, text_mask: Tensor, frames: Tensor) -> Tensor:
        """(b, t, width) of words (b, q, width) with their mask (b, q) and frames (b, t, video_dim)."""
        scores = (text @ self.queries.T).masked_fill(~text_mask[..., None], -torch.inf)  # (b, q, slots)
        asked = self.ask(scores.softmax(dim=1).transpose(1, 2) @ text)  # (b, slots, width)
        joined: Tensor = self.join(self.see(frames) * asked.flatten(1)[:, None])
        return joined


def _projection(dim: int, config: InteractionConfig) -> nn.Sequential:
    def layer(dim: int) -> list[nn.Module]:
        return [nn.LayerNorm(dim), nn.Dropout(config.dropout), nn.Linear(dim, config.width)]

    return nn.Sequential(*layer(dim), nn.ReLU(), *layer(config.width))
