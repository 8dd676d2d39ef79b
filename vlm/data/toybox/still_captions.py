"""Captions of single frames in many phrasings, and hard negatives: the same caption with exactly one attribute changed and therefore false.

A caption is a ``Claim`` put into words by a ``Wording``. The negative keeps the wording, so that nothing but the changed attribute tells
the two texts apart: negatives of this kind are those of NegCLIP (Yuksekgonul et al. 2023, "When and why vision-language models behave like
bags-of-words, and what to do about it?"), made from truth instead of swapped words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vlm.data.toybox.dice import Dice
from vlm.data.toybox.language import NUMBERS, SHAPE_WORDS, SIZE_WORDS, TEXTURE_ENDINGS, TEXTURE_WORDS, words_in
from vlm.data.toybox.still_facts import (
    ATTRIBUTES,
    BANDS,
    PLACES,
    RELATIONS,
    WAYS,
    Claim,
    Mention,
    Scene,
    Sight,
    is_at,
    is_related,
    may_hold,
    points,
)
from vlm.data.toybox.vocabulary import BACKDROPS, COLOURS, SHAPES, SIZES, TEXTURES

NUM_VALUES = {
    "colour": len(COLOURS),
    "shape": len(SHAPES),
    "size": len(SIZES),
    "texture": len(TEXTURES),
    "place": len(PLACES),
    "way": len(WAYS),
    "relation": len(RELATIONS),
    "count": 7,
    "backdrop": len(BACKDROPS),
}
# How often in a hundred a mention says each attribute that can be told.
SAID = {"colour": 85, "shape": 85, "size": 45, "texture": 45, "place": 40, "way": 40}

PLACE_WORDS = {
    "top left": ("at the top left", "in the top left corner", "in the upper left"),
    "top": ("at the top in the middle", "at the top centre", "in the upper middle"),
    "top right": ("at the top right", "in the top right corner", "in the upper right"),
    "left": ("on the left in the middle", "at the left centre", "at the middle left"),
    "middle": ("in the middle", "in the centre", "at the centre"),
    "right": ("on the right in the middle", "at the right centre", "at the middle right"),
    "bottom left": ("at the bottom left", "in the bottom left corner", "in the lower left"),
    "bottom": ("at the bottom in the middle", "at the bottom centre", "in the lower middle"),
    "bottom right": ("at the bottom right", "in the bottom right corner", "in the lower right"),
    "on the left": ("on the left", "on the left side", "to the left"),
    "on the right": ("on the right", "on the right side", "to the right"),
    "at the top": ("at the top", "near the top", "in the upper part"),
    "at the bottom": ("at the bottom", "near the bottom", "in the lower part"),
}
WAY_WORDS = {
    "up": ("up", "upwards"),
    "down": ("down", "downwards"),
    "left": ("left", "to the left"),
    "right": ("right", "to the right"),
    "upper right": ("up and to the right", "to the upper right"),
    "lower right": ("down and to the right", "to the lower right"),
    "lower left": ("down and to the left", "to the lower left"),
    "upper left": ("up and to the left", "to the upper left"),
}
POINTING = ("pointing", "facing", "turned")
RELATION_WORDS = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "higher than"),
    "below": ("below", "lower than"),
}
BACKDROP_WORDS = {
    "plain": ("on a plain background", "on a background of one colour"),
    "gradient": ("on a fading background", "on a background that fades"),
    "clouds": ("on a cloudy background", "in front of clouds"),
    "tiles": ("on a tiled background", "in front of tiles"),
    "waves": ("on a wavy background", "in front of waves"),
}
FRAMES = ("{}", "{}", "{}", "there is {}", "a picture of {}", "we see {}", "this shows {}", "{} can be seen")
COUNT_FRAMES = ("there are {}", "{}", "exactly {}", "a picture of {}", "we see {}")
COUNT_NOUNS = ("thing", "object", "shape")


@dataclass(frozen=True, slots=True)
class Caption:
    """A claim in words.

    ``changed`` names the attribute in which a hard negative differs from the caption that it was made of; "" for a true caption.
    """

    text: str
    claim: Claim
    changed: str = ""


def true_claim(frame: Scene, dice: Dice) -> Claim:
    """Something that certainly holds of the frame: one to three things with some of their attributes, counts, the backdrop."""
    things = dice.shuffled(frame.clear)
    many = min(len(things), (1, 1, 1, 2, 2, 2, 2, 3)[dice.below(8)])
    mentions = tuple(_mention(sight, dice) for sight in things[:many])
    relation = None
    if many == 2 and dice.below(100) < 60:
        relation = _relation(things[0], things[1], dice)
    claim = Claim(mentions, relation)
    kind = dice.below(100)
    if frame.is_countable and (kind < 15 or not mentions):
        claim = replace(claim, mentions=() if kind < 8 else mentions, relation=None if kind < 8 else relation, **_count(frame, dice))
    elif kind >= 85 or not mentions:
        claim = replace(claim, backdrop=frame.backdrop)
    return claim


def full_claim(frame: Scene, dice: Dice, *, first: Sequence[Sight] = ()) -> Claim:
    """Two things with every attribute that can be told, and how they stand to each other; those in ``first`` are preferred.

    A frame with fewer clear things gets what it has.
    """
    rest = [sight for sight in frame.clear if sight not in first]
    things = [*dice.shuffled(first), *dice.shuffled(rest)][:2]
    mentions = tuple(Mention(**{name: _value(sight, name, dice, bands=False) for name in ATTRIBUTES}) for sight in things)
    return Claim(mentions, _relation(things[0], things[1], dice) if len(things) == 2 else None)


def caption(frame: Scene, dice: Dice) -> Caption:
    """A true caption of the frame."""
    claim = true_claim(frame, dice)
    return Caption(phrase(claim, wording_of(dice)), claim)


def captions_with_negatives(claim: Claim, frame: Scene, dice: Dice, *, negatives: int) -> list[Caption]:
    """``claim`` in words, then ``negatives`` captions that differ from it in one attribute each and are false of the frame; fewer only
    where there are not as many."""
    wording = wording_of(dice)
    found = [Caption(phrase(claim, wording), claim)]
    known = {claim}
    slots = _slots(claim)
    for _ in range(8 * negatives):
        if len(found) > negatives:
            break
        place, name = dice.choose(slots)
        other = _with_value(claim, place, name, dice.below(NUM_VALUES[name]))
        if other not in known and not may_hold(other, frame):
            known.add(other)
            found.append(Caption(phrase(other, wording), other, name))
    return found


def all_negatives(claim: Claim, frame: Scene, wording: int) -> list[Caption]:
    """Every claim that differs from ``claim`` in exactly one attribute and is certainly false of the frame, in the same wording."""
    return [
        Caption(phrase(other, wording), other, name)
        for place, name in _slots(claim)
        for other in _alternatives(claim, place, name)
        if not may_hold(other, frame)
    ]


def wording_of(dice: Dice) -> int:
    """Random bits for ``phrase``."""
    return dice.bits() << 64 | dice.bits()


def phrase(claim: Claim, wording: int) -> str:
    """The claim in words. ``wording`` decides between synonyms and orders, alike for claims that say as much."""
    pick = _Picks(wording)
    names = [_noun_phrase(mention, pick) for mention in claim.mentions]
    if claim.relation is not None:
        relation = pick(RELATION_WORDS[RELATIONS[claim.relation]])
        body = pick(("{} {} {}", "{} is {} {}")).format(names[0], relation, names[1])
        names = [body]
    body = pick((", ", " and ")).join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1] if names else ""
    frame = pick(FRAMES)
    text = (body if " is " in body else frame.format(body)) if body else ""
    if claim.count is not None:
        noun = pick(COUNT_NOUNS if claim.counted is None else SHAPE_WORDS[SHAPES[claim.counted]])
        counted = pick(COUNT_FRAMES).format(f"{NUMBERS[claim.count]} {noun if claim.count == 1 else _plural(noun)}")
        counted = counted.replace("there are one ", "there is one ")
        text = f"{text}, {counted}" if text else counted
    if claim.backdrop is not None:
        said = pick(BACKDROP_WORDS[BACKDROPS[claim.backdrop]])
        text = f"{text} {said}" if text else f"things {said}"
    return text


def words() -> frozenset[str]:
    """Every word that captions of frames can hold beyond ``language.words()``."""
    tables = (PLACE_WORDS, WAY_WORDS, RELATION_WORDS, BACKDROP_WORDS)
    texts = [text for table in tables for choices in table.values() for text in choices]
    plurals = [_plural(noun) for nouns in SHAPE_WORDS.values() for noun in nouns]
    return words_in([*texts, *POINTING, *FRAMES, *COUNT_FRAMES, *COUNT_NOUNS, *plurals, *map(_plural, COUNT_NOUNS), "is"])


class _Picks:
    """One choice after the other, each from three of many random bits."""

    def __init__(self, bits: int) -> None:
        self._bits = bits

    def __call__(self, choices: Sequence[str]) -> str:
        self._bits, left = divmod(self._bits, 8)
        return choices[left % len(choices)]


def _noun_phrase(mention: Mention, pick: _Picks) -> str:
    size = pick(SIZE_WORDS[SIZES[mention.size]]) if mention.size is not None else ""
    texture = "" if mention.texture is None else TEXTURES[mention.texture]
    noun = pick(SHAPE_WORDS[SHAPES[mention.shape]]) if mention.shape is not None else pick(("thing", "object"))
    colour = COLOURS[mention.colour] if mention.colour is not None else ""
    order, article = pick("abcdefgh"), pick("aaat")
    surface = pick(TEXTURE_WORDS[texture]) if texture else ""
    if order == "a":
        words = [size, surface, colour, noun]
    elif order == "b" and colour:
        words = [size, surface, noun, f"that is {colour}"]
    elif order == "c" and texture:
        words = [size, colour, noun, TEXTURE_ENDINGS.get(texture, f"that is {surface}")]
    else:
        words = [size, colour, surface, noun]
    if mention.place is not None:
        words.append(pick(PLACE_WORDS[(*PLACES, *BANDS)[mention.place]]))
    if mention.way is not None:
        words.append(f"{pick(POINTING)} {pick(WAY_WORDS[WAYS[mention.way]])}")
    text = " ".join(word for word in words if word)
    return f"the {text}" if article == "t" else f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def _mention(sight: Sight, dice: Dice) -> Mention:
    said = {name: _value(sight, name, dice) for name, share in SAID.items() if dice.below(100) < share}
    if "colour" not in said and "shape" not in said:
        said["colour"] = sight.colour
    return Mention(**said)


def _value(sight: Sight, name: str, dice: Dice, *, bands: bool = True) -> int | None:
    """The attribute's value for this thing, None where it cannot be told. A place may be a band, one time in three."""
    if name == "place":
        wanted = range(len(PLACES), len(PLACES) + len(BANDS)) if bands and dice.below(3) == 0 else range(len(PLACES))
        return next((place for place in wanted if is_at(place, sight.x, sight.y, certain=True)), None)
    if name == "way":
        return next((way for way in range(len(WAYS)) if points(way, sight.eighths, certain=True)), None)
    value: int = getattr(sight, name)
    return value if value >= 0 else None


def _relation(one: Sight, other: Sight, dice: Dice) -> int | None:
    true = [relation for relation in range(len(RELATIONS)) if is_related(relation, one, other, certain=True)]
    return dice.choose(true) if true else None


def _count(frame: Scene, dice: Dice) -> dict[str, int | None]:
    shape = dice.choose(frame.sights).shape if frame.sights and dice.chance(0.5) else None
    return {"counted": shape, "count": sum(shape in (None, sight.shape) for sight in frame.sights)}


def _slots(claim: Claim) -> list[tuple[int, str]]:
    """What can be changed: (number of the mention, attribute), -1 for what the claim says as a whole."""
    slots = [(number, name) for number, mention in enumerate(claim.mentions) for name in ATTRIBUTES if getattr(mention, name) is not None]
    return slots + [(-1, name) for name in ("relation", "count", "backdrop") if getattr(claim, name) is not None]


def _alternatives(claim: Claim, place: int, name: str) -> Iterator[Claim]:
    for value in range(NUM_VALUES[name]):
        other = _with_value(claim, place, name, value)
        if other != claim:
            yield other


def _with_value(claim: Claim, place: int, name: str, value: int) -> Claim:
    if place < 0:
        whole: dict[str, Any] = {name: value}
        return replace(claim, **whole)
    mention = claim.mentions[place]
    if name == "place" and mention.place is not None and mention.place >= len(PLACES):
        value = len(PLACES) + value % len(BANDS)
    mentions = list(claim.mentions)
    mentions[place] = replace(mention, **{name: value})
    return replace(claim, mentions=tuple(mentions))
