"""All that is known of one world, and its record: one JSON object a line, the same bytes on every machine.

A record holds what ``Truth`` holds. Seconds are on a grid of 0.1, scores on one of 0.001.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.dice import Dice
from vlm.data.toybox.facts import Facts
from vlm.data.toybox.language import event_caption, paragraph, video_caption
from vlm.data.toybox.queries import Query, queries
from vlm.data.toybox.questions import Question, questions
from vlm.data.toybox.vocabulary import ACTIONS, RADII, SIZES, VERSION
from vlm.data.toybox.world import Event, Look, World
from vlm.errors import InputError
from vlm.spans import overlap_seconds
from vlm.types import Span

NOTHING = "nothing"
# Class names of segments and frames; positions are class numbers.
CLASSES = (NOTHING, *(f"{action} {way}".strip() for action, ways in ACTIONS.items() for way in ways or ("",)))
# How finely labels are told apart: which way an action goes too, or the action alone.
Labels = Literal["ways", "actions"]
# Before an event, in seconds: where the observation ends from which it is to be foreseen.
FORESIGHT = 1.0
HIGHEST_SALIENCY = 4


def label_of(label: str, labels: Labels) -> str:
    """A class name as finely as ``labels`` says: ``move left`` is ``move`` among ``actions``."""
    return label if labels == "ways" else label.split(" ", 1)[0]


def classes_of(labels: Labels) -> tuple[str, ...]:
    """All class names, told apart so finely; ``nothing`` is the first."""
    return tuple(dict.fromkeys(label_of(name, labels) for name in CLASSES))


@dataclass(frozen=True, slots=True)
class LabelledSpan:
    """A stretch of the label track; ``event`` is None where ``label`` is ``nothing``."""

    span: Span
    label: str
    event: int | None


@dataclass(frozen=True, slots=True)
class NextEvent:
    """What starts next after an observation of ``[0, cut)``.

    ``is_caused``: whether it follows by a rule of the world from what was seen, so that it can be foreseen.
    """

    cut: float
    event: int
    label: str
    is_caused: bool


@dataclass(frozen=True, slots=True)
class Saliency:
    """How well each second shows a query, only of the seconds ``[s, s + 1)`` that show it at all.

    Attributes:
        seconds: the numbers s, increasing.
        shares: in (0, 1], the part of the second that lies in a span, times the legibility of the thing.
        levels: the same as an integer of 0 to 4, as QVHighlights gives it.
    """

    seconds: tuple[int, ...]
    shares: tuple[float, ...]
    levels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Truth:
    """All that is known of a world.

    Attributes:
        caption: the whole video in one sentence.
        captions: for each event several phrasings: short first, then two full ones.
        paragraph: sentences with their spans, in order of start.
        queries, questions: candidates; ``balanced_queries`` and ``balanced_questions`` choose among those of many worlds.
        saliency: of each query, in their order; empty for those without spans.
        segments: the label track: they meet, do not overlap and cover the video. Where events overlap, the one that started last has the
            track, and gives it back when it ends.
        next_events: for every event that is the next to start 1 s before its start, while its scene is already on screen.
    """

    world: World
    caption: str
    captions: tuple[tuple[str, ...], ...]
    paragraph: tuple[tuple[str, Span], ...]
    queries: tuple[Query, ...]
    questions: tuple[Question, ...]
    saliency: tuple[Saliency, ...]
    segments: tuple[LabelledSpan, ...]
    next_events: tuple[NextEvent, ...]


def truth_of(world: World) -> Truth:
    """The truth of a world, the same on every machine."""
    facts = Facts(world)
    asked = tuple(queries(facts))
    return Truth(
        world=world,
        caption=video_caption(world, Dice(VERSION, "video caption", world.name)),
        captions=captions_of(world),
        paragraph=paragraph_of(world),
        queries=asked,
        questions=tuple(questions(facts)),
        saliency=tuple(saliency(world, query.spans, query.things) for query in asked),
        segments=tuple(segments(world)),
        next_events=tuple(next_events(world)),
    )


def captions_of(world: World) -> tuple[tuple[str, ...], ...]:
    """For each event several phrasings (see ``Truth.captions``)."""
    return tuple(_captions(event, Dice(VERSION, "captions", world.name, event.id)) for event in world.events)


def paragraph_of(world: World) -> tuple[tuple[str, Span], ...]:
    """Sentences with their spans, one for each event in order of start."""
    return tuple(paragraph(world, Dice(VERSION, "paragraph", world.name)))


def saliency(world: World, spans: Iterable[Span], things: Iterable[int]) -> Saliency:
    """How well each second of ``world`` shows ``spans``: by the best of the spans, and the most legible of ``things``."""
    found: dict[int, float] = {}
    of_scene: dict[int, list[int]] = {}
    for thing in things:
        of_scene.setdefault(world.things[thing].scene, []).append(thing)
    looks: dict[int, list[tuple[float, Look]]] = {}
    for event in world.events:
        looks.setdefault(event.subject, []).append((event.span.start, event.look))
    for span in spans:
        for second in range(int(span.start), int(np.ceil(span.end))):
            whole = Span(float(second), min(second + 1.0, world.seconds))
            share = overlap_seconds(span, whole) / whole.seconds
            shown = of_scene.get(_scene_at(world, max(whole.start, span.start)), [])
            legible = max((_legibility(world, thing, looks.get(thing, []), second) for thing in shown), default=1.0)
            found[second] = max(found.get(second, 0.0), round(share * legible, 3))
    seconds = tuple(sorted(second for second, share in found.items() if share > 0))
    shares = tuple(found[second] for second in seconds)
    return Saliency(seconds, shares, tuple(int(HIGHEST_SALIENCY * share + 0.5) for share in shares))


def segments(world: World) -> list[LabelledSpan]:
    """The label track of a world (see ``Truth.segments``)."""
    bounds = sorted({0.0, world.seconds, *(time for event in world.events for time in (event.span.start, event.span.end))})
    track: list[LabelledSpan] = []
    for start, end in itertools.pairwise(bounds):
        active = [event for event in world.events if event.span.start <= start < event.span.end]
        holder = max(active, key=lambda event: (event.span.start, event.id), default=None)
        number = None if holder is None else holder.id
        if track and track[-1].event == number:
            track[-1] = LabelledSpan(Span(track[-1].span.start, end), track[-1].label, number)
        else:
            track.append(LabelledSpan(Span(start, end), NOTHING if holder is None else holder.label, number))
    return track


def frame_times(world: World, *, rate: float = 2.0) -> NDArray[np.float64]:
    """Times (t,) of frames at ``rate`` frames/s from 0 s on.

    Raises:
        InputError: a rate that is not positive.
    """
    if not (np.isfinite(rate) and rate > 0):
        raise InputError(f"rate must be positive, got {rate} frames/s")
    times = np.arange(int(np.ceil(world.seconds * rate))) / rate
    return np.asarray(times[times < world.seconds], dtype=np.float64)


def frame_classes(world: World, *, rate: float = 2.0) -> NDArray[np.int64]:
    """The class number (t,) of the label track at every frame."""
    track = segments(world)
    starts = np.array([segment.span.start for segment in track])
    numbers = np.array([CLASSES.index(segment.label) for segment in track], dtype=np.int64)
    return numbers[np.searchsorted(starts, frame_times(world, rate=rate), side="right") - 1]


def frame_class_sets(world: World, *, rate: float = 2.0) -> NDArray[np.bool_]:
    """Which classes hold at every frame, (t, c): all events that go on, or ``nothing``."""
    times = frame_times(world, rate=rate)
    held = np.zeros((len(times), len(CLASSES)), dtype=np.bool_)
    for event in world.events:
        held[:, CLASSES.index(event.label)] |= (times >= event.span.start) & (times < event.span.end)
    held[:, 0] = ~held.any(axis=1)
    return held


def next_events(world: World, *, foresight: float = FORESIGHT) -> list[NextEvent]:
    """What is to be foreseen (see ``Truth.next_events``), ``foresight`` seconds before it starts."""
    found = []
    for event in world.events:
        cut = round(event.span.start - foresight, 1)
        scene = world.scenes[world.things[event.subject].scene]
        following = next(each for each in world.events if each.span.start >= cut)
        if cut > scene.span.start and following is event:
            # What causes it must have ended in the part that is seen.
            is_caused = event.cause is not None and world.events[event.cause].span.end <= cut
            found.append(NextEvent(cut, event.id, event.label, is_caused))
    return found


def record(world: World) -> dict[str, Any]:
    """The truth of a world as JSON values, keys in a fixed order."""
    truth = truth_of(world)
    return {
        "version": VERSION,
        "name": world.name,
        "split": world.split,
        "seconds": round(world.seconds, 1),
        "scenes": [
            {
                "span": _seconds(scene.span),
                "things": list(scene.things),
                "backdrop": scene.backdrop.kind,
                "is_moving": scene.backdrop.is_moving,
            }
            for scene in world.scenes
        ],
        "shots": [{"span": _seconds(shot.span), "scene": shot.scene} for shot in world.shots],
        "things": [{"id": thing.id, "scene": thing.scene, **_look(thing.look)} for thing in world.things],
        "events": [{**_event(event), "captions": list(captions)} for event, captions in zip(world.events, truth.captions, strict=True)],
        "caption": truth.caption,
        "paragraph": [{"text": text, "span": _seconds(span)} for text, span in truth.paragraph],
        "queries": [_query(query, shown) for query, shown in zip(truth.queries, truth.saliency, strict=True)],
        "questions": [_question(question) for question in truth.questions],
        "segments": [{"span": _seconds(each.span), "label": each.label, "event": each.event} for each in truth.segments],
        "next_events": [
            {"cut": each.cut, "event": each.event, "label": each.label, "is_caused": each.is_caused} for each in truth.next_events
        ],
    }


def write_truth(path: Path, worlds: Iterable[World]) -> None:
    """Write the record of each world as a line of JSON.

    Raises:
        InputError: ``path`` exists.
    """
    try:
        with Path(path).open("x", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{_canonical(world)}\n" for world in worlds)
    except FileExistsError:
        raise InputError(f"path {str(path)!r} exists and is not overwritten; remove it or choose another") from None


def read_truth(path: Path) -> list[dict[str, Any]]:
    """The records that ``write_truth`` has written, in order.

    Raises:
        InputError: a line that is no record of this version.
    """
    records = []
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                found = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"line {number} of {str(path)!r} is no JSON: {error}; write the truth again") from None
            if not isinstance(found, dict) or found.get("version") != VERSION:
                raise InputError(f"line {number} of {str(path)!r} is no record of {VERSION}; write the truth again")
            records.append(found)
    return records


def digest(worlds: Iterable[World]) -> str:
    """The SHA-256 of the records of ``worlds``, in hexadecimal."""
    running = hashlib.sha256()
    for world in worlds:
        running.update(_canonical(world).encode())
        running.update(b"\n")
    return running.hexdigest()


def _canonical(world: World) -> str:
    return json.dumps(record(world), ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _captions(event: Event, dice: Dice) -> tuple[str, ...]:
    return (event_caption(event, dice, detail="short"), event_caption(event, dice), event_caption(event, dice))


def _scene_at(world: World, time: float) -> int:
    return next((number for number, scene in enumerate(world.scenes) if scene.span.start <= time < scene.span.end), len(world.scenes) - 1)


def _legibility(world: World, thing: int, looks: list[tuple[float, Look]], second: int) -> float:
    """How large the thing is on screen against one of medium size, at most 1: by its named size, so that no easing of motion decides."""
    size = next((look.size for start, look in reversed(looks) if start < second + 1), world.things[thing].look.size)
    zoom = next(shot.zoom for shot in reversed(world.shots) if shot.span.start <= second)
    return min(1.0, RADII[SIZES.index(size)] * zoom / RADII[1])


def _seconds(span: Span) -> list[float]:
    return [round(span.start, 1), round(span.end, 1)]


def _look(look: Look) -> dict[str, str]:
    return {"shape": look.shape, "colour": look.colour, "size": look.size, "texture": look.texture}


def _event(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "action": event.action,
        "way": event.way,
        "span": _seconds(event.span),
        "subject": event.subject,
        "look": _look(event.look),
        "target": event.target,
        "target_look": None if event.target_look is None else _look(event.target_look),
        "cause": event.cause,
    }


def _query(query: Query, shown: Saliency) -> dict[str, Any]:
    return {
        "id": query.id,
        "kind": query.kind,
        "text": query.text,
        "is_true": query.is_true,
        "is_temporal": query.is_temporal,
        "spans": [_seconds(span) for span in query.spans],
        "things": list(query.things),
        "twin": query.twin,
        "saliency": {"seconds": list(shown.seconds), "shares": list(shown.shares), "levels": list(shown.levels)},
        "cell": [query.cell.name, query.cell.side, query.cell.num_sides],
    }


def _question(question: Question) -> dict[str, Any]:
    return {
        "id": question.id,
        "kind": question.kind,
        "text": question.text,
        "answer": question.answer,
        "options": list(question.options),
        "evidence": [_seconds(span) for span in question.evidence],
        "things": list(question.things),
        "is_temporal": question.is_temporal,
        "cell": [question.cell.name, question.cell.side, question.cell.num_sides],
    }
