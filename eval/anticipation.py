"""Figures of action anticipation: top-k accuracy, and the mean over classes of the recall at k, by which EPIC-Kitchens-100 ranks.

Damen et al. 2022, arXiv 2006.13256, section 4.3: the recall at 5 of each class that is true at least once, averaged over those classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlm.errors import InputError


def ranks(scores: NDArray[np.float64], truth: ArrayLike) -> NDArray[np.int64]:
    """The rank (n) of the true class of each moment, from 0; classes that score as much as it count as better: ties go against the model.

    Args:
        scores: (n, classes), higher is likelier. truth: (n) class numbers.

    Raises:
        InputError: no moment, shapes that do not agree, a score that is not a number, or a class that there is not.
    """
    wanted = np.asarray(truth, dtype=np.int64)
    if scores.ndim != 2 or not len(scores) or wanted.shape != scores.shape[:1]:
        raise InputError(f"scores must be (n, classes) of at least one moment, and truth (n), got {scores.shape} and {wanted.shape}")
    if np.isnan(scores).any():
        raise InputError("scores must be numbers, got NaN")
    if wanted.min() < 0 or wanted.max() >= scores.shape[1]:
        raise InputError(f"truth must be class numbers from 0 to {scores.shape[1] - 1}, got {wanted.min()} to {wanted.max()}")
    own = scores[np.arange(len(wanted)), wanted]
    better: NDArray[np.int64] = (scores >= own[:, None]).sum(axis=1) - 1
    return better


def top_k_accuracy(scores: NDArray[np.float64], truth: ArrayLike, *, k: int = 1) -> float:
    """The share of moments whose true class is among the best k; raises as ``ranks``."""
    return float((ranks(scores, truth) < k).mean())


def class_mean_recall(scores: NDArray[np.float64], truth: ArrayLike, *, k: int = 5) -> float:
    """The mean, over the classes that are true of at least one moment, of the share of their moments that have them among the best k."""
    found, wanted = ranks(scores, truth) < k, np.asarray(truth)
    return float(np.mean([found[wanted == number].mean() for number in np.unique(wanted)]))
