"""Queries: what they say is checked by reading them back, event by event."""

from __future__ import annotations

import itertools
import re
from collections import Counter

import pytest

from tests.vlm.data.toybox.language_worlds import RED_CIRCLE, event_of, planned, queries_of, world_of
from tests.vlm.data.toybox.reading import attributes, fits, spans, triple_named
from vlm.data.toybox.facts import Facts
from vlm.data.toybox.language import NUMBERS, TIMES, Description, EventPattern
from vlm.data.toybox.queries import KINDS, MOST_OF_A_KIND, Query, balanced_queries, queries, share_before
from vlm.data.toybox.splits import is_held_out_action, is_held_out_order
from vlm.data.toybox.vocabulary import ACTIONS_THAT_RESTORE, SHAPES
from vlm.data.toybox.world import World
from vlm.types import Span

SPLITS = ("train", "test")


def asked(split: str, *kinds: str) -> list[tuple[World, Query]]:
    return [(world, query) for world, query in queries_of(split) if query.kind in kinds]


def two_clauses(text: str) -> tuple[str, str]:
    """The earlier and the later clause of an order query."""
    if " after " in text:
        later, earlier = text.split(" after ")
        return earlier, later
    earlier, later = re.split(r", then | and then | before ", text.removeprefix("first "))
    return earlier, later


@pytest.mark.parametrize("split", SPLITS)
def test_an_event_query_has_the_spans_of_all_events_that_fit_its_words(split: str) -> None:
    for world, query in asked(split, "event", "direction"):
        assert query.spans == spans(query.text, world), query.text
        assert query.spans


@pytest.mark.parametrize("split", SPLITS)
def test_an_absent_event_fits_nothing_and_its_twin_something(split: str) -> None:
    for world, query in asked(split, "absent"):
        assert not spans(query.text, world), query.text
        assert query.twin is not None
        assert spans(query.twin, world)


@pytest.mark.parametrize("split", SPLITS)
def test_the_twin_of_a_true_event_is_false(split: str) -> None:
    for world, query in asked(split, "event", "direction"):
        assert query.twin is None or not spans(query.twin, world), query.twin


@pytest.mark.parametrize("split", SPLITS)
def test_order_queries_are_true_one_way_and_false_the_other(split: str) -> None:
    for world, query in asked(split, "order"):
        assert query.twin is not None
        earlier, later = ([event for event in world.events if fits(clause, event)] for clause in two_clauses(query.text))
        assert two_clauses(query.twin) == two_clauses(query.text)[::-1]
        assert all(one.span.end <= other.span.start for one, other in itertools.product(earlier, later))
        assert {event.action for event in (*earlier, *later)} <= set(ACTIONS_THAT_RESTORE)
        assert query.spans == tuple(sorted({Span(one.span.start, other.span.end) for one, other in itertools.product(earlier, later)}))


@pytest.mark.parametrize("split", SPLITS)
def test_order_queries_name_held_out_pairs_of_actions_in_test_alone(split: str) -> None:
    for world, query in asked(split, "order"):
        earlier, later = ([event.action for event in world.events if fits(clause, event)] for clause in two_clauses(query.text))
        assert is_held_out_order(earlier[0], later[0]) == (split == "test"), query.text


@pytest.mark.parametrize("split", SPLITS)
def test_texts_about_one_event_name_held_out_triples_in_test_alone(split: str) -> None:
    texts = [text for _, query in asked(split, "event", "absent", "direction") for text in (query.text, query.twin) if text]
    named = [triple for text in texts if (triple := triple_named(text)) is not None]
    assert {is_held_out_action(*triple) for triple in named} == {split == "test"}


@pytest.mark.parametrize("split", SPLITS)
def test_nothing_does_it_only_where_no_event_is_of_that_action(split: str) -> None:
    for world, query in asked(split, "negation"):
        if query.text.startswith("nothing "):
            action = query.cell.name.split()[1]
            assert query.is_true == all(event.action != action for event in world.events)


@pytest.mark.parametrize("split", SPLITS)
def test_a_thing_that_never_does_it_is_there_and_does_not(split: str) -> None:
    for world, query in asked(split, "negation"):
        if " never " in query.text:
            said = attributes(re.sub(r" (and|that) never .*", "", query.text))
            looks = [{thing.look.shape, thing.look.colour} for thing in world.things]
            looks += [{event.look.shape, event.look.colour} for event in world.events]
            looks += [{event.look.shape, event.way} for event in world.events if event.action == "recolour"]
            assert any(said <= look for look in looks), query.text
            action = query.cell.name.split()[1]
            does = any(event.action == action and said <= {event.look.shape, event.look.colour} for event in world.events)
            assert query.is_true != does, query.text


@pytest.mark.parametrize("split", SPLITS)
def test_a_video_without_a_shape_has_no_thing_of_it(split: str) -> None:
    for world, query in asked(split, "negation"):
        if "without" in query.text or "there is no" in query.text:
            (shape,) = attributes(query.text) & set(SHAPES)
            assert query.is_true == all(thing.look.shape != shape for thing in world.things)


@pytest.mark.parametrize("split", SPLITS)
def test_counts_of_things_are_of_different_things(split: str) -> None:
    for world, query in asked(split, "count"):
        match = re.match(r"(?:exactly )?(\w+) things? ", query.text)
        if match and match[1] in NUMBERS:
            action = query.cell.name.split()[-2]
            number = len({event.subject for event in world.events if event.action == action})
            assert query.is_true == (NUMBERS[number] == match[1]), query.text


@pytest.mark.parametrize("split", SPLITS)
def test_counts_of_times_are_of_all_events_of_that_thing(split: str) -> None:
    for world, query in asked(split, "count"):
        times = next((number for number, word in enumerate(TIMES) if query.text.endswith(word)), None)
        if times is None:
            continue
        (thing,) = query.things
        action = query.cell.name.split()[-2]
        number = sum(event.action == action and event.subject == thing for event in world.events)
        assert query.is_true == (number == times), query.text


def test_two_events_that_fit_a_short_text_give_two_spans() -> None:
    world = world_of(event_of(0, "bounce", 0, 1.0, 4.0), event_of(1, "bounce", 0, 10.0, 14.0))
    found = [query.spans for query in queries(Facts(world)) if query.kind == "event"]
    assert set(found) == {(Span(1.0, 4.0), Span(10.0, 14.0))}


def test_that_something_moves_is_not_denied_of_what_comes_in() -> None:
    facts = Facts(world_of(event_of(0, "enter", 0, 1.0, 4.0, way="left")))
    assert facts.happens(EventPattern("move", None, Description(colour="red"))) is None
    assert facts.happens(EventPattern("move", None, Description(colour="blue"))) is False


def test_either_of_two_that_collide_can_be_said_to_bump_into_the_other() -> None:
    facts = Facts(world_of(event_of(0, "collide", 0, 1.0, 4.0, target=2)))
    red, green = Description(colour="red"), Description(colour="green")
    assert facts.happens(EventPattern("collide", None, red, green)) is True
    assert facts.happens(EventPattern("collide", None, green, red)) is None
    assert facts.happens(EventPattern("collide", None, green, Description(colour="blue"))) is False


def test_a_thing_is_known_by_the_colour_to_which_it_turns() -> None:
    facts = Facts(world_of(event_of(0, "recolour", 0, 1.0, 4.0, way="pink")))
    assert facts.things(Description(colour="pink", shape=RED_CIRCLE.shape)) == [0]


def test_overlapping_events_are_in_no_order() -> None:
    facts = Facts(world_of(event_of(0, "bounce", 0, 1.0, 5.0), event_of(1, "blink", 1, 4.0, 8.0)))
    red, blue = (EventPattern(action, "", Description(colour=colour)) for action, colour in (("bounce", "red"), ("blink", "blue")))
    assert facts.comes_before(red, blue) is None


def test_share_before_counts_quarters_of_the_scene() -> None:
    for start, quarter in ((0.0, 0), (8.0, 0), (9.5, 1), (18.5, 2), (30.0, 3), (36.0, 3)):
        event = event_of(0, "bounce", 0, start, start + 4.0)
        assert share_before(event, world_of(event)) == quarter, start


def test_a_world_gives_the_same_queries_again() -> None:
    world = planned("train", 60)[3]
    assert queries(Facts(world)) == queries(Facts(world))


def test_ids_are_unique_and_no_kind_exceeds_its_share() -> None:
    made = [query for _, query in queries_of("train")]
    assert len({query.id for query in made}) == len(made)
    shares = Counter((world.name, query.kind) for world, query in queries_of("train"))
    assert {kind for _, kind in shares} == set(KINDS)
    assert max(shares.values()) == MOST_OF_A_KIND


@pytest.mark.parametrize("split", SPLITS)
def test_balanced_queries_have_as_many_of_each_side_in_every_cell(split: str) -> None:
    sides: dict[str, list[str]] = {}
    for query in balanced_queries(planned(split, 60)):
        sides.setdefault(f"{query.kind.replace('absent', 'event')} {query.cell.name}", []).append(query.cell.side)
    assert all(len({found.count(side) for side in set(found)}) == 1 for found in sides.values())
    assert sum(len(set(found)) == 2 for found in sides.values()) > 20
