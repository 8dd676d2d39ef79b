"""Reads a clause back: an oracle that knows the words but none of the patterns from which texts are made."""

from __future__ import annotations

import re

from vlm.data.toybox.vocabulary import COLOURS, SHAPES
from vlm.data.toybox.world import Event, Look, World
from vlm.types import Span

# Verb phrase of the third person (without its way) to action; the first that is found decides.
VERBS = (
    (r"enters|comes in\b|comes into view", "enter"),
    (r"leaves|exits|goes out of view", "leave"),
    (r"follows|chases|goes along behind", "follow"),
    (r"hides behind|goes behind|disappears behind", "hide"),
    (r"bumps into|collides with|runs into", "collide"),
    (r"moves|slides|travels", "move"),
    (r"bounces|hops", "bounce"),
    (r"rotates|spins|turns (?=clock|anti|counter)", "rotate"),
    (r"grows|gets bigger|gets larger|becomes bigger", "grow"),
    (r"shrinks|gets smaller|becomes smaller", "shrink"),
    (r"blinks|flashes", "blink"),
    (r"turns|changes|becomes", "recolour"),
)
SYNONYMS = {
    "little": "small",
    "medium-sized": "medium",
    "big": "large",
    "stripy": "striped",
    "stripes": "striped",
    "spotted": "dotted",
    "dots": "dotted",
    "chequered": "checked",
    "checks": "checked",
    "disc": "circle",
    "plus": "cross",
    "crescent": "moon",
    "upwards": "up",
    "downwards": "down",
    "counterclockwise": "anticlockwise",
}
SAID_NOTHING = {"a", "an", "the", "that", "is", "with", "thing", "object", "and", "comes", "back", "out", "reappears"}


def attributes(phrase: str) -> set[str]:
    return {SYNONYMS.get(word, word) for word in phrase.split()} - SAID_NOTHING


def is_described(look: Look | None, said: set[str]) -> bool:
    return look is not None and said <= {look.shape, look.colour, look.size, look.texture}


def parts(text: str) -> tuple[set[str], str, str]:
    """What is said of the subject, the action, and the rest."""
    verb, action = next((found, action) for pattern, action in VERBS if (found := re.search(pattern, text)))
    return attributes(text[: verb.start()]), action, text[verb.end() :]


def triple_named(text: str) -> tuple[str, str, str] | None:
    """Shape, colour and action, if the clause names all three."""
    said, action, _ = parts(text)
    shapes, colours = sorted(said & set(SHAPES)), sorted(said & set(COLOURS))
    return (shapes[0], colours[0], action) if shapes and colours else None


def fits(text: str, event: Event) -> bool:
    """Whether the clause ``text`` says of ``event`` nothing but the truth."""
    subject, action, rest = parts(text)
    if action != event.action or not is_described(event.look, subject):
        return False
    if action in ("follow", "hide", "collide"):
        return is_described(event.target_look, attributes(rest))
    if action == "recolour":
        old = re.search(r"from (\w+)", rest)
        return rest.split()[-1] == event.way and (old is None or old[1] == event.look.colour)
    return not event.way or event.way in attributes(rest)


def spans(text: str, world: World) -> tuple[Span, ...]:
    return tuple(sorted({event.span for event in world.events if fits(text, event)}))
