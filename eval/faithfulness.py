"""Whether a low faithfulness gives away an answer that is right for the wrong reason.

A question is asked twice: of the whole video, and of a stretch of it in which nothing of its evidence is to be seen. The answer that is
right the second time was not read from the video: it was guessed, or suggested by the question. NExT-GQA (Xiao et al. 2024) counts such
answers over a data set by where they look; here the figure that stands beside each answer (vlm.models.evidence) must tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vlm.eval.understanding import area_under_curve
from vlm.models.evidence import weighed
from vlm.models.plain import Reader
from vlm.types import Features, Span

# A stretch shorter than this, or of fewer rows, is no video to ask.
SHORTEST_SECONDS, FEWEST_ROWS = 4.0, 6
# Seconds before and after a span of evidence that are taken to show some of it.
MARGIN = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedOfEvidence:
    """A question about video ``video`` whose answer is seen in the spans ``evidence`` alone. ``kind`` names the row of the table."""

    video: int
    text: str
    kind: str
    options: tuple[str, ...]
    answer: str
    evidence: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RightAnswer:
    """A right answer, to the whole video or to a stretch without evidence (``is_grounded`` False), with the figures that came with it."""

    kind: str
    is_grounded: bool
    faithfulness: float
    probability: float
    answerable: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FaithfulnessFigures:
    """How well each figure of an answer tells the grounded from those that are right for the wrong reason: areas under the ROC curve.

    Attributes:
        faithfulness, probability: of the figures with these names; answerable: None where nothing was trained to tell.
        num_grounded, num_ungrounded: right answers of each sort.
    """

    faithfulness: float
    probability: float
    answerable: float | None
    num_grounded: int
    num_ungrounded: int


def right_answers(reader: Reader, features: Callable[[int], Features], asked: Sequence[AskedOfEvidence]) -> list[RightAnswer]:
    """The answers that are right and have a faithfulness, of each question to the whole video and, where there is one, to a stretch of it
    without evidence."""
    found: list[RightAnswer] = []
    for one in asked:
        whole = features(one.video)
        for shown in (whole, stretch_without(one.evidence, whole)):
            if shown is None:
                continue
            answer = reader.answer(one.text, shown, options=one.options)
            if answer.text != one.answer:
                continue
            told = weighed(reader, one.text, answer, shown, options=one.options)
            if told.faithfulness is not None:
                found.append(
                    RightAnswer(
                        kind=one.kind,
                        is_grounded=shown is whole,
                        faithfulness=told.faithfulness,
                        probability=told.probability,
                        answerable=told.answerable,
                    )
                )
    return found


def faithfulness_figures(answers: Sequence[RightAnswer]) -> FaithfulnessFigures:
    """The figures of right answers.

    Raises:
        InputError: one of both sorts is missing.
    """
    sorts = [[one for one in answers if one.is_grounded is is_grounded] for is_grounded in (True, False)]
    areas = [area_under_curve(*([value(one) for one in sort] for sort in sorts)) for value in (_faithfulness, _probability)]
    sure = [[one.answerable for one in sort if one.answerable is not None] for sort in sorts]
    return FaithfulnessFigures(
        faithfulness=areas[0],
        probability=areas[1],
        answerable=area_under_curve(*sure) if all(sure) else None,
        num_grounded=len(sorts[0]),
        num_ungrounded=len(sorts[1]),
    )


def stretch_without(evidence: Sequence[Span], features: Features) -> Features | None:
    """The longest stretch of the rows between spans of evidence, as a video of its own; None where none is long enough to be asked."""
    ends = np.append(features.times[1:], features.end)
    is_hidden = np.ones(len(ends), np.bool_)
    for span in evidence:
        is_hidden &= (ends <= span.start - MARGIN) | (features.times >= span.end + MARGIN)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_hidden.astype(np.int8), [0]])))
    best = max(zip(edges[::2], edges[1::2], strict=True), key=lambda run: ends[run[1] - 1] - features.times[run[0]], default=None)
    if best is None or best[1] - best[0] < FEWEST_ROWS or ends[best[1] - 1] - features.times[best[0]] < SHORTEST_SECONDS:
        return None
    return features.part(int(best[0]), int(best[1]))


def _faithfulness(answer: RightAnswer) -> float:
    return answer.faithfulness


def _probability(answer: RightAnswer) -> float:
    return answer.probability
