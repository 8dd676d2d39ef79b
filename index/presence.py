"""How probable it is that a row of video shows a sentence: all rows of a library at once, held against background sentences.

The cosine of a row with a sentence says little by itself, as that of a hit does (``vlm.index.confidence``, whose measure this is, of rows
instead of best hits): half of what the sentence scores on average is taken off, and the rest is held against a thousand background
sentences on rows of the same library. The share of pairs of a background sentence and a row that reach it is the row's false-alarm rate.
Rates of rows that show their sentence are distributed as ``EVIDENCE * rate ** (EVIDENCE - 1)``; with ODDS, those of a row to show what is
asked before it is looked at, that makes a probability.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from vlm.encoders.base import Encoder
from vlm.encoders.threads import one_thread
from vlm.index import background
from vlm.index.confidence import TAIL_FROM, Confidence, discounts
from vlm.index.equipment import Equipment
from vlm.index.footage import Footage
from vlm.index.store import Store
from vlm.intervals import Intervals
from vlm.temporal.meaning import Rows
from vlm.types import Clock

# Rows that are looked at for the measure, and points of the distribution of their scores that are kept.
SAMPLE, POINTS = 4096, 20_000
# ODDS are chosen on Toybox's validation split: there rows that show a thing and rows that do not part at a probability of a half.
EVIDENCE, ODDS = 0.35, 3 / 7
META, META_KEY, VERSION = "presence", "presence_of", "rows-1"
# Whole numbers below are exact as floats, and their quotient is the float nearest to the fraction.
_EXACT = 2**53


@dataclass(frozen=True, slots=True)
class Seen:
    """Rows with the vectors (t, d) that stand for them."""

    rows: Rows
    vectors: NDArray[np.float32]


def stored_rows(store: Store) -> Seen:
    """All rows of all ready videos of a library, in one reading; videos by their ids."""
    known = store.query("SELECT id, time_base, zero, end_seconds, promised_seconds FROM videos WHERE ready ORDER BY id")
    chunks = store.query(
        "SELECT f.video_id, f.pts, f.vectors FROM features f JOIN videos v ON v.id = f.video_id WHERE ready ORDER BY f.video_id, f.chunk"
    )
    pts = np.frombuffer(b"".join(chunk[1] for chunk in chunks), "<i8")
    vectors = np.frombuffer(b"".join(chunk[2] for chunk in chunks), "<f2").reshape(len(pts), -1)
    video = np.repeat(np.array([chunk[0] for chunk in chunks], np.int64), [len(chunk[1]) // 8 for chunk in chunks])
    ids = np.array([row[0] for row in known], np.int64)
    bounds = np.searchsorted(video, np.append(ids, np.iinfo(np.int64).max))
    start, end, durations = np.empty(len(pts)), np.empty(len(pts)), np.empty(len(ids))
    for number, (_, time_base, zero, end_seconds, promised) in enumerate(known):
        part = slice(bounds[number], bounds[number + 1])
        start[part] = times = seconds_of(Clock(Fraction(time_base), Fraction(zero)), pts[part])
        last = end_seconds if end_seconds > times[-1] else times[-1] + (np.median(np.diff(times)) if len(times) > 1 else 1.0)
        end[part] = np.append(times[1:], last)
        durations[number] = max(last, promised or 0.0)
    return Seen(Rows(video, start, end, Intervals(ids, np.zeros(len(ids)), durations)), vectors.astype(np.float32))


def rows_of(footage: Footage, number: int) -> Seen:
    """The rows of one video, whose number is ``number``."""
    features = footage.features
    video = np.full(len(features.times), number, np.int64)
    whole = Intervals.of([(number, 0.0, max(footage.duration_seconds, features.end))])
    return Seen(Rows(video, features.times, np.append(features.times[1:], features.end), whole), features.vectors)


def seconds_of(clock: Clock, pts: NDArray[np.int64]) -> NDArray[np.float64]:
    """As ``Clock.seconds``, the same floats, without a fraction for each of many rows."""
    base, zero = clock.time_base, clock.zero
    denominator = base.denominator * zero.denominator
    factor, offset = base.numerator * zero.denominator, zero.numerator * base.denominator
    highest = max(abs(int(pts.min())), abs(int(pts.max()))) if len(pts) else 0
    if highest * factor + abs(offset) >= _EXACT or denominator >= _EXACT:
        return clock.seconds(pts)
    exact: NDArray[np.float64] = (pts * factor - offset) / denominator
    return exact


def curves(measure: Confidence, seen: Seen, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities (n, t) that rows show the sentences with unit vectors (n, d): one product over all rows."""
    scores = vectors @ seen.vectors.T
    return np.stack([probability(_rates(measure, vector, row)) for vector, row in zip(vectors, scores, strict=True)])


def probability(rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """That a row with this false-alarm rate shows its sentence."""
    ratio = ODDS * EVIDENCE * rate ** (EVIDENCE - 1)
    told: NDArray[np.float64] = ratio / (1 + ratio)
    return told


def _rates(measure: Confidence, vector: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.float64]:
    return measure.false_alarm_rate(vector, scores.astype(np.float64))


def measured(vectors: NDArray[np.float32], texts: NDArray[np.float32]) -> Confidence:
    """The measure of rows (t, d) by background sentences, unit vectors (n, d)."""
    from scipy.stats import genpareto

    some = vectors[np.unique(np.linspace(0, len(vectors) - 1, min(SAMPLE, len(vectors))).round().astype(np.int64))]
    mean = some.mean(axis=0, dtype=np.float64).astype(np.float32)
    scores = np.sort((texts @ some.T - discounts(texts, mean)[:, None].astype(np.float32)).ravel())
    kept = scores[np.linspace(0, len(scores) - 1, min(POINTS, len(scores))).round().astype(np.int64)].astype(np.float64)
    limit = float(np.quantile(kept, TAIL_FROM))
    over = kept[kept > limit] - limit
    shape, _, scale = genpareto.fit(over, floc=0) if len(over) > 1 else (0.0, 0.0, 1e-6)
    return Confidence(mean, kept, (float(shape), max(float(scale), 1e-6)))


def measure_of(gear: Equipment, seen: Seen, encoder: Encoder) -> Confidence:
    """The library's measure of its rows, made when first needed and after changes, and kept in the library where nobody is writing it."""
    key = json.dumps([gear.store.generation, encoder.fingerprint, background.VERSION, VERSION])
    held = gear.store.meta(META)
    if isinstance(held, bytes) and gear.store.meta(META_KEY) == key:
        return Confidence.from_bytes(held)
    made = measured_by(encoder, seen)
    if not gear.store.read_only and gear.lock.free_to_write():
        with gear.store.transaction():
            gear.store.set_meta(META, made.to_bytes())
            gear.store.set_meta(META_KEY, key)
    return made


def measured_by(encoder: Encoder, seen: Seen) -> Confidence:
    """The measure of rows by the background sentences of their encoder."""
    with one_thread():
        return measured(seen.vectors, encoder.encode_text(background.background(encoder)))
