"""What is optimised for pocket: both towers with their heads, then the text tower alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.encoders.pocket_model import PocketConfig, PocketText, PocketVision
from vlm.encoders.pocket_text import END
from vlm.errors import InputError
from vlm.train.losses.contrastive import info_nce
from vlm.train.pocket_heads import Heads, looking_loss
from vlm.train.stills_source import StillsBatch, StillsTexts

MOST_SCALE = 100.0
TEXTS_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Weights of the parts of the loss; ``first_scale`` is where the learnt inverse temperature begins."""

    contrastive: float = 1.0
    heads: float = 1.0
    first_scale: float = 14.0

    def __post_init__(self) -> None:
        if not 1 <= self.first_scale <= MOST_SCALE:
            raise InputError(f"first_scale must be within 1..{MOST_SCALE:g}, got {self.first_scale}")


class PocketTraining(nn.Module):
    """The two towers, the heads and the temperature; gives the loss of a batch."""

    def __init__(self, config: PocketConfig, loss: LossConfig) -> None:
        super().__init__()
        self.vision, self.text = PocketVision(config), PocketText(config)
        self.heads = Heads(config.dim, config.query_width, config.num_queries)
        self.log_scale = nn.Parameter(torch.tensor(math.log(loss.first_scale)))
        self._weights = loss

    def forward(self, batch: StillsBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its parts."""
        truth = batch.texts.stills
        vectors, found, looks = self.vision.look(normalised(batch.frames.to(self.log_scale.device)))
        image = F.normalize(vectors.float(), dim=-1)
        contrastive, scale, _ = text_loss(self.text, image, batch.texts, self.log_scale)
        parts = self.heads(image, truth) | {"looking": looking_loss(looks, truth), "queries": self.heads.of_queries(found, truth)}
        loss = self._weights.contrastive * contrastive + self._weights.heads * torch.stack(list(parts.values())).sum()
        return loss, {"contrastive": contrastive.detach(), **{name: part.detach() for name, part in parts.items()}, "scale": scale}


class TextTraining(nn.Module):
    """The text tower and the temperature, before an image tower that no longer moves: its vectors are computed once, so that a step costs
    the texts alone (Zhai et al. 2022, "LiT: zero-shot transfer with locked-image text tuning").

    The heads that learnt to read frames read the texts too, so that a text comes to lie where frames lie that show what it claims.
    """

    def __init__(self, text: PocketText, heads: Heads, first_scale: float) -> None:
        super().__init__()
        self.text = text
        self.heads = heads.requires_grad_(False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(first_scale)))

    def forward(self, batch: tuple[Tensor, StillsTexts]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of unit vectors (n, d) of frames and what is said of them."""
        image, texts = batch
        contrastive, scale, vectors = text_loss(self.text, image.to(self.log_scale.device), texts, self.log_scale)
        heads = self.heads.of_texts(vectors, texts.claims)
        return contrastive + heads, {"contrastive": contrastive.detach(), "heads": heads.detach(), "scale": scale}


def text_loss(text: PocketText, image: Tensor, batch: StillsTexts, log_scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The contrastive loss of unit vectors (n, d) of frames against their captions and hard negatives, the scale of similarities, and the
    unit vectors (n + m, d) of the texts."""
    tokens = torch.cat([batch.tokens, batch.negative_tokens]).to(image.device)
    texts = F.normalize(_pooled(text, tokens).float(), dim=-1)
    n, scale = len(image), log_scale.exp().clamp(max=MOST_SCALE)
    return info_nce(image, texts[:n], scale, negatives=texts[n:], excluded=batch.excluded.to(image.device)), scale.detach(), texts


def normalised(frames: Tensor) -> Tensor:
    """Pixels (n, 3, h, w) about 0 of frames (n, h, w, 3) uint8: what the shipped preprocessing does too."""
    return ((frames.float() - 127.5) / 63.75).permute(0, 3, 1, 2)


def _pooled(text: PocketText, tokens: Tensor) -> Tensor:
    """Text vectors (n, d), run in groups of about the same length: short texts do not wait for the longest."""
    order = (tokens == END).int().argmax(dim=1).argsort(stable=True)
    pooled = torch.cat([text(tokens[group])[0] for group in torch.split(order, TEXTS_AT_ONCE)])
    return pooled[order.argsort()]
