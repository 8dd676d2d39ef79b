"""What a caption of one frame claims, and whether a frame bears it out: true, false, or too close to call.

Bounds carry margins: between "is" and "cannot be" lies a band where nothing is claimed, neither in a caption nor in its hard negatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import NamedTuple

from vlm.data.toybox.stills import ABSENT, CLEAR, Stills
from vlm.data.toybox.vocabulary import COLOURS

# Thirds of the frame across and down; then a whole column or row.
PLACES = ("top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right")
BANDS = ("on the left", "on the right", "at the top", "at the bottom")
WAYS = ("up", "upper right", "right", "lower right", "down", "lower left", "left", "upper left")
RELATIONS = ("left of", "right of", "above", "below")

PLACE_MARGIN = 0.035
WAY_CERTAIN, WAY_POSSIBLE = 0.4, 0.65  # eighths of a turn from the middle of the way
RELATION_CERTAIN, RELATION_POSSIBLE = 0.08, 0.02
ATTRIBUTES = ("colour", "shape", "size", "texture", "place", "way")


class Sight(NamedTuple):
    """One thing in one frame: integers are positions in the vocabulary, ``eighths`` is the angle in eighths of a turn."""

    colour: int
    is_clear: bool
    shape: int
    size: int
    texture: int
    x: float
    y: float
    eighths: float


@dataclass(frozen=True, slots=True)
class Mention:
    """What a caption says of one thing; None where it says nothing.

    ``place`` counts PLACES, then BANDS; ``way`` counts WAYS.
    """

    colour: int | None = None
    shape: int | None = None
    size: int | None = None
    texture: int | None = None
    place: int | None = None
    way: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """What one caption says.

    Attributes:
        mentions: things that are there; none or up to three.
        relation: position in RELATIONS, of the first mention to the second.
        count: how many things there are, exactly; of shape ``counted`` where that is not None.
        backdrop: position in ``vocabulary.BACKDROPS``.
    """

    mentions: tuple[Mention, ...] = ()
    relation: int | None = None
    count: int | None = None
    counted: int | None = None
    backdrop: int | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """One frame of ``Stills``, ready for many questions."""

    sights: tuple[Sight, ...]
    backdrop: int

    @property
    def clear(self) -> list[Sight]:
        """The things that may be spoken of."""
        return [sight for sight in self.sights if sight.is_clear]

    @property
    def is_countable(self) -> bool:
        """Whether everything in the frame is clear."""
        return all(sight.is_clear for sight in self.sights)


def scene(stills: Stills, row: int) -> Scene:
    """Frame ``row``."""
    clarity = stills.clarity[row]
    columns = [
        (stills.shape[row].tolist(), stills.size[row].tolist(), stills.texture[row].tolist()),
        (stills.x[row].tolist(), stills.y[row].tolist(), stills.angle[row].tolist()),
    ]
    (shape, size, texture), (x, y, angle) = columns
    sights = [
        Sight(
            colour, clarity[colour] == CLEAR, shape[colour], size[colour], texture[colour], x[colour], y[colour], angle[colour] * 4 / pi % 8
        )
        for colour in range(len(COLOURS))
        if clarity[colour] != ABSENT
    ]
    return Scene(tuple(sights), int(stills.backdrop[row]))


def holds(claim: Claim, frame: Scene) -> bool:
    """Whether the claim is certainly true of the frame."""
    return _judge(claim, frame, certain=True)


def may_hold(claim: Claim, frame: Scene) -> bool:
    """Whether the claim may be true; where it is False, the claim is certainly false."""
    return _judge(claim, frame, certain=False)


def fits(mention: Mention, sight: Sight, *, certain: bool) -> bool:
    """Whether the thing is one that the mention speaks of; of an unclear thing only colour, shape and texture are known."""
    if (
        mention.colour not in (None, sight.colour)
        or mention.shape not in (None, sight.shape)
        or mention.texture not in (None, sight.texture)
    ):
        return False
    if not sight.is_clear:
        return not certain
    if mention.size is not None and sight.size != mention.size and (certain or sight.size != -1):
        return False
    if mention.place is not None and not is_at(mention.place, sight.x, sight.y, certain=certain):
        return False
    return mention.way is None or points(mention.way, sight.eighths, certain=certain)


def is_at(place: int, x: float, y: float, *, certain: bool) -> bool:
    """Whether (x, y) lies in the place; with ``certain`` away from its bounds, without it also a little outside."""
    across, down = place_thirds(place)
    return (across is None or _in_third(across, x, certain)) and (down is None or _in_third(down, y, certain))


def place_thirds(place: int) -> tuple[int | None, int | None]:
    """Which third (0, 1, 2) across and down the frame a place is, None where it spans all of them."""
    if place < len(PLACES):
        return place % 3, place // 3
    is_row, far = divmod(place - len(PLACES), 2)
    return (None, 2 * far) if is_row else (2 * far, None)


def _in_third(third: int, value: float, certain: bool) -> bool:
    margin = -PLACE_MARGIN if certain else PLACE_MARGIN
    return (third == 0 or value > third / 3 - margin) and (third == 2 or value < (third + 1) / 3 + margin)


def points(way: int, eighths: float, *, certain: bool) -> bool:
    """Whether an angle in eighths of a turn goes by that way's name."""
    distance = abs((eighths - way + 4) % 8 - 4)
    return distance <= (WAY_CERTAIN if certain else WAY_POSSIBLE)


def is_related(relation: int, one: Sight, other: Sight, *, certain: bool) -> bool:
    """Whether ``one`` stands in this relation to ``other``."""
    if not (one.is_clear and other.is_clear):
        return not certain
    gap = (other.x - one.x, one.x - other.x, other.y - one.y, one.y - other.y)[relation]
    return gap > (RELATION_CERTAIN if certain else -RELATION_POSSIBLE)


def _judge(claim: Claim, frame: Scene, *, certain: bool) -> bool:
    if claim.backdrop not in (None, frame.backdrop):
        return False
    if claim.count is not None and not _counts(claim.count, claim.counted, frame, certain):
        return False
    found = [[sight for sight in frame.sights if fits(mention, sight, certain=certain)] for mention in claim.mentions]
    if not all(found):
        return False
    if claim.relation is not None:
        return any(one is not other and is_related(claim.relation, one, other, certain=certain) for one in found[0] for other in found[1])
    return True


def _counts(count: int, counted: int | None, frame: Scene, certain: bool) -> bool:
    matching = [sight.is_clear for sight in frame.sights if counted in (None, sight.shape)]
    if certain:
        return all(matching) and len(matching) == count
    return sum(matching) <= count <= len(matching)
