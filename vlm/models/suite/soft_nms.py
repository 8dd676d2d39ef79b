"""Soft suppression: a stretch that overlaps a better one of its class counts less, the more the two share (Bodla et al. 2017)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def soft_nms(
    bounds: NDArray[np.float64], scores: NDArray[np.float64], *, sigma: float = 0.5, least: float = 1e-3, most: int = 200
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The numbers (k) of the stretches that stay, best first, and their scores (k) after all better ones have been taken.

    Again and again the best is taken, and the score of each other is multiplied by ``exp(-iou^2 / sigma)``; of equal scores the first in
    ``bounds`` is taken first.

    Args:
        bounds: (n, 2) start and end, none empty. scores: (n) of one class.
        sigma: how gently overlap counts. least: what scores below this is dropped. most: how many stay.
    """
    left, right, score = bounds[:, 0].copy(), bounds[:, 1].copy(), scores.astype(np.float64, copy=True)
    number = np.arange(len(score))
    kept: list[int] = []
    found: list[float] = []
    while len(kept) < most:
        alive = score >= least
        left, right, score, number = left[alive], right[alive], score[alive], number[alive]
        if not len(score):
            break
        best = int(score.argmax())
        kept.append(int(number[best]))
        found.append(float(score[best]))
        inside = np.maximum(0.0, np.minimum(right, right[best]) - np.maximum(left, left[best]))
        iou = inside / ((right - left) + (right[best] - left[best]) - inside)
        score *= np.exp(-(iou**2) / sigma)
        score[best] = -np.inf
    return np.array(kept, dtype=np.int64), np.array(found, dtype=np.float64)
