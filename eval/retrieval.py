"""Retrieval metrics as pure functions of a similarity matrix.

Ties count against the model: whatever is as similar as the right one stands before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError


@dataclass(frozen=True, slots=True)
class RetrievalFigures:
    """How well each query found its own.

    Attributes:
        recall_at_1, recall_at_5, recall_at_10: shares of queries whose own is among the first so many, in [0, 1].
        median_rank, mean_rank: from 1, the best.
        num_queries, num_candidates: how many, since every figure depends on them.
    """

    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    median_rank: float
    mean_rank: float
    num_queries: int
    num_candidates: int


def ranks(similarity: NDArray[np.floating], own: NDArray[np.integer] | None = None) -> NDArray[np.int64]:
    """Rank (q,) from 1 of each query's own candidate.

    Args:
        similarity: (q, g), larger is more alike.
        own: (q,) the column of each query's own; the diagonal where None.

    Raises:
        InputError: a shape that does not fit, no candidate, or a similarity that is NaN.
    """
    if similarity.ndim != 2 or similarity.shape[1] == 0:
        raise InputError(f"similarity must be (queries, candidates) with at least one candidate, got {similarity.shape}")
    if np.isnan(similarity).any():
        raise InputError(f"similarity holds {int(np.isnan(similarity).sum())} NaN: a vector is broken")
    if own is None:
        if similarity.shape[0] > similarity.shape[1]:
            raise InputError(
                f"without own, query i belongs to candidate i, but there are {similarity.shape[0]} queries for {similarity.shape[1]}"
            )
        own = np.arange(len(similarity))
    if own.shape != similarity.shape[:1] or (len(own) and not (own.min() >= 0 and own.max() < similarity.shape[1])):
        raise InputError(f"own must hold one column of {similarity.shape[1]} for each of {len(similarity)} queries")
    right = similarity[np.arange(len(own)), own]
    # The own one is among those as similar as itself: the count of them is its rank with all ties before it.
    found: NDArray[np.int64] = (similarity >= right[:, None]).sum(axis=1)
    return found


def retrieval_figures(similarity: NDArray[np.floating], own: NDArray[np.integer] | None = None) -> RetrievalFigures:
    """The figures of the queries in the rows of ``similarity`` (q, g).

    Raises:
        InputError: as ``ranks``, or no query.
    """
    found = ranks(similarity, own)
    if len(found) == 0:
        raise InputError("there are no queries to take figures of")
    at_1, at_5, at_10 = (float((found <= k).mean()) for k in (1, 5, 10))
    return RetrievalFigures(at_1, at_5, at_10, float(np.median(found)), float(found.mean()), similarity.shape[0], similarity.shape[1])


def both_directions(similarity: NDArray[np.floating]) -> tuple[RetrievalFigures, RetrievalFigures]:
    """Text to video, then video to text, of a square matrix (texts, videos) whose diagonal belongs together.

    Raises:
        InputError: it is not square.
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1]:
        raise InputError(f"both directions need as many texts as videos, got {similarity.shape}")
    return retrieval_figures(similarity), retrieval_figures(similarity.T)
