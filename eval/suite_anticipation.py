"""How anticipators do on Toybox worlds that training never showed; beside them who never looks, and who knows the rules of the world."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm.data.action_names import action_name
from vlm.data.toybox.foresight import Habits, Nouns, action_names, expectations, noun_of, nouns_of, verbs_of
from vlm.data.toybox.truth import FORESIGHT, Labels, NextEvent, label_of, next_events
from vlm.data.toybox.world import World
from vlm.eval.anticipation import class_mean_recall, top_k_accuracy
from vlm.eval.suite import Video
from vlm.models.suite.anticipation import Anticipator
from vlm.models.suite.outlook import chances_at

PARTS = ("verb", "noun", "action")
K = 5


@dataclass(frozen=True, slots=True)
class Names:
    """How actions are named: the words of ``[data]``; the class numbers are places in these lists."""

    labels: Labels = "actions"
    nouns: Nouns = "shapes"

    def classes(self, part: str) -> tuple[str, ...]:
        """All verbs, nouns or actions."""
        if part == "action":
            return action_names(self.labels, self.nouns)
        return verbs_of(self.labels) if part == "verb" else nouns_of(self.nouns)

    def of(self, world: World, following: NextEvent) -> tuple[str, str, str]:
        """The verb, the noun and the action of what starts next."""
        event = world.events[following.event]
        verb, noun = label_of(event.label, self.labels), noun_of(event.look, self.nouns)
        return verb, noun, action_name(verb, noun)


# Scores (n, classes) of verb, noun and action for the moments of a video, classes as Names lists them.
Foresee = Callable[[Video, Sequence[NextEvent]], tuple[NDArray[np.float64], ...]]


def anticipator_figures(videos: Sequence[Video], foresee: Foresee, names: Names) -> dict[str, float]:
    """Of verb, noun and action: top-1 and top-5 accuracy, and class-mean recall at 5, one second before each event that is the next.

    ``caused_top1`` is the action's top-1 over those that follow by a rule from what was seen, ``free_top1`` over the others.

    Raises:
        InputError: no event is to be foreseen.
    """
    scores: list[tuple[NDArray[np.float64], ...]] = []
    truth: list[tuple[int, ...]] = []
    caused: list[bool] = []
    classes = [{name: number for number, name in enumerate(names.classes(part))} for part in PARTS]
    for video in videos:
        moments = [each for each in next_events(video.world) if each.cut > video.features.times[0]]
        if moments:
            scores.append(foresee(video, moments))
            truth += [tuple(known[name] for known, name in zip(classes, names.of(video.world, each), strict=True)) for each in moments]
            caused += [each.is_caused for each in moments]
    figures: dict[str, float] = {}
    is_caused = np.array(caused, dtype=np.bool_)
    for place, part in enumerate(PARTS):
        given, wanted = np.concatenate([one[place] for one in scores]), np.array([one[place] for one in truth])
        figures[f"{part}_top1"] = top_k_accuracy(given, wanted)
        figures[f"{part}_top5"] = top_k_accuracy(given, wanted, k=K)
        figures[f"{part}_recall5"] = class_mean_recall(given, wanted, k=K)
        for name, chosen in (("caused", is_caused), ("free", ~is_caused)):
            figures[f"{name}_{part}_top1"] = top_k_accuracy(given[chosen], wanted[chosen]) if chosen.any() else float("nan")
    return figures


def foreseen_by(model: Anticipator) -> Foresee:
    """What a model tells; it must have been trained at a horizon of one second, on actions as ``names`` of the figures names them."""
    horizon = model.config.horizons.index(FORESIGHT)

    def foresee(video: Video, moments: Sequence[NextEvent]) -> tuple[NDArray[np.float64], ...]:
        chances = chances_at(model, video.features, [each.cut for each in moments])
        return tuple(part[:, horizon] for part in (chances.verbs, chances.nouns, chances.actions))

    return foresee


def by_rules(habits: Habits, names: Names) -> Foresee:
    """Who sees everything that is on screen, knows the rules of the world and its habits, and does not know what was planned."""

    def foresee(video: Video, moments: Sequence[NextEvent]) -> tuple[NDArray[np.float64], ...]:
        found = [np.zeros((len(moments), len(names.classes(part)))) for part in PARTS]
        for row, each in enumerate(moments):
            for (verb, noun), chance in expectations(video.world, each.cut, habits, labels=names.labels, nouns=names.nouns).items():
                for part, scores, name in zip(PARTS, found, (verb, noun, action_name(verb, noun)), strict=True):
                    scores[row, names.classes(part).index(name)] += chance
        return tuple(found)

    return foresee


def by_habit(worlds: Iterable[World], names: Names) -> Foresee:
    """Who never looks: what starts next as often as in ``worlds``."""
    counts = [Counter[str]() for _ in PARTS]
    for world in worlds:
        for each in next_events(world):
            for count, name in zip(counts, names.of(world, each), strict=True):
                count[name] += 1
    shares = [np.array([count[name] for name in names.classes(part)], dtype=np.float64) for part, count in zip(PARTS, counts, strict=True)]
    return lambda video, moments: tuple(np.tile(share, (len(moments), 1)) for share in shares)
