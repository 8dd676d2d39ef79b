"""What pocket's frame vector must hold, asked of it by linear heads while it is trained: without them captions alone would decide, and
what captions rarely say (the exact turn of a thing) would be lost to everything that is built on the vector."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.data.toybox.stills import CLEAR, UNCLEAR, Stills
from vlm.data.toybox.vocabulary import BACKDROPS, COLOURS, RADII, SHAPES, TEXTURES
from vlm.encoders.pocket_model import GRID_SIDE

# Numbers for each colour: presence, shape, texture, then radius, x, y, sine and cosine.
NUMBERS = 5
PER_COLOUR = 1 + len(SHAPES) + len(TEXTURES) + NUMBERS
MOST_THINGS = 8
# Standard deviations that bring radius and place to about unit variance, as sine and cosine nearly have.
RADIUS_SCALE, PLACE_SCALE = 0.04, 0.25
# A squared error of a hundredth matters, a cross-entropy of a hundredth does not.
NUMBERS_WEIGHT = 6.0
# Shape and texture are learnt last: at weight 1 they trail behind place and angle for most of a training.
NAMES_WEIGHT = 2.0


class Heads(nn.Module):
    """Linear heads on unit vectors (n, d): everything about the thing of each colour, how many there are, and the backdrop.

    ``of_queries`` asks the same of what each query found, before all is packed into the vector: one head for all colours, so that it
    learns eight times as fast what a star looks like. Only the image tower is kept of all this.
    """

    def __init__(self, dim: int, query_width: int, num_queries: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, len(COLOURS) * PER_COLOUR + MOST_THINGS + 1 + len(BACKDROPS))
        self.thing = nn.Linear(query_width, PER_COLOUR)
        self.backdrop = nn.Linear(query_width * (num_queries - len(COLOURS)), len(BACKDROPS))
        self.scale = dim**0.5

    def forward(self, vectors: Tensor, truth: Stills) -> dict[str, Tensor]:
        """The losses by name, each a scalar."""
        out = self.linear(vectors * self.scale).float()
        things, count, backdrop = torch.split(out, [len(COLOURS) * PER_COLOUR, MOST_THINGS + 1, len(BACKDROPS)], dim=-1)
        target = tensor_targets(truth, out.device)
        return _thing_losses(things.reshape(len(out), len(COLOURS), PER_COLOUR), target) | {
            "count": F.cross_entropy(count, target["count"], ignore_index=-1),
            "backdrop": F.cross_entropy(backdrop, target["backdrop"]),
        }

    def of_queries(self, found: Tensor, truth: Stills) -> Tensor:
        """The sum of the losses on what the queries found (n, queries, width)."""
        target = tensor_targets(truth, found.device)
        losses = _thing_losses(self.thing(found[:, : len(COLOURS)]).float(), target)
        backdrop = self.backdrop(found[:, len(COLOURS) :].flatten(1)).float()
        return torch.stack([*losses.values(), F.cross_entropy(backdrop, target["backdrop"])]).sum()


def _thing_losses(out: Tensor, target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Losses of (n, 8, PER_COLOUR) against what the colours' things are."""
    presence, shape, texture, numbers = torch.split(out, [1, len(SHAPES), len(TEXTURES), NUMBERS], dim=-1)
    known, clear = target["known"], target["clear"]
    error = (numbers[clear] - target["numbers"][clear]).square().mean(dim=0)
    return {
        "presence": F.binary_cross_entropy_with_logits(presence[..., 0][known], clear[known].float()),
        "shape": NAMES_WEIGHT * F.cross_entropy(shape[clear], target["shape"][clear]),
        "texture": NAMES_WEIGHT * F.cross_entropy(texture[clear], target["texture"][clear]),
        "radius": NUMBERS_WEIGHT * error[0],
        "place": NUMBERS_WEIGHT * error[1:3].sum(),
        "angle": NUMBERS_WEIGHT * error[3:].sum(),
    }


def tensor_targets(truth: Stills, device: torch.device) -> dict[str, Tensor]:
    """As ``targets``, on ``device``."""
    return {name: torch.from_numpy(values).to(device) for name, values in targets(truth).items()}


def looking_loss(logits: Tensor, truth: Stills) -> Tensor:
    """Cross-entropy of where the first eight queries look (n, queries, cells + 1) against the cell with the centre of their colour's thing,
    or nowhere where there is none: a scalar. Nothing is asked about what is unclear.

    Without it the queries take most of a training to find out what they are for.
    """
    known = torch.from_numpy(truth.clarity != UNCLEAR).to(logits.device)
    place = (np.stack([truth.x, truth.y]) * GRID_SIDE).astype(np.int64).clip(0, GRID_SIDE - 1)
    cell = np.where(truth.clarity == CLEAR, place[1] * GRID_SIDE + place[0], GRID_SIDE**2)
    own = logits[:, : len(COLOURS)].float()
    return F.cross_entropy(own[known], torch.from_numpy(cell).to(logits.device)[known])


def targets(truth: Stills) -> dict[str, np.ndarray]:
    """Labels for the heads: known, clear (n, 8) bool; shape, texture (n, 8) int64; numbers (n, 8, 5) float32; count, backdrop (n,) int64.

    ``count`` is -1 where something unclear is in the frame: no loss is taken there.
    """
    clear = truth.clarity == CLEAR
    numbers = np.stack(
        [
            (truth.radius - RADII[1]) / RADIUS_SCALE,
            (truth.x - 0.5) / PLACE_SCALE,
            (truth.y - 0.5) / PLACE_SCALE,
            np.sin(truth.angle),
            np.cos(truth.angle),
        ],
        axis=-1,
    )
    return {
        "known": truth.clarity != UNCLEAR,
        "clear": clear,
        "shape": truth.shape.astype(np.int64),
        "texture": truth.texture.astype(np.int64),
        "numbers": numbers.astype(np.float32),
        "count": np.where((truth.clarity == UNCLEAR).any(axis=1), -1, clear.sum(axis=1)),
        "backdrop": truth.backdrop.astype(np.int64),
    }
