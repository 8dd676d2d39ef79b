"""Where in one video sentences are true, and how sure the library is of each moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vlm.encoders.once import ReadOnce
from vlm.index.confidence import Confidence, at_even_odds
from vlm.index.equipment import Equipment
from vlm.index.footage import Footage
from vlm.index.segments import Pool
from vlm.types import Features, Grounded, Moment, Segment, Span


def ground(gear: Equipment, texts: Sequence[str], footage: Footage) -> list[Grounded]:
    """The moments of each sentence on the video's clock; with a confidence, as a hit has one, where the rows are the library's own and it
    has a measure. Raises as Library.ground."""
    encoder = ReadOnce(gear.load_encoder())
    found = gear.reader(encoder).ground(texts, footage.features)
    measure = None if footage.video_id is None else gear.confidence(encoder)
    if measure is not None:
        vectors = gear.text_vectors(encoder)(texts)
        found = [sure(one, vector, footage.features, measure, gear.pool()) for one, vector in zip(found, vectors, strict=True)]
    return [footage.on_its_clock(one) for one in found]


def sure(found: Grounded, vector: NDArray[np.float32], features: Features, measure: Confidence, pool: Pool) -> Grounded:
    """What was found in the features for a sentence's vector (d,), with the confidence that each moment would have as a hit: its rows are
    pooled, and their cosine is held against those of the background's best hits over the whole library."""
    if not found.moments:
        return found
    parts = [_rows(features, moment.span) for moment in found.moments]
    rates = measure.false_alarm_rate(vector, (pool(features, parts) @ vector).astype(np.float64))
    told: list[Moment] = [
        replace(moment, confidence=float(at_even_odds(rate)), false_alarm_rate=float(rate))
        for moment, rate in zip(found.moments, rates, strict=True)
    ]
    return replace(found, moments=tuple(told))


def _rows(features: Features, span: Span) -> Segment:
    """The rows whose middle lies in the span; the one that it begins in, where there is none."""
    middles = (features.times + np.append(features.times[1:], features.end)) / 2
    first, last = (int(place) for place in np.searchsorted(middles, [span.start, span.end]))
    if first == last:
        first = max(0, int(np.searchsorted(features.times, span.start, side="right")) - 1)
        last = first + 1
    return Segment(level=0, first=first, last=last, span=span)
