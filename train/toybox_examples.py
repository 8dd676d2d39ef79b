"""What Toybox knows of a world as examples for training: moments, what does not happen, questions, and what cannot be answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.dice import Dice
from vlm.data.toybox.facts import Facts, keeps_look, keeps_split
from vlm.data.toybox.language import Description, clause, describe, description_of
from vlm.data.toybox.motion import states
from vlm.data.toybox.queries import Query, name_pattern, queries, relation
from vlm.data.toybox.questions import COUNTS, NEXT_TEMPLATES, TIMES_COUNTED, Question, questions
from vlm.data.toybox.splits import is_held_out_order
from vlm.data.toybox.truth import saliency
from vlm.data.toybox.vocabulary import ACTIONS, COLOURS, RADII, SHAPES, SIZES, TEXTURES, VERSION
from vlm.data.toybox.world import States, World
from vlm.errors import InputError
from vlm.train.examples import Example
from vlm.types import Span

# The closed list: every option of Toybox's questions but those that name events.
ANSWERS = (*COUNTS, *TIMES_COUNTED, *COLOURS, "before", "after", "yes", "no")
# Of so many things of a world it is asked when they are on screen, and of as many that never are; seen so many times a second.
THINGS, GLANCES = 4, 10
THING_MENTIONS = (
    ("colour", "shape"),
    ("colour", "shape"),
    ("size", "colour", "shape"),
    ("texture", "colour", "shape"),
    ("colour",),
    ("shape",),
)
# How well a second shows a thing that is on screen in its middle: as well as can be.
ON_SCREEN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class KindsConfig:
    """How often each kind is drawn, relative to the others; 0 leaves it out.

    Queries: thing, event, absent, order, direction, negation, count. Questions: how_many, colour, first, before_after, yes_no, open.
    ``answerable`` are questions about what follows an event, which happens or does not.
    """

    thing: float = 1.5
    event: float = 4.0
    absent: float = 2.0
    order: float = 2.0
    direction: float = 1.0
    negation: float = 0.5
    count: float = 0.5
    how_many: float = 2.0
    colour: float = 2.0
    first: float = 2.0
    before_after: float = 2.0
    yes_no: float = 2.0
    open: float = 2.0
    answerable: float = 1.0

    def __post_init__(self) -> None:
        for name, share in self.shares().items():
            if share < 0:
                raise InputError(f"the share of {name} must be at least 0, got {share}")

    def shares(self) -> dict[str, float]:
        """The shares by kind."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


QUESTION_KINDS = {
    "count": "how_many",
    "colour": "colour",
    "order": "first",
    "before/after": "before_after",
    "yes/no": "yes_no",
    "open": "open",
}


# Standard deviations that bring places and radii to about unit variance.
PLACE_SCALE, RADIUS_SCALE = 0.25, 0.04
# What a thing can do: every action in each of its ways.
LABELS = tuple(f"{action} {way}".strip() for action, ways in ACTIONS.items() for way in ways or ("",))


@dataclass(frozen=True, slots=True)
class WorldWitness:
    """How each thing of each world is and what it does, LABELS of its events, at the times of frames. Each world is looked at once.

    A thing on screen has the track of its colour: no two of a scene share one.
    """

    worlds: Sequence[World]
    frames_per_second: float
    num_acts: ClassVar[int] = len(LABELS)
    num_tracks: ClassVar[int] = len(COLOURS)
    _seen: dict[int, tuple[States, NDArray[np.float32], NDArray[np.bool_]]] = field(default_factory=dict)

    def tell(self, video: int, thing: int, times: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Numbers of about unit variance, NaN while the thing is not shown, and the events of which it is the subject."""
        _, told, acts = self._look(video)
        rows = np.round(times * self.frames_per_second).astype(np.int64)
        return told[rows, thing], acts[rows, thing]

    def tell_all(self, video: int, times: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The same of what is on screen, by track; a thing that is blinked away or outside the frame acts on all the same."""
        seen, told, acts = self._look(video)
        rows = np.round(times * self.frames_per_second).astype(np.int64)
        states = np.full((len(rows), self.num_tracks, told.shape[-1]), np.nan, np.float32)
        states[..., 0] = 0
        done = np.zeros((len(rows), self.num_tracks, self.num_acts), np.bool_)
        colours = seen.colour_name_index()[rows]
        scene_of = np.array([one.scene for one in self.worlds[video].things])
        here = seen.scene[rows][:, None] == scene_of
        row, thing = np.nonzero(here)
        track = colours[row, thing]
        done[row, track] |= acts[rows[row], thing]
        row, thing = np.nonzero(here & seen.is_shown[rows])
        states[row, colours[row, thing]] = told[rows[row], thing]
        return states, done

    def track_of(self, video: int, thing: int, times: NDArray[np.float64]) -> NDArray[np.int64]:
        """The place of the thing's colour while its scene is on screen."""
        seen, _, _ = self._look(video)
        rows = np.round(times * self.frames_per_second).astype(np.int64)
        colour: NDArray[np.int64] = seen.colour_name_index()[rows, thing]
        return np.where(seen.scene[rows] == self.worlds[video].things[thing].scene, colour, -1)

    def _look(self, video: int) -> tuple[States, NDArray[np.float32], NDArray[np.bool_]]:
        """Of a whole world: its states, the numbers told of each thing (t, k, NUM_STATES), and its acts (t, k, num_acts)."""
        if video in self._seen:
            return self._seen[video]
        world = self.worlds[video]
        times = np.arange(0, world.seconds, 1 / self.frames_per_second)
        seen = states(world, times)
        numbers = [
            (seen.x - 0.5) / PLACE_SCALE,
            (seen.y - 0.5) / PLACE_SCALE,
            (seen.radius - RADII[1]) / RADIUS_SCALE,
            np.sin(seen.angle),
            np.cos(seen.angle),
            seen.colour_name_index(),
            np.broadcast_to(seen.shape, seen.x.shape),
            np.broadcast_to(seen.texture, seen.x.shape),
            seen.size,
        ]
        told = np.stack([seen.is_shown, *(np.where(seen.is_shown, number, np.nan) for number in numbers)], axis=-1).astype(np.float32)
        acts = np.zeros((*seen.x.shape, self.num_acts), np.bool_)
        for event in world.events:
            acts[(times >= event.span.start) & (times < event.span.end), event.subject, LABELS.index(event.label)] = True
        self._seen[video] = seen, told, acts
        return self._seen[video]


def world_examples(world: World, video: int) -> Iterator[Example]:
    """All that is asked about a world."""
    facts = Facts(world)
    dice = Dice(VERSION, "answerable", world.name)
    for query in queries(facts):
        example = query_example(world, query, video)
        yield example
        if query.twin is not None and query.kind in ("order", "direction"):
            yield Example(
                video=video,
                text=query.twin,
                kind=query.kind,
                side="twin",
                has_moments=True,
                is_true=False,
                is_answerable=False,
                mentions=((),) if query.kind == "direction" else example.mentions[::-1],
            )
        if query.kind in ("event", "absent"):
            text = dice.choose(NEXT_TEMPLATES).format(one=query.text)
            yield Example(
                video=video, text=text, kind="answerable", side=str(query.is_true), is_answerable=query.is_true, mentions=example.mentions
            )
    for question in questions(facts):
        yield question_example(question, video, mentions_of(world, question))
    yield from _what_follows(world, video)
    yield from _things_on_screen(world, video)


def _what_follows(world: World, video: int) -> Iterator[Example]:
    """What happens next after any event with a name of its own, and not only after those that a balanced choice of questions can use: of
    these a world of the training split holds one in six. Only of events that share no thing: of others the rules of the world tell what
    follows, and a model that has learnt those by heart looks no more. The split's orders stay out."""
    facts, dice = Facts(world), Dice(VERSION, "follows", world.name)
    for event in world.events:
        later = [other for other in world.events if other.span.start >= event.span.end]
        if not later or (len(later) > 1 and later[1].span.start == later[0].span.start):
            continue
        pattern, answer = name_pattern(event), name_pattern(later[0])
        is_named = facts.events(pattern) == [event] and facts.is_clear(pattern)
        if relation(event, later[0]) != "0000":
            continue
        is_held_out = world.split != "test" and is_held_out_order(event.action, later[0].action)
        if not is_named or is_held_out or not all(keeps_split(world.split, each, event_level=False) for each in (pattern, answer)):
            continue
        yield Example(
            video=video,
            text=dice.choose(NEXT_TEMPLATES).format(one=clause(pattern, dice, article="the")),
            kind="open",
            side=f"next {later[0].action}",
            spans=(event.span, later[0].span),
            has_moments=True,
            is_answerable=True,
            answer=clause(answer, Dice(0), article="the"),
            things=(event.subject,),
            mentions=(((event.subject, event.span),),),
        )


def _things_on_screen(world: World, video: int) -> Iterator[Example]:
    """Things named by how they look, with when one of them is on screen; and looks that no thing of the world ever has."""
    facts, dice = Facts(world), Dice(VERSION, "thing", world.name)
    times = np.arange(0, world.seconds, 1 / GLANCES)
    seen = states(world, times)
    for look in dice.shuffled(list(dict.fromkeys(thing.look for thing in world.things)))[:THINGS]:
        real = description_of(look, dice.choose(THING_MENTIONS))
        absent = replace(description_of(look, ("colour", "shape")), colour=dice.choose(COLOURS))
        for said, is_true in ((real, True), (absent, False)):
            if not keeps_look(world.split, said) or (not is_true and facts.things(said)):
                continue
            stretches = [(thing, span) for thing in range(len(world.things)) for span in _when(_fits(said, seen, thing), world.seconds)]
            if bool(stretches) != is_true:
                continue
            spans = _when(np.any([_fits(said, seen, thing) for thing in range(len(world.things))], axis=0), world.seconds)
            yield Example(
                video=video,
                text=describe(said, dice),
                kind="thing",
                side=str(is_true),
                spans=spans,
                has_moments=True,
                levels={int(when): ON_SCREEN for span in spans for when in np.arange(np.ceil(span.start - 0.5), span.end - 0.5)},
                is_true=is_true,
                is_answerable=is_true,
                things=tuple(dict.fromkeys(thing for thing, _ in stretches)),
                mentions=(tuple(stretches),),
            )


def _fits(said: Description, seen: States, thing: int) -> NDArray[np.bool_]:
    """When (t,) a thing is on screen and looks so."""
    fits = seen.is_shown[:, thing].copy()
    for name, of, names in (
        (said.colour, seen.colour_name_index()[:, thing], COLOURS),
        (said.size, seen.size[:, thing], SIZES),
        (said.shape, seen.shape[thing], SHAPES),
        (said.texture, seen.texture[thing], TEXTURES),
    ):
        if name is not None:
            fits &= of == list(names).index(name)
    return fits


def _when(shown: NDArray[np.bool_], seconds: float) -> tuple[Span, ...]:
    """The stretches in which a thing that was looked at GLANCES times a second was shown."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], shown, [False]]).astype(np.int8)))
    return tuple(Span(first / GLANCES, min(last / GLANCES, seconds)) for first, last in edges.reshape(-1, 2).tolist())


def query_example(world: World, query: Query, video: int) -> Example:
    """A query with its spans, the levels of its seconds, and whether it is true."""
    found = saliency(world, query.spans, query.things)
    return Example(
        video=video,
        text=query.text,
        kind=query.kind,
        side=query.cell.side,
        spans=query.spans,
        has_moments=bool(query.spans) or (not query.is_true and query.kind in ("absent", "order", "direction")),
        levels={second: level for second, level in zip(found.seconds, found.levels, strict=True) if level},
        things=query.things,
        mentions=mentions_of(world, query),
        is_true=query.is_true,
        is_answerable=query.is_true if query.kind in ("event", "absent") else None,
    )


def mentions_of(world: World, said: Query | Question) -> tuple[tuple[tuple[int, Span], ...], ...]:
    """Of each thing that a text says to happen, in its order, when which thing does it.

    Of two events in an order the one that a query says to come first is first, whatever it names first; of two that a question asks
    about, the one that comes first if the answer is "before". Nothing is known of questions about two events of one thing.
    """
    spans = said.evidence if isinstance(said, Question) else said.spans
    happened = [(event.subject, event.span) for event in world.events]
    if isinstance(said, Query) and said.kind == "negation":
        return ()
    if isinstance(said, Query) and said.kind == "order":
        (first, second), starts, ends = said.things, {span.start for span in spans}, {span.end for span in spans}
        earlier = tuple(one for one in happened if one[0] == first and one[1].start in starts)
        return earlier, tuple(one for one in happened if one[0] == second and one[1].end in ends)
    happened = [one for one in happened if one[1] in spans]
    if isinstance(said, Question) and said.kind in ("order", "before/after"):
        first, second = said.things
        return () if first == second else tuple(tuple(one for one in happened if one[0] == thing) for thing in (first, second))
    if not spans:
        never = said.answer == "no" if isinstance(said, Question) else said.kind in ("absent", "direction")
        return ((),) if never else ()
    if isinstance(said, Question) and said.kind == "open":
        spans = spans[:1]  # what comes next is not in the words
    found = tuple(one for one in happened if one[1] in spans and (not said.things or one[0] in said.things))
    return (found,) if found else ()


def question_example(question: Question, video: int, mentions: tuple[tuple[tuple[int, Span], ...], ...] = ()) -> Example:
    """A question with its answer and its evidence."""
    return Example(
        video=video,
        text=question.text,
        kind=QUESTION_KINDS[question.kind],
        side=question.cell.side,
        spans=question.evidence,
        has_moments=bool(question.evidence),
        is_answerable=True,
        options=question.options,
        answer=question.answer,
        things=question.things,
        mentions=mentions,
    )
