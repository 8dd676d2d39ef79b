"""What pocket's frame vector must hold, asked of it by linear heads while it is trained: without them captions alone would decide, and
what captions rarely say (the exact turn of a thing) would be lost to everything that is built on the vector."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.data.toybox.splits import is_held_out_look
from vlm.data.toybox.still_facts import PLACE_MARGIN, RELATION_CERTAIN, WAY_CERTAIN, WAYS, Claim, Mention, place_thirds
from vlm.data.toybox.stills import CLEAR, UNCLEAR, Stills
from vlm.data.toybox.vocabulary import BACKDROPS, COLOURS, RADII, SHAPES, SIZES, TEXTURES
from vlm.encoders.pocket_model import GRID_SIDE, SPARE

# For each colour: presence, these choices, then the numbers radius, x, y, sine and cosine. The choices that numbers would settle stand
# there because texts speak in choices: a vector's product with a text can rank "left, middle, right" only if each has a direction.
CHOICES = {"shape": len(SHAPES), "texture": len(TEXTURES), "size": len(SIZES), "across": 3, "down": 3, "way": len(WAYS)}
NUMBERS = 5
# Of which of two things the colours stand for, and along which axis: the first is left of, or above, the second.
PAIRS = tuple(combinations(range(len(COLOURS)), 2))
AXES = 2
LAYOUT = (1, *CHOICES.values(), NUMBERS)
PER_COLOUR = sum(LAYOUT)
MOST_THINGS = 8
CHOSEN = PER_COLOUR - NUMBERS
WHOLE = (len(COLOURS) * CHOSEN, len(PAIRS) * AXES, MOST_THINGS + 1, len(BACKDROPS))
# Where the learnt scale of the prototypes begins: a vector that shows 25 facts gives each a cosine of a fifth.
FIRST_SCALE = 30.0
# How long the sum of m prototypes may be, in square roots of m, before it is cut: claims that go together lie somewhat alike.
ROOM = 1.3
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
WEIGHTS = dict.fromkeys(CHOICES, 1.0) | {"shape": 2.0, "texture": 4.0}


class Heads(nn.Module):
    """Heads on unit vectors (n, d): everything about the thing of each colour, how two stand to each other, how many there are, and the
    backdrop.

    Every answer has a prototype of unit length, and what they choose by is its product with the vector, without a bias: so that a text
    that lies at the sum of the prototypes of what it claims ranks frames exactly as the heads do. Numbers are read by a plain map. The
    SPARE numbers of a vector are not read.

    ``of_queries`` asks the same of what each query found, before all is packed into the vector: one head for all colours, so that it
    learns eight times as fast what a star looks like. Only the image tower is kept of all this.
    """

    def __init__(self, dim: int, query_width: int, num_queries: int) -> None:
        super().__init__()
        self.prototypes = nn.Linear(dim - SPARE, sum(WHOLE), bias=False)
        self.numbers = nn.Linear(dim - SPARE, len(COLOURS) * NUMBERS)
        self.log_scale = nn.Parameter(torch.full((1 + len(CHOICES) + 3,), math.log(FIRST_SCALE)))
        self.thing = nn.Linear(query_width, PER_COLOUR)
        self.backdrop = nn.Linear(query_width * (num_queries - len(COLOURS)), len(BACKDROPS))
        self.scale = dim**0.5

    def forward(self, vectors: Tensor, target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The losses by name, each a scalar; ``target`` as ``targets`` gives it."""
        things, beside, count, backdrop = self._read(vectors)
        return _thing_losses(things, target) | {
            "beside": _relation_loss(beside, target["beside"]),
            "count": _choice_loss(count, target["count"]),
            "backdrop": _choice_loss(backdrop, target["backdrop"]),
        }

    def of_queries(self, found: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """The sum of the losses on what the queries found (n, queries, width)."""
        losses = _thing_losses(self.thing(found[:, : len(COLOURS)]).float(), target)
        backdrop = self.backdrop(found[:, len(COLOURS) :].flatten(1)).float()
        return torch.stack([*losses.values(), _choice_loss(backdrop, target["backdrop"])]).sum()

    def of_texts(self, vectors: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """The loss of unit vectors (n, d) of texts: read by the heads of the frames, each must show what its text claims. A scalar;
        ``target`` as ``claim_targets`` gives it.

        Nothing is asked about what a text leaves open, but that colours it does not name are about as likely as in any frame.
        """
        things, beside, count, backdrop = self._read(vectors)
        presence, *choices, _ = torch.split(things, list(LAYOUT), dim=-1)
        asked = dict(zip(CHOICES, choices, strict=True)) | {"count": count, "backdrop": backdrop}
        losses = [_choice_loss(logits, target[name]) for name, logits in asked.items()]
        losses.append(_relation_loss(beside, target["beside"]))
        return torch.stack([*losses, F.binary_cross_entropy_with_logits(presence[..., 0], target["presence"])]).sum()

    def directions(self, claimed: Mapping[str, Tensor]) -> Tensor:
        """Where a text that makes these claims (see ``claim_targets``) should lie: unit vectors (n, d), 0 where nothing is claimed.

        The sum of the prototypes of all that is claimed, divided by a length that depends on how many they are and on nothing else, and
        the rest in the SPARE numbers: its product with a frame's vector adds up what the heads find there. The heads learn nothing by it.
        """
        presence, beside = claimed["presence"], claimed["beside"]
        things = [(presence > TYPICAL_PRESENCE + 0.01).float()[..., None]]
        things += [_one_hot(claimed[name], number) for name, number in CHOICES.items()]
        parts = [
            torch.cat(things, dim=-1).flatten(1),
            torch.where(beside >= 0, 2.0 * beside - 1, 0.0).flatten(1),
            _one_hot(claimed["count"], MOST_THINGS + 1),
            _one_hot(claimed["backdrop"], len(BACKDROPS)),
        ]
        claims = torch.cat(parts, dim=1)
        number = claims.abs().sum(dim=1, keepdim=True)
        told = claims @ F.normalize(self.prototypes.weight.detach().float(), dim=-1) / (ROOM * number.clamp(min=1).sqrt())
        rest = (1 - told.square().sum(dim=1, keepdim=True)).clamp(min=0).sqrt() * (number > 0) / SPARE**0.5
        return F.normalize(torch.cat([told, rest.expand(-1, SPARE)], dim=1), dim=1)

    def _read(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Things (n, 8, PER_COLOUR), relations (n, PAIRS, AXES), count and backdrop of unit vectors (n, d)."""
        n, prototypes = len(vectors), F.normalize(self.prototypes.weight.float(), dim=-1)
        vectors, scales = vectors[:, :-SPARE], self.log_scale.exp()
        things, beside, count, backdrop = torch.split(vectors.float() @ prototypes.T, list(WHOLE), dim=-1)
        sizes = torch.tensor([1, *CHOICES.values()], device=scales.device)
        chosen = things.reshape(n, len(COLOURS), CHOSEN) * scales[:-3].repeat_interleave(sizes, output_size=CHOSEN)
        numbers = self.numbers(vectors * self.scale).float().reshape(n, len(COLOURS), NUMBERS)
        beside = scales[-3] * beside.reshape(n, len(PAIRS), AXES)
        return torch.cat([chosen, numbers], dim=-1), beside, scales[-2] * count, scales[-1] * backdrop


def _one_hot(target: Tensor, number: int) -> Tensor:
    """(..., number): 1 at the target; 0 where the target is -1."""
    return F.one_hot(target.clamp(min=0), number).float() * (target >= 0)[..., None]


def _choice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of (..., k) where ``target`` (...) is not -1; 0 where it is -1 everywhere."""
    total = F.cross_entropy(logits.flatten(0, -2), target.flatten(), ignore_index=-1, reduction="sum")
    return total / (target >= 0).sum().clamp(min=1)


def _relation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy where ``target`` is 0 or 1 and not -1."""
    asked = target >= 0
    each = F.binary_cross_entropy_with_logits(logits, target.clamp(min=0).float(), reduction="none")
    return (each * asked).sum() / asked.sum().clamp(min=1)


def claim_targets(claims: Sequence[Claim]) -> dict[str, np.ndarray]:
    """Labels for the heads as far as texts give them: presence (n, 8) float32; each of CHOICES (n, 8), beside (n, PAIRS, AXES), count and
    backdrop (n,) int64, -1 where nothing is said. Of mentions without a colour nothing is known."""
    n, k = len(claims), len(COLOURS)
    presence = np.full((n, k), TYPICAL_PRESENCE, np.float32)
    choices = {name: np.full((n, k), -1) for name in CHOICES}
    for row, claim in enumerate(claims):
        for mention in claim.mentions:
            if mention.colour is None:
                continue
            presence[row, mention.colour] = 1.0
            for name, value in _claimed_choices(mention).items():
                choices[name][row, mention.colour] = -1 if value is None else value
    beside = np.full((n, len(PAIRS), AXES), -1)
    for row, claim in enumerate(claims):
        if claim.relation is None:
            continue
        (one, other), (axis, is_reverse) = (mention.colour for mention in claim.mentions[:2]), divmod(claim.relation, 2)
        if one is not None and other is not None and one != other:
            pair = PAIRS.index((min(one, other), max(one, other)))
            beside[row, pair, axis] = int((one < other) != bool(is_reverse))
    count = np.array([-1 if claim.count is None or claim.counted is not None else claim.count for claim in claims])
    backdrop = np.array([-1 if claim.backdrop is None else claim.backdrop for claim in claims])
    return {"presence": presence, **choices, "beside": beside, "count": count, "backdrop": backdrop}


def _claimed_choices(mention: Mention) -> dict[str, int | None]:
    across, down = (None, None) if mention.place is None else place_thirds(mention.place)
    said = (mention.shape, mention.texture, mention.size, across, down, mention.way)
    return dict(zip(CHOICES, said, strict=True))


def _thing_losses(out: Tensor, target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Losses of (n, 8, PER_COLOUR) against what the colours' things are. Masked, not picked: picking makes a GPU wait for its numbers."""
    presence, *choices, numbers = torch.split(out, list(LAYOUT), dim=-1)
    known, clear = target["known"].float(), target["clear"]
    asked = dict(zip(CHOICES, choices, strict=True))
    # A look that training withholds is no wrong answer: asked against it, the heads would learn that no such thing exists.
    asked["shape"] = asked["shape"].masked_fill(target["withheld_shapes"], -torch.inf)
    asked["texture"] = asked["texture"].masked_fill(target["withheld_textures"], -torch.inf)
    error = torch.where(clear[..., None], numbers - target["numbers"], 0.0).square().sum(dim=(0, 1)) / clear.sum().clamp(min=1)
    there = F.binary_cross_entropy_with_logits(presence[..., 0], clear.float(), reduction="none")
    return {
        "presence": (there * known).sum() / known.sum().clamp(min=1),
        **{name: WEIGHTS[name] * _choice_loss(logits, target[name]) for name, logits in asked.items()},
        "radius": NUMBERS_WEIGHT * error[0],
        "place": NUMBERS_WEIGHT * error[1:3].sum(),
        "angle": NUMBERS_WEIGHT * error[3:].sum(),
    }


def looking_loss(logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
    """Cross-entropy of where the first eight queries look (n, queries, cells + 1) against the cell with the centre of their colour's thing,
    or nowhere where there is none: a scalar. Nothing is asked about what is unclear.

    Without it the queries take most of a training to find out what they are for.
    """
    return _choice_loss(logits[:, : len(COLOURS)].float(), target["cell"])


def as_tensors(arrays: Mapping[str, np.ndarray], device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Labels as tensors."""
    return {name: torch.from_numpy(np.ascontiguousarray(values)).to(device) for name, values in arrays.items()}


def targets(truth: Stills) -> dict[str, np.ndarray]:
    """Labels for the heads.

    Shapes:
        known, clear: (n, 8) bool. numbers: (n, 8, 5) float32, to be read where clear.
        each of CHOICES: (n, 8) int64, -1 where there is nothing clear or a viewer could not tell. cell: (n, 8) int64, where on the grid the
            thing of each colour lies; GRID_SIDE ** 2 is nowhere, -1 not to be asked.
        beside: (n, PAIRS, AXES) int64, 1 where the pair's first thing is left of, or above, its second, 0 the other way round, -1 where a
            viewer could not tell.
        count, backdrop: (n,) int64; count is -1 where something unclear is in the frame.
        withheld_shapes: (n, 8, 8) bool and withheld_textures: (n, 8, 4) bool, the answers that would make a look that training withholds.
    """
    clear = truth.clarity == CLEAR
    place = (np.stack([truth.x, truth.y]) * GRID_SIDE).astype(np.int64).clip(0, GRID_SIDE - 1)
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
    eighths = truth.angle * 4 / np.pi
    is_near = np.abs(eighths - eighths.round()) <= WAY_CERTAIN
    one, other = np.array(PAIRS).T
    gap = np.stack([value[:, other] - value[:, one] for value in (truth.x, truth.y)], axis=-1)  # (n, pairs, axes)
    can_tell = (clear[:, one] & clear[:, other])[..., None] & (np.abs(gap) > RELATION_CERTAIN)
    colour = np.broadcast_to(np.arange(len(COLOURS)), truth.shape.shape)
    return {
        "withheld_shapes": WITHHELD[:, colour, truth.texture].transpose(1, 2, 0) & clear[..., None],
        "withheld_textures": WITHHELD[truth.shape, colour] & clear[..., None],
        "known": truth.clarity != UNCLEAR,
        "clear": clear,
        "shape": np.where(clear, truth.shape.astype(np.int64), -1),
        "texture": np.where(clear, truth.texture.astype(np.int64), -1),
        "size": np.where(clear, truth.size.astype(np.int64), -1),
        "across": np.where(clear, _thirds(truth.x), -1),
        "down": np.where(clear, _thirds(truth.y), -1),
        "way": np.where(clear & is_near, eighths.round().astype(np.int64) % len(WAYS), -1),
        "cell": np.where(clear, place[1] * GRID_SIDE + place[0], np.where(truth.clarity == UNCLEAR, -1, GRID_SIDE**2)),
        "numbers": numbers.astype(np.float32),
        "beside": np.where(can_tell, (gap > 0).astype(np.int64), -1),
        "count": np.where((truth.clarity == UNCLEAR).any(axis=1), -1, clear.sum(axis=1)),
        "backdrop": truth.backdrop.astype(np.int64),
    }


def _thirds(values: np.ndarray) -> np.ndarray:
    """Which third of 0..1 each value is in, int64; -1 too near to a bound to say."""
    third = (values * 3).astype(np.int64).clip(0, 2)
    to_bound = np.minimum(np.abs(values - 1 / 3), np.abs(values - 2 / 3))
    return np.where(to_bound > PLACE_MARGIN, third, -1)
