"""Questions: answers and evidence, checked against the events, and their balance."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import pytest

from tests.vlm.data.toybox.language_worlds import event_of, planned, questions_of, world_of
from tests.vlm.data.toybox.reading import attributes, fits, parts, triple_named
from vlm.data.toybox.facts import Facts
from vlm.data.toybox.questions import COUNTS, KINDS, ORDER_TEMPLATES, TIMES_COUNTED, Question, balanced_questions, chance, questions
from vlm.data.toybox.splits import is_held_out_action, is_held_out_order
from vlm.data.toybox.vocabulary import ACTIONS_THAT_RESTORE, COLOURS, SHAPES
from vlm.data.toybox.world import World

SPLITS = ("train", "test")


def asked(split: str, kind: str) -> list[tuple[World, Question]]:
    return [(world, question) for world, question in questions_of(split) if question.kind == kind]


@pytest.mark.parametrize("split", SPLITS)
def test_an_order_question_is_answered_by_the_clause_that_happens_then(split: str) -> None:
    for world, question in asked(split, "order"):
        assert question.answer in question.options
        (other,) = set(question.options) - {question.answer}
        answered, rest = ([event.span for event in world.events if fits(clause, event)] for clause in (question.answer, other))
        if ORDER_TEMPLATES[next(template for template in ORDER_TEMPLATES if question.text.startswith(template.split(":")[0]))]:
            assert max(span.end for span in answered) <= min(span.start for span in rest)
        else:
            assert max(span.end for span in rest) <= min(span.start for span in answered)
        assert question.evidence == tuple(sorted({*answered, *rest}))


@pytest.mark.parametrize("split", SPLITS)
def test_order_questions_are_about_events_that_end_as_they_began(split: str) -> None:
    for _, question in asked(split, "order"):
        actions = [parts(clause)[1] for clause in question.options]
        assert set(actions) <= set(ACTIONS_THAT_RESTORE)
        assert is_held_out_order(actions[0], actions[1]) == (split == "test")


@pytest.mark.parametrize("split", SPLITS)
def test_before_or_after_is_as_the_evidence_lies(split: str) -> None:
    checked = 0
    for world, question in asked(split, "before/after"):
        match = re.match(r"is it before or after (.*) that (the .*)\?", question.text)
        if match is None or " that is " in question.text:
            continue
        checked += 1
        other, one = ([event.span for event in world.events if fits(clause, event)] for clause in match.groups())
        if question.answer == "before":
            assert max(span.end for span in one) <= min(span.start for span in other)
        else:
            assert max(span.end for span in other) <= min(span.start for span in one)
    assert checked > 10


@pytest.mark.parametrize("split", SPLITS)
def test_yes_has_the_spans_of_what_is_asked_and_no_has_none(split: str) -> None:
    for world, question in asked(split, "yes/no"):
        assert bool(question.evidence) == (question.answer == "yes")
        match = re.match(r"(?:is there|do you see) (.*) that (.*)\?", question.text)
        if match is not None:
            clause = " ".join(match.groups())
            assert question.evidence == tuple(sorted({event.span for event in world.events if fits(clause, event)})), question.text


@pytest.mark.parametrize("split", SPLITS)
def test_yes_no_questions_name_held_out_triples_in_test_alone(split: str) -> None:
    clauses = [
        " ".join(match.groups())
        for _, question in asked(split, "yes/no")
        if (match := re.match(r"(?:is there|do you see) (.*) that (.*)\?", question.text))
    ]
    named = [triple for clause in clauses if (triple := triple_named(clause)) is not None]
    assert {is_held_out_action(*triple) for triple in named} == {split == "test"}


@pytest.mark.parametrize("split", SPLITS)
def test_a_colour_is_that_of_every_event_that_fits(split: str) -> None:
    for world, question in asked(split, "colour"):
        match = re.match(r"what (?:colour is|is the colour of) the (.*) that (.*)\?", question.text)
        if match is None:
            continue
        colours = {event.look.colour for event in world.events if fits(" ".join(match.groups()), event)}
        assert colours == {question.answer}, question.text


@pytest.mark.parametrize("split", SPLITS)
def test_no_question_says_two_parts_of_a_triple_and_asks_for_the_third(split: str) -> None:
    """Where triples are held out, the third could be told without the video."""
    for _, question in asked(split, "open") + asked(split, "colour"):
        if question.cell.name == "does" or (question.kind == "colour" and question.cell.name != "colour after"):
            assert not attributes(question.text.split(" that ")[0].rstrip("?")) & set(SHAPES), question.text


@pytest.mark.parametrize("split", SPLITS)
def test_counts_of_things_are_of_different_things(split: str) -> None:
    for world, question in asked(split, "count"):
        _, action = question.cell.name.split()
        if question.cell.name.startswith("things"):
            number = len({event.subject for event in world.events if event.action == action})
        else:
            number = sum(event.action == action and event.subject == question.things[0] for event in world.events)
        assert question.answer == (("none", *COUNTS) if question.cell.name.startswith("things") else ("never", *TIMES_COUNTED))[number]


@pytest.mark.parametrize("split", SPLITS)
def test_what_happens_next_is_the_first_to_start_after_the_end(split: str) -> None:
    for world, question in asked(split, "open"):
        if question.cell.name.startswith("next "):
            first = next(event for event in world.events if event.span == question.evidence[0])
            following = min((event for event in world.events if event.span.start >= first.span.end), key=lambda event: event.span.start)
            assert fits(question.answer, following)


@pytest.mark.parametrize("split", SPLITS)
def test_an_open_answer_is_a_true_sentence_about_its_evidence(split: str) -> None:
    for world, question in asked(split, "open"):
        assert question.evidence[-1] in [event.span for event in world.events if fits(question.answer, event)]


def test_what_happens_next_is_temporal_only_where_a_random_frame_seldom_shows_it() -> None:
    events = (event_of(0, "rotate", 0, 1.0, 5.0, way="clockwise"), event_of(1, "blink", 1, 6.0, 10.0))
    for seconds, is_temporal in ((20.0, False), (60.0, True)):
        made = questions(Facts(world_of(*events, seconds=seconds)))
        assert [question.is_temporal for question in made if question.cell.name.startswith("next ")] == [is_temporal]


def test_nothing_is_asked_about_the_order_of_overlapping_events() -> None:
    world = world_of(event_of(0, "bounce", 0, 1.0, 5.0), event_of(1, "blink", 1, 4.0, 8.0))
    assert not [question for question in questions(Facts(world)) if question.kind in ("order", "before/after")]


def test_what_a_thing_does_is_not_asked_where_it_does_two_things() -> None:
    world = world_of(event_of(0, "bounce", 0, 1.0, 5.0), event_of(1, "blink", 0, 10.0, 14.0))
    assert not [question for question in questions(Facts(world)) if question.cell.name == "does"]


@pytest.mark.parametrize("split", SPLITS)
def test_in_every_cell_each_answer_is_as_frequent(split: str) -> None:
    cells: dict[str, Counter[str]] = defaultdict(Counter)
    chosen = balanced_questions(planned(split, 60))
    for question in chosen:
        cells[f"{question.kind} {question.cell.name}"][question.cell.side] += 1
    sides = {f"{question.kind} {question.cell.name}": question.cell.num_sides for question in chosen}
    assert all(len(found) == sides[name] and len(set(found.values())) == 1 for name, found in cells.items())


def test_colour_answers_are_uniform() -> None:
    found = Counter(question.answer for question in balanced_questions(planned("train", 60)) if question.kind == "colour")
    assert set(found) == set(COLOURS)
    assert len(set(found.values())) == 1


def test_per_type_is_an_upper_bound() -> None:
    found = Counter(question.kind for question in balanced_questions(planned("train", 60), per_type=40))
    assert all(found[kind] <= 40 for kind in KINDS)
    assert found["yes/no"] == 40


def test_chance_is_the_mean_over_the_possible_answers() -> None:
    chosen = balanced_questions(planned("train", 60))
    assert chance([question for question in chosen if question.kind == "yes/no"]) == 0.5
    assert chance([question for question in chosen if question.kind == "colour"]) == 0.125
    assert chance([]) == 0.0


def test_ids_are_unique_and_come_out_again() -> None:
    made = [question for _, question in questions_of("test")]
    assert len({question.id for question in made}) == len(made)
    assert made == [question for world in planned("test", 60) for question in questions(Facts(world))]
