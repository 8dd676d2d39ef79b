"""Figures of models of clips on Toybox, with models that know the answer or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from vlm.data.toybox.truth import classes_of
from vlm.data.toybox.vocabulary import ACTIONS, SHAPES
from vlm.eval import suite_clips
from vlm.eval.suite_clips import instance_figures_of, recogniser_figures
from vlm.models.suite.clip_classes import ClipReading
from vlm.types import Framing

READING = ClipReading(2, Framing(height=32, width=32))
WORLDS = suite_clips.held_out_clips(20, seed=4)
EVENTS = [event for world in WORLDS for event in world.events]


@dataclass
class Knows:
    """A model that has been told the class numbers of the clips that come."""

    classes: tuple[str, ...]
    right: list[list[int]]
    reading: ClipReading = READING

    def __call__(self, pixels: Tensor) -> Tensor:
        assert pixels.shape[1:] == (2, 32, 32, 3)
        logits = torch.zeros(len(pixels), len(self.classes))
        for row in logits:
            row[self.right.pop(0)] = 9.0
        return logits


def test_who_knows_the_action_is_always_right_whichever_way_it_is_told():
    for labels in ("actions", "ways"):
        classes = classes_of(labels)[1:]  # type: ignore[arg-type]
        names = [event.action if labels == "actions" else event.label for event in EVENTS]
        figures = recogniser_figures(Knows(classes, [[classes.index(name)] for name in names]), WORLDS)
        assert list(figures) == ["action"]
        assert (figures["action"].top1, figures["action"].num_clips) == (1.0, 20)


def test_who_knows_verbs_alone_is_right_in_verbs_alone():
    classes = (*(f"verb:{name}" for name in ACTIONS), *(f"noun:{name}" for name in SHAPES))
    right = [[list(ACTIONS).index(event.action), len(ACTIONS) + (SHAPES.index(event.look.shape) + 1) % 8] for event in EVENTS]
    figures = recogniser_figures(Knows(classes, right), WORLDS)
    assert {name: one.top1 for name, one in figures.items()} == {"verb": 1.0, "noun": 0.0, "action": 0.0}


def by_words(texts: Sequence[str]) -> np.ndarray:
    """A vector for each verb and noun that a text names."""
    actions = {suite_clips.narration(world, event): event for world in WORLDS for event in world.events}
    vectors = np.zeros((len(texts), len(ACTIONS) + len(SHAPES)))
    for row, text in zip(vectors, texts, strict=True):
        row[list(ACTIONS).index(actions[text].action)] = 1
        for look in (actions[text].look, actions[text].target_look):
            if look is not None:
                row[len(ACTIONS) + SHAPES.index(look.shape)] = 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_who_knows_verbs_and_nouns_finds_what_answers_wholly_first():
    told = [suite_clips.narration(world, event) for world in WORLDS for event in world.events]

    def clips(pixels: np.ndarray) -> np.ndarray:
        return by_words([told.pop(0) for _ in pixels])

    for figures in instance_figures_of(WORLDS, READING, clips, by_words):
        assert figures.mean_average_precision == pytest.approx(1.0)
        assert figures.ndcg > 0.95  # a cosine weighs verbs and nouns nearly as the relevancy does


def test_who_sees_nothing_is_far_from_that():
    random = np.random.default_rng(0)

    def clips(pixels: np.ndarray) -> np.ndarray:
        return random.normal(size=(len(pixels), 20))

    videos, _ = instance_figures_of(WORLDS, READING, clips, by_words)
    assert videos.mean_average_precision < 0.5
    assert videos.num_queries == 20
