"""Neither the words nor one frame tell what only the video can: the guessers learn on one collection and are asked on another."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from vlm.data.toybox import plan
from vlm.data.toybox.baselines import Item, query_items, question_items, single_frame_accuracy, text_only_accuracy
from vlm.data.toybox.motion import states
from vlm.data.toybox.queries import Query, balanced_queries
from vlm.data.toybox.questions import Question, balanced_questions, chance
from vlm.data.toybox.world import World

SPLITS = ("train", "test")
# Videos of the test split are longer: fewer of them hold as much.
NUM_WORLDS = {"train": 300, "test": 150}
NUM_TWINS = 200
MOST_QUERIES = 700
TOLERANCE = 0.05
TEMPORAL = ("order", "before/after", "open", "yes/no")


def near(by_chance: float, num_asked: int) -> float:
    """The tolerance, and two standard errors of an accuracy over so many where that is what a collection of this size can tell."""
    return float(max(TOLERANCE, 2.0 * np.sqrt(by_chance * (1.0 - by_chance) / num_asked)))


@cache
def collection(split: str, seed: int) -> tuple[World, ...]:
    return tuple(plan.make_world(seed, index, split=split) for index in range(NUM_WORLDS[split]))


@cache
def twins(split: str, seed: int) -> tuple[World, ...]:
    return tuple(world for index in range(NUM_TWINS) for world in plan.order_twins(seed, index, split=split))


@cache
def asked_of_worlds(split: str, seed: int) -> list[Question]:
    return balanced_questions(collection(split, seed))


@cache
def asked_of_twins(split: str, seed: int) -> list[Question]:
    return balanced_questions(twins(split, seed))


@cache
def queries_of_worlds(split: str, seed: int) -> list[Query]:
    return balanced_queries(collection(split, seed), per_kind=MOST_QUERIES)


def by_name(*worlds: Sequence[World]) -> dict[str, World]:
    return {world.name: world for some in worlds for world in some}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", ["count", "colour", "order", "before/after", "yes/no", "open"])
def test_the_words_of_a_question_do_not_tell_its_answer(split: str, kind: str) -> None:
    learnt, asked = ([question for question in asked_of_worlds(split, seed) if question.kind == kind] for seed in (21, 22))
    assert len(asked) >= 80
    accuracy = text_only_accuracy(question_items(learnt), question_items(asked))
    assert abs(accuracy - chance(asked)) < near(chance(asked), len(asked))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kinds", [("event", "absent"), ("order",), ("direction",), ("negation",), ("count",)], ids=lambda kinds: kinds[0])
def test_the_words_of_a_query_do_not_tell_whether_it_is_true(split: str, kinds: tuple[str, ...]) -> None:
    learnt, asked = ([query for query in queries_of_worlds(split, seed) if query.kind in kinds] for seed in (21, 22))
    assert len(asked) >= 100
    assert abs(text_only_accuracy(query_items(learnt), query_items(asked)) - 0.5) < near(0.5, len(asked))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", TEMPORAL)
def test_one_frame_does_not_answer_what_claims_to_be_temporal(split: str, kind: str) -> None:
    worlds = by_name(*(collection(split, seed) for seed in (21, 22)))
    learnt, asked = (
        [question for question in asked_of_worlds(split, seed) if question.kind == kind and question.is_temporal] for seed in (21, 22)
    )
    accuracy = single_frame_accuracy(question_items(learnt), question_items(asked), worlds)
    assert accuracy < chance(asked) + near(chance(asked), len(asked))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", ["order", "direction"])
def test_one_frame_does_not_tell_a_temporal_query_from_its_twin(split: str, kind: str) -> None:
    worlds = by_name(*(collection(split, seed) for seed in (21, 22)))
    learnt, asked = ([query for query in queries_of_worlds(split, seed) if query.kind == kind] for seed in (21, 22))
    assert all(query.is_temporal for query in asked)
    assert abs(single_frame_accuracy(query_items(learnt), query_items(asked), worlds) - 0.5) < near(0.5, len(asked))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", ["order", "before/after"])
def test_one_frame_of_a_pair_of_twins_does_not_tell_which_it_is(split: str, kind: str) -> None:
    worlds = by_name(*(twins(split, seed) for seed in (21, 22)))
    learnt, asked = (
        [question for question in asked_of_twins(split, seed) if question.kind == kind and question.is_temporal] for seed in (21, 22)
    )
    accuracy = single_frame_accuracy(question_items(learnt), question_items(asked), worlds)
    assert abs(accuracy - chance(asked)) < near(chance(asked), len(asked))


def test_the_guesser_by_text_finds_an_answer_that_leaks() -> None:
    leaking = [
        Item(question.id, f"{question.text} {'perhaps' if question.answer == 'yes' else 'surely'}", question.answer, ())
        for question in asked_of_worlds("train", 21)
        if question.kind == "yes/no"
    ]
    assert text_only_accuracy(leaking[::2], leaking[1::2]) > 0.95


def test_the_guesser_by_frame_finds_what_one_frame_does_tell() -> None:
    """Whether a thing is on the left: asked of the things of clips in which they stay where they are for most of the time."""
    worlds = [world for world in twins("train", 21) if world.events[0].action in ("bounce", "rotate", "blink")]
    items = []
    for world in worlds:
        thing = world.events[0].subject
        place = states(world, np.array([0.0])).x[0, thing]
        items.append(Item(world.name, "is it on the left?", str(place < 0.5), (thing,)))
    assert single_frame_accuracy(items[::2], items[1::2], by_name(worlds)) > 0.8
