"""Multi-instance retrieval: figures of a similarity matrix where every candidate may answer a query in part, as EPIC-KITCHENS-100 scores.

Mean average precision and nDCG by the definitions of its scorer (Damen et al. 2022, arXiv 2006.13256; Wray et al. 2021, arXiv 2103.10095).
Ties, which that scorer leaves to a sort, count against the model: of equally similar candidates the less relevant stand first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm.data.formats.epic100 import Action
from vlm.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class InstanceFigures:
    """How well queries found what answers them.

    Attributes:
        mean_average_precision: in [0, 1]. A hit is a candidate of relevancy 1; its precision counts all relevancies down to it.
        ndcg: in [0, 1]; the first k candidates count, k being how many have a relevancy above 0.
        num_queries, num_candidates: how many, since every figure depends on them.
    """

    mean_average_precision: float
    ndcg: float
    num_queries: int
    num_candidates: int


def instance_figures(similarity: NDArray[np.floating], relevancy: NDArray[np.floating]) -> InstanceFigures:
    """The figures of the queries in the rows of both matrices (q, g).

    Raises:
        InputError: shapes that do not agree, a similarity that is NaN, a relevancy outside [0, 1], or a query that nothing answers wholly.
    """
    _check(similarity, relevancy)
    wide = relevancy.astype(np.float64)
    ranked = _ranked(similarity, wide)
    precision = ranked.cumsum(axis=1) / np.arange(1, ranked.shape[1] + 1)
    is_hit = ranked == 1
    average_precision = (precision * is_hit).sum(axis=1) / is_hit.sum(axis=1)
    ndcg = _gain(ranked, wide) / _gain(_ranked(wide, wide), wide)
    return InstanceFigures(float(average_precision.mean()), float(ndcg.mean()), *similarity.shape)


def both_directions(similarity: NDArray[np.floating], relevancy: NDArray[np.floating]) -> tuple[InstanceFigures, InstanceFigures]:
    """Videos asking for texts, then texts for videos, of matrices (videos, texts). The published averages are the means of the two.

    Raises:
        InputError: as ``instance_figures``.
    """
    return instance_figures(similarity, relevancy), instance_figures(similarity.T, relevancy.T)


def relevancies(queries: Sequence[Action], candidates: Sequence[Action]) -> Floats:
    """``vlm.data.formats.epic100.relevancy`` of each query with each candidate, (q, g)."""
    verbs, other_verbs = (np.array([one.verb_class for one in some], dtype=np.int64) for some in (queries, candidates))
    nouns = sorted({noun for one in (*queries, *candidates) for noun in one.noun_classes})
    place = {noun: number for number, noun in enumerate(nouns)}
    held, other_held = (_sets(some, place) for some in (queries, candidates))
    shared = held @ other_held.T
    either = held.sum(axis=1)[:, None] + other_held.sum(axis=1)[None, :] - shared
    found: Floats = (shared / np.maximum(either, 1) + (verbs[:, None] == other_verbs[None, :])) / 2
    return found


def _sets(actions: Sequence[Action], place: dict[int, int]) -> Floats:
    """Which nouns (n, nouns) each action names."""
    held = np.zeros((len(actions), len(place)))
    for row, action in enumerate(actions):
        held[row, [place[noun] for noun in action.noun_classes]] = 1
    return held


def _ranked(similarity: NDArray[np.floating], relevancy: Floats) -> Floats:
    """The relevancies (q, g) of candidates, the most similar first."""
    order = np.lexsort((relevancy, -similarity), axis=1)
    return np.take_along_axis(relevancy, order, axis=1)


def _gain(ranked: Floats, relevancy: Floats) -> Floats:
    """The discounted gain (q,) of the first k relevancies of each row."""
    place = np.arange(ranked.shape[1])
    counted = place < (relevancy > 0).sum(axis=1)[:, None]
    gain: Floats = (ranked * counted / np.log2(place + 2)).sum(axis=1)
    return gain


def _check(similarity: NDArray[np.floating], relevancy: NDArray[np.floating]) -> None:
    if similarity.ndim != 2 or 0 in similarity.shape or similarity.shape != relevancy.shape:
        raise InputError(
            f"similarity and relevancy must be (queries, candidates) of at least one each, got {similarity.shape} and {relevancy.shape}"
        )
    if np.isnan(similarity).any():
        raise InputError(f"similarity holds {int(np.isnan(similarity).sum())} NaN: a vector is broken")
    if not ((relevancy >= 0) & (relevancy <= 1)).all():
        raise InputError(f"relevancy must be in [0, 1], got {np.nanmin(relevancy):g} to {np.nanmax(relevancy):g}")
    unanswered = np.flatnonzero((relevancy != 1).all(axis=1))
    if len(unanswered):
        raise InputError(
            f"query {unanswered[0]} has no candidate of relevancy 1 ({len(unanswered)} such queries): it has no precision, leave it out"
        )
