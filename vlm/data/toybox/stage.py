"""One scene while it is planned: who stands where, and what each action does to that.

Every action is tried against the state of the stage and either happens, leaving knots in the tracks, or does not fit and changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from vlm.data.toybox.dice import Dice
from vlm.data.toybox.splits import is_held_out_action, is_held_out_look
from vlm.data.toybox.tracks import Fade, Hops, Track
from vlm.data.toybox.vocabulary import ACTIONS, ACTIONS_ON_ANOTHER, COLOURS, RADII, SHAPES, SHAPES_THAT_COVER, SIZES, TEXTURES
from vlm.data.toybox.world import Look

FEWEST, MOST = 2, 6  # things at once
MARGIN = 0.02  # between things, and to the edge of the world
OUTSIDE = 0.45  # beyond the edge of the world, out of sight of every camera
SPOT_TRIES = 40
STEP = (0.30, 0.50)  # how far a thing moves
STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
WAY_OUT = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
LEAP = (16, 20)  # ticks of one leap of a bounce
WINK = 20  # ticks of one blink: a second away, in the middle of two
# Ticks that an action may last: (shortest, longest). Nothing is shorter than 3 s.
DURATIONS = {
    "enter": (30, 50),
    "leave": (30, 50),
    "move": (30, 50),
    "rotate": (30, 60),
    "grow": (30, 50),
    "shrink": (30, 50),
    "recolour": (30, 50),
    "collide": (34, 50),
    "hide": (50, 70),
    "follow": (44, 64),
}


def duration(action: str, dice: Dice, longest: int) -> int | None:
    """Ticks that ``action`` takes this time, at most ``longest``; None where it takes more."""
    if action == "bounce":
        ticks = dice.between(2, 3) * dice.between(*LEAP)
        return ticks if ticks <= longest else (2 * LEAP[0] if longest >= 2 * LEAP[0] else None)
    if action == "blink":
        ticks = dice.between(2, 3) * WINK
        return ticks if ticks <= longest else (2 * WINK if longest >= 2 * WINK else None)
    low, high = DURATIONS[action]
    return dice.between(low, min(high, longest)) if longest >= low else None


@dataclass(slots=True)
class Actor:
    """A thing on the stage, and the track that it has left so far."""

    id: int
    shape: str
    texture: str
    first_look: Look
    colour: int
    size: int
    x: float
    y: float
    turn: float
    depth: float
    entered: int
    left: int | None = None
    x_knots: list[tuple[int, float]] = field(default_factory=list)
    y_knots: list[tuple[int, float]] = field(default_factory=list)
    radius_knots: list[tuple[int, float]] = field(default_factory=list)
    turn_knots: list[tuple[int, float]] = field(default_factory=list)
    fades: list[Fade] = field(default_factory=list)
    hops: list[Hops] = field(default_factory=list)
    unseen: list[tuple[int, int]] = field(default_factory=list)

    @property
    def radius(self) -> float:
        """Of the circle around it, in world units."""
        return RADII[self.size]

    @property
    def look(self) -> Look:
        """How it looks now."""
        return Look(self.shape, COLOURS[self.colour], SIZES[self.size], self.texture)

    def go(self, *stops: tuple[int, float, float]) -> None:
        """Pass through ``stops`` (tick, x, y) from where it is; the first is where it is already."""
        self.x_knots += [(tick, x) for tick, x, _ in stops]
        self.y_knots += [(tick, y) for tick, _, y in stops]
        _, self.x, self.y = stops[-1]

    def track(self, scene_end: int) -> Track:
        """Its whole motion in a scene that ends at ``scene_end``."""
        return Track(
            x=tuple(self.x_knots) or ((0, self.x),),
            y=tuple(self.y_knots) or ((0, self.y),),
            radius=tuple(self.radius_knots) or ((0, self.radius),),
            turn=tuple(self.turn_knots) or ((0, self.turn),),
            colour=COLOURS.index(self.first_look.colour),
            fades=tuple(self.fades),
            hops=tuple(self.hops),
            present=((self.entered, scene_end if self.left is None else self.left),),
            unseen=tuple(self.unseen),
            depth=self.depth,
        )


@dataclass(frozen=True, slots=True)
class Act:
    """An event on the stage; times in ticks. ``cause`` is the position of another act of the same stage."""

    action: str
    way: str
    start: int
    end: int
    subject: int
    look: Look
    target: int | None
    target_look: Look | None
    cause: int | None


class Stage:
    """The things of one scene that lasts from tick ``start`` to ``end``; their ids count on from ``first_id``."""

    def __init__(self, dice: Dice, *, split: str, start: int, end: int, first_id: int, number: int | None = None) -> None:
        self.split = split
        self.end = end
        self.actors: dict[int, Actor] = {}
        self.acts: list[Act] = []
        self._next_id = first_id
        self._used_colours: set[int] = set()
        self._reserved: list[tuple[float, float, float]] = []
        wanted = dice.between(FEWEST, MOST - 1) if number is None else number
        while len(self.actors) < wanted:
            self._admit(dice, start)

    # Who is there

    def present(self) -> list[Actor]:
        """The things that are on the stage now, by id."""
        return [actor for actor in self.actors.values() if actor.left is None]

    def nearest(self, actor: Actor) -> Actor:
        """The present thing nearest to ``actor``, the lower id where two are as near."""
        others = [other for other in self.present() if other.id != actor.id]
        return min(others, key=lambda other: ((other.x - actor.x) ** 2 + (other.y - actor.y) ** 2, other.id))

    def allows(self, actor: Actor, action: str) -> bool:
        """Whether the split may show this thing do this."""
        return self.split == "test" or not is_held_out_action(actor.shape, COLOURS[actor.colour], action)

    def reserve_spots(self) -> None:
        """Keep the spots where things stand now free until ``release_spots``: others may still be on them while two acts overlap."""
        self._reserved = [(actor.x, actor.y, actor.radius) for actor in self.present()]

    def release_spots(self) -> None:
        """End ``reserve_spots``."""
        self._reserved = []

    def _admit(self, dice: Dice, tick: int) -> Actor | None:
        look = self._new_look(dice)
        if look is None:
            return None
        size = SIZES.index(look.size)
        spot = self._free_spot(dice, RADII[size])
        while spot is None and size > 0:  # a crowded stage takes a smaller thing
            size -= 1
            spot = self._free_spot(dice, RADII[size])
        if spot is None:
            return None
        look = Look(look.shape, look.colour, SIZES[size], look.texture)
        colour = COLOURS.index(look.colour)
        actor = Actor(
            id=self._next_id,
            shape=look.shape,
            texture=look.texture,
            first_look=look,
            colour=colour,
            size=size,
            x=spot[0],
            y=spot[1],
            turn=float(dice.below(360)),
            # What others can hide behind stands in front more often than not.
            depth=dice.uniform() + (0.5 if look.shape in SHAPES_THAT_COVER else 0.0),
            entered=tick,
        )
        self.actors[actor.id] = actor
        self._used_colours.add(colour)
        self._next_id += 1
        return actor

    def _new_look(self, dice: Dice) -> Look | None:
        colours = [colour for number, colour in enumerate(COLOURS) if number not in self._used_colours]
        if not colours:
            return None
        prefers_held_out = self.split == "test" and dice.chance(0.6)
        while True:
            look = Look(dice.choose(SHAPES), dice.choose(colours), dice.choose(SIZES), dice.choose(TEXTURES))
            held_out = is_held_out_look(look.shape, look.colour, look.texture)
            if held_out == prefers_held_out or (self.split == "test" and dice.chance(0.1)):
                return look

    def _free_spot(self, dice: Dice, radius: float) -> tuple[float, float] | None:
        low, high = radius + MARGIN, 1.0 - radius - MARGIN
        for _ in range(SPOT_TRIES):
            x, y = dice.uniform(low, high), dice.uniform(low, high)
            if self.is_free(x, y, radius):
                return x, y
        return None

    def is_free(self, x: float, y: float, radius: float, *, apart_from: Iterable[int] = ()) -> bool:
        """Whether a thing of ``radius`` fits at (x, y) inside the world without touching where others stand or stood just now."""
        low, high = radius + MARGIN, 1.0 - radius - MARGIN
        if not (low <= x <= high and low <= y <= high):
            return False
        ignored = set(apart_from)
        others = [(other.x, other.y, other.radius) for other in self.present() if other.id not in ignored]
        held = self._reserved if not ignored else [spot for spot in self._reserved if not self._stands_on(spot, ignored)]
        return all((x - ox) ** 2 + (y - oy) ** 2 > (radius + r + MARGIN) ** 2 for ox, oy, r in others + held)

    def _stands_on(self, spot: tuple[float, float, float], ids: set[int]) -> bool:
        return any((self.actors[number].x, self.actors[number].y) == spot[:2] for number in ids)

    # What can happen

    def perform(
        self,
        action: str,
        actor: Actor | None,
        dice: Dice,
        *,
        start: int,
        end: int,
        way: str | None = None,
        busy: frozenset[int] = frozenset(),
    ) -> Act | None:
        """``action`` by ``actor`` between the ticks ``start`` and ``end``, in a random way unless one is given; None where it does not fit.

        ``actor`` is None for "enter" alone: it comes from outside. Things in ``busy`` take no part.
        """
        if action == "enter":
            return self._enter(dice, start=start, end=end)
        assert actor is not None
        if action in ACTIONS_ON_ANOTHER:
            return self._with_another(action, actor, dice, start=start, end=end, busy=busy)
        ways = [way] if way is not None else dice.shuffled(ACTIONS[action] or ("",))
        look = actor.look
        for chosen in ways:
            if self._alone(action, chosen, actor, dice, start, end):
                return self._record(Act(action, chosen, start, end, actor.id, look, None, None, None))
        return None

    def follow_up(self, act: Act, *, cause: Act) -> Act:
        """``act``, noted as the consequence of ``cause``."""
        linked = Act(act.action, act.way, act.start, act.end, act.subject, act.look, act.target, act.target_look, self.acts.index(cause))
        self.acts[self.acts.index(act)] = linked
        return linked

    def _record(self, act: Act) -> Act:
        self.acts.append(act)
        return act

    def _enter(self, dice: Dice, *, start: int, end: int) -> Act | None:
        if len(self.present()) >= MOST:
            return None
        actor = self._admit(dice, start)
        if actor is None:
            return None
        if not self.allows(actor, "enter"):
            self._used_colours.discard(actor.colour)
            del self.actors[actor.id]
            self._next_id -= 1
            return None
        side = dice.choose(ACTIONS["enter"])
        x, y = actor.x, actor.y
        actor.go((start, *_outside(x, y, side)), (end, x, y))
        return self._record(Act("enter", side, start, end, actor.id, actor.look, None, None, None))

    def _alone(self, action: str, way: str, actor: Actor, dice: Dice, start: int, end: int) -> bool:
        x, y, now = actor.x, actor.y, (start, actor.x, actor.y)
        match action:
            case "leave":
                if len(self.present()) <= FEWEST:
                    return False
                actor.go(now, (end, *_outside(x, y, way)))
                actor.left = end
            case "move":
                step = dice.uniform(*STEP)
                there = (x + STEPS[way][0] * step, y + STEPS[way][1] * step)
                if not self.is_free(*there, actor.radius, apart_from=(actor.id,)):
                    return False
                actor.go(now, (end, *there))
            case "bounce":
                height = min(dice.uniform(0.12, 0.20), y - actor.radius)
                if height < 0.10:
                    return False
                leaps = 2 if end - start <= 2 * LEAP[1] else 3
                actor.hops.append(Hops(start, end, (end - start) // leaps, height))
            case "rotate":
                turned = (1 if way == "clockwise" else -1) * dice.between(6, 10) * (end - start)
                actor.turn_knots += [(start, actor.turn), (end, actor.turn + turned)]
                actor.turn += turned
            case "grow" | "shrink":
                size = actor.size + (1 if action == "grow" else -1)
                if not 0 <= size < len(SIZES) or not self.is_free(x, y, RADII[size], apart_from=(actor.id,)):
                    return False
                actor.radius_knots += [(start, actor.radius), (end, RADII[size])]
                actor.size = size
            case "blink":
                actor.unseen += [(tick + WINK // 4, tick + WINK * 3 // 4) for tick in range(start, end, WINK)]
            case "recolour":
                colour = COLOURS.index(way)
                if colour in self._used_colours or (self.split != "test" and is_held_out_look(actor.shape, way, actor.texture)):
                    return False
                actor.fades.append(Fade(start, end, actor.colour, colour))
                actor.colour = colour
                self._used_colours.add(colour)
            case _:
                raise AssertionError(action)
        return True

    def _with_another(self, action: str, actor: Actor, dice: Dice, *, start: int, end: int, busy: frozenset[int]) -> Act | None:
        look = actor.look
        for other in dice.shuffled([other for other in self.present() if other.id != actor.id and other.id not in busy]):
            other_look = other.look
            match action:
                case "collide":
                    happens = _collide(actor, other, start, end)
                case "hide":
                    happens = _hide(actor, other, start, end)
                case _:
                    happens = self._follow(actor, other, dice, start, end)
            if happens:
                return self._record(Act(action, "", start, end, actor.id, look, other.id, other_look, None))
        return None

    def _follow(self, actor: Actor, leader: Actor, dice: Dice, start: int, end: int) -> bool:
        both = (actor.id, leader.id)
        gap = actor.radius + leader.radius + 2 * MARGIN
        for way in dice.shuffled(tuple(STEPS)):
            dx, dy = STEPS[way]
            step = dice.uniform(*STEP)
            there = (leader.x + dx * step, leader.y + dy * step)
            behind = (there[0] - dx * gap, there[1] - dy * gap)
            if self.is_free(*there, leader.radius, apart_from=both) and self.is_free(*behind, actor.radius, apart_from=both):
                begin, span = (leader.x, leader.y), end - start
                # The leader sets off first; the follower comes to where it stood, then trails it.
                actor.go(
                    (start, actor.x, actor.y), (start + span * 4 // 10, begin[0] - dx * MARGIN, begin[1] - dy * MARGIN), (end, *behind)
                )
                leader.go((start, *begin), (start + span * 8 // 10, *there))
                return True
        return False


def _outside(x: float, y: float, side: str) -> tuple[float, float]:
    dx, dy = WAY_OUT[side]
    return (0.5 + dx * (0.5 + OUTSIDE) if dx else x, 0.5 + dy * (0.5 + OUTSIDE) if dy else y)


def _collide(actor: Actor, other: Actor, start: int, end: int) -> bool:
    dx, dy = other.x - actor.x, other.y - actor.y
    apart = math.sqrt(dx * dx + dy * dy)  # exactly rounded everywhere, unlike hypot
    contact = actor.radius + other.radius
    if apart - contact < 0.12:
        return False
    share = (apart - contact) / apart
    span, push = end - start, 0.06 / apart
    hit, after = start + span * 4 // 10, start + span * 6 // 10
    home, place = (actor.x, actor.y), (other.x, other.y)
    actor.go((start, *home), (hit, home[0] + dx * share, home[1] + dy * share), (end, *home))
    other.go((hit, *place), (after, place[0] + dx * push, place[1] + dy * push), (end, *place))
    return True


def _hide(actor: Actor, cover: Actor, start: int, end: int) -> bool:
    if cover.shape not in SHAPES_THAT_COVER or cover.size <= actor.size or cover.depth <= actor.depth:
        return False
    span, home = end - start, (actor.x, actor.y)
    behind = (cover.x, cover.y)
    actor.go((start, *home), (start + span * 3 // 10, *behind), (start + span * 7 // 10, *behind), (end, *home))
    return True
