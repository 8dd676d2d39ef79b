"""Worlds for the tests of texts: planned ones, made once, and hand-made ones of a few events."""

from __future__ import annotations

from functools import cache

from vlm.data.toybox import plan
from vlm.data.toybox.facts import Facts
from vlm.data.toybox.queries import Query, queries
from vlm.data.toybox.questions import Question, questions
from vlm.data.toybox.vocabulary import ACTIONS_ON_ANOTHER
from vlm.data.toybox.world import Backdrop, Event, Look, Scene, Shot, Thing, World
from vlm.types import Span

RED_CIRCLE = Look("circle", "red", "small", "plain")
BLUE_STAR = Look("star", "blue", "large", "striped")
GREEN_SQUARE = Look("square", "green", "medium", "dotted")
GREY = Backdrop("plain", ((90, 90, 90), (90, 90, 90)), (0.0, 0.0), 0.2, (1.0, 1.0), 0.0, 0, 0)


@cache
def planned(split: str, num_worlds: int, seed: int = 5) -> tuple[World, ...]:
    return tuple(plan.make_world(seed, index, split=split) for index in range(num_worlds))


@cache
def queries_of(split: str) -> tuple[tuple[World, Query], ...]:
    return tuple((world, query) for world in planned(split, 60) for query in queries(Facts(world)))


@cache
def questions_of(split: str) -> tuple[tuple[World, Question], ...]:
    return tuple((world, question) for world in planned(split, 60) for question in questions(Facts(world)))


def world_of(*events: Event, looks: tuple[Look, ...] = (RED_CIRCLE, BLUE_STAR, GREEN_SQUARE), seconds: float = 40.0) -> World:
    """A world of one scene in which the things 0, 1, 2 look as in ``looks``; it has no motion."""
    things = tuple(Thing(number, 0, look) for number, look in enumerate(looks))
    whole = Span(0.0, seconds)
    scene = Scene(whole, tuple(range(len(looks))), GREY)
    return World(
        name="hand-made",
        split="train",
        seconds=seconds,
        scenes=(scene,),
        shots=(Shot(whole, 0, 0.5, 0.5, 1.0),),
        things=things,
        events=events,
        tracks=(),
    )


def event_of(
    number: int, action: str, subject: int, start: float, end: float, *, way: str = "", target: int = 2, look: Look | None = None
) -> Event:
    looks = (RED_CIRCLE, BLUE_STAR, GREEN_SQUARE)
    has_target = action in ACTIONS_ON_ANOTHER
    return Event(
        id=number,
        action=action,
        way=way,
        span=Span(start, end),
        subject=subject,
        look=look or looks[subject],
        target=target if has_target else None,
        target_look=looks[target] if has_target else None,
    )
