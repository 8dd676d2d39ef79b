"""What is optimised for pocket, stage by stage: the image tower, its packing, the text tower, its projection."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.encoders.pocket_model import Pack, PocketConfig, PocketText, PocketVision
from vlm.encoders.pocket_text import END
from vlm.train.losses.contrastive import info_nce
from vlm.train.pocket_heads import Heads, looking_loss
from vlm.train.stills_source import relit

# A caption of two things says twelve things of them: one that is false moves the cosine by a twentieth. At CLIP's limit of 100 a hundred
# such captions would keep the loss of a perfect model above 0.3.
MOST_SCALE = 400.0
# The contrast pulls texts to where they suit the frames of training best; at a weight of 4 it wins, and texts suit other frames worse: R@1
# among hard negatives on held-out looks was 0.68, and 0.83 at 60.
DIRECTIONS_WEIGHT = 60.0
# On a processor a group costs what it holds; on a GPU, its launches.
TEXTS_AT_ONCE = {"cpu": 64}
TEXTS_AT_ONCE_GPU = 1024


@dataclass(frozen=True, slots=True)
class ImageBatch:
    """Frames (n, h, w, 3) uint8, the seed of their light (None for their own), and the labels of ``pocket_heads.targets``."""

    frames: Tensor
    light_seed: int | None
    target: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class PackBatch:
    """Which light and which frames (n,) of what was seen, and the labels of ``pocket_heads.targets``."""

    view: int
    rows: Tensor
    target: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class TextBatch:
    """The texts of one batch; see StillsTexts.

    Shapes:
        view, rows: which light and which frames (n,).
        tokens: (n + m, q) int64, own captions, then negatives; or ``read``: (n + m, 2 width), where they have been read before.
        excluded: (n, n + m) bool. claimed: labels of the n + m texts.
    """

    view: int
    rows: Tensor
    tokens: Tensor
    excluded: Tensor
    claimed: dict[str, Tensor]
    read: Tensor | None = None


class ImageTraining(nn.Module):
    """The image tower and the heads that ask its vector for everything about every thing; gives the loss of a batch."""

    def __init__(self, config: PocketConfig) -> None:
        super().__init__()
        self.vision = PocketVision(config)
        self.heads = Heads(config.dim, config.query_width, config.num_queries)

    def forward(self, batch: ImageBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its parts."""
        device = self.vision.queries.device
        frames, target = batch.frames.to(device), on_device(batch.target, device)
        if batch.light_seed is not None:
            frames = relit(frames, batch.light_seed)
        seen, looks = self.vision.look(normalised(frames))
        vectors, found = self.vision.pack(seen)
        parts = self.heads(F.normalize(vectors.float(), dim=-1), target)
        parts |= {"looking": looking_loss(looks, target), "queries": self.heads.of_queries(found, target)}
        return torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()}


class PackTraining(nn.Module):
    """The last step of the image tower, which packs what its queries saw into one vector, and the heads that ask that vector.

    All before that step no longer moves and is computed once: a step costs a hundredth, and what the heads find hard at the end of the
    image stage is the packing, not the seeing.
    """

    seen: Tensor

    def __init__(self, pack: Pack, heads: Heads, seen: Tensor) -> None:
        """``seen`` (views, frames, queries, width): what the queries saw in all frames, as they are and under other light."""
        super().__init__()
        self.pack, self.heads = pack, heads
        self.register_buffer("seen", seen, persistent=False)

    def forward(self, batch: PackBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its parts."""
        device = self.seen.device
        seen = self.seen[batch.view].index_select(0, batch.rows.to(device)).float()
        parts = self.heads(F.normalize(self.pack(seen)[0].float(), dim=-1), on_device(batch.target, device))
        return torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()}


class TextLoss(nn.Module):
    """How well texts lie where the frames lie that they are true of; frames and heads no longer move (Zhai et al. 2022, "LiT: zero-shot
    transfer with locked-image text tuning").

    Three parts: the contrast with other texts; the heads of the frames, which must find in a text what it claims; and where those heads
    say that the text belongs. The contrast alone finds that place too, but needs ten times as many texts.
    """

    frames: Tensor

    def __init__(self, heads: Heads, frames: Tensor, first_scale: float) -> None:
        """``frames`` (views, frames, d): the unit vectors of all frames."""
        super().__init__()
        self.heads = heads.requires_grad_(False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(first_scale)))
        self.register_buffer("frames", frames, persistent=False)

    def forward(self, pooled: Tensor, batch: TextBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of text vectors (n + m, d) of any length, and its parts."""
        device = self.frames.device
        image = self.frames[batch.view].index_select(0, batch.rows.to(device)).float()
        texts, claimed = F.normalize(pooled.float(), dim=-1), on_device(batch.claimed, device)
        n, scale = len(image), self.log_scale.exp().clamp(max=MOST_SCALE)
        parts = {
            "contrastive": info_nce(image, texts[:n], scale, negatives=texts[n:], excluded=batch.excluded.to(device)),
            "claims": self.heads.of_texts(texts, claimed),
            "directions": DIRECTIONS_WEIGHT * direction_loss(texts, self.heads.directions(claimed)),
        }
        return torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()} | {"scale": scale.detach()}


class TextTraining(nn.Module):
    """The text tower."""

    def __init__(self, text: PocketText, loss: TextLoss) -> None:
        super().__init__()
        self.text, self.loss = text, loss

    def forward(self, batch: TextBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its parts."""
        loss: tuple[Tensor, dict[str, Tensor]] = self.loss(self.text.project(read_ends(self.text, batch.tokens)), batch)
        return loss


class ProjectTraining(nn.Module):
    """The last step of the text tower, over texts that it has read: ten thousand a second even on a processor."""

    def __init__(self, project: nn.Module, loss: TextLoss) -> None:
        super().__init__()
        self.project, self.loss = project, loss

    def forward(self, batch: TextBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its parts; ``batch.read`` is there."""
        assert batch.read is not None
        loss: tuple[Tensor, dict[str, Tensor]] = self.loss(self.project(batch.read.to(self.loss.frames.device).float()), batch)
        return loss


def read_ends(text: PocketText, tokens: Tensor) -> Tensor:
    """What stands at the ends of texts before it is projected, (n, 2 width). They are run in groups of about the same length: short texts
    do not wait for the longest."""
    device = text.position.device
    ends = (tokens == END).int().argmax(dim=1)
    order = ends.argsort(stable=True)
    at_once = TEXTS_AT_ONCE.get(device.type, TEXTS_AT_ONCE_GPU)
    parts = []
    for group in torch.split(order, at_once):
        x, places = text.read(tokens[group, : int(ends[group].max()) + 1].to(device))
        parts.append(x[torch.arange(len(x), device=device), places])
    return torch.cat(parts)[order.argsort().to(device)]


def direction_loss(texts: Tensor, directions: Tensor) -> Tensor:
    """One less the cosine of unit vectors (n, d) with directions (n, d) of any length, the mean over those that are not 0: a scalar."""
    length = directions.norm(dim=-1)
    is_told = length > 0
    cosine = (texts * directions).sum(dim=-1) / length.clamp(min=1e-6)
    away: Tensor = ((1 - cosine) * is_told).sum() / is_told.sum().clamp(min=1)
    return away


def on_device(labels: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The labels there."""
    return {name: values.to(device) for name, values in labels.items()}


def normalised(frames: Tensor) -> Tensor:
    """Pixels (n, 3, h, w) about 0 of frames (n, h, w, 3) uint8: what the shipped preprocessing does too."""
    return ((frames.float() - 127.5) / 63.75).permute(0, 3, 1, 2)
