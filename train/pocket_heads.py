"""What pocket's frame vector must hold, asked of it by linear heads while it is trained: without them captions alone would decide, and
what captions rarely say (the exact turn of a thing) would be lost to everything that is built on the vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.data.toybox.splits import is_held_out_look
from vlm.data.toybox.still_facts import Claim, Mention, place_thirds
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
# Looks (shape, colour, texture) that the training split never shows.
WITHHELD = np.array(
    [[[is_held_out_look(shape, colour, texture) for texture in TEXTURES] for colour in COLOURS] for shape in SHAPES], dtype=np.bool_
)
# A frame holds three or four of the eight colours.
TYPICAL_PRESENCE = 0.4
# Shape and texture are learnt last: at weight 1 they trail behind place and angle for most of a training.
SHAPE_WEIGHT, TEXTURE_WEIGHT = 2.0, 4.0


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

    def of_texts(self, vectors: Tensor, claims: Sequence[Claim]) -> Tensor:
        """The loss of unit vectors (n, d) of texts: read by the heads of the frames, each must show what its text claims. A scalar.

        Nothing is asked about what a text leaves open, but that colours it does not name are about as likely as in any frame.
        """
        out = self.linear(vectors * self.scale).float()
        things, count, backdrop = torch.split(out, [len(COLOURS) * PER_COLOUR, MOST_THINGS + 1, len(BACKDROPS)], dim=-1)
        things = things.reshape(len(out), len(COLOURS), PER_COLOUR)
        presence, shape, texture, numbers = torch.split(things, [1, len(SHAPES), len(TEXTURES), NUMBERS], dim=-1)
        target = {name: torch.from_numpy(values).to(out.device) for name, values in claim_targets(claims).items()}
        is_said = ~target["numbers"].isnan()
        error = torch.where(is_said, numbers - target["numbers"].nan_to_num(), 0.0).square().sum() / is_said.sum().clamp(min=1)
        classes = {"shape": shape, "texture": texture, "count": count, "backdrop": backdrop}
        losses = [
            F.cross_entropy(x.flatten(0, -2), target[name].flatten(), ignore_index=-1, reduction="sum") for name, x in classes.items()
        ]
        named = sum(int((target[name] >= 0).sum()) for name in classes)
        losses = [torch.stack(losses).sum() / max(1, named), NUMBERS_WEIGHT * error]
        return torch.stack([*losses, F.binary_cross_entropy_with_logits(presence[..., 0], target["presence"])]).sum()


def claim_targets(claims: Sequence[Claim]) -> dict[str, np.ndarray]:
    """Labels for the heads as far as texts give them: presence (n, 8) float32; shape, texture (n, 8), count, backdrop (n,) int64, -1 where
    nothing is said; numbers (n, 8, 5) float32, NaN where nothing is said. Of mentions without a colour nothing is known."""
    n, k = len(claims), len(COLOURS)
    presence = np.full((n, k), TYPICAL_PRESENCE, np.float32)
    shape, texture = np.full((n, k), -1), np.full((n, k), -1)
    numbers = np.full((n, k, NUMBERS), np.nan, np.float32)
    for row, claim in enumerate(claims):
        for mention in claim.mentions:
            if mention.colour is None:
                continue
            at = (row, mention.colour)
            presence[at] = 1.0
            shape[at] = -1 if mention.shape is None else mention.shape
            texture[at] = -1 if mention.texture is None else mention.texture
            numbers[at] = _claimed_numbers(mention)
    count = np.array([-1 if claim.count is None or claim.counted is not None else claim.count for claim in claims])
    backdrop = np.array([-1 if claim.backdrop is None else claim.backdrop for claim in claims])
    return {"presence": presence, "shape": shape, "texture": texture, "numbers": numbers, "count": count, "backdrop": backdrop}


def _claimed_numbers(mention: Mention) -> list[float]:
    """Radius, x, y, sine and cosine in the heads' units, NaN where nothing is said: the middle of what the words cover."""
    nothing = float("nan")
    radius = nothing if mention.size is None else (RADII[mention.size] - RADII[1]) / RADIUS_SCALE
    x = y = sine = cosine = nothing
    if mention.place is not None:
        thirds = place_thirds(mention.place)
        x, y = (nothing if third is None else ((third + 0.5) / 3 - 0.5) / PLACE_SCALE for third in thirds)
    if mention.way is not None:
        angle = mention.way * np.pi / 4
        sine, cosine = float(np.sin(angle)), float(np.cos(angle))
    return [radius, x, y, sine, cosine]


def _thing_losses(out: Tensor, target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Losses of (n, 8, PER_COLOUR) against what the colours' things are."""
    presence, shape, texture, numbers = torch.split(out, [1, len(SHAPES), len(TEXTURES), NUMBERS], dim=-1)
    known, clear = target["known"], target["clear"]
    # A look that training withholds is no wrong answer: asked against it, the heads would learn that no such thing exists.
    shape = shape.masked_fill(target["withheld_shapes"], -torch.inf)
    texture = texture.masked_fill(target["withheld_textures"], -torch.inf)
    error = (numbers[clear] - target["numbers"][clear]).square().mean(dim=0)
    return {
        "presence": F.binary_cross_entropy_with_logits(presence[..., 0][known], clear[known].float()),
        "shape": SHAPE_WEIGHT * F.cross_entropy(shape[clear], target["shape"][clear]),
        "texture": TEXTURE_WEIGHT * F.cross_entropy(texture[clear], target["texture"][clear]),
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
    """Labels for the heads: known, clear (n, 8) bool; shape, texture (n, 8) int64; numbers (n, 8, 5) float32; count, backdrop (n,) int64;
    withheld_shapes (n, 8, 8) and withheld_textures (n, 8, 4) bool, the answers that would make a look that training withholds.

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
    colour = np.broadcast_to(np.arange(len(COLOURS)), truth.shape.shape)
    return {
        "withheld_shapes": WITHHELD[:, colour, truth.texture].transpose(1, 2, 0) & clear[..., None],
        "withheld_textures": WITHHELD[truth.shape, colour] & clear[..., None],
        "known": truth.clarity != UNCLEAR,
        "clear": clear,
        "shape": truth.shape.astype(np.int64),
        "texture": truth.texture.astype(np.int64),
        "numbers": numbers.astype(np.float32),
        "count": np.where((truth.clarity == UNCLEAR).any(axis=1), -1, clear.sum(axis=1)),
        "backdrop": truth.backdrop.astype(np.int64),
    }
