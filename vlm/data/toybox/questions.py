"""Questions about a world with their answers, options and evidence; balanced, so that a question's words do not tell its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vlm.data.toybox.balance import Cell, balanced
from vlm.data.toybox.dice import Dice
from vlm.data.toybox.facts import Facts, keeps_split
from vlm.data.toybox.language import (
    NUMBERS,
    TIMES,
    Description,
    EventPattern,
    clause,
    describe,
    description_of,
    pattern_of,
    verb_phrase,
)
from vlm.data.toybox.queries import direction_cell, direction_pair, name_pattern, relation, restoring_pairs, said_of, spans_of, swapped
from vlm.data.toybox.splits import is_held_out_action, is_held_out_order
from vlm.data.toybox.vocabulary import ACTIONS, ACTIONS_THAT_RESTORE, COLOURS, VERSION
from vlm.data.toybox.world import Event, World
from vlm.types import Span

Kind = Literal["count", "colour", "order", "before/after", "yes/no", "open"]
KINDS: tuple[Kind, ...] = ("count", "colour", "order", "before/after", "yes/no", "open")
MOST_OF_A_KIND = 16

# An event that fills no more of the video than this is seldom in a frame taken at random.
RARE = 0.1
COUNTS = ("one", "two", "three")
TIMES_COUNTED = ("once", "twice")  # of one thing; a third time is rare
COUNT_THINGS_TEMPLATES = ("how many things {do}?", "how many different things {do}?")
COUNT_TIMES_TEMPLATES = ("how many times does {thing} {do}?", "how often does {thing} {do}?")
COLOUR_TEMPLATES = ("what colour is {thing} that {does}?", "what is the colour of {thing} that {does}?")
TURNS_TEMPLATES = ("what colour does {thing} become?", "which colour does {thing} turn?")
ORDER_TEMPLATES: dict[str, bool] = {  # and whether the earlier is asked for
    "which happens first: {one}, or {other}?": True,
    "what comes first: {one}, or {other}?": True,
    "which happens last: {one}, or {other}?": False,
    "what comes later: {one}, or {other}?": False,
}
BEFORE_AFTER_TEMPLATES = (
    "does {thing} {do} before or after {other}?",
    "when does {thing} {do}: before or after {other}?",
    "is it before or after {other} that {one}?",
)
YES_NO_TEMPLATES = ("does {thing} {do}?", "is there {thing} that {does}?", "do you see {thing} that {does}?")
DOES_WHAT_TEMPLATES = ("what does {thing} do?", "what happens to {thing}?", "what can {thing} be seen to do?")
NEXT_TEMPLATES = ("what happens next after {one}?", "what is the next thing to happen after {one}?")
TEMPLATES = (
    *COUNT_THINGS_TEMPLATES,
    *COUNT_TIMES_TEMPLATES,
    *COLOUR_TEMPLATES,
    *TURNS_TEMPLATES,
    *ORDER_TEMPLATES,
    *BEFORE_AFTER_TEMPLATES,
    *YES_NO_TEMPLATES,
    *DOES_WHAT_TEMPLATES,
    *NEXT_TEMPLATES,
    "yes no before after",
)


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one video.

    Attributes:
        id: ``WORLD/question/KIND/NUMBER``; the same for a seed on every machine.
        kind: one of ``KINDS``.
        answer: one of ``options``, or a sentence if the question is open.
        options: the closed set to choose from, the same for every question of a template but for order, where they are the two events;
            empty if the question is open.
        cell: where it stands in ``balanced_questions``; its side is the answer as a class (an open answer's action, the place of an order's
            answer among its options).
        evidence: the spans that have to be seen, in order; empty where the answer is that nothing happens.
        things: the things that the text is about, in the order in which it names them.
        is_temporal: a single frame cannot tell.
    """

    id: str
    kind: Kind
    text: str
    answer: str
    options: tuple[str, ...]
    cell: Cell
    evidence: tuple[Span, ...]
    things: tuple[int, ...] = ()
    is_temporal: bool = False


def questions(facts: Facts) -> list[Question]:
    """All candidate questions of a world, at most ``MOST_OF_A_KIND`` of each kind; their answers are not balanced."""
    found: list[Question] = []
    for kind in KINDS:
        dice = Dice(VERSION, "question", kind, facts.world.name)
        made = list(_MAKERS[kind](facts, dice))
        if len(made) > MOST_OF_A_KIND:
            keep = sorted(dice.shuffled(range(len(made)))[:MOST_OF_A_KIND])
            made = [made[place] for place in keep]
        found += [replace(question, id=f"{facts.world.name}/question/{kind}/{number}") for number, question in enumerate(made)]
    return found


def balanced_questions(worlds: Iterable[World], *, per_type: int | None = None, seed: int = 0) -> list[Question]:
    """Questions on many worlds, chosen so that in every cell (template and what it is about) each answer is as frequent.

    Args:
        worlds: of one split.
        per_type: at most so many of each kind, or a little fewer, since cells are filled evenly; None for all that balance allows.
        seed: of the choice and the order.
    """
    made = [question for world in worlds for question in questions(Facts(world))]
    return [question for kind in KINDS for question in balanced((each for each in made if each.kind == kind), limit=per_type, seed=seed)]


def chance(asked: Sequence[Question]) -> float:
    """The expected accuracy of who knows the templates and the balance, but neither sees the video nor can read more from a text."""
    return sum(1.0 / question.cell.num_sides for question in asked) / len(asked) if asked else 0.0


def _count(facts: Facts, dice: Dice) -> Iterator[Question]:
    world = facts.world
    for action in dict.fromkeys(event.action for event in world.events):
        pattern = EventPattern(action, None, Description())
        events = facts.events(pattern)
        number = NUMBERS[min(len({event.subject for event in events}), len(NUMBERS) - 1)]
        if number in COUNTS and facts.is_clear(pattern):
            text = dice.choose(COUNT_THINGS_TEMPLATES).format(do=verb_phrase(pattern, dice, singular=False))
            yield Question("", "count", text, number, COUNTS, Cell(f"things {action}", number, len(COUNTS)), spans_of(events))
    for event in {(event.subject, event.action): event for event in world.events}.values():
        pattern = replace(pattern_of(event, ("colour", "shape"), target_mention=(), with_way=False), target=None)
        events = facts.events(pattern)
        is_known = len(facts.things(pattern.subject)) == 1 and facts.is_clear(pattern) and keeps_split(world.split, pattern)
        if is_known and len(events) <= len(TIMES_COUNTED):
            number = TIMES[len(events)]
            thing = describe(pattern.subject, dice, article="the")
            text = dice.choose(COUNT_TIMES_TEMPLATES).format(thing=thing, do=verb_phrase(pattern, dice, singular=False))
            cell = Cell(f"times {event.action}", number, len(TIMES_COUNTED))
            yield Question("", "count", text, number, TIMES_COUNTED, cell, spans_of(events), (event.subject,))


def _colour(facts: Facts, dice: Dice) -> Iterator[Question]:
    for event in facts.world.events:
        if not _is_of_split(facts.world, event):
            continue
        # Shape and action together would tell the colour in a split that holds out triples; a target's colour cannot be the subject's.
        mention = dice.choose((("size",), ("texture",), ("size", "texture")))
        pattern = pattern_of(event, mention, target_mention=("shape",))
        if facts.is_clear(pattern) and len({each.look.colour for each in facts.events(pattern)}) == 1:
            template = dice.choose(COLOUR_TEMPLATES)
            text = template.format(thing=describe(pattern.subject, dice, article="the"), does=verb_phrase(pattern, dice))
            cell = Cell(f"colour {event.action}", event.look.colour, len(COLOURS))
            yield Question("", "colour", text, event.look.colour, COLOURS, cell, spans_of(facts.events(pattern)), (event.subject,))
        if event.action == "recolour":
            subject = description_of(event.look, ("size", "shape"))
            pattern = EventPattern("recolour", None, subject)
            if facts.is_clear(pattern) and len({each.way for each in facts.events(pattern)}) == 1:
                text = dice.choose(TURNS_TEMPLATES).format(thing=describe(subject, dice, article="the"))
                cell = Cell("colour after", event.way, len(COLOURS))
                yield Question("", "colour", text, event.way, COLOURS, cell, spans_of(facts.events(pattern)), (event.subject,))


def _pairs(facts: Facts, dice: Dice) -> Iterator[tuple[Event, Event, EventPattern, EventPattern, bool]]:
    """Two events in random order with their patterns, and whether the one mentioned first happens first."""
    for earlier, later in restoring_pairs(facts, dice, most=MOST_OF_A_KIND):
        first, second = (earlier, later) if dice.chance(0.5) else (later, earlier)
        with_size = dice.chance(0.3)
        one, other = name_pattern(first, with_size=with_size), name_pattern(second, with_size=with_size)
        in_order = facts.comes_before(one, other)
        if in_order is not None and all(keeps_split(facts.world.split, each, event_level=False) for each in (one, other)):
            yield first, second, one, other, in_order


def _order(facts: Facts, dice: Dice) -> Iterator[Question]:
    for first, second, one, other, in_order in _pairs(facts, dice):
        options = (clause(one, dice, article="the"), clause(other, dice, article="the"))
        template = dice.choose(tuple(ORDER_TEMPLATES))
        asks_earlier = ORDER_TEMPLATES[template]
        place = 0 if in_order == asks_earlier else 1
        cell = Cell(f"{asks_earlier} {first.label} | {second.label} | {relation(first, second)}", str(place), 2)
        evidence = spans_of([*facts.events(one), *facts.events(other)])
        things = (first.subject, second.subject)
        yield Question(
            "", "order", template.format(one=options[0], other=options[1]), options[place], options, cell, evidence, things, True
        )


def _before_after(facts: Facts, dice: Dice) -> Iterator[Question]:
    for first, second, one, other, in_order in _pairs(facts, dice):
        answer = "before" if in_order else "after"
        thing = describe(one.subject, dice, article="the")
        text = dice.choose(BEFORE_AFTER_TEMPLATES).format(
            thing=thing,
            do=verb_phrase(one, dice, singular=False, article="the"),
            one=clause(one, dice, article="the"),
            other=clause(other, dice, article="the"),
        )
        cell = Cell(f"{first.label} | {second.label} | {relation(first, second)}", answer, 2)
        evidence = spans_of([*facts.events(one), *facts.events(other)])
        things = (first.subject, second.subject)
        yield Question("", "before/after", text, answer, ("before", "after"), cell, evidence, things, True)


def _yes_no(facts: Facts, dice: Dice) -> Iterator[Question]:
    for event in facts.world.events:
        pair = direction_pair(event, facts) if dice.chance(0.5) else None
        if pair is not None:
            asked, answer = (pair[0], "yes") if dice.chance(0.5) else (pair[1], "no")
            yield _yes_no_question(facts, event, asked, answer, dice, balanced_in=direction_cell(event, pair[1], facts.world))
            continue
        mention = dice.choose((("colour", "shape"), ("size", "colour", "shape")))
        true = pattern_of(event, mention, target_mention=("colour", "shape"))
        if not keeps_split(facts.world.split, true) or not facts.is_clear(true):
            continue
        false = swapped(true, facts, dice)
        if false is not None:
            yield _yes_no_question(facts, event, false, "no", dice)
        yield _yes_no_question(facts, event, true, "yes", dice)


def _yes_no_question(facts: Facts, event: Event, pattern: EventPattern, answer: str, dice: Dice, *, balanced_in: str = "") -> Question:
    template = dice.choose(YES_NO_TEMPLATES)
    text = template.format(
        thing=describe(pattern.subject, dice), do=verb_phrase(pattern, dice, singular=False), does=verb_phrase(pattern, dice)
    )
    cell = Cell(f"{said_of(pattern, facts.world.split)} {pattern.subject.shape is None} {balanced_in}", answer, 2)
    things = (event.subject,) if pattern.subject.fits(event.look) else ()
    return Question("", "yes/no", text, answer, ("yes", "no"), cell, spans_of(facts.events(pattern)), things, bool(balanced_in))


def _open(facts: Facts, dice: Dice) -> Iterator[Question]:
    world = facts.world
    # A change of colour is followed by a bounce of the same thing (rules.py): it is never all that a thing does.
    does = tuple(action for action in ACTIONS if action != "recolour")
    for event in world.events:
        # Colour and shape together would tell what a thing does in a split that holds out triples.
        subject = description_of(event.look, dice.choose((("size", "colour"), ("texture", "colour"), ("colour",))))
        things = facts.things(subject)
        acts = [each for each in world.events if each.subject in things or each.target in things]
        if len(things) == 1 and len(acts) == 1 and event.action in does and _is_of_split(world, event):
            text = dice.choose(DOES_WHAT_TEMPLATES).format(thing=describe(subject, dice, article="the"))
            answer = clause(name_pattern(event), Dice(0), article="the")
            cell = Cell("does", event.action, len(does))
            yield Question("", "open", text, answer, (), cell, (event.span,), (event.subject,))
    for event in world.events:
        later = [each for each in world.events if each.span.start >= event.span.end]
        if event.action not in ACTIONS_THAT_RESTORE or not later:
            continue
        following = later[0]
        pattern = name_pattern(event)
        is_fine = facts.events(pattern) == [event] and facts.is_clear(pattern) and keeps_split(world.split, pattern, event_level=False)
        if not is_fine or (len(later) > 1 and later[1].span.start == following.span.start):
            continue
        choices = _next_actions(world.split, event.action)
        # A thing that takes part in both does nothing that the split holds out of it: its name would narrow the answer.
        if following.action in choices and relation(event, following) == "0000":
            text = dice.choose(NEXT_TEMPLATES).format(one=clause(pattern, dice, article="the"))
            answer = clause(name_pattern(following), Dice(0), article="the")
            # In a short video a random frame often shows the answer going on.
            is_rare = following.span.seconds <= RARE * world.seconds
            cell = Cell(f"next after {event.action} {is_rare}", following.action, len(choices))
            yield Question("", "open", text, answer, (), cell, (event.span, following.span), (event.subject,), is_rare)


def _next_actions(split: str, action: str) -> tuple[str, ...]:
    return tuple(each for each in ACTIONS_THAT_RESTORE if split == "test" or not is_held_out_order(action, each))


def _is_of_split(world: World, event: Event) -> bool:
    """Whether an event is what the split asks about: in test, a held-out triple."""
    return world.split != "test" or is_held_out_action(event.look.shape, event.look.colour, event.action)


_MAKERS: dict[Kind, Callable[[Facts, Dice], Iterator[Question]]] = {
    "count": _count,
    "colour": _colour,
    "order": _order,
    "before/after": _before_after,
    "yes/no": _yes_no,
    "open": _open,
}
