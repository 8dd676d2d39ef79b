"""EPIC-KITCHENS-100: narrated actions, their classes, and the sentences of multi-instance retrieval (Damen et al. 2022).

``EPIC_100_train.csv``, ``EPIC_100_validation.csv`` and ``retrieval_annotations/EPIC_100_retrieval_*.csv`` have a narration a row with its
times, frames, verb and nouns; ``EPIC_100_test_timestamps.csv`` has times and frames alone; ``*_sentence.csv`` has the distinct sentences.

Traps: times are ``HH:MM:SS.ff``, with two decimals for the window and three for the narration, which can be missing; frames count from 1;
nouns are a Python list in one cell; the relevancy of retrieval is computed from the classes of ``EPIC_100_retrieval_test.csv``, by
narration id: the test sentences carry no classes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from vlm.data.formats.fields import Fields
from vlm.data.formats.files import PathLike, read_csv, write_csv
from vlm.data.formats.records import Annotations, Fault, Window, checked, need_duration
from vlm.errors import InputError

_CLOCK = re.compile(r"([0-9]{2,9}):([0-5][0-9]):([0-5][0-9])\.([0-9]+)")
_TIME_COLUMNS = (
    "narration_id",
    "participant_id",
    "video_id",
    "narration_timestamp",
    "start_timestamp",
    "stop_timestamp",
    "start_frame",
    "stop_frame",
)
_ACTION_COLUMNS = ("narration", "verb", "verb_class", "noun", "noun_class", "all_nouns", "all_noun_classes")
_CLASS_COLUMNS = ("id", "key", "instances", "category")


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What a narration says: its words, and the classes of its verb and nouns. ``noun`` is the first of ``nouns``."""

    narration: str
    verb: str
    verb_class: int
    noun: str
    noun_class: int
    nouns: tuple[str, ...]
    noun_classes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Narration:
    """One action of one video.

    Attributes:
        narration_seconds: when it was spoken; None where that is not known.
        frames: first and last, counted from 1.
        action: None in the test split, whose actions are not public.
    """

    narration_id: str
    participant_id: str
    video_id: str
    narration_seconds: float | None
    window: Window
    frames: tuple[int, int]
    action: Action | None = None

    @property
    def name(self) -> str:
        """The id of the narration."""
        return self.narration_id

    def faults(self) -> Iterator[Fault]:
        """Times or frames that are no stretch, classes that do not fit their words."""
        yield from self.window.faults("start_timestamp, stop_timestamp")
        first, last = self.frames
        if not 1 <= first <= last:
            yield Fault("start_frame, stop_frame", repr(self.frames), "counts from 1 and ends at or after its start")
        action = self.action
        if action is not None:
            if len(action.nouns) != len(action.noun_classes):
                yield Fault("all_nouns", repr(action.nouns), f"is as long as all_noun_classes, {action.noun_classes}")
            if action.nouns[:1] != (action.noun,) or action.noun_classes[:1] != (action.noun_class,):
                yield Fault("noun", f"{action.noun!r} ({action.noun_class})", f"is the first of all_nouns, {action.nouns}")


@dataclass(frozen=True, slots=True)
class ActionClass:
    """A class of verbs or nouns with the words that fall into it."""

    id: int
    key: str
    instances: tuple[str, ...]
    category: str

    @property
    def name(self) -> str:
        """The id of the class as a text."""
        return str(self.id)

    def faults(self) -> Iterator[Fault]:
        """A class without words."""
        if not self.instances:
            yield Fault("instances", "[]", "has at least one word")


@dataclass(frozen=True, slots=True)
class RetrievalSentence:
    """A distinct sentence of multi-instance retrieval; verb and nouns are given for training only."""

    narration_id: str
    narration: str
    verb: str | None = None
    verb_class: int | None = None
    nouns: tuple[str, ...] = ()
    noun_classes: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The id of the narration that has the sentence first."""
        return self.narration_id

    def faults(self) -> Iterator[Fault]:
        """Nouns and classes that do not pair up."""
        if len(self.nouns) != len(self.noun_classes):
            yield Fault("nouns", repr(self.nouns), f"is as long as noun_classes, {self.noun_classes}")


@dataclass(frozen=True, slots=True)
class KitchenVideo:
    """A row of ``EPIC_100_video_info.csv``; ``resolution`` is ``WIDTHxHEIGHT`` in pixels."""

    video_id: str
    duration_seconds: float
    frame_rate: float
    resolution: str

    def __post_init__(self) -> None:
        need_duration(self.duration_seconds)

    @property
    def name(self) -> str:
        """The id of the video."""
        return self.video_id

    def faults(self) -> Iterator[Fault]:
        """A frame rate that is none."""
        if self.frame_rate <= 0:
            yield Fault("fps", repr(self.frame_rate), "is above 0")


def relevancy(one: Action, other: Action) -> float:
    """How far one narration answers another, in [0, 1]: the mean of "same verb class" and the IoU of their sets of noun classes."""
    nouns, others = set(one.noun_classes), set(other.noun_classes)
    shared = len(nouns & others) / len(nouns | others) if nouns | others else 0.0
    return (shared + (one.verb_class == other.verb_class)) / 2


def read_narrations(path: PathLike, *, durations: Mapping[str, float] | None = None) -> Annotations[Narration]:
    """The narrations of a file, with or without actions. With ``durations`` (seconds by video id) a late window is a defect too."""

    def late(row: Narration) -> Iterator[Fault]:
        inside = set(row.window.faults("stop_timestamp"))
        found = row.window.faults("stop_timestamp", (durations or {}).get(row.video_id))
        return (fault for fault in found if fault not in inside)

    return checked((_narration(fields) for fields in read_csv(path)), unique="narration_id", also=late)


def write_narrations(path: PathLike, narrations: Iterable[Narration]) -> None:
    """Writes narrations, times rounded to the hundredths that the format holds; with the columns of the actions if the first has one."""
    kept = tuple(narrations)
    has_actions = bool(kept) and kept[0].action is not None
    header = _TIME_COLUMNS + (_ACTION_COLUMNS if has_actions else ())
    write_csv(path, header, (_time_cells(row) + (_action_cells(row.action) if row.action is not None else ()) for row in kept))


def read_classes(path: PathLike) -> Annotations[ActionClass]:
    """The classes of verbs or nouns."""
    return checked((_class(fields) for fields in read_csv(path)), unique="id")


def write_classes(path: PathLike, classes: Iterable[ActionClass]) -> None:
    """Writes classes, with Windows line ends as the published files have them."""
    write_csv(path, _CLASS_COLUMNS, ((row.id, row.key, list(row.instances), row.category) for row in classes), line_end="\r\n")


def read_sentences(path: PathLike) -> Annotations[RetrievalSentence]:
    """The sentences of multi-instance retrieval."""
    return checked((_sentence(fields) for fields in read_csv(path)), unique="narration_id")


def write_sentences(path: PathLike, sentences: Iterable[RetrievalSentence]) -> None:
    """Writes sentences; with the columns of verbs and nouns if the first has a verb."""
    kept = tuple(sentences)
    short = not kept or kept[0].verb is None
    header = ("narration_id", "narration") + (() if short else ("verb_class", "noun_classes", "verb", "nouns"))
    rows = ((row.narration_id, row.narration, row.verb_class, list(row.noun_classes), row.verb, list(row.nouns)) for row in kept)
    write_csv(path, header, (row[: len(header)] for row in rows))


def read_videos(path: PathLike) -> Annotations[KitchenVideo]:
    """Durations and frame rates."""
    return checked((_video(fields) for fields in read_csv(path)), unique="video_id")


def write_videos(path: PathLike, videos: Iterable[KitchenVideo]) -> None:
    """Writes durations and frame rates."""
    rows = ((row.video_id, repr(row.duration_seconds), repr(row.frame_rate), row.resolution) for row in videos)
    write_csv(path, ("video_id", "duration", "fps", "resolution"), rows)


def clock(seconds: float, decimals: int) -> str:
    """``HH:MM:SS.ff``, rounded to ``decimals``; raises ``InputError`` for a time before 0."""
    if seconds < 0:
        raise InputError(f"EPIC-KITCHENS writes times from 0 s on, got {seconds!r} s")
    whole, _, part = f"{seconds:.{decimals}f}".partition(".")
    minutes, rest = divmod(int(whole), 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest:02}.{part}"


def _seconds(fields: Fields, name: str) -> float:
    text = fields.text(name)
    found = _CLOCK.fullmatch(text)
    if found is None:
        fields.refuse(name, text, "a time HH:MM:SS.ff")
    hours, minutes, seconds, part = found.groups()
    # From the decimal text in one step, so that 00:01:02.10 is the float nearest to 62.1.
    return float(f"{int(hours) * 3600 + int(minutes) * 60 + int(seconds)}.{part}")


def _list(fields: Fields, name: str) -> list[object]:
    text = fields.text(name)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        value = None
    if not isinstance(value, list):
        fields.refuse(name, text, "a list such as ['plate'] or [2]")
    return value


def _words(fields: Fields, name: str) -> tuple[str, ...]:
    words = _list(fields, name)
    return tuple(word if isinstance(word, str) else fields.refuse(name, words, "a list of texts") for word in words)


def _numbers(fields: Fields, name: str) -> tuple[int, ...]:
    numbers = _list(fields, name)
    return tuple(number if type(number) is int else fields.refuse(name, numbers, "a list of whole numbers") for number in numbers)


def _narration(fields: Fields) -> Narration:
    return Narration(
        narration_id=fields.text("narration_id"),
        participant_id=fields.text("participant_id"),
        video_id=fields.text("video_id"),
        narration_seconds=_seconds(fields, "narration_timestamp") if fields.text("narration_timestamp") else None,
        window=Window(_seconds(fields, "start_timestamp"), _seconds(fields, "stop_timestamp")),
        frames=(fields.integer("start_frame"), fields.integer("stop_frame")),
        action=_action(fields) if "narration" in fields else None,
    )


def _action(fields: Fields) -> Action:
    return Action(
        narration=fields.text("narration"),
        verb=fields.text("verb"),
        verb_class=fields.integer("verb_class"),
        noun=fields.text("noun"),
        noun_class=fields.integer("noun_class"),
        nouns=_words(fields, "all_nouns"),
        noun_classes=_numbers(fields, "all_noun_classes"),
    )


def _time_cells(row: Narration) -> tuple[object, ...]:
    spoken = "" if row.narration_seconds is None else clock(row.narration_seconds, 3)
    times = (spoken, clock(row.window.start, 2), clock(row.window.end, 2))
    return (row.narration_id, row.participant_id, row.video_id, *times, *row.frames)


def _action_cells(action: Action) -> tuple[object, ...]:
    words = (action.narration, action.verb, action.verb_class, action.noun, action.noun_class)
    return (*words, list(action.nouns), list(action.noun_classes))


def _class(fields: Fields) -> ActionClass:
    return ActionClass(fields.integer("id"), fields.text("key"), _words(fields, "instances"), fields.text("category"))


def _sentence(fields: Fields) -> RetrievalSentence:
    narration_id, narration = fields.text("narration_id"), fields.text("narration")
    if "verb" not in fields:
        return RetrievalSentence(narration_id, narration)
    verb, verb_class = fields.text("verb"), fields.integer("verb_class")
    return RetrievalSentence(narration_id, narration, verb, verb_class, _words(fields, "nouns"), _numbers(fields, "noun_classes"))


def _video(fields: Fields) -> KitchenVideo:
    return KitchenVideo(fields.text("video_id"), fields.positive("duration"), fields.number("fps"), fields.text("resolution"))
