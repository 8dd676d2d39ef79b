from __future__ import annotations

import numpy as np
import pytest

from vlm.data.toybox.plan import make_world
from vlm.data.toybox.truth import CLASSES, frame_classes
from vlm.eval.suite import Video, chance_actions, localizer_figures, nothing_everywhere, segmenter_figures, true_actions, true_labels
from vlm.models.suite.actions import FoundAction
from vlm.types import Features

RATE = 2.0


@pytest.fixture(scope="module")
def videos() -> list[Video]:
    """Worlds whose vectors are of no meaning."""
    found = []
    for number in range(12):
        world = make_world(7, number)
        times = np.arange(0, world.seconds, 1 / RATE)
        found.append(Video(world, Features(np.zeros((len(times), 2), np.float32), times, world.seconds)))
    return found


def test_the_truth_itself_scores_one(videos: list[Video]):
    exact = localizer_figures(videos, lambda video: [FoundAction(event.label, event.span, 1.0) for event in video.world.events])
    assert set(exact.values()) == {1.0}
    labels = segmenter_figures(videos, lambda video: [CLASSES[number] for number in frame_classes(video.world, rate=RATE)], rate=RATE)
    assert set(labels.values()) == {1.0}


def test_who_knows_the_world_loses_only_what_rows_are_too_coarse_for(videos: list[Video]):
    figures = localizer_figures(videos, true_actions)
    assert figures["map_at_0.5"] == 1.0
    assert 0.8 < figures["map_activitynet"] < figures["map_thumos"] + 1e-9
    labels = segmenter_figures(videos, true_labels, rate=RATE)
    assert 0.9 < labels["accuracy"] < 1.0
    assert labels["f1_at_50"] > 0.95


def test_ways_can_be_left_out_of_labels(videos: list[Video]):
    found = localizer_figures(videos, lambda video: true_actions(video, labels="actions"), labels="actions")
    assert found["map_at_0.5"] == 1.0
    mixed = localizer_figures(videos, true_actions, labels="actions")
    assert 0 < mixed["map_at_0.5"] < 1.0  # "move left" is not "move", "bounce" is itself
    assert segmenter_figures(videos, lambda video: true_labels(video, labels="actions"), rate=RATE, labels="actions")["accuracy"] > 0.9


def test_chance_is_far_from_it_and_the_same_whenever_asked(videos: list[Video]):
    guess = chance_actions([video.world for video in videos])
    assert guess(videos[0]) == guess(videos[0])
    assert all(0 <= one.span.start < one.span.end <= video.world.seconds for video in videos for one in guess(video))
    assert localizer_figures(videos, guess)["map_thumos"] < 0.2


def test_nothing_everywhere_has_the_share_of_nothing_and_no_segment(videos: list[Video]):
    figures = segmenter_figures(videos, nothing_everywhere, rate=RATE)
    shares = np.concatenate([frame_classes(video.world, rate=RATE) for video in videos])
    assert figures["accuracy"] == pytest.approx(np.mean(shares == 0))
    assert figures["f1_at_10"] == 0.0
