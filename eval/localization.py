"""How well actions are localised: the average precision of ActivityNet's scorer (Heilbron et al. 2015), over several overlaps.

The conventions of the public scorer: a class is scored over all videos together, its predictions best first; each takes the truth of its
video that it overlaps most among those not taken yet, if that overlap (IoU) reaches the threshold, and is wrong otherwise; precision is
made falling from the right, and summed where recall rises. Classes without truth are not scored. Equal scores keep their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError
from vlm.types import Span

# HACS, ActivityNet, FineAction; and THUMOS-14.
ACTIVITYNET = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
THUMOS = (0.3, 0.4, 0.5, 0.6, 0.7)


@dataclass(frozen=True, slots=True)
class Action:
    """An action of a video: what and from when to when. ``score`` orders predictions and is of no meaning for truth."""

    video: str
    label: str
    span: Span
    score: float = 1.0


@dataclass(frozen=True, slots=True)
class LocalizationFigures:
    """Mean average precision at each overlap, and the mean over all of them; in [0, 1].

    Attributes:
        by_class: at each overlap, of each class that has truth.
    """

    overlaps: tuple[float, ...]
    mean_average_precision: tuple[float, ...]
    by_class: Mapping[str, tuple[float, ...]]

    @property
    def average(self) -> float:
        """The mean over the overlaps."""
        return float(np.mean(self.mean_average_precision))

    def at(self, overlap: float) -> float:
        """The figure at one of the overlaps; InputError where it was not scored."""
        if overlap not in self.overlaps:
            raise InputError(f"overlap must be one of {list(self.overlaps)}, got {overlap:g}")
        return self.mean_average_precision[self.overlaps.index(overlap)]


def localization_figures(
    truth: Sequence[Action], predicted: Sequence[Action], *, overlaps: Sequence[float] = ACTIVITYNET
) -> LocalizationFigures:
    """Figures of predictions against the truth of the same videos.

    Raises:
        InputError: there is no truth, no overlap, or one that is not in (0, 1].
    """
    if not truth:
        raise InputError("average precision needs at least one true action, got none")
    if not overlaps or not all(0 < overlap <= 1 for overlap in overlaps):
        raise InputError(f"overlaps must be in (0, 1] and at least one, got {list(overlaps)}")
    by_class = {}
    for label in dict.fromkeys(action.label for action in truth):
        own = [action for action in truth if action.label == label]
        guessed = [action for action in predicted if action.label == label]
        by_class[label] = tuple(float(value) for value in average_precision(own, guessed, overlaps))
    means = np.mean(list(by_class.values()), axis=0)
    return LocalizationFigures(tuple(overlaps), tuple(float(value) for value in means), by_class)


def average_precision(truth: Sequence[Action], predicted: Sequence[Action], overlaps: Sequence[float]) -> NDArray[np.float64]:
    """Average precision (k) of one class at each of k overlaps; ``truth`` must not be empty."""
    spans: dict[str, NDArray[np.float64]] = {}
    for video in {action.video for action in truth}:
        spans[video] = np.array([(action.span.start, action.span.end) for action in truth if action.video == video])
    taken = {video: np.zeros((len(overlaps), len(own)), dtype=bool) for video, own in spans.items()}
    ordered = sorted(predicted, key=lambda action: -action.score)
    is_right = np.zeros((len(overlaps), len(ordered)), dtype=bool)
    for rank, action in enumerate(ordered):
        own = spans.get(action.video)
        if own is None:
            continue
        shared = overlap_shares(action.span, own)
        nearest = np.argsort(-shared, kind="stable")
        for place, overlap in enumerate(overlaps):
            free = [number for number in nearest if shared[number] >= overlap and not taken[action.video][place, number]]
            if free:
                taken[action.video][place, free[0]] = is_right[place, rank] = True
    right = is_right.cumsum(axis=1)
    recall = right / len(truth)
    precision = right / np.arange(1, len(ordered) + 1)
    return np.array([area_under(one, other) for one, other in zip(precision, recall, strict=True)])


def overlap_shares(span: Span, others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The IoU (n) of a span with each of (n, 2) starts and ends."""
    inside = np.maximum(0.0, np.minimum(span.end, others[:, 1]) - np.maximum(span.start, others[:, 0]))
    found: NDArray[np.float64] = inside / (span.seconds + (others[:, 1] - others[:, 0]) - inside)
    return found


def area_under(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> float:
    """The area under precision (n), made falling from the right, over rising recall (n)."""
    height = np.concatenate([[0.0], precision, [0.0]])
    along = np.concatenate([[0.0], recall, [1.0]])
    height = np.maximum.accumulate(height[::-1])[::-1]
    return float((np.diff(along) * height[1:]).sum())
