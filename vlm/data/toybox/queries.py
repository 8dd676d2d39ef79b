"""Search queries with their truth: events, order, direction, negation, counting, and events that do not happen.

Each kind is a generator over ``Facts``; none emits a text about which a viewer could argue (facts.py), and none names what its split
holds out (splits.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from vlm.data.toybox.balance import Cell, balanced
from vlm.data.toybox.dice import Dice
from vlm.data.toybox.facts import Facts, keeps_split
from vlm.data.toybox.language import NUMBERS, TIMES, Description, EventPattern, clause, describe, pattern_of, verb_phrase
from vlm.data.toybox.splits import is_held_out_order
from vlm.data.toybox.vocabulary import ACTIONS, ACTIONS_ON_ANOTHER, ACTIONS_THAT_RESTORE, COLOURS, SHAPES, SIZES, TEXTURES, VERSION
from vlm.data.toybox.world import Event, World
from vlm.types import Span

Kind = Literal["event", "absent", "order", "direction", "negation", "count"]
KINDS: tuple[Kind, ...] = ("event", "absent", "order", "direction", "negation", "count")
# What any one world gives of a kind, so that long worlds do not drown the short ones.
MOST_OF_A_KIND = 12

ORDER_TEMPLATES = (
    "{first}, then {second}",
    "first {first}, then {second}",
    "{first} and then {second}",
    "{first} before {second}",
    "{second} after {first}",
)
NOTHING = "nothing {does}"
NEVER = "{thing} that never {does}"
AND_NEVER = "{thing} and never {does}"
WITHOUT_TEMPLATES = ("a video without {thing}", "there is no {noun}")
THINGS_DO_TEMPLATES = ("{number} things {do}", "exactly {number} things {do}")
ONE_DOES_TEMPLATES = ("{number} thing {do}", "exactly {number} thing {do}")
DOES_TIMES_TEMPLATES = ("{thing} {does} {times}", "{thing} {does} exactly {times}")
TEMPLATES = (
    *ORDER_TEMPLATES,
    NOTHING,
    NEVER,
    AND_NEVER,
    *WITHOUT_TEMPLATES,
    *THINGS_DO_TEMPLATES,
    *ONE_DOES_TEMPLATES,
    *DOES_TIMES_TEMPLATES,
)

# Where time runs backwards, the one becomes the other: a single frame of either is a frame of both.
REVERSED = {("enter", side): ("leave", side) for side in ("left", "right", "top", "bottom")} | {
    ("move", "left"): ("move", "right"),
    ("move", "up"): ("move", "down"),
    ("rotate", "clockwise"): ("rotate", "anticlockwise"),
    ("grow", ""): ("shrink", ""),
}
TWIN_OF = REVERSED | {later: earlier for earlier, later in REVERSED.items()}
MOST_COUNTED = 4


@dataclass(frozen=True, slots=True)
class Query:
    """A text and whether, and when, a video shows it.

    Attributes:
        id: ``WORLD/query/KIND/NUMBER``; the same for a seed on every machine.
        kind: one of ``KINDS``.
        is_true: whether the video shows it.
        cell: where it stands in ``balanced_queries``.
        is_temporal: one frame of the video cannot tell it from its twin.
        spans: every stretch that shows it, in order; for order queries from the start of the one to the end of the other. Empty for
            false queries and for negations, which have no moment.
        things: the things that the text is about, in the order of time; empty where it is about any or all.
        twin: a text of the opposite truth that differs from this one in one respect; None where there is none.
    """

    id: str
    kind: Kind
    text: str
    is_true: bool
    cell: Cell
    is_temporal: bool = False
    spans: tuple[Span, ...] = ()
    things: tuple[int, ...] = ()
    twin: str | None = None


def queries(facts: Facts) -> list[Query]:
    """All candidate queries of a world, at most ``MOST_OF_A_KIND`` of each kind."""
    found: list[Query] = []
    for kind in KINDS:
        dice = Dice(VERSION, "query", kind, facts.world.name)
        made = list(_MAKERS[kind](facts, dice))
        if len(made) > MOST_OF_A_KIND:
            keep = sorted(dice.shuffled(range(len(made)))[:MOST_OF_A_KIND])
            made = [made[place] for place in keep]
        found += [replace(query, id=f"{facts.world.name}/query/{kind}/{number}") for number, query in enumerate(made)]
    return found


def balanced_queries(worlds: Iterable[World], *, kinds: Iterable[Kind] = KINDS, per_kind: int | None = None, seed: int = 0) -> list[Query]:
    """Queries of many worlds, chosen so that their texts do not tell which are true.

    Events and events that do not happen are balanced against each other within each action and way; order queries within template and pair
    of actions; directions, negations and counts within template and action (and number).
    """
    wanted = tuple(kinds)
    made = [query for world in worlds for query in queries(Facts(world)) if query.kind in wanted]
    chosen: list[Query] = []
    if "event" in wanted and "absent" in wanted:
        limit = None if per_kind is None else 2 * per_kind
        chosen += balanced([query for query in made if query.kind in ("event", "absent")], limit=limit, seed=seed)
        wanted = tuple(kind for kind in wanted if kind not in ("event", "absent"))
    for kind in wanted:
        chosen += balanced([query for query in made if query.kind == kind], limit=per_kind, seed=seed)
    return chosen


def spans_of(events: Iterable[Event]) -> tuple[Span, ...]:
    """The different spans of events, in order."""
    return tuple(sorted({event.span for event in events}))


def relation(one: Event, other: Event) -> str:
    """How two events share their things: a rule of the world lies in it, and with it a hint at their order."""
    shared = [(one.subject, other.subject), (one.subject, other.target), (one.target, other.subject), (one.target, other.target)]
    return "".join(str(int(first is not None and first == second)) for first, second in shared)


def restoring_pairs(facts: Facts, dice: Dice, *, most: int) -> list[tuple[Event, Event]]:
    """Pairs of events (earlier, later) that end as they began, that do not overlap, and about whose order the split may ask."""
    restoring = [event for event in facts.world.events if event.action in ACTIONS_THAT_RESTORE]
    split = facts.world.split
    pairs = [
        (one, other)
        for place, one in enumerate(restoring)
        for other in restoring[place + 1 : place + 4]
        if one.span.end <= other.span.start and is_held_out_order(one.action, other.action) == (split == "test")
    ]
    return dice.shuffled(pairs)[:most]


def name_pattern(event: Event, *, with_size: bool = False) -> EventPattern:
    """The event with its things named by colour and shape."""
    mention = ("size", "colour", "shape") if with_size else ("colour", "shape")
    return pattern_of(event, mention)


def direction_pair(event: Event, facts: Facts) -> tuple[EventPattern, EventPattern] | None:
    """The event, and the same with time running backwards, which surely does not happen; None where there is no such pair.

    The size is not said: a small thing has more room to grow. Nor is what a rule has caused asked for: who was bumped turns clockwise, and
    a single frame can show who is near.
    """
    if (event.action, event.way) not in TWIN_OF or event.cause is not None:
        return None
    action, way = TWIN_OF[event.action, event.way]
    # Where the split holds out only one of the two, a name without the shape tells neither.
    for mention in (("colour", "shape"), ("colour",)):
        pattern = pattern_of(event, mention)
        other = replace(pattern, action=action, way=way)
        fits = all(keeps_split(facts.world.split, each) for each in (pattern, other))
        if fits and facts.happens(other) is False and facts.is_clear(pattern):
            return pattern, other
    return None


def swapped(pattern: EventPattern, facts: Facts, dice: Dice) -> EventPattern | None:
    """A pattern that surely does not happen, made of ``pattern`` by changing one respect to that of another event or thing of the world.

    Taken from the same world, false texts hold the same words as true ones. A world of one event borrows from the vocabulary.
    """
    world = facts.world
    others: list[EventPattern] = []
    looks = [event.look for event in world.events]
    for attribute, values in (("shape", SHAPES), ("colour", COLOURS), ("size", SIZES), ("texture", TEXTURES)):
        if getattr(pattern.subject, attribute) is not None:
            choices = [getattr(look, attribute) for look in looks] if len(set(looks)) > 1 else values
            value = dice.choose(choices)
            others.append(replace(pattern, subject=replace(pattern.subject, **{attribute: value})))
    does = [(event.action, event.way if pattern.way is not None else None) for event in world.events if event.target is None]
    if len(set(does)) < 2:
        does = [(action, dice.choose(ways or ("",))) for action, ways in ACTIONS.items() if action not in ACTIONS_ON_ANOTHER]
    if pattern.target is None and pattern.action not in ACTIONS_ON_ANOTHER:
        action, way = dice.choose(does)
        others += [replace(pattern, action=action, way=way)] * 2
    elif pattern.target is not None:
        action = dice.choose([event.action for event in world.events if event.target is not None] or list(ACTIONS_ON_ANOTHER))
        others.append(replace(pattern, action=action))
        others.append(replace(pattern, target=replace(pattern.target, colour=dice.choose([look.colour for look in looks]))))
    for other in dice.shuffled(others):
        is_itself = other.target is not None and other.target.colour == other.subject.colour
        if other != pattern and not is_itself and keeps_split(world.split, other) and facts.happens(other) is False:
            return other
    return None


def _truth_cell(name: str, is_true: bool) -> Cell:
    return Cell(name, "true" if is_true else "false", 2)


def said_of(pattern: EventPattern, split: str) -> str:
    """What true and false texts about ``pattern`` are balanced in: action and way, how much is said, in test also the triple.

    The more is said of a thing, the more near misses there are; held-out triples of an action are few, and some have more neighbours.
    """
    subject = pattern.subject
    triple = f" {subject.shape} {subject.colour}" if split == "test" and subject.shape else ""
    said = "".join(str(int(part is not None)) for part in (subject.size, subject.texture, pattern.target))
    return f"{pattern.action} {pattern.way or ''} {said}{triple}"


def share_before(event: Event, world: World) -> int:
    """How much of its scene lies before the event, against what lies after it, in quarters: 0 to 3.

    A thing that moved left early in its scene is mostly on the left: a single frame of it tells the direction, unless as many things
    that moved right did so late.
    """
    scene = next(scene for scene in world.scenes if event.subject in scene.things)
    before, after = event.span.start - scene.span.start, scene.span.end - event.span.end
    return min(3, int(4 * before / (before + after))) if before + after > 0 else 0


def direction_cell(event: Event, other: EventPattern, world: World) -> str:
    """What ``event`` and those of the reversed direction are balanced in: the pair, and how long the one of the two ends is to be seen."""
    pair = sorted((event.label, f"{other.action} {other.way}".strip()))
    share = share_before(event, world)
    return f"{' | '.join(pair)} {share if event.label == pair[0] else 3 - share}"


def _patterns(facts: Facts, dice: Dice) -> Iterator[EventPattern]:
    """Each event in a short and in a full wording, as far as its split allows them and nobody can argue."""
    for event in facts.world.events:
        mention = ("size", "colour", "texture", "shape") if dice.chance(0.5) else ("size", "colour", "shape")
        for pattern in (pattern_of(event, ("colour", "shape")), pattern_of(event, mention, target_mention=("colour", "shape"))):
            if keeps_split(facts.world.split, pattern) and facts.is_clear(pattern):
                yield pattern


def _event_queries(facts: Facts, dice: Dice) -> Iterator[Query]:
    for pattern in _patterns(facts, dice):
        spans = spans_of(facts.events(pattern))
        other = swapped(pattern, facts, dice)
        twin = clause(other, dice) if other is not None else None
        cell = _truth_cell(f"event {said_of(pattern, facts.world.split)}", True)
        things = tuple(sorted({event.subject for event in facts.events(pattern)}))
        yield Query("", "event", clause(pattern, dice), True, cell, spans=spans, things=things, twin=twin)


def _absent_queries(facts: Facts, dice: Dice) -> Iterator[Query]:
    for pattern in _patterns(facts, dice):
        other = swapped(pattern, facts, dice)
        if other is not None:
            cell = _truth_cell(f"event {said_of(other, facts.world.split)}", False)
            yield Query("", "absent", clause(other, dice), False, cell, twin=clause(pattern, dice))


def _order_queries(facts: Facts, dice: Dice) -> Iterator[Query]:
    for one, other in restoring_pairs(facts, dice, most=2 * MOST_OF_A_KIND):
        with_size = dice.chance(0.3)
        patterns = (name_pattern(one, with_size=with_size), name_pattern(other, with_size=with_size))
        if facts.comes_before(*patterns) is not True or not all(
            keeps_split(facts.world.split, each, event_level=False) for each in patterns
        ):
            continue
        first, second = (clause(pattern, dice) for pattern in patterns)
        template = dice.choose(ORDER_TEMPLATES)
        pairs = itertools.product(*(facts.events(pattern) for pattern in patterns))
        spans = tuple(sorted({Span(earlier.span.start, later.span.end) for earlier, later in pairs}))
        name, side, num_sides = order_cell(one, other)
        yield Query(
            "",
            "order",
            template.format(first=first, second=second),
            True,
            Cell(f"{template} {name}", side, num_sides),
            True,
            spans,
            (one.subject, other.subject),
            template.format(first=second, second=first),
        )


def order_cell(one: Event, other: Event) -> tuple[str, str, int]:
    """Cell, side and number of sides of a pair of events (earlier, later): of two different labels, either must come first as often.

    Two events of the same label whose things are in no different roles have nothing to balance.
    """
    if one.label < other.label:
        return f"{one.label} | {other.label} | {relation(one, other)}", "sorted", 2
    if one.label > other.label:
        return f"{other.label} | {one.label} | {relation(other, one)}", "reversed", 2
    return f"{one.label} twice", "", 1


def _direction_queries(facts: Facts, dice: Dice) -> Iterator[Query]:
    for event in facts.world.events:
        pair = direction_pair(event, facts)
        if pair is None:
            continue
        pattern, other = pair
        wording = dice.bits()
        text, twin = (clause(each, Dice(wording)) for each in (pattern, other))
        cell = Cell(direction_cell(event, other, facts.world), event.label, 2)
        yield Query("", "direction", text, True, cell, True, spans_of(facts.events(pattern)), (event.subject,), twin)


def _negation_queries(facts: Facts, dice: Dice) -> Iterator[Query]:
    world = facts.world
    for action in dice.shuffled(tuple(ACTIONS))[:6]:
        pattern = EventPattern(action, None, Description())
        happens = facts.happens(pattern)
        if happens is not None:
            text = NOTHING.format(does=verb_phrase(pattern, dice))
            yield Query("", "negation", text, not happens, _truth_cell(f"nothing {action}", not happens))
    for event in world.events:
        pattern = replace(pattern_of(event, ("colour", "shape"), target_mention=(), with_way=False), target=None)
        other = swapped(replace(pattern, way=""), facts, dice) if event.target is None else None
        for each, is_true in ((pattern, False), (other and replace(other, way=None), True)):
            if each is None or not keeps_split(world.split, each) or facts.happens(each) is is_true or not facts.things(each.subject):
                continue
            if is_true and facts.happens(each) is not False:
                continue
            thing = describe(each.subject, dice)
            text = (AND_NEVER if "that is" in thing else NEVER).format(thing=thing, does=verb_phrase(each, dice))
            yield Query("", "negation", text, is_true, _truth_cell(f"never {each.action}", is_true))
    for shape in dice.shuffled(SHAPES)[:2]:
        absent = Description(shape=shape)
        is_true = not facts.things(absent)
        template = dice.choose(WITHOUT_TEMPLATES)
        named = describe(absent, dice)
        text = template.format(thing=named, noun=named.split(" ", 1)[1])
        yield Query("", "negation", text, is_true, _truth_cell(f"{template} {shape}", is_true))


def _count_queries(facts: Facts, dice: Dice) -> Iterator[Query]:
    world = facts.world
    for action in dict.fromkeys(event.action for event in world.events):
        pattern = EventPattern(action, None, Description())
        events = facts.events(pattern)
        number = len({event.subject for event in events})
        if facts.is_clear(pattern) and number <= MOST_COUNTED:
            for said, is_true in _numbers_to_say(number, dice):
                place = dice.below(2)
                template = (ONE_DOES_TEMPLATES if said == 1 else THINGS_DO_TEMPLATES)[place]
                text = template.format(number=NUMBERS[said], do=verb_phrase(pattern, dice, singular=said == 1))
                cell = _truth_cell(f"{template} {action} {said}", is_true)
                things = tuple(sorted({event.subject for event in events}))
                yield Query("", "count", text, is_true, cell, spans=spans_of(events) if is_true else (), things=things)
    for event in {event.subject: event for event in world.events}.values():
        pattern = replace(pattern_of(event, ("colour", "shape"), target_mention=(), with_way=False), target=None)
        if len(facts.things(pattern.subject)) != 1 or not facts.is_clear(pattern) or not keeps_split(world.split, pattern):
            continue
        events = facts.events(pattern)
        if len(events) <= MOST_COUNTED:
            for said, is_true in _numbers_to_say(len(events), dice):
                template = dice.choose(DOES_TIMES_TEMPLATES)
                text = template.format(
                    thing=describe(pattern.subject, dice, article="the"), does=verb_phrase(pattern, dice), times=TIMES[said]
                )
                cell = _truth_cell(f"{template} {event.action} {said}", is_true)
                spans = spans_of(events) if is_true else ()
                yield Query("", "count", text, is_true, cell, spans=spans, things=(event.subject,))


def _numbers_to_say(number: int, dice: Dice) -> list[tuple[int, bool]]:
    """The right number and a wrong one beside it, at least 1."""
    wrong = number + 1 if number == 1 or dice.chance(0.5) else number - 1
    return [(number, True), (wrong, False)]


_MAKERS: dict[Kind, Callable[[Facts, Dice], Iterator[Query]]] = {
    "event": _event_queries,
    "absent": _absent_queries,
    "order": _order_queries,
    "direction": _direction_queries,
    "negation": _negation_queries,
    "count": _count_queries,
}
