"""Cross-modal interaction: one sequence [text ; video] through a stack of mixers (Video Mamba Suite, arXiv 2403.09626, section 4.2).

What depends on the video alone comes first and is done once, however many texts are asked about it (``watch``): a frame vector holds
several things at once, so it is taken apart into tracks, and each is followed along time. Then the words come in (``forward``): they look
up what they name among the tracks, and go through the stack together with the frames. Each side is projected by two
LayerNorm-Dropout-Linear layers as in UniVTG (arXiv 2307.16715), gets a type embedding and a position: words their place, frames their real
time. What the released code does at pads is not done here: see docs/ssm_padding.md.
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
# The logit of what seldom happens, to begin with (Lin et al. 2017, arXiv 1708.02002): else the many that do not are all there is to learn.
SELDOM = -4.6
# Of the moments of a pass a summary tells how likely so many are, and how many are likelier than each level.
COUNTED, COUNT_LEVELS = 5, (0.35, 0.5, 0.65)


@dataclass(frozen=True, slots=True, kw_only=True)
class InteractionConfig:
    """How words and frames meet.

    Attributes:
        text_dim, video_dim: widths of the word vectors and of the frame vectors that come in.
        width: of the fused tokens. num_layers, mixer, d_state, expand, dropout, drop_path: of the stack; see StackConfig.
        tracks, track_width, track_layers: into how many vectors of which width a frame is taken apart before the words come in, and the
            layers of the stack, the same for all, that follows each along time; see Tracks. acts: how many kinds of acts a linear map tells
            of a track, where it is taught to (train/video_text.py); 0 is none.
        text_layers: of the stack that words go through before they ask.
        first_mixer: of these two stacks, where it is another than the mixer.
        text_side: where the words stand in the sequence. Left is better in the paper, and all that a causal mixer can use.
        slots: learned questions to the words, whose answers are looked up among the tracks of every frame before the stack, and multiplied
            into every frame after it: a mixer along time adds and forgets, but cannot ask a frame for what a word names, nor compare what
            happened with what a word says. 0 is the paper's plain concatenation, and needs no tracks.
        exact_masks: False lets pads take part, as published models do: for measuring what that costs, and nothing else.
    """

    text_dim: int
    video_dim: int
    width: int = 256
    num_layers: int = 4
    tracks: int = 1
    track_width: int = 64
    track_layers: int = 0
    acts: int = 0
    text_layers: int = 0
    first_mixer: MixerName | None = None
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
        if self.first_mixer is not None:
            check_word("first_mixer", self.first_mixer, get_args(MixerName))
        check_word("text_side", self.text_side, get_args(TextSide))
        for name in ("text_dim", "video_dim", "width", "num_layers", "tracks", "track_width"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("slots", "track_layers", "acts", "text_layers"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must be at least 0, got {getattr(self, name)}")

    @property
    def summary_size(self) -> int:
        """Numbers of a summary of a pass (heads.Summary)."""
        return 3 * self.width + COUNTED + len(COUNT_LEVELS) + self.slots * (self.slots + 1 + 3 * self.tracks)

    @property
    def thing_size(self) -> int:
        """Numbers of what is told of a track in a look (Interaction.things); 0 without tracks."""
        return self.track_width + self.slots + self.acts if self.slots else 0

    def stack_config(
        self, num_layers: int, width: int | None = None, *, ffn_expand: float | None = None, is_first: bool = False
    ) -> StackConfig:
        """A stack of the mixer; ``is_first`` of those before words and frames meet."""
        name = self.first_mixer if is_first and self.first_mixer else self.mixer
        mixer = MixerConfig(name, width or self.width, d_state=self.d_state, expand=self.expand)
        return StackConfig(mixer, num_layers, dropout=self.dropout, drop_path=self.drop_path, ffn_expand=ffn_expand)


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """Videos before any words: as often asked about as one likes.

    Shapes:
        tokens: (b, t, width). tracks: (b, t, tracks, track_width), and seen: (b, t, tracks, 2 * track_width), what words are looked up
            in; no tracks at all without slots. mask: (b, t) bool.
    """

    tokens: Tensor
    tracks: Tensor
    seen: Tensor
    mask: Tensor

    def rows(self, chosen: Tensor) -> Watched:
        """Some of the videos, as often as one likes: a mask (b,) or their numbers."""
        numbers = chosen.nonzero()[:, 0] if chosen.dtype == torch.bool else chosen
        # Not by brackets: where a video is asked about twice, the threads of their backward add in any order.
        return Watched(*(getattr(self, field.name).index_select(0, numbers) for field in fields(self)))


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """Words and frames that know of each other.

    Shapes:
        text: (b, q, width), text_mask: (b, q) bool. video: (b, t, width), video_mask: (b, t) bool. Zeros where the masks are False.
        entering, leaving: (b, t, width), frames before the stack, and after it but before words are multiplied into them again.
        found: (b, t, slots, tracks) in [0, 1], how well each track is what each slot looks for; zeros where the mask is False.
        tracks: (b, t, tracks, track_width) of the videos, whatever the words are.
    """

    text: Tensor
    text_mask: Tensor
    video: Tensor
    video_mask: Tensor
    entering: Tensor
    leaving: Tensor
    found: Tensor
    tracks: Tensor

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
        self.text_stack = config.stack_config(config.text_layers, is_first=True).build() if config.text_layers else None
        self.tracks = Tracks(config) if config.slots else None
        self.acts = nn.Linear(config.track_width, config.acts) if config.acts and config.slots else None
        if self.acts is not None:
            nn.init.constant_(self.acts.bias, SELDOM)
        self.before = Lookup(config) if config.slots else None
        self.after = Pairing(config) if config.slots else None
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
        if self.tracks is None or self.before is None:
            none = tokens.new_zeros(*tokens.shape[:2], 0, 0)
            return Watched(tokens, none, none, mask)
        tracks = self.tracks(frames, mask if self.config.exact_masks else None)
        seen: Tensor = self.before.see(tracks)
        return Watched(tokens, tracks, seen, mask)

    def enter(self, tokens: Tensor, text_mask: Tensor, watched: Watched) -> tuple[Tensor, Tensor, Tensor]:
        """Words (b, q, width) and frames (b, t, width) as they enter the stack, and what was found (b, t, slots, tracks); arguments and
        errors as ``forward``."""
        config, b = self.config, len(watched.mask)
        if tokens.ndim != 3 or tokens.shape[0] != b or tokens.shape[2] != config.text_dim or text_mask.shape != tokens.shape[:2]:
            raise InputError(
                f"tokens must be ({b}, q, {config.text_dim}) with a mask (b, q), got {tuple(tokens.shape)} and {tuple(text_mask.shape)}"
            )
        if not bool(text_mask.any(dim=1).all()):
            raise InputError("every text needs at least one word, but all words of an item are masked")
        number = (text_mask.cumsum(dim=1) - 1).clamp(min=0)  # of each word, whatever pads stand before it
        text = self.from_text(tokens.masked_fill(~text_mask[..., None], 0.0)) + self.kind[0] + self.place(number)
        if self.text_stack is not None:
            text = self.text_stack(text, text_mask if config.exact_masks else None)
        video = watched.tokens
        if self.before is None:
            return text, video, video.new_zeros(*video.shape[:2], 0, 0)
        brought, found = self.before(text, text_mask, watched.seen)
        return text, video + brought, found.masked_fill(~watched.mask[..., None, None], 0.0)

    def forward(self, tokens: Tensor, text_mask: Tensor, watched: Watched) -> Fused:
        """The fused words and frames.

        Args:
            tokens: (b, q, text_dim) words. text_mask: (b, q) bool, True for a word.
            watched: of ``watch``, of b videos.

        Raises:
            InputError: shapes that do not agree, or an item without words.
        """
        config, video_mask = self.config, watched.mask
        text, entering, found = self.enter(tokens, text_mask, watched)
        parts, masks = [text, entering], [text_mask, video_mask]
        if config.text_side == "right":
            parts, masks = parts[::-1], masks[::-1]
        fused = self.stack(torch.cat(parts, dim=1), torch.cat(masks, dim=1) if config.exact_masks else None)
        first, second = fused.split([part.shape[1] for part in parts], dim=1)
        said, video = (first, second) if config.text_side == "left" else (second, first)
        leaving = video
        if self.after is not None:
            video = video + self.after(text, text_mask, video)
        said, video = (x.masked_fill(~mask[..., None], 0.0) for x, mask in ((said, text_mask), (video, video_mask)))
        return Fused(said, text_mask, video, video_mask, entering, leaving, found, watched.tracks)

    def things(self, fused: Fused, shares: Tensor) -> Tensor:
        """What each track holds in looks at some of the rows, by ``shares`` (b, looks, t) that sum to 1: (b, looks, tracks,
        InteractionConfig.thing_size). Its numbers, how far each slot finds it, and how probable each of its acts is."""
        if self.tracks is None:
            return shares.new_zeros(*shares.shape[:2], 0, 0)
        held = torch.einsum("blt,btsw->blsw", shares, fused.tracks)
        parts = [held, torch.einsum("blt,btks->blsk", shares, fused.found)]
        if self.acts is not None:
            parts.append(self.acts(held).sigmoid())
        return torch.cat(parts, dim=-1)


class Tracks(nn.Module):
    """A frame vector taken apart: each part a linear map of the vector, for what it holds of one thing; each is followed along time by one
    stack, whose weights are the same for all. What moves how is so learnt once, and not once for each thing that may be there."""

    def __init__(self, config: InteractionConfig) -> None:
        super().__init__()
        self.shape = config.tracks, config.track_width
        self.part = nn.Sequential(nn.LayerNorm(config.video_dim), nn.Linear(config.video_dim, config.tracks * config.track_width))
        stack = config.stack_config(config.track_layers, config.track_width, ffn_expand=2.0, is_first=True)
        self.stack = stack.build() if config.track_layers else None

    def forward(self, frames: Tensor, mask: Tensor | None) -> Tensor:
        """(b, t, tracks, track_width) of frames (b, t, video_dim)."""
        parts: Tensor = self.part(frames).unflatten(-1, self.shape)
        if self.stack is None:
            return parts
        along = parts.transpose(1, 2).flatten(0, 1)  # (b * tracks, t, track_width)
        followed: Tensor = self.stack(along, None if mask is None else mask.repeat_interleave(self.shape[0], dim=0))
        return followed.reshape(len(frames), self.shape[0], *followed.shape[1:]).transpose(1, 2)

    def of_rows(self, frames: Tensor, bounds: Tensor) -> Tensor:
        """(m, tracks, track_width) of the rows (m, video_dim) of items side by side, of which item i has those from ``bounds[i]`` to
        ``bounds[i + 1]`` (items + 1)."""
        parts: Tensor = self.part(frames).unflatten(-1, self.shape)
        if self.stack is None:
            return parts
        tracks, m = self.shape[0], len(frames)
        starts = torch.cat([bounds[:-1] + number * m for number in range(tracks)] + [bounds.new_tensor([tracks * m])])
        along = parts.transpose(0, 1).flatten(0, 1)[None]
        followed: Tensor = self.stack(along, cu_seqlens=starts)
        return followed[0].reshape(tracks, m, -1).transpose(0, 1)


class Slots(nn.Module):
    """Learned questions to the words: ``slots`` of them, each a weighted mean of the words."""

    def __init__(self, config: InteractionConfig) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(config.slots, config.width) * config.width**-0.5)

    def forward(self, text: Tensor, text_mask: Tensor) -> Tensor:
        """(b, slots, width) of words (b, q, width) with their mask (b, q)."""
        scores = (text @ self.queries.T).masked_fill(~text_mask[..., None], -torch.inf)  # (b, q, slots)
        return scores.softmax(dim=1).transpose(1, 2) @ text


class Lookup(nn.Module):
    """What frames hold of what words name: every track of every frame is what a slot looks for, or is not (a sigmoid each: none may be, or
    several), and those that are bring what they know, as it is and multiplied by what the slot asks of it."""

    def __init__(self, config: InteractionConfig) -> None:
        super().__init__()
        w = config.track_width
        self.slots, self.ask = Slots(config), nn.Linear(config.width, 2 * w + 1)
        self.see = nn.Sequential(nn.LayerNorm(w), nn.Linear(w, 2 * w), nn.GELU(), nn.Linear(2 * w, 2 * w))
        self.join = nn.Linear(config.slots * (2 * w + 1), config.width)
        self.scale = w**-0.5

    def forward(self, text: Tensor, text_mask: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """What is brought to frames (b, t, width), and found (b, t, slots, tracks), of words (b, q, width) with their mask (b, q) and of
        what ``see`` gave of tracks."""
        w = seen.shape[-1] // 2
        keys, values = seen.chunk(2, dim=-1)
        query, factor, bias = torch.split(self.ask(self.slots(text, text_mask)), [w, w, 1], dim=-1)  # (b, slots, ...)
        found = (torch.einsum("btsw,bkw->btks", keys, self.scale * query) + bias[:, None]).sigmoid()
        brought = found @ values  # (b, t, slots, w)
        held = found.sum(dim=-1, keepdim=True)
        joined: Tensor = self.join(torch.cat([brought, brought * factor[:, None], held], dim=-1).flatten(2))
        return joined, found


class Pairing(nn.Module):
    """Words multiplied into frames: each slot's answer into what it sees of every frame (low-rank bilinear pooling, Kim et al. 2017, arXiv
    1610.04325)."""

    def __init__(self, config: InteractionConfig) -> None:
        super().__init__()
        inner = config.slots * config.width
        self.slots, self.ask = Slots(config), nn.Linear(config.width, config.width)
        self.see = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, inner))
        self.join = nn.Linear(inner, config.width)

    def forward(self, text: Tensor, text_mask: Tensor, frames: Tensor) -> Tensor:
        """(b, t, width) of words (b, q, width) with their mask (b, q) and of frames (b, t, width)."""
        joined: Tensor = self.join(self.see(frames) * self.ask(self.slots(text, text_mask)).flatten(1)[:, None])
        return joined


def _projection(dim: int, config: InteractionConfig) -> nn.Sequential:
    def layer(dim: int) -> list[nn.Module]:
        return [nn.LayerNorm(dim), nn.Dropout(config.dropout), nn.Linear(dim, config.width)]

    return nn.Sequential(*layer(dim), nn.ReLU(), *layer(config.width))
