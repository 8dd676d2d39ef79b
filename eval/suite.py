"""How models of the suite do on Toybox worlds that training never showed; beside them chance, and who knows the world itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vlm.data.toybox.truth import CLASSES, NOTHING, Labels, frame_classes, label_of, segments
from vlm.data.toybox.world import World
from vlm.eval.localization import ACTIVITYNET, THUMOS, Action, localization_figures
from vlm.eval.segmentation import OVERLAPS, segmentation_figures
from vlm.models.suite.actions import FoundAction, find_actions
from vlm.models.suite.labels import row_probabilities
from vlm.models.suite.localization import ActionMamba
from vlm.models.suite.segmentation import ASMamba
from vlm.types import Features, Span


@dataclass(frozen=True, slots=True)
class Video:
    """A world and what an encoder made of it."""

    world: World
    features: Features


def localizer_figures(
    videos: Sequence[Video], find: Callable[[Video], Sequence[FoundAction]], *, labels: Labels = "ways"
) -> dict[str, float]:
    """Mean average precision of what ``find`` gives: the average over THUMOS-14's overlaps and over ActivityNet's, and at 0.5."""
    truth = [Action(video.world.name, label_of(event.label, labels), event.span) for video in videos for event in video.world.events]
    found = [Action(video.world.name, one.label, one.span, one.score) for video in videos for one in find(video)]
    both = localization_figures(truth, found, overlaps=sorted({*THUMOS, *ACTIVITYNET}))
    return {
        "map_thumos": float(np.mean([both.at(overlap) for overlap in THUMOS])),
        "map_activitynet": float(np.mean([both.at(overlap) for overlap in ACTIVITYNET])),
        "map_at_0.5": both.at(0.5),
    }


def segmenter_figures(
    videos: Sequence[Video], label: Callable[[Video], Sequence[str]], *, rate: float, labels: Labels = "ways"
) -> dict[str, float]:
    """Accuracy, edit score and F1 of the labels that ``label`` gives for each row; ``nothing`` is background."""
    truth = [[label_of(CLASSES[number], labels) for number in frame_classes(video.world, rate=rate)] for video in videos]
    figures = segmentation_figures(truth, [label(video) for video in videos], background=(NOTHING,))
    f1 = {f"f1_at_{round(100 * overlap)}": figures.f1[overlap] for overlap in OVERLAPS}
    return {"accuracy": figures.accuracy, "edit": figures.edit, **f1}


def found_by(model: ActionMamba) -> Callable[[Video], Sequence[FoundAction]]:
    """What a localizer finds."""
    return lambda video: find_actions(model, video.features)


def labelled_by(model: ASMamba) -> Callable[[Video], Sequence[str]]:
    """What a segmenter says of each row."""
    return lambda video: [model.config.classes[number] for number in row_probabilities(model, video.features).argmax(axis=1)]


def chance_actions(worlds: Sequence[World], *, labels: Labels = "ways", seed: int = 0) -> Callable[[Video], list[FoundAction]]:
    """Guesses without looking: actions as frequent, as long and of such labels as in ``worlds``, anywhere."""
    counts = Counter(label_of(event.label, labels) for world in worlds for event in world.events)
    lengths = [event.span.seconds for world in worlds for event in world.events]
    rate = len(lengths) / sum(world.seconds for world in worlds)
    names, shares = list(counts), np.array(list(counts.values())) / counts.total()

    def guess(video: Video) -> list[FoundAction]:
        random = np.random.default_rng([seed, *video.world.name.encode()])
        found = []
        for _ in range(max(1, round(rate * video.world.seconds))):
            seconds = min(float(random.choice(lengths)), video.world.seconds)
            start = float(random.uniform(0, video.world.seconds - seconds))
            found.append(FoundAction(str(random.choice(names, p=shares)), Span(start, start + seconds), float(random.uniform())))
        return found

    return guess


def true_actions(video: Video, *, labels: Labels = "ways") -> list[FoundAction]:
    """Who knows the world and sees its rows: every event, from the row nearest to its start to the row nearest to its end."""
    edges = np.append(video.features.times, video.features.end)
    found = []
    for event in video.world.events:
        start, end = (float(edges[np.abs(edges - time).argmin()]) for time in (event.span.start, event.span.end))
        if end > start:
            found.append(FoundAction(label_of(event.label, labels), Span(start, end), 1.0))
    return found


def nothing_everywhere(video: Video) -> list[str]:
    """The commonest label, at every row."""
    return [NOTHING] * len(video.features.times)


def true_labels(video: Video, *, labels: Labels = "ways") -> list[str]:
    """Who knows the world, and says of a row what holds in the middle of its stretch: the truth tells what holds at its start."""
    track = segments(video.world)
    middles = (video.features.times + np.append(video.features.times[1:], video.features.end)) / 2
    starts = np.array([one.span.start for one in track])
    return [label_of(track[place].label, labels) for place in np.searchsorted(starts, middles, side="right") - 1]
