"""The demo: Toybox clips as real files, a library of them with pocket, queries and questions whose truth is known, and a contact sheet."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlm.data.toybox.dice import Dice
from vlm.data.toybox.facts import Facts
from vlm.data.toybox.files import file_name, render_worlds
from vlm.data.toybox.language import event_caption
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.queries import queries as toybox_queries
from vlm.data.toybox.questions import Question
from vlm.data.toybox.questions import questions as toybox_questions
from vlm.data.toybox.truth import write_truth
from vlm.data.toybox.vocabulary import VERSION
from vlm.data.toybox.world import Event, World
from vlm.errors import InputError
from vlm.types import Answer, Grounded, Hit, Span

if TYPE_CHECKING:
    from vlm.index.library import Library

NUM_CLIPS = 24
NUM_QUERIES = 6  # about one event each; one more is about the order of two
QUESTION_KINDS = ("yes/no", "colour", "before/after")
ENCODER = "pocket"
SAMPLING = "every:2"
_SEED = 24
_CLIP_SECONDS = (10, 24)
_MARK = "demo.json"  # tells a folder of the demo's from any other


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything of a demo lies."""

    folder: Path

    @property
    def videos(self) -> Path:
        """The clips, with ``truth.jsonl`` beside their folder."""
        return self.folder / "clips" / "videos"

    @property
    def truth(self) -> Path:
        """What is true of them, a line of JSON each."""
        return self.folder / "clips" / "truth.jsonl"

    @property
    def library(self) -> Path:
        """The library made of them."""
        return self.folder / "library"

    @property
    def sheet(self) -> Path:
        """The contact sheet of the last run."""
        return self.folder / "hits.png"


@dataclass(frozen=True, slots=True)
class Asked:
    """A query, where it is true, and what was found."""

    text: str
    video: str
    span: Span
    hits: tuple[Hit, ...]

    @property
    def is_found(self) -> bool:
        """Whether the first hit is the video of which the sentence was made."""
        return bool(self.hits) and Path(self.hits[0].path).stem == self.video


@dataclass(frozen=True, slots=True)
class Told:
    """A question about a clip, what is true, and what the model answered from it."""

    question: Question
    video: str
    answer: Answer


def worlds() -> list[World]:
    """The worlds of the demo: compositions that pocket was not trained on."""
    dice = Dice("demo", _SEED)
    return [
        make_world(_SEED, number, split="test", seconds=float(dice.between(*_CLIP_SECONDS)), num_events=dice.between(2, 4))
        for number in range(NUM_CLIPS)
    ]


def queries(made: list[World]) -> list[tuple[str, World, Event]]:
    """Six sentences about events of six worlds; each names a thing that no other world of the demo has."""
    looks = [{(thing.look.shape, thing.look.colour) for thing in world.things} for world in made]
    found: list[tuple[str, World, Event]] = []
    actions: set[str] = set()
    for number, world in enumerate(made):
        others = set().union(*(known for place, known in enumerate(looks) if place != number))
        for event in world.events:
            if (event.look.shape, event.look.colour) not in others and event.action not in actions and len(found) < NUM_QUERIES:
                actions.add(event.action)
                found.append((event_caption(event, Dice("demo", world.name)), world, event))
                break
    assert len(found) == NUM_QUERIES
    return found


def order_query(made: list[World]) -> tuple[str, World, Span]:
    """The first sentence about two events of which the one comes before the other."""
    every = ((query, world) for world in made for query in toybox_queries(Facts(world)))
    query, world = next((query, world) for query, world in every if query.kind == "order" and query.is_true)
    return query.text, world, query.spans[0]


def questions(made: list[World]) -> list[tuple[Question, World]]:
    """The first question of each of QUESTION_KINDS."""
    every = [(question, world) for world in made for question in toybox_questions(Facts(world))]
    return [next(pair for pair in every if pair[0].kind == kind) for kind in QUESTION_KINDS]


def prepare(places: Places, on_progress: Callable[[int, int], None]) -> float | None:
    """Renders the clips where they are not there yet. Returns the seconds that it took, None where nothing had to be done.

    Raises:
        InputError: the folder holds something else.
    """
    mark = places.folder / _MARK
    if mark.is_file() and json.loads(mark.read_text("utf-8")).get("version") == VERSION:
        return None
    if places.folder.exists() and any(places.folder.iterdir()):
        raise InputError(f"folder {str(places.folder)!r} holds something other than this demo: name a new one, as in `vlm demo DIR`")
    begin = time.perf_counter()
    made = worlds()
    render_worlds(places.videos.parent, made, size=224, on_progress=on_progress)
    write_truth(places.truth, made)
    mark.write_text(json.dumps({"version": VERSION}), "utf-8")
    return time.perf_counter() - begin


def ask(library: Library, *, top_k: int = 3) -> list[Asked]:
    """Runs the six queries about events, and the one about their order."""
    made = worlds()
    asked = [(text, world, event.span) for text, world, event in queries(made)]
    asked.append(order_query(made))
    return [Asked(text, file_name(world), span, library.search(text, top_k=top_k).hits) for text, world, span in asked]


def locate(library: Library, asked: Asked, places: Places) -> Grounded:
    """Where in the clip of which it is true a query is found."""
    return library.ground([asked.text], _clip(places, asked.video))[0]


def tell(library: Library, places: Places) -> list[Told]:
    """Asks the questions, each about its clip."""
    made = questions(worlds())
    told = []
    for question, world in made:
        name = file_name(world)
        answer = library.ask(question.text, _clip(places, name), choices=question.options).answer
        told.append(Told(question, name, answer))
    return told


def _clip(places: Places, name: str) -> Path:
    return next(path for path in places.videos.iterdir() if path.stem == name)
