"""Videos with what is done in them by whom, and what is to be foreseen: of Toybox, or of EPIC-Kitchens-100 beside a folder of videos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from vlm.data.action_names import action_name
from vlm.data.formats import epic100
from vlm.data.toybox.foresight import Nouns, action_names, noun_of
from vlm.data.toybox.truth import label_of, next_events
from vlm.data.toybox.world import World
from vlm.encoders.base import Encoder
from vlm.errors import InputError
from vlm.ssm.stack import check_word
from vlm.train.examples import FeatureSource
from vlm.train.features import open_features
from vlm.train.suite_data import SuiteDataConfig, toybox_worlds
from vlm.train.suite_files import FileFeatures, every, files_of
from vlm.types import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class AnticipationDataConfig(SuiteDataConfig):
    """Which videos, and what is to be foreseen; see SuiteDataConfig.

    Attributes:
        horizons: seconds before an action at which it is to be foreseen, each a task of its own.
        nouns: of Toybox: ``shapes`` calls a thing ``circle``, ``looks`` calls it ``red circle``.
    """

    horizons: tuple[float, ...] = (1.0,)
    nouns: Nouns = "shapes"

    def __post_init__(self) -> None:
        SuiteDataConfig.__post_init__(self)
        check_word("nouns", self.nouns, get_args(Nouns))
        if not self.horizons or min(self.horizons) <= 0:
            raise InputError(f"horizons must be seconds above 0, at least one, got {list(self.horizons)}")


@dataclass(frozen=True, slots=True)
class Deed:
    """What is done in a stretch: the verb, the noun of who or what does it, and those of what it is done to."""

    span: Span
    verb: str
    noun: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Onset:
    """What begins ``horizon`` seconds after an observation of ``[0, cut)``: the name of the action."""

    cut: float
    horizon: float
    action: str


@dataclass(frozen=True, slots=True)
class DeedVideos:
    """Videos with their features, all deeds in them, and the onsets that are to be foreseen. ``classes`` are all names of actions."""

    ids: tuple[str, ...]
    features: FeatureSource
    deeds: tuple[tuple[Deed, ...], ...]
    onsets: tuple[tuple[Onset, ...], ...]
    classes: tuple[str, ...]


def toybox_action_names(data: AnticipationDataConfig) -> tuple[str, ...]:
    """All actions of Toybox, as ``data`` names them."""
    return action_names(data.labels, data.nouns)


def toybox_deeds(data: AnticipationDataConfig, encoder: Encoder, cache: Path, *, split: str, workers: int = 1) -> DeedVideos:
    """Toybox as it is foreseen: the next event that starts, while its scene is already on screen."""
    worlds = toybox_worlds(data, split=split)
    features = open_features(worlds, encoder, cache, frames_per_second=data.frames_per_second, workers=workers)
    deeds = tuple(deeds_of(world, data) for world in worlds)
    onsets = tuple(onsets_of(world, data) for world in worlds)
    return DeedVideos(tuple(world.name for world in worlds), features, deeds, onsets, toybox_action_names(data))


def deeds_of(world: World, data: AnticipationDataConfig) -> tuple[Deed, ...]:
    """What is done in a world, in its order of events."""
    return tuple(
        Deed(
            event.span,
            label_of(event.label, data.labels),
            noun_of(event.look, data.nouns),
            () if event.target_look is None else (noun_of(event.target_look, data.nouns),),
        )
        for event in world.events
    )


def onsets_of(world: World, data: AnticipationDataConfig) -> tuple[Onset, ...]:
    """What is to be foreseen in a world."""
    deeds = deeds_of(world, data)
    return tuple(
        Onset(each.cut, horizon, action_name(deeds[each.event].verb, deeds[each.event].noun))
        for horizon in data.horizons
        for each in next_events(world, foresight=horizon)
    )


def read_deeds(annotations: Path, videos: Path, encoder: Encoder, cache: Path, *, rate: float, horizons: tuple[float, ...]) -> DeedVideos:
    """Videos of a file of narrations of EPIC-Kitchens-100 (``vlm.data.formats.epic100``); every narrated action is to be foreseen.

    Verbs and nouns are named by ``EPIC_100_verb_classes.csv`` and ``EPIC_100_noun_classes.csv`` beside the file.

    Args:
        videos: the folder of the files. rate: frames a second. horizons: seconds.

    Raises:
        InputError: a file breaks its format or is missing, or no narration has an action.
    """
    keys = {name: _keys(annotations.with_name(f"EPIC_100_{name}_classes.csv")) for name in ("verb", "noun")}
    by_video: dict[str, list[Deed]] = {}
    for row in epic100.read_narrations(annotations).rows:
        if row.action is not None and not any(row.window.faults("start_timestamp, stop_timestamp")):
            nouns = [_key(keys["noun"], number, annotations) for number in row.action.noun_classes]
            verb = _key(keys["verb"], row.action.verb_class, annotations)
            by_video.setdefault(row.video_id, []).append(Deed(row.window.span, verb, nouns[0], tuple(nouns[1:])))
    if not by_video:
        raise InputError(f"{str(annotations)!r} has no narration with an action: give EPIC_100_train.csv or a file like it")
    ids = tuple(sorted(by_video))
    deeds = tuple(tuple(by_video[video_id]) for video_id in ids)
    names = sorted({action_name(deed.verb, deed.noun) for some in deeds for deed in some})
    onsets = tuple(
        tuple(
            Onset(deed.span.start - horizon, horizon, action_name(deed.verb, deed.noun))
            for horizon in horizons
            for deed in some
            if deed.span.start > horizon
        )
        for some in deeds
    )
    return DeedVideos(ids, FileFeatures(files_of(videos, ids), encoder, every(rate), cache), deeds, onsets, tuple(names))


def _keys(path: Path) -> dict[int, str]:
    if not path.is_file():
        raise InputError(f"{str(path)!r} is missing: narrations need the file of their classes beside them")
    return {row.id: row.key for row in epic100.read_classes(path).rows}


def _key(keys: dict[int, str], number: int, path: Path) -> str:
    if number not in keys:
        raise InputError(f"{str(path)!r} has the class {number}, which the file of classes beside it lacks")
    return keys[number]
