from __future__ import annotations

import numpy as np
import pytest

from vlm.data.toybox.plan import make_world
from vlm.data.toybox.truth import captions_of, paragraph_of
from vlm.eval.dense_captions import ToldEvent
from vlm.eval.suite import Video
from vlm.eval.suite_captions import (
    another_telling,
    dense_captioner_figures,
    paragraph_figures,
    plain_telling,
    usual_events,
    usual_sentences,
)
from vlm.types import Features


@pytest.fixture(scope="module")
def videos() -> list[Video]:
    """Worlds whose vectors are of no meaning."""
    found = []
    for number in range(4):
        world = make_world(7, number, seconds=30.0, num_events=3)
        times = np.arange(0, world.seconds, 0.5)
        found.append(Video(world, Features(np.zeros((len(times), 2), np.float32), times, world.seconds)))
    return found


def test_the_truth_itself_is_found_whole_and_told_best(videos: list[Video]):
    def truth(video: Video) -> list[ToldEvent]:
        return [ToldEvent(e.span, c[0]) for e, c in zip(video.world.events, captions_of(video.world), strict=True)]

    exact, other = dense_captioner_figures(videos, truth), dense_captioner_figures(videos, another_telling)
    usual = dense_captioner_figures(videos, usual_events([video.world for video in videos]))
    assert exact["recall"] == exact["precision"] == other["recall"] == pytest.approx(1.0)
    for figure in ("cider", "meteor", "soda_c"):
        assert min(exact[figure], other[figure]) > 2 * usual[figure]


def test_a_paragraph_is_scored_as_one_text(videos: list[Video]):
    exact = paragraph_figures(videos, lambda video, spans: [text for text, _ in paragraph_of(video.world)])
    assert (exact["bleu4"], exact["rouge_l"]) == (pytest.approx(1.0), pytest.approx(1.0))
    plain = paragraph_figures(videos, plain_telling)
    usual = paragraph_figures(videos, usual_sentences([video.world for video in videos]))
    assert exact["cider"] > plain["cider"] > usual["cider"]
