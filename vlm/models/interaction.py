"""Cross-modal interaction: one sequence [text ; video] through a stack of mixers (Video Mamba Suite, arXiv 2403.09626, section 4.2).

What depends on the video alone comes first and is done once, however many texts are asked about it (``watch``); then the words come in
(``forward``). Each side is projected by two LayerNorm-Dropout-Linear layers as in UniVTG (arXiv 2307.16715), gets a type embedding and a
position: words their place, frames their real time. What the released code does at pads is not done here: see docs/ssm_padding.md.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
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
        video_layers: of the stack that frames go through before the words come in; 0 is the paper's way.
        text_side: where the words stand in the sequence. Left is better in the paper, and all that a causal mixer can use.
        slots: learned questions to the words, whose answers are multiplied into every frame, before the stack and after it (low-rank
            bilinear pooling, Kim et al. 2017, arXiv 1610.04325): a mixer along time adds and forgets, but cannot ask a frame for what a
            word names, nor compare what happened with what a word says. 0 is the paper's plain concatenation.
        exact_masks: False lets pads take part, as published models do: for measuring what that costs, and nothing else.
    """

    text_dim: int
    video_dim: int
    width: int = 256
    num_layers: int = 4
    video_layers: int = 0
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
        for name in ("slots", "video_layers"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must be at least 0, got {getattr(self, name)}")

    @property
    def summary_size(self) -> int:
        """Numbers of a summary of a pass (heads.Summary)."""
        return 3 * self.width + 2

    def stack_config(self, num_layers: int) -> StackConfig:
        """A stack of the mixer."""
        mixer = MixerConfig(self.mixer, self.width, d_state=self.d_state, expand=self.expand)
        return StackConfig(mixer, num_layers, dropout=self.dropout, drop_path=self.drop_path)


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """Videos before any words: as often asked about as one likes.

    Shapes:
        tokens: (b, t, width). seen: (b, t, slots * width), what words will be multiplied into; None without slots. mask: (b, t) bool.
    """

    tokens: Tensor
    seen: Tensor | None
    mask: Tensor

    def rows(self, chosen: Tensor) -> Watched:
        """Some of the videos, as often as one likes: a mask (b,) or their numbers."""
        return Watched(self.tokens[chosen], None if self.seen is None else self.seen[chosen], self.mask[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """Words and frames that know of each other.

    Shapes:
        text: (b, q, width), text_mask: (b, q) bool. video: (b, t, width), video_mask: (b, t) bool. Zeros where the masks are False.
        entering, leaving: (b, t, width), frames before the stack, and after it but before words are multiplied into them again.
    """

    text: Tensor
    text_mask: Tensor
    video: Tensor
    video_mask: Tensor
    entering: Tensor
    leaving: Tensor

    def rows(self, chosen: Tensor) -> Fused:
        """Some of the items: a mask (b,) or their numbers."""
        return Fused(*(getattr(self, field.name)[chosen] for field in fields(self)))


class Interaction(nn.Module):
    """Words and frames to words and frames that know of each other, in one pass over [text ; video]."""

    def __init__(self, config: InteractionConfig) -> None:
        super().__init__()
        self.config = config
        self.from_text, self.from_video = (_projection(dim, config) for dim in (config.text_dim, config.video_dim))
        self.kind = nn.Parameter(torch.randn(2, config.width) * 0.02)
        self.time = TimeEmbedding(config.width)
        self.place = TimeEmbedding(config.width)
        self.video_stack = config.stack_config(config.video_layers).build() if config.video_layers else None
        self.before, self.after = (Pairing(config, dim) if config.slots else None for dim in (config.video_dim, 0))
        self.stack = config.stack_config(config.num_layers).build()

    def watch(self, frames: Tensor, times: Tensor, mask: Tensor | None = None) -> Watched:
        """What depends on the videos alone.

        Args:
            frames: (b, t, video_dim). times: (b, t) seconds. mask: (b, t) bool, True for a frame; None where all are.

        Raises:
            InputError: shapes that do not agree, an item without frames, or frames that are not finite.
        """
        check_frames(frames, times, mask, self.config.video_dim)
        if mask is None:
            mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        frames = frames.masked_fill(~mask[..., None], 0.0)
        tokens = self.from_video(frames) + self.kind[1] + self.time(times)
        if self.video_stack is not None:
            tokens = self.video_stack(tokens, mask if self.config.exact_masks else None)
        seen = None if self.before is None else self.before.see(torch.cat([tokens, frames], dim=-1))
        return Watched(tokens, seen, mask)

    def enter(self, tokens: Tensor, text_mask: Tensor, watched: Watched) -> tuple[Tensor, Tensor]:
        """Words (b, q, width) and frames (b, t, width) as they enter the stack; arguments and errors as ``forward``."""
        config, b = self.config, len(watched.mask)
        if tokens.ndim != 3 or tokens.shape[0] != b or tokens.shape[2] != config.text_dim or text_mask.shape != tokens.shape[:2]:
            raise InputError(
                f"tokens must be ({b}, q, {config.text_dim}) with a mask (b, q), got {tuple(tokens.shape)} and {tuple(text_mask.shape)}"
            )
        if not bool(text_mask.any(dim=1).all()):
            raise InputError("every text needs at least one word, but all words of an item are masked")
        number = (text_mask.cumsum(dim=1) - 1).clamp(min=0)  # of each word, whatever pads stand before it
        text = self.from_text(tokens.masked_fill(~text_mask[..., None], 0.0)) + self.kind[0] + self.place(number)
        video = watched.tokens
        if self.before is not None and watched.seen is not None:
            video = video + self.before(text, text_mask, watched.seen)
        return text, video

    def forward(self, tokens: Tensor, text_mask: Tensor, watched: Watched) -> Fused:
        """The fused words and frames.

        Args:
            tokens: (b, q, text_dim) words. text_mask: (b, q) bool, True for a word.
            watched: of ``watch``, of b videos.

        Raises:
            InputError: shapes that do not agree, or an item without words.
        """
        config, video_mask = self.config, watched.mask
        text, entering = self.enter(tokens, text_mask, watched)
        parts, masks = [text, entering], [text_mask, video_mask]
        if config.text_side == "right":
            parts, masks = parts[::-1], masks[::-1]
        fused = self.stack(torch.cat(parts, dim=1), torch.cat(masks, dim=1) if config.exact_masks else None)
        first, second = fused.split([part.shape[1] for part in parts], dim=1)
        said, video = (first, second) if config.text_side == "left" else (second, first)
        leaving = video
        if self.after is not None:
            video = video + self.after(text, text_mask, self.after.see(video))
        said, video = (x.masked_fill(~mask[..., None], 0.0) for x, mask in ((said, text_mask), (video, video_mask)))
        return Fused(said, text_mask, video, video_mask, entering, leaving)


class Pairing(nn.Module):
    """What frames hold of what words name: each slot reads the words by a learned query, and its answer is multiplied into the frames.

    ``see`` maps frames (b, t, width + more) to what words are multiplied into (b, t, slots * width); ``more`` is the width of what frames
    bring beside their tokens.
    """

    def __init__(self, config: InteractionConfig, more: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(config.slots, config.width) * config.width**-0.5)
        self.ask = nn.Linear(config.width, config.width)
        self.see = nn.Sequential(nn.LayerNorm(config.width + more), nn.Linear(config.width + more, config.slots * config.width))
        self.join = nn.Linear(config.slots * config.width, config.width)

    def forward(self, text: Tensor, text_mask: Tensor, seen: Tensor) -> Tensor:
        """(b, t, width) of words (b, q, width) with their mask (b, q) and of what ``see`` gave of frames."""
        scores = (text @ self.queries.T).masked_fill(~text_mask[..., None], -torch.inf)  # (b, q, slots)
        asked = self.ask(scores.softmax(dim=1).transpose(1, 2) @ text)  # (b, slots, width)
        joined: Tensor = self.join(seen * asked.flatten(1)[:, None])
        return joined


def _projection(dim: int, config: InteractionConfig) -> nn.Sequential:
    def layer(dim: int) -> list[nn.Module]:
        return [nn.LayerNorm(dim), nn.Dropout(config.dropout), nn.Linear(dim, config.width)]

    return nn.Sequential(*layer(dim), nn.ReLU(), *layer(config.width))
