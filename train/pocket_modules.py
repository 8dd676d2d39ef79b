"""What is optimised for pocket: the image tower with its heads, then the text tower and the packing before it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.data.toybox.stills import Stills
from vlm.encoders.pocket_model import Pack, PocketConfig, PocketText, PocketVision
from vlm.encoders.pocket_text import END
from vlm.train.losses.contrastive import info_nce
from vlm.train.pocket_heads import Heads, looking_loss
from vlm.train.stills_source import StillsBatch, StillsTexts

MOST_SCALE = 100.0
TEXTS_AT_ONCE = 64


class ImageTraining(nn.Module):
    """The image tower and the heads that ask its vector for everything about every thing; gives the loss of a batch."""

    def __init__(self, config: PocketConfig) -> None:
        super().__init__()
        self.vision = PocketVision(config)
        self.heads = Heads(config.dim, config.query_width, config.num_queries)

    def forward(self, batch: StillsBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its parts."""
        pixels = normalised(batch.frames.to(self.vision.queries.device))
        seen, looks = self.vision.look(pixels)
        vectors, found = self.vision.pack(seen)
        parts = self.heads(F.normalize(vectors.float(), dim=-1), batch.stills)
        parts |= {"looking": looking_loss(looks, batch.stills), "queries": self.heads.of_queries(found, batch.stills)}
        return torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()}


class TextTraining(nn.Module):
    """The text tower, the temperature, and the last step of the image tower, which packs what its queries saw into one vector.

    All before that step no longer moves and is computed once, so that a training step costs the texts alone (Zhai et al. 2022, "LiT:
    zero-shot transfer with locked-image text tuning"); but the packing must move: "in the middle" is no direction in a vector that holds a
    position as two numbers, and no text could point there.
    The heads read frames and texts alike, so that a text comes to lie where frames lie that show what it claims.
    """

    def __init__(self, text: PocketText, pack: Pack, heads: Heads, first_scale: float) -> None:
        super().__init__()
        self.text, self.pack, self.heads = text, pack, heads
        self.log_scale = nn.Parameter(torch.tensor(math.log(first_scale)))

    def forward(self, batch: tuple[Tensor, Stills, StillsTexts]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of what was seen in frames (n, queries, width), what is there, and what is said of them; and its parts."""
        device = self.log_scale.device
        seen, truth, said = batch[0].to(device).float(), batch[1], batch[2]
        image = F.normalize(self.pack(seen)[0].float(), dim=-1)
        texts = F.normalize(self._pooled(torch.cat([said.tokens, said.negative_tokens]).to(device)).float(), dim=-1)
        n, scale = len(image), self.log_scale.exp().clamp(max=MOST_SCALE)
        parts = {
            "contrastive": info_nce(image, texts[:n], scale, negatives=texts[n:], excluded=said.excluded.to(device)),
            "frames": torch.stack(list(self.heads(image, truth).values())).sum(),
            "claims": self.heads.of_texts(texts, said.claims),
        }
        return torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()} | {"scale": scale.detach()}

    def _pooled(self, tokens: Tensor) -> Tensor:
        """Text vectors (n, d), run in groups of about the same length: short texts do not wait for the longest."""
        order = (tokens == END).int().argmax(dim=1).argsort(stable=True)
        pooled = torch.cat([self.text(tokens[group])[0] for group in torch.split(order, TEXTS_AT_ONCE)])
        return pooled[order.argsort()]


def normalised(frames: Tensor) -> Tensor:
    """Pixels (n, 3, h, w) about 0 of frames (n, h, w, 3) uint8: what the shipped preprocessing does too."""
    return ((frames.float() - 127.5) / 63.75).permute(0, 3, 1, 2)
