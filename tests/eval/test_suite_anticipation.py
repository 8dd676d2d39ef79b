from __future__ import annotations

import numpy as np
import pytest

from tests.vlm.models.suite_cases import DIM, anticipator
from vlm.data.toybox.foresight import habits_of
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.truth import next_events
from vlm.eval.suite import Video
from vlm.eval.suite_anticipation import PARTS, Names, anticipator_figures, by_habit, by_rules, foreseen_by
from vlm.models.suite.outlook import chances_at
from vlm.types import Features

NAMES = Names("actions", "shapes")


@pytest.fixture(scope="module")
def videos() -> list[Video]:
    """Worlds whose vectors are of no meaning."""
    found = []
    for number in range(20):
        world = make_world(7, number)
        times = np.arange(0, world.seconds, 0.5)
        found.append(Video(world, Features(np.zeros((len(times), DIM), np.float32), times, world.seconds)))
    return found


def test_who_knows_what_happens_scores_one(videos: list[Video]):
    def know(video, moments):
        found = [np.zeros((len(moments), len(NAMES.classes(part)))) for part in PARTS]
        for row, each in enumerate(moments):
            for part, scores, name in zip(PARTS, found, NAMES.of(video.world, each), strict=True):
                scores[row, NAMES.classes(part).index(name)] = 1.0
        return tuple(found)

    assert set(anticipator_figures(videos, know, NAMES).values()) == {1.0}


def test_who_knows_the_rules_foresees_all_that_is_caused_and_more_than_who_never_looks(videos: list[Video]):
    train = [make_world(11, number) for number in range(60)]
    rules = anticipator_figures(videos, by_rules(habits_of(train), NAMES), NAMES)
    habit = anticipator_figures(videos, by_habit(train, NAMES), NAMES)
    caused = [each.is_caused for video in videos for each in next_events(video.world)]
    assert rules["caused_action_top1"] == rules["caused_verb_top1"] == 1.0
    for part in PARTS:
        assert habit[f"{part}_top1"] < np.mean(caused) < rules[f"{part}_top1"] < 1.0
    # The commonest verb is right where it is true: a mean over classes does not reward that.
    assert habit["verb_recall5"] == pytest.approx(5 / 12, abs=0.01)


@pytest.mark.parametrize(("horizons", "place"), [((0.5, 1.0), 1), ((1.0, 2.0), 0)])
def test_a_model_is_asked_at_its_horizon_of_a_second(videos: list[Video], horizons: tuple[float, ...], place: int):
    model = anticipator(classes=NAMES.classes("action"), horizons=horizons)
    moments = next_events(videos[0].world)
    verbs, nouns, actions = foreseen_by(model)(videos[0], moments)
    chances = chances_at(model, videos[0].features, [each.cut for each in moments])
    for given, wanted in ((verbs, chances.verbs), (nouns, chances.nouns), (actions, chances.actions)):
        np.testing.assert_array_equal(given, wanted[:, place])
