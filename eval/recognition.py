"""Recognition: how often the right class is the likeliest, or among the five likeliest.

Ties count against the model: whatever is as likely as the right class stands before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError
from vlm.eval.retrieval import ranks


@dataclass(frozen=True, slots=True)
class RecognitionFigures:
    """Shares of clips, in [0, 1], whose right class is the likeliest, or among the five likeliest; and of how many clips and classes."""

    top1: float
    top5: float
    num_clips: int
    num_classes: int


def recognition_figures(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> RecognitionFigures:
    """The figures of clips with scores (n, classes), larger is likelier, and right classes (n,).

    Raises:
        InputError: no clip, shapes that do not agree, a score that is NaN, or a class that there is not.
    """
    if not len(scores):
        raise InputError("there are no clips to take figures of")
    found = ranks(scores, labels)
    return RecognitionFigures(float((found <= 1).mean()), float((found <= 5).mean()), *scores.shape)


def action_figures(
    verbs: NDArray[np.floating], nouns: NDArray[np.floating], verb_labels: NDArray[np.integer], noun_labels: NDArray[np.integer]
) -> dict[str, RecognitionFigures]:
    """Figures of ``verb``, ``noun`` and ``action``, as EPIC-KITCHENS-100 tells them: an action is right where its verb and its noun are.

    Args:
        verbs, nouns: probabilities (n, classes); that of an action is their product.

    Raises:
        InputError: as ``recognition_figures``.
    """
    pairs = (verbs[:, :, None] * nouns[:, None, :]).reshape(len(verbs), -1)
    return {
        "verb": recognition_figures(verbs, verb_labels),
        "noun": recognition_figures(nouns, noun_labels),
        "action": recognition_figures(pairs, verb_labels * nouns.shape[1] + noun_labels),
    }
