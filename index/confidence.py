"""How far a score can be trusted: what sentences about things that the library does not show would have scored.

A cosine means little by itself: some queries are near to everything, and the best of a million stretches is always near. So half of
what a query scores on average over all segments is taken off; and the rest is held against that of the best hits of a thousand
background sentences over the same library. The share of those that reach it is the false-alarm rate. What that says about a query is a
matter of how likely it was to begin with; at even odds, with rates of true queries distributed as
``EVIDENCE * rate ** (EVIDENCE - 1)`` (Sellke, Bayarri and Berger 2001, "Calibration of p values for testing precise null hypotheses"),
it is the confidence.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError, QueryError
from vlm.index.query import Term
from vlm.index.store import Store
from vlm.index.vectors import VectorIndex
from vlm.types import Hit

# Below so many segments their mean and their spread say nothing.
FEWEST_SEGMENTS = 50
# Segments that are looked at for them.
SAMPLE = 8192
# Above this share of the background, and where that is thin, a generalised Pareto tail stands for it (Pickands 1975).
TAIL_FROM = 0.9
# No false-alarm rate is said to be smaller: a thousand sentences do not show it.
LEAST_RATE = 1e-4
# How fast false-alarm rates fall where a query is true; 1 would be not at all. Chosen on Toybox libraries of other seeds than those of
# benchmarks/confidence.py.
EVIDENCE = 0.45
# The share of a query's average score that is taken off. All of it: a library that shows much of one kind is found to show none of it.
# None of it: false alarms are twice as many as stated where queries are told otherwise than the background (benchmarks/confidence.py).
DISCOUNT = 0.5
LEAST_SCALE = 1e-6
META, META_KEY = "confidence", "confidence_of"
AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Confidence:
    """A library's own measure of its scores.

    Shapes:
        mean: (d,) of the segments' vectors.
        best: (n,) ascending, for each background sentence its best score less its discount.
        tail: shape and scale of the Pareto tail above the TAIL_FROM quantile.
    """

    mean: NDArray[np.float32]
    best: NDArray[np.float64]
    tail: tuple[float, float]

    def false_alarm_rate(self, vector: NDArray[np.float32], scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """How often a query for something that is not there has a best hit that scores as high, (n,)."""
        standard = scores - discounts(vector[None], self.mean)[0]
        number = len(self.best)
        # One more than were seen, of one more than there were: so the rate is right on average (Davison and Hinkley 1997, 4.2).
        rate = (1 + number - np.searchsorted(self.best, standard, side="left")) / (1 + number)
        limit = float(np.quantile(self.best, TAIL_FROM))
        shape, scale = self.tail
        over = np.maximum(0.0, standard - limit) / scale
        with np.errstate(divide="ignore"):  # a tail that ends: what lies behind its end has rate 0
            decline = over if abs(shape) < 1e-6 else np.log1p(np.maximum(-1.0, shape * over)) / shape
        tail = (1 - TAIL_FROM) * np.exp(-decline)
        found: NDArray[np.float64] = np.where(standard > limit, np.maximum(tail, LEAST_RATE), rate)
        return found

    def of(self, vector: NDArray[np.float32], scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """The confidence (n,) of hits with these scores: see the head of this module."""
        return at_even_odds(self.false_alarm_rate(vector, scores))

    def to_bytes(self) -> bytes:
        """As ``from_bytes`` reads it."""
        held = io.BytesIO()
        np.savez(held, mean=self.mean, best=self.best, tail=np.array(self.tail))
        return held.getvalue()

    @classmethod
    def from_bytes(cls, held: bytes) -> Self:
        """What ``to_bytes`` wrote."""
        with np.load(io.BytesIO(held)) as parts:
            shape, scale = parts["tail"].tolist()
            return cls(parts["mean"], parts["best"], (shape, scale))


def is_one_text(terms: Sequence[Term]) -> bool:
    """Whether a query is a sentence alone, as the background's are; sums and looks have scores of another kind."""
    return len(terms) == 1 and isinstance(terms[0].what, str)


def with_confidence(hits: Sequence[Hit], measure: Confidence | None, vector: NDArray[np.float32], *, least: float | None) -> list[Hit]:
    """The hits of a query's vector (d,) with their confidence, those below ``least`` left out.

    Raises:
        InputError: ``least`` is no probability. QueryError: there is a ``least`` and no measure.
    """
    if least is not None and not 0.0 <= least <= 1.0:
        raise InputError(f"min_confidence must be within 0..1, got {least}")
    if measure is None:
        if least is not None:
            raise QueryError(
                f"nothing can be said here of the confidence of a hit, and so not which reach {least:g}: it is measured for one sentence "
                f"alone (no --like, --plus or --minus), in a library of at least {FEWEST_SEGMENTS} stretches. Leave --min-confidence out"
            )
        return list(hits)
    rates = measure.false_alarm_rate(vector, np.array([hit.score for hit in hits]))
    told = [replace(hit, confidence=float(at_even_odds(rate)), false_alarm_rate=float(rate)) for hit, rate in zip(hits, rates, strict=True)]
    return [hit for hit in told if least is None or (hit.confidence or 0.0) >= least]


def at_even_odds(rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability that a query is true whose best hit has this false-alarm rate, if half of all queries are."""
    ratio = EVIDENCE * rate ** (EVIDENCE - 1)
    told: NDArray[np.float64] = ratio / (1 + ratio)
    return told


def rate_at(confidence: float) -> float:
    """The false-alarm rate of hits of just this confidence; 1 where all have more."""
    if confidence >= 1:
        return 0.0
    if confidence <= EVIDENCE / (1 + EVIDENCE):
        return 1.0
    return float((confidence / (1 - confidence) / EVIDENCE) ** (1 / (EVIDENCE - 1)))


def discounts(vectors: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float64]:
    """What is taken off the scores (n,) of unit vectors (n, d)."""
    off: NDArray[np.float64] = DISCOUNT * (vectors.astype(np.float64) @ mean.astype(np.float64))
    return off


def has_enough(store: Store) -> bool:
    """Whether a library has segments enough to be measured."""
    return len(store.segment_ids()) >= FEWEST_SEGMENTS


def measure(store: Store, index: VectorIndex, texts: NDArray[np.float32]) -> Confidence | None:
    """A library held against background sentences, unit vectors (n, d); None where it has too few segments."""
    if not has_enough(store):
        return None
    ids = store.segment_ids()
    some = ids[np.unique(np.linspace(0, len(ids) - 1, min(SAMPLE, len(ids))).round().astype(np.int64))]

    def fetch(wanted: NDArray[np.int64]) -> NDArray[np.float32]:
        return store.segment_vectors(wanted, index.dim)

    best = [index.search(texts[first : first + AT_ONCE], 1, fetch=fetch)[0][:, 0] for first in range(0, len(texts), AT_ONCE)]
    return fitted(fetch(some), texts, np.concatenate(best))


def fitted(segments: NDArray[np.float32], texts: NDArray[np.float32], best: NDArray[np.float32]) -> Confidence:
    """The measure of segments (m, d) of which background sentences, unit vectors (n, d), find one with the scores ``best`` (n,)."""
    from scipy.stats import genpareto

    mean = segments.mean(axis=0, dtype=np.float64).astype(np.float32)
    standard = np.sort(best.astype(np.float64) - discounts(texts, mean))
    limit = float(np.quantile(standard, TAIL_FROM))
    over = standard[standard > limit] - limit
    # All background sentences alike: nothing lies above the limit, and any score that does is beyond all that was seen.
    shape, _, scale = genpareto.fit(over, floc=0) if len(over) > 1 else (0.0, 0.0, LEAST_SCALE)
    return Confidence(mean, standard, (float(shape), max(float(scale), LEAST_SCALE)))


def kept(
    store: Store, key: dict[str, object], make: Callable[[], Confidence | None], *, may_write: Callable[[], bool]
) -> Confidence | None:
    """What the store holds under ``key``; else what is made, and stored where nobody else is writing."""
    told = json.dumps(key, sort_keys=True)
    held = store.meta(META)
    if isinstance(held, bytes) and store.meta(META_KEY) == told:
        return Confidence.from_bytes(held)
    made = make()
    if made is not None and may_write():
        with store.transaction():
            store.set_meta(META, made.to_bytes())
            store.set_meta(META_KEY, told)
    return made
