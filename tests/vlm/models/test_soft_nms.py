from __future__ import annotations

import math

import numpy as np
import pytest

from vlm.models.suite.soft_nms import soft_nms


def naive(bounds: list[tuple[float, float]], scores: list[float], sigma: float, least: float, most: int) -> list[tuple[int, float]]:
    left = [(score, number) for number, score in enumerate(scores)]
    kept: list[tuple[int, float]] = []
    while left and len(kept) < most:
        best = max(left, key=lambda pair: (pair[0], -pair[1]))
        if best[0] < least:
            break
        left.remove(best)
        kept.append((best[1], best[0]))
        faded = []
        for score, number in left:
            (a, b), (c, d) = bounds[best[1]], bounds[number]
            inside = max(0.0, min(b, d) - max(a, c))
            iou = inside / ((b - a) + (d - c) - inside)
            faded.append((score * math.exp(-iou * iou / sigma), number))
        left = faded
    return kept


@pytest.mark.parametrize("seed", range(25))
def test_it_is_the_plain_loop(seed: int):
    random = np.random.default_rng(seed)
    starts = random.integers(0, 12, 20).astype(float)
    bounds = np.stack([starts, starts + random.integers(1, 6, 20)], axis=1)
    scores = random.integers(1, 50, 20) / 50
    kept, after = soft_nms(bounds, scores, sigma=0.4, least=0.05, most=15)
    wanted = naive([tuple(pair) for pair in bounds.tolist()], scores.tolist(), 0.4, 0.05, 15)
    assert kept.tolist() == [number for number, _ in wanted]
    assert after.tolist() == pytest.approx([score for _, score in wanted])


def test_what_does_not_overlap_keeps_its_score_and_a_copy_fades():
    kept, after = soft_nms(np.array([[0.0, 2.0], [0.0, 2.0], [5.0, 6.0]]), np.array([0.9, 0.8, 0.7]), sigma=0.5)
    assert kept.tolist() == [0, 2, 1]
    assert after.tolist() == pytest.approx([0.9, 0.7, 0.8 * math.exp(-2)])


def test_nothing_gives_nothing():
    kept, after = soft_nms(np.zeros((0, 2)), np.zeros(0))
    assert len(kept) == len(after) == 0
