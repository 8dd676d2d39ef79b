"""What is optimised for pocket: the image tower with its heads, then the text tower and the packing before it."""

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
DIRECTIONS_WEIGHT = 4.0
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
class TextBatch:
    """The texts of one batch; see StillsTexts.

    Shapes:
        view, rows: which light and which frames (n,) of what was seen.
        tokens: (n + m, q) int64, own captions, then negatives; excluded: (n, n + m) bool.
        target: labels of the n frames; claimed: of the n + m texts.
    """

    view: int
    rows: Tensor
    tokens: Tensor
    excluded: Tensor
    target: dict[str, Tensor]
    claimed: dict[str, Tensor]


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


class TextTraining(nn.Module):
    """The text tower, the temperature, and the last step of the image tower, which packs what its queries saw into one vector.

    All before that step no longer moves and is computed once, so that a training step costs the texts alone (Zhai et al. 2022, "LiT:
    zero-shot transfer with locked-image text tuning"); but the packing must move: "in the middle" is no direction in a vector that holds a
    position as two numbers, and no text could point there.
    The heads read frames and texts alike, so that a text comes to lie where frames lie that show what it claims; and they say where that
    is. The contrast alone finds it too, but needs ten times as many texts.
    """

    seen: Tensor

    def __init__(self, text: PocketText, pack: Pack, heads: Heads, first_scale: float, seen: Tensor) -> None:
        """``seen`` (views, frames, queries, width): what the queries saw in all frames, as they are and under other light."""
        super().__init__()
        self.text, self.pack, self.heads = text, pack, heads
        self.log_scale = nn.Parameter(torch.tensor(math.log(first_scale)))
        self.register_buffer("seen", seen, persistent=False)

    def forward(self, batch: TextBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its parts."""
        device = self.log_scale.device
        seen = self.seen[batch.view].index_select(0, batch.rows.to(device)).float()
        image = F.normalize(self.pack(seen)[0].float(), dim=-1)
        texts = F.normalize(self._pooled(batch.tokens).float(), dim=-1)
        claimed = on_device(batch.claimed, device)
        n, scale = len(image), self.log_scale.exp().clamp(max=MOST_SCALE)
        parts = {
            "contrastive": info_nce(image, texts[:n], scale, negatives=texts[n:], excluded=batch.excluded.to(device)),
            "frames": torch.stack(list(self.heads(image, on_device(batch.target, device)).values())).sum(),
            "claims": self.heads.of_texts(texts, claimed),
            "directions": DIRECTIONS_WEIGHT * direction_loss(texts, self.heads.directions(claimed)),
        }
        return torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()} | {"scale": scale.detach()}

    def _pooled(self, tokens: Tensor) -> Tensor:
        """Text vectors (n, d), run in groups of about the same length: short texts do not wait for the longest."""
        ends = (tokens == END).int().argmax(dim=1)
        order = ends.argsort(stable=True)
        device = self.log_scale.device
        at_once = TEXTS_AT_ONCE.get(device.type, TEXTS_AT_ONCE_GPU)
        groups = [tokens[group, : int(ends[group].max()) + 1] for group in torch.split(order, at_once)]
        pooled = torch.cat([self.text(group.to(device))[0] for group in groups])
        return pooled[order.argsort().to(device)]


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
