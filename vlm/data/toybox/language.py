"""Toybox in words: names of things, clauses for events, and patterns that say what such a text means.

A text is always made from a ``Description`` or an ``EventPattern``, so that what it says can be checked against any event by ``fits``.
Everything is lower case, present tense and without a full stop.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from vlm.data.toybox.dice import Dice
from vlm.data.toybox.splits import is_held_out_order
from vlm.data.toybox.vocabulary import ACTIONS_ON_ANOTHER, COLOURS
from vlm.data.toybox.world import Event, Look, World
from vlm.errors import InputError
from vlm.spans import overlap_seconds
from vlm.types import Span

Article = Literal["a", "the"]

ATTRIBUTES = ("size", "colour", "texture", "shape")

# The first of each is said half the time, so that the plainest wording is also the commonest.
SIZE_WORDS = {"small": ("small", "little"), "medium": ("medium", "medium-sized"), "large": ("large", "big")}
TEXTURE_WORDS = {
    "plain": ("plain",),
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "spotted"),
    "checked": ("checked", "chequered"),
}
TEXTURE_ENDINGS = {"striped": "with stripes", "dotted": "with dots", "checked": "with checks"}
SHAPE_WORDS = {
    "circle": ("circle", "disc"),
    "square": ("square",),
    "triangle": ("triangle",),
    "star": ("star",),
    "cross": ("cross", "plus"),
    "heart": ("heart",),
    "moon": ("moon", "crescent"),
    "ring": ("ring",),
}
NOUNS = ("thing", "object")

FROM_SIDE = {side: f"from the {side}" for side in ("left", "right", "top", "bottom")}
AT_SIDE = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}
TOWARDS = {"left": ("left", "to the left"), "right": ("right", "to the right"), "up": ("up", "upwards"), "down": ("down", "downwards")}
TURN_WORDS = {"clockwise": ("clockwise",), "anticlockwise": ("anticlockwise", "counterclockwise")}

# A star follows each verb that is conjugated. {way} is filled from the tables above, {target} with a name, {colour} with the old colour.
PHRASES: dict[str, tuple[str, ...]] = {
    "enter": ("enter* {way}", "come* in {way}", "come* into view {way}"),
    "leave": ("leave* {way}", "exit* {way}", "go* out of view {way}"),
    "move": ("move* {way}", "slide* {way}", "travel* {way}"),
    "bounce": ("bounce*", "bounce* up and down", "hop* up and down"),
    "rotate": ("rotate* {way}", "spin* {way}", "turn* {way}"),
    "grow": ("grow*", "get* bigger", "get* larger", "become* bigger"),
    "shrink": ("shrink*", "get* smaller", "become* smaller"),
    "blink": ("blink*", "blink* on and off", "flash* on and off"),
    "recolour": ("turn* {way}", "change* to {way}", "become* {way}", "change* from {colour} to {way}"),
    "collide": ("bump* into {target}", "collide* with {target}", "run* into {target}"),
    "hide": ("hide* behind {target}", "go* behind {target} and come* back out", "disappear* behind {target} and reappear*"),
    "follow": ("follow* {target}", "chase* {target}", "go* along behind {target}"),
}
# For patterns that leave the way or the target open.
OPEN_PHRASES: dict[str, tuple[str, ...]] = {
    "enter": ("enter*", "come* in", "come* into view"),
    "leave": ("leave*", "exit*", "go* out of view"),
    "rotate": ("rotate*", "spin*", "turn* around"),
    "recolour": ("change* colour",),
    "collide": ("bump* into something", "collide* with something"),
    "hide": ("hide*", "hide* behind something"),
    "follow": ("follow* something", "chase* something"),
    "move": ("move* along", "travel* along"),
}

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
TIMES = ("never", "once", "twice", "three times", "four times", "five times", "six times")

# Words that only this module's own sentences use.
GLUE = (
    "a",
    "an",
    "the",
    "that is",
    "something",
    "it",
    "first",
    "then",
    "next",
    "after that",
    "meanwhile",
    "at the same time",
    "while",
    "and",
)


@dataclass(frozen=True, slots=True)
class Description:
    """What a text says of a thing; None where it says nothing."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    texture: str | None = None

    def fits(self, look: Look) -> bool:
        """Whether a thing of this look is one of those described."""
        return (
            self.colour in (None, look.colour)
            and self.shape in (None, look.shape)
            and self.size in (None, look.size)
            and self.texture in (None, look.texture)
        )


@dataclass(frozen=True, slots=True)
class EventPattern:
    """What a text says of an event. ``way`` and ``target`` are None where the text leaves them open."""

    action: str
    way: str | None
    subject: Description
    target: Description | None = None

    def fits(self, event: Event) -> bool:
        """Whether the event is one of those described."""
        return (
            self.action == event.action
            and self.way in (None, event.way)
            and self.subject.fits(event.look)
            and (self.target is None or (event.target_look is not None and self.target.fits(event.target_look)))
        )


def description_of(look: Look, mention: Iterable[str]) -> Description:
    """The named attributes of a look.

    Raises:
        InputError: an attribute that is not in ``ATTRIBUTES``.
    """
    said = tuple(mention)
    for attribute in said:
        if attribute not in ATTRIBUTES:
            raise InputError(f"mention must name some of {', '.join(ATTRIBUTES)}, got {attribute!r}")
    return Description(
        shape=look.shape if "shape" in said else None,
        colour=look.colour if "colour" in said else None,
        size=look.size if "size" in said else None,
        texture=look.texture if "texture" in said else None,
    )


def some_attributes(dice: Dice) -> tuple[str, ...]:
    """Colour, which tells apart the things of a scene, with some of size, texture and shape."""
    chosen = {"colour"}
    if dice.chance(0.9):
        chosen.add("shape")
    if dice.chance(0.5):
        chosen.add("size")
    if dice.chance(0.4):
        chosen.add("texture")
    return tuple(attribute for attribute in ATTRIBUTES if attribute in chosen)


def name_of(look: Look, dice: Dice, *, mention: Sequence[str] | None = None, article: Article = "a") -> str:
    """A name for a thing: ``a small red striped circle``, ``the red circle``, ``a big circle that is red``.

    Args:
        look: the thing.
        dice: chooses the wording.
        mention: those of ``ATTRIBUTES`` that the name says, all of them and no other; None lets the dice choose, colour always among them.
        article: what the name begins with; ``a`` becomes ``an`` where it must.

    Raises:
        InputError: ``mention`` holds something else.
    """
    return describe(description_of(look, some_attributes(dice) if mention is None else mention), dice, article=article)


def describe(description: Description, dice: Dice, *, article: Article = "a") -> str:
    """A noun phrase that says exactly what the description says; ``something`` if that is nothing."""
    if description == Description():
        return "something"
    size = _word(SIZE_WORDS[description.size], dice) if description.size else ""
    texture = _word(TEXTURE_WORDS[description.texture], dice) if description.texture else ""
    colour = description.colour or ""
    noun = _word(SHAPE_WORDS[description.shape] if description.shape else NOUNS, dice)
    order = dice.below(8)
    if order == 0:
        words = [size, texture, colour, noun]
    elif order == 1 and colour:
        words = [size, texture, noun, f"that is {colour}"]
    elif order == 2 and description.texture in TEXTURE_ENDINGS:
        words = [size, colour, noun, TEXTURE_ENDINGS[description.texture]]
    else:
        words = [size, colour, texture, noun]
    phrase = " ".join(word for word in words if word)
    if article == "a" and phrase[0] in "aeiou":
        return f"an {phrase}"
    return f"{article} {phrase}"


def verb_phrase(pattern: EventPattern, dice: Dice, *, singular: bool = True, article: Article = "a") -> str:
    """What the subject does: ``bounces``, ``goes behind the green square and comes back out``; ``singular=False`` gives ``bounce``."""
    needs_target = pattern.action in ACTIONS_ON_ANOTHER
    is_open = (pattern.target is None) if needs_target else (pattern.way is None and pattern.action in OPEN_PHRASES)
    phrases = OPEN_PHRASES[pattern.action] if is_open else PHRASES[pattern.action]
    if pattern.action == "recolour" and pattern.subject.colour is None:
        phrases = tuple(phrase for phrase in phrases if "{colour}" not in phrase)
    phrase = _word(phrases, dice)
    if "{target}" in phrase and pattern.target is not None:
        phrase = phrase.replace("{target}", describe(pattern.target, dice, article=article))
    if "{way}" in phrase and pattern.way is not None:
        phrase = phrase.replace("{way}", _way_words(pattern.action, pattern.way, dice))
    phrase = phrase.replace("{colour}", pattern.subject.colour or "")
    return _conjugate(phrase, singular=singular)


def clause(pattern: EventPattern, dice: Dice, *, article: Article = "a") -> str:
    """Subject and verb phrase: ``a small red circle bounces``."""
    return f"{describe(pattern.subject, dice, article=article)} {verb_phrase(pattern, dice, article=article)}"


def pattern_of(
    event: Event, mention: Sequence[str], *, target_mention: Sequence[str] = ("colour", "shape"), with_way: bool = True
) -> EventPattern:
    """The pattern that says these attributes of an event's subject and target. An empty ``target_mention`` leaves the target open."""
    target = description_of(event.target_look, target_mention) if event.target_look is not None and target_mention else None
    return EventPattern(event.action, event.way if with_way else None, description_of(event.look, mention), target)


def event_caption(event: Event, dice: Dice, *, detail: Literal["full", "short"] = "full", article: Article | None = None) -> str:
    """One event in words: ``a small red circle bounces``, ``the blue star moves left``.

    Args:
        event: what happens.
        dice: chooses the wording.
        detail: ``full`` says size, colour and shape of the subject and often its texture; ``short`` says colour and shape.
        article: of all names; None lets the dice choose.

    Raises:
        InputError: another ``detail``.
    """
    if detail not in ("full", "short"):
        raise InputError(f"detail must be 'full' or 'short', got {detail!r}")
    if article is None:
        article = "the" if dice.chance(0.3) else "a"
    if detail == "short":
        return clause(pattern_of(event, ("colour", "shape")), dice, article=article)
    mention = ("size", "colour", "texture", "shape") if dice.chance(0.5) else ("size", "colour", "shape")
    return clause(pattern_of(event, mention, target_mention=mention), dice, article=article)


def paragraph(world: World, dice: Dice) -> list[tuple[str, Span]]:
    """A sentence with its span for every event in order of start; things come in with ``a`` and come back with ``the``."""
    sentences: list[tuple[str, Span]] = []
    known: set[int] = set()
    before: Event | None = None
    for event in world.events:
        mention = some_attributes(dice) if event.subject in known else ("size", "colour", "texture", "shape")
        pattern = pattern_of(event, mention)
        subject = describe(pattern.subject, dice, article="the" if event.subject in known else "a")
        if before is not None and before.subject == event.subject and before.target is None:
            subject = "it"
        does = verb_phrase(pattern, dice, article="the" if event.target in known else "a")
        opening = dice.choose(_openings(before, event))
        sentences.append((f"{opening}{subject} {does}", event.span))
        known |= {thing for thing in (event.subject, event.target) if thing is not None}
        before = event
    return sentences


def video_caption(world: World, dice: Dice, *, most: int = 4) -> str:
    """The whole video in one sentence: its events in order, or ``most`` of them, evenly chosen.

    In train and val ``then`` never joins a held-out pair of actions (splits.py); such clauses are joined by ``and``.
    """
    events = world.events
    if len(events) > most:
        events = tuple(events[place * len(events) // most] for place in range(most))
    caption = ""
    for place, event in enumerate(events):
        said = event_caption(event, dice, detail="full" if dice.chance(0.5) else "short", article="a")
        earlier = events[:place]
        if not earlier:
            caption = said
        elif overlap_seconds(earlier[-1].span, event.span) > 0:
            caption += f" while {said}"
        elif world.split != "test" and any(is_held_out_order(each.action, event.action) for each in earlier):
            caption += f", and {said}"
        else:
            caption += f", then {said}"
    return caption


def words() -> frozenset[str]:
    """Every word that names of things and clauses can hold."""
    tables: list[Iterable[str]] = [
        *SIZE_WORDS.values(),
        *TEXTURE_WORDS.values(),
        TEXTURE_ENDINGS.values(),
        *SHAPE_WORDS.values(),
        NOUNS,
        COLOURS,
        FROM_SIDE.values(),
        AT_SIDE.values(),
        *TOWARDS.values(),
        *TURN_WORDS.values(),
        NUMBERS,
        TIMES,
        GLUE,
    ]
    phrases = [phrase for table in (PHRASES, OPEN_PHRASES) for phrases in table.values() for phrase in phrases]
    tables += [[_conjugate(phrase, singular=singular) for phrase in phrases] for singular in (True, False)]
    return words_in(text for table in tables for text in table)


def words_in(texts: Iterable[str]) -> frozenset[str]:
    """The distinct words of texts or templates; placeholders in braces are no words."""
    return frozenset(word for text in texts for word in re.findall(r"[a-z]+(?:-[a-z]+)*", re.sub(r"\{\w+\}", " ", text)))


def _openings(before: Event | None, event: Event) -> tuple[str, ...]:
    if before is None:
        return ("", "first, ")
    return ("meanwhile, ", "at the same time, ") if overlap_seconds(before.span, event.span) > 0 else ("then ", "next, ", "after that, ")


def _word(choices: Sequence[str], dice: Dice) -> str:
    return choices[0] if len(choices) == 1 or dice.chance(0.5) else choices[1 + dice.below(len(choices) - 1)]


def _way_words(action: str, way: str, dice: Dice) -> str:
    if action == "enter":
        return FROM_SIDE[way]
    if action == "leave":
        return AT_SIDE[way]
    if action == "move":
        return _word(TOWARDS[way], dice)
    return _word(TURN_WORDS[way], dice) if action == "rotate" else way


def _conjugate(phrase: str, *, singular: bool) -> str:
    if not singular:
        return phrase.replace("*", "")
    return re.sub(r"(\w+)\*", lambda found: found[1] + ("es" if found[1].endswith(("sh", "ch", "s", "x", "o")) else "s"), phrase)
