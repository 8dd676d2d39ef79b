"""Whether a model knows what came first: order twins told apart, and found among all others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError
from vlm.eval.retrieval import ranks


@dataclass(frozen=True, slots=True)
class OrderFigures:
    """Over v videos in pairs of twins.

    Attributes:
        accuracy: how often a video is nearer to its own text than to its twin's; a tie counts half.
        recall_at_1: how often a text finds its own video among all, ties counted against the model. A model that cannot tell twins apart
            reaches half of what it would reach otherwise, and no more than 0.5.
    """

    accuracy: float
    recall_at_1: float
    num_videos: int


def order_figures(similarity: NDArray[np.floating]) -> OrderFigures:
    """Figures of similarities (v, v), texts by videos, where rows and columns 2i and 2i + 1 are twins and the diagonal holds own pairs.

    Raises:
        InputError: not square, odd, or empty.
    """
    v = len(similarity)
    if similarity.shape != (v, v) or v == 0 or v % 2:
        raise InputError(f"similarities of twins must be square, even and not empty, got {similarity.shape}")
    own, place = similarity.diagonal(), np.arange(v)
    gain = own - similarity[place ^ 1, place]  # of each video, over its twin's text
    return OrderFigures(
        accuracy=float((gain > 0).mean() + 0.5 * (gain == 0).mean()),
        recall_at_1=float((ranks(similarity, place) == 1).mean()),
        num_videos=v,
    )
