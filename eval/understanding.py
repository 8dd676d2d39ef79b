"""How well a reader finds moments, tells what is not there, and answers: figures of any ``Reader`` on asked texts with their truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError
from vlm.models.plain import Reader
from vlm.spans import temporal_iou
from vlm.types import Features, Span

VERY_GOOD = 4  # the level that a hit must have, as in QVHighlights


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedMoment:
    """A text about video ``video`` with all spans in which it holds; none where it never does. ``levels`` of seconds as in Toybox."""

    video: int
    text: str
    spans: tuple[Span, ...] = ()
    levels: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedQuestion:
    """A question about video ``video``; without options it is open. ``kind`` names the row of the table."""

    video: int
    text: str
    kind: str
    options: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class MomentFigures:
    """Over n texts that hold somewhere.

    Attributes:
        mean_iou: of the best moment with the nearest true span. recall_50, recall_70: how often that is at least 0.5, and 0.7.
        hit_at_1: how often the row of highest saliency lies in a second of level VERY_GOOD, over the texts that have such a second.
    """

    mean_iou: float
    recall_50: float
    recall_70: float
    hit_at_1: float
    num_texts: int


@dataclass(frozen=True, slots=True)
class Judged:
    """What a reader said of one asked text.

    Attributes:
        iou: of its first moment. hits: whether its saliency does; None where nothing can be hit.
        presence: how sure it is that the video shows the text at all; the highest saliency where nothing was trained to tell.
        score: of its first moment; 0 where it gave none.
    """

    iou: float
    hits: bool | None
    presence: float
    score: float


def judge(reader: Reader, features: Callable[[int], Features], asked: Sequence[AskedMoment]) -> list[Judged]:
    """What a reader says of each, in order; texts of one video are asked together."""
    found: dict[int, Judged] = {}
    for video, numbers in _by_video(one.video for one in asked):
        shown = features(video)
        said = reader.ground([asked[number].text for number in numbers], shown)
        for number, grounded in zip(numbers, said, strict=True):
            best = grounded.moments[:1]
            iou = max((temporal_iou(moment.span, span) for moment in best for span in asked[number].spans), default=0.0)
            presence = float(grounded.curve.max()) if grounded.presence is None else grounded.presence
            found[number] = Judged(iou, _hits(grounded.curve, shown, asked[number].levels), presence, best[0].score if best else 0.0)
    return [found[number] for number in range(len(asked))]


def moment_figures(judged: Sequence[Judged]) -> MomentFigures:
    """The figures of texts that hold somewhere.

    Raises:
        InputError: there are none.
    """
    if not judged:
        raise InputError("figures of moments need at least one text that holds somewhere, got none")
    ious = np.array([one.iou for one in judged])
    hits = [one.hits for one in judged if one.hits is not None]
    return MomentFigures(
        float(ious.mean()),
        float((ious >= 0.5).mean()),
        float((ious >= 0.7).mean()),
        float(np.mean(hits)) if hits else float("nan"),
        len(ious),
    )


def area_under_curve(positive: Sequence[float], negative: Sequence[float]) -> float:
    """How often a positive scores above a negative, ties half: the area under the ROC curve.

    Raises:
        InputError: either is empty.
    """
    if not len(positive) or not len(negative):
        raise InputError(f"an area under the curve needs both, got {len(positive)} positives and {len(negative)} negatives")
    ordered = np.sort(np.asarray(negative, np.float64))
    scores = np.asarray(positive, np.float64)
    below, upto = np.searchsorted(ordered, scores, side="left"), np.searchsorted(ordered, scores, side="right")
    return float((below + upto).mean() / (2 * len(ordered)))


def accuracies(reader: Reader, features: Callable[[int], Features], asked: Sequence[AskedQuestion]) -> dict[str, float]:
    """The share of right answers of each kind; an open one is right word for word."""
    right: dict[str, list[bool]] = {}
    for video, numbers in _by_video(one.video for one in asked):
        shown = features(video)
        for number in numbers:
            one = asked[number]
            right.setdefault(one.kind, []).append(reader.answer(one.text, shown, options=one.options).text == one.answer)
    return {kind: float(np.mean(hits)) for kind, hits in right.items()}


def _hits(curve: NDArray[np.float32], features: Features, levels: Mapping[int, int]) -> bool | None:
    if max(levels.values(), default=0) < VERY_GOOD:
        return None
    row = int(curve.argmax())
    end = features.times[row + 1] if row + 1 < len(features.times) else features.end
    return levels.get(int((features.times[row] + end) / 2), 0) >= VERY_GOOD


def _by_video(videos: Iterable[int]) -> list[tuple[int, list[int]]]:
    """Numbers of what is asked, by video."""
    found: dict[int, list[int]] = {}
    for number, video in enumerate(videos):
        found.setdefault(video, []).append(number)
    return list(found.items())
