"""What an answer rests on: what the question alone suggests, and how much is lost when its evidence is taken away.

An answer can be right for the wrong reason: because such questions are mostly answered so, or by something that is seen elsewhere. NExT-GQA
(Xiao et al. 2024) measures it over a data set; here each single answer carries its own two figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vlm.models.plain import Reader
from vlm.types import Answer, Features, Span


def weighed(reader: Reader, question: str, answer: Answer, features: Features, *, options: Sequence[str] = ()) -> Answer:
    """The answer with its ``prior`` and its ``faithfulness``; ``options`` as they were given for it."""
    blind = reader.blind(question, features, options=options)
    left = without([moment.span for moment in answer.evidence], features)
    faithfulness = None
    if answer.evidence and left is not None:
        faithfulness = answer.probability - reader.probability(question, answer.text, left, options=options)
    return replace(answer, prior=None if blind is None else blind.options, faithfulness=faithfulness)


def without(spans: Sequence[Span], features: Features) -> Features | None:
    """The rows whose middle lies in none of ``spans``, at their own times; None where no row is left."""
    ends = np.append(features.times[1:], features.end)
    middles = (features.times + ends) / 2
    is_left = np.ones(len(middles), np.bool_)
    for span in spans:
        is_left &= (middles < span.start) | (middles >= span.end)
    return Features(features.vectors[is_left], features.times[is_left], features.end) if is_left.any() else None
