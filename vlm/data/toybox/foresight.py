"""What can be foreseen of a Toybox world by who sees all that is on screen and knows its rules, but not what was planned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vlm.data.action_names import action_name
from vlm.data.toybox.rules import CAUSES
from vlm.data.toybox.tracks import TICKS_PER_SECOND, eased, inside
from vlm.data.toybox.truth import CLASSES, Labels, label_of, next_events
from vlm.data.toybox.vocabulary import COLOURS, RADII, SHAPES, SHAPES_THAT_COVER, SIZES
from vlm.data.toybox.world import Event, Look, Thing, World

# What a thing is called: by its shape, as the exported annotations do, or by its colour too.
Nouns = Literal["shapes", "looks"]
FEWEST, MOST = 2, 6  # things of a scene: nothing leaves from among fewer, nothing enters among more


def noun_of(look: Look, nouns: Nouns) -> str:
    """What a thing is called."""
    return look.shape if nouns == "shapes" else f"{look.colour} {look.shape}"


def verbs_of(labels: Labels) -> tuple[str, ...]:
    """All verbs: the classes without ``nothing``."""
    return tuple(dict.fromkeys(label_of(name, labels) for name in CLASSES[1:]))


def nouns_of(nouns: Nouns) -> tuple[str, ...]:
    """All nouns."""
    return SHAPES if nouns == "shapes" else tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)


def action_names(labels: Labels, nouns: Nouns) -> tuple[str, ...]:
    """All actions: every verb with every noun."""
    return tuple(action_name(verb, noun) for verb in verbs_of(labels) for noun in nouns_of(nouns))


@dataclass(frozen=True, slots=True)
class Present:
    """A thing that is there at some moment, how it looks then, where it is (world units), and how near: larger is nearer."""

    id: int
    look: Look
    x: float
    y: float
    depth: float


@dataclass(frozen=True, slots=True)
class Due:
    """What must follow by a rule: the action with its way, and what does it."""

    label: str
    thing: Present


def present_things(world: World, time: float) -> list[Present]:
    """The things of the scene on screen that are there at ``time``, shown or blinked away, by id."""
    ticks = np.array([time * TICKS_PER_SECOND])
    scene = next((scene for scene in reversed(world.scenes) if scene.span.start <= time), world.scenes[0])
    found = []
    for number in scene.things:
        track = world.tracks[number]
        if inside(track.present, ticks)[0]:
            x, y, radius = (float(eased(knots, ticks)[0]) for knots in (track.x, track.y, track.radius))
            found.append(Present(number, _look(world.things[number], time, world, radius), x, y, track.depth))
    return found


def due(world: World, time: float) -> Due | None:
    """What must start next by a rule: a cause has ended by ``time``, and its consequence was not seen yet. None where nothing is due."""
    seen = [event for event in world.events if event.span.start < time]
    for event in reversed(seen):
        if event.action in CAUSES and event.span.end <= time:
            follows = _consequence(world, event)
            if not any(later.span.start > event.span.end and later.label == follows.label for later in seen):
                return follows
    return None


def _consequence(world: World, event: Event) -> Due:
    """What ``rules.consequence`` says, told from what is on screen."""
    if event.action == "grow":
        # The nearest one is told before the cause: another thing may move while it grows.
        there = {thing.id: thing for thing in present_things(world, event.span.start)}
        own = there.pop(event.subject)
        nearest = min(there.values(), key=lambda thing: ((thing.x - own.x) ** 2 + (thing.y - own.y) ** 2, thing.id))
        label, number = "blink", nearest.id
    elif event.action == "recolour":
        label, number = "bounce", event.subject
    else:
        assert event.target is not None
        label, number = f"rotate {'clockwise' if event.action == 'collide' else 'anticlockwise'}", event.target
    now = {thing.id: thing for thing in present_things(world, event.span.end)}
    return Due(label, now[number])


@dataclass(frozen=True, slots=True)
class Habits:
    """How often each action starts next in many worlds where none is due: while another goes on, and while nothing does."""

    while_busy: Counter[str]
    while_idle: Counter[str]


def habits_of(worlds: Iterable[World]) -> Habits:
    """The habits of worlds."""
    habits = Habits(Counter(), Counter())
    for world in worlds:
        for following in next_events(world):
            if not following.is_caused:
                _habit(habits, world, following.cut)[following.label] += 1
    return habits


def expectations(
    world: World, time: float, habits: Habits, *, labels: Labels = "ways", nouns: Nouns = "shapes"
) -> dict[tuple[str, str], float]:
    """How likely each verb with a noun is to start next, after what was seen before ``time``; the sum is 1.

    What is due is certain. Else actions are as likely as their habit, those that cannot happen now left out, and each of the things that
    are free to do one is as likely as the next.
    """
    follows = due(world, time)
    if follows is not None:
        return {(label_of(follows.label, labels), noun_of(follows.thing.look, nouns)): 1.0}
    busy = {number for event in _going_on(world, time) for number in (event.subject, event.target)}
    there = present_things(world, time)
    free = [thing for thing in there if thing.id not in busy]
    found: dict[tuple[str, str], float] = {}
    for label, count in _habit(habits, world, time).items():
        doers = (
            _newcomers(there, nouns) if label.startswith("enter") else [noun_of(one.look, nouns) for one in free if _can(label, one, there)]
        )
        for noun in doers:
            pair = (label_of(label, labels), noun)
            found[pair] = found.get(pair, 0.0) + count / len(doers)
    total = sum(found.values())
    return {pair: count / total for pair, count in found.items()}


def _habit(habits: Habits, world: World, time: float) -> Counter[str]:
    return habits.while_busy if _going_on(world, time) else habits.while_idle


def _going_on(world: World, time: float) -> list[Event]:
    return [event for event in world.events if event.span.start < time < event.span.end]


def _newcomers(there: list[Present], nouns: Nouns) -> list[str]:
    """What may come in: any shape, of a colour that no thing has; nothing where there are as many as may be."""
    if len(there) >= MOST:
        return []
    taken = {thing.look.colour for thing in there}
    return list(SHAPES) if nouns == "shapes" else [f"{colour} {shape}" for colour in COLOURS if colour not in taken for shape in SHAPES]


def _can(label: str, thing: Present, there: list[Present]) -> bool:
    """Whether a thing can do an action as things stand."""
    size = SIZES.index(thing.look.size)
    match label.split(" ", 1)[0]:
        case "leave":
            return len(there) > FEWEST
        case "grow":
            return size + 1 < len(SIZES)
        case "shrink":
            return size > 0
        case "recolour":
            return label.split(" ", 1)[1] not in {other.look.colour for other in there}
        case "hide":
            return any(
                other.look.shape in SHAPES_THAT_COVER and SIZES.index(other.look.size) > size and other.depth > thing.depth
                for other in there
            )
        case _:
            return True


def _look(thing: Thing, time: float, world: World, radius: float) -> Look:
    colour = thing.look.colour
    for fade in world.tracks[thing.id].fades:
        if time * TICKS_PER_SECOND >= (fade.start + fade.end) / 2:
            colour = COLOURS[fade.after]
    size = SIZES[int(np.argmin(np.abs(np.array(RADII) - radius)))]
    return Look(thing.look.shape, colour, size, thing.look.texture)
