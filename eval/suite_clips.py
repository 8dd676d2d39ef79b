"""How models of clips do on clips of Toybox that training never showed: held-out triples of shape, colour and action, one event each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.dice import Dice
from vlm.data.toybox.export import action_of
from vlm.data.toybox.language import event_caption
from vlm.data.toybox.plan import event_clip
from vlm.data.toybox.render import render
from vlm.data.toybox.truth import label_of
from vlm.data.toybox.vocabulary import VERSION
from vlm.data.toybox.world import Event, World
from vlm.eval.instances import InstanceFigures, both_directions, relevancies
from vlm.eval.recognition import RecognitionFigures, action_figures, recognition_figures
from vlm.models.suite.clip_classes import ClipReading, Recognises, class_groups, recognise

# Clips that are looked at together.
AT_ONCE = 16
EncodeClips = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
EncodeTexts = Callable[[Sequence[str]], NDArray[np.float32]]


def held_out_clips(count: int, *, seed: int) -> list[World]:
    """So many clips of the split test."""
    return [event_clip(seed, number, split="test") for number in range(count)]


def shown(world: World, reading: ClipReading) -> NDArray[np.uint8]:
    """A clip as a model reads it."""
    moments = (np.arange(reading.num_frames) + 0.5) * world.seconds / reading.num_frames
    return render(world, moments, size=reading.framing.height)


def recogniser_figures(model: Recognises, worlds: Sequence[World]) -> dict[str, RecognitionFigures]:
    """The figures of clips: ``action``; of a model of two groups ``verb``, ``noun`` and ``action``, which is both."""
    groups = class_groups(model.classes)
    parts = [recognise(model, np.stack([shown(world, model.reading) for world in some])) for some in _some(worlds)]
    probabilities = {group: np.concatenate([part[group] for part in parts]) for group in groups}
    names = {group: [name.removeprefix(f"{group}:") for name in model.classes[part]] for group, part in groups.items()}
    events = [event for world in worlds for event in world.events]
    if len(groups) == 1:
        return {"action": recognition_figures(probabilities[""], np.array([_place(event, names[""]) for event in events]))}
    verbs = np.array([_place(event, names["verb"]) for event in events])
    nouns = np.array([names["noun"].index(event.look.shape) for event in events])
    return action_figures(probabilities["verb"], probabilities["noun"], verbs, nouns)


def instance_figures_of(
    worlds: Sequence[World], reading: ClipReading, clips: EncodeClips, texts: EncodeTexts
) -> tuple[InstanceFigures, InstanceFigures]:
    """Clips asking for sentences, and sentences for clips: one sentence for each clip, those that say the same in words once.

    Args:
        clips: unit vectors (b, d) of clips (b, t, h, w, 3). texts: unit vectors (n, d).
    """
    events = [event for world in worlds for event in world.events]
    captions = [narration(world, event) for world in worlds for event in world.events]
    actions = [action_of(event, caption) for event, caption in zip(events, captions, strict=True)]
    first = {caption: number for number, caption in reversed(list(enumerate(captions)))}
    asked = sorted(first.values())
    vectors = np.concatenate([clips(np.stack([shown(world, reading) for world in some])) for some in _some(worlds)])
    similarity = vectors @ texts([captions[number] for number in asked]).T
    return both_directions(similarity, relevancies(actions, [actions[number] for number in asked]))


def narration(world: World, event: Event) -> str:
    """The shortest caption of an event, as its export to EPIC-KITCHENS narrates it."""
    return event_caption(event, Dice(VERSION, "captions", world.name, event.id), detail="short")


def _place(event: Event, names: Sequence[str]) -> int:
    """The number of an event's class among names of either fineness."""
    return names.index(event.label if event.label in names else label_of(event.label, "actions"))


def _some(worlds: Sequence[World]) -> list[Sequence[World]]:
    return [worlds[first : first + AT_ONCE] for first in range(0, len(worlds), AT_ONCE)]
