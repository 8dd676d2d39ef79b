from __future__ import annotations

import pytest

from vlm.data.action_names import action_name, verb_and_noun
from vlm.data.toybox.foresight import action_names, due, expectations, habits_of, noun_of, present_things
from vlm.data.toybox.motion import states
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.truth import label_of, next_events
from vlm.data.toybox.vocabulary import COLOURS, SIZES
from vlm.data.toybox.world import World
from vlm.errors import InputError


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [make_world(seed, number, split=split) for split, seed in (("train", 4), ("test", 4)) for number in range(25)]


def test_what_is_due_by_the_rules_is_what_happens_next_and_nothing_else_is_due(worlds: list[World]):
    kinds = set()
    for world in worlds:
        for following in next_events(world):
            event, told = world.events[following.event], due(world, following.cut)
            assert (told is not None) == following.is_caused
            if told is not None:
                assert (told.label, told.thing.id, told.thing.look) == (event.label, event.subject, event.look)
                assert event.cause is not None
                kinds.add(world.events[event.cause].action)
    assert kinds == {"collide", "hide", "recolour", "grow"}


def test_what_is_there_is_what_the_camera_sees(worlds: list[World]):
    for world in worlds[:20]:
        for following in next_events(world):
            shown = states(world, [following.cut])  # type: ignore[arg-type]
            things = {thing.id: thing for thing in present_things(world, following.cut)}
            assert set(shown.is_shown[0].nonzero()[0].tolist()) <= set(things)
            for number, thing in things.items():
                if shown.is_shown[0, number]:
                    assert thing.look.colour == COLOURS[shown.colour_name_index()[0, number]]
                    assert thing.look.size == SIZES[shown.size[0, number]]


@pytest.mark.parametrize(("labels", "nouns"), [("actions", "shapes"), ("ways", "looks")])
def test_expectations_are_probabilities_of_known_actions_and_hold_what_happens(worlds: list[World], labels: str, nouns: str):
    habits, known = habits_of(make_world(11, number) for number in range(100)), set(action_names(labels, nouns))  # type: ignore[arg-type]
    held = asked = 0
    for world in worlds:
        for following in next_events(world):
            found = expectations(world, following.cut, habits, labels=labels, nouns=nouns)  # type: ignore[arg-type]
            assert sum(found.values()) == pytest.approx(1.0)
            assert {action_name(*pair) for pair in found} <= known
            event = world.events[following.event]
            held += (label_of(event.label, labels), noun_of(event.look, nouns)) in found  # type: ignore[arg-type]
            asked += 1
    assert held > 0.95 * asked  # habits of a hundred worlds lack what is rare


def test_an_actions_name_has_two_parts():
    assert verb_and_noun(action_name("put down", "red circle")) == ("put down", "red circle")
    for wrong in ("jump", "jump, ", ", cat", "a, b, c"):
        with pytest.raises(InputError, match="VERB, NOUN"):
            verb_and_noun(wrong)
