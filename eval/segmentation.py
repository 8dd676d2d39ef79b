"""How well the frames of a video are labelled: the accuracy, the edit score and the F1 of MS-TCN (Farha and Gall 2019).

The conventions of the public scorer: accuracy over all frames of all videos; segments are runs of one label, those of ``background`` left
out; the edit score is the mean over videos of ``1 - distance / length of the longer``; F1 counts hits over all videos: a predicted segment
looks at the true one of its label that it overlaps most, and hits it if that overlap (IoU) reaches the threshold and no other has hit it.
Where neither has a segment the edit score is 1, which the public scorer cannot say (it divides by zero).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from vlm.errors import InputError

OVERLAPS = (0.1, 0.25, 0.5)


@dataclass(frozen=True, slots=True)
class Run:
    """Frames ``[first, last)`` of one label."""

    label: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class SegmentationFigures:
    """Shares in [0, 1]: of frames that are right, of the order of segments, and F1 at each overlap."""

    accuracy: float
    edit: float
    f1: Mapping[float, float]


def segmentation_figures(
    truth: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    *,
    background: Collection[str] = ("background",),
    overlaps: Sequence[float] = OVERLAPS,
) -> SegmentationFigures:
    """Figures of videos, each a label a frame.

    Raises:
        InputError: no videos, not as many predictions, or a video without frames or with another number of them.
    """
    if not truth or len(truth) != len(predicted):
        raise InputError(f"truth and predictions must be of the same videos, at least one, got {len(truth)} and {len(predicted)}")
    for number, (true, guessed) in enumerate(zip(truth, predicted, strict=True)):
        if not len(true) or len(true) != len(guessed):
            raise InputError(
                f"video {number} has {len(true)} frames and {len(guessed)} predictions: they must be as many, and at least one"
            )
    right = sum(a == b for true, guessed in zip(truth, predicted, strict=True) for a, b in zip(true, guessed, strict=True))
    runs = [(runs_of(true, background), runs_of(guessed, background)) for true, guessed in zip(truth, predicted, strict=True)]
    edit = [edit_score([run.label for run in true], [run.label for run in guessed]) for true, guessed in runs]
    return SegmentationFigures(
        accuracy=right / sum(map(len, truth)),
        edit=float(np.mean(edit)),
        f1={overlap: _f1([hits(true, guessed, overlap) for true, guessed in runs]) for overlap in overlaps},
    )


def runs_of(labels: Sequence[str], background: Collection[str] = ()) -> list[Run]:
    """The runs of equal labels, in order, without those of ``background``."""
    found, first = [], 0
    for label, run in groupby(labels):
        last = first + sum(1 for _ in run)
        if label not in background:
            found.append(Run(label, first, last))
        first = last
    return found


def edit_score(true: Sequence[str], guessed: Sequence[str]) -> float:
    """``1 - distance / length of the longer`` of two sequences of labels, the distance being Levenshtein's: in [0, 1]. Both empty is 1."""
    longer = max(len(true), len(guessed))
    if not longer:
        return 1.0
    costs = list(range(len(guessed) + 1))
    for row, label in enumerate(true, start=1):
        diagonal, costs[0] = costs[0], row
        for column, other in enumerate(guessed, start=1):
            diagonal, costs[column] = costs[column], min(diagonal + (label != other), costs[column] + 1, costs[column - 1] + 1)
    return 1.0 - costs[-1] / longer


def hits(true: Sequence[Run], guessed: Sequence[Run], overlap: float) -> tuple[int, int, int]:
    """How many predicted segments hit, how many do not, and how many true ones are not hit."""
    is_hit = [False] * len(true)
    right = 0
    for run in guessed:
        shares = [_share(run, other) if run.label == other.label else 0.0 for other in true]
        best = int(np.argmax(shares)) if shares else -1
        if best >= 0 and shares[best] >= overlap and not is_hit[best]:
            is_hit[best] = True
            right += 1
    return right, len(guessed) - right, len(true) - right


def _share(one: Run, other: Run) -> float:
    inside = max(0, min(one.last, other.last) - max(one.first, other.first))
    return inside / (one.last - one.first + other.last - other.first - inside)


def _f1(counts: Sequence[tuple[int, int, int]]) -> float:
    right, wrong, missed = (sum(column) for column in zip(*counts, strict=True))
    return 2 * right / (2 * right + wrong + missed) if right else 0.0
