"""Where a curve of similarities is high: stretches found without any training.

A stretch is one that the pictures themselves make: of all unions on the way from single rows to the whole video (vlm.ward), the one
that stands out most. Shots would be one level of those, and the runs above a threshold of the curve, as in watershed grounding, are none
of them: both find less in joined real clips (benchmarks/joins.py). How far a stretch stands out is told as in scan statistics (Kulldorff
1997), with a milder reward for length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError
from vlm.spans import temporal_iou
from vlm.types import Moment, Span

# A stretch of twice the seconds stands out by that power of two more. At one half, as of a mean of independent rows, neighbours that are
# somewhat alike are taken in; below a third a part is taken for the whole (benchmarks/joins.py).
LENGTH_POWER = 0.35
# What is usual in a video: this quantile of its curve, or halfway between its extremes where that is lower, so that what fills most of it
# stands out too.
USUAL, EXTREMES = 0.4, (0.02, 0.98)
# Deviations below this are noise of the pictures and of rounding: cosines of frames that show the same differ by so much.
LEAST_DEVIATION = 0.005
LEAST_SCORE = 1e-6


def stretches(
    curve: NDArray[np.float64], edges: NDArray[np.float64], ranges: NDArray[np.int64], *, most: int = 10, overlap: float = 0.7
) -> list[Moment]:
    """Up to ``most`` of the stretches, best first; of two that overlap by more than ``overlap`` the better stays.

    Args:
        curve: (t,) similarities of rows to a text.
        edges: (t + 1,) seconds at which rows begin, and the end of the last.
        ranges: (n, 2) half-open ranges of rows that may be found.

    The score says how far the mean of a stretch lies above what is usual in the video, in standard deviations of the curve times its
    seconds to the power LENGTH_POWER; at least 0, which it is for the whole video and wherever the curve is flat.

    Raises:
        InputError: no rows, a curve that is not finite, edges that do not rise, or a range that is none of the rows.
    """
    if len(curve) == 0 or edges.shape != (len(curve) + 1,) or not np.isfinite(curve).all() or np.any(np.diff(edges) <= 0):
        raise InputError(f"a curve (t,) of finite numbers and rising edges (t + 1,) are needed, got {curve.shape} and {edges.shape}")
    first, last = ranges.T
    if not len(ranges) or first.min() < 0 or last.max() > len(curve) or np.any(first >= last):
        raise InputError(f"ranges must be at least one, half-open, of the {len(curve)} rows")
    sums = np.concatenate([[0.0], np.cumsum(curve)])
    above = (sums[last] - sums[first]) / (last - first) - min(float(np.quantile(curve, USUAL)), float(np.quantile(curve, EXTREMES).mean()))
    seconds = edges[last] - edges[first]
    scores = above / max(float(curve.std()), LEAST_DEVIATION) * seconds**LENGTH_POWER
    scores[(last - first == len(curve)) | (scores < LEAST_SCORE)] = 0.0
    return _apart(edges[first], edges[last], scores, most=most, overlap=overlap)


def suppressed(moments: Sequence[Moment], *, most: int, overlap: float) -> list[Moment]:
    """The best ``most``, without those that overlap a better one by more than ``overlap`` (true IoU); of equals the earlier, then the
    shorter, is first."""
    kept: list[Moment] = []
    for moment in sorted(moments, key=lambda m: (-m.score, m.span.start, m.span.end)):
        if len(kept) == most:
            break
        if all(temporal_iou(moment.span, other.span) <= overlap for other in kept):
            kept.append(moment)
    return kept


def _apart(
    starts: NDArray[np.float64], ends: NDArray[np.float64], scores: NDArray[np.float64], *, most: int, overlap: float
) -> list[Moment]:
    """As ``suppressed``, of many stretches."""
    order = np.lexsort((ends, starts, -scores))
    starts, ends, scores = starts[order], ends[order], scores[order]
    is_left = np.ones(len(order), np.bool_)
    kept: list[Moment] = []
    while len(kept) < most and is_left.any():
        best = int(is_left.argmax())
        kept.append(Moment(Span(float(starts[best]), float(ends[best])), float(scores[best])))
        shared = np.maximum(0.0, np.minimum(ends, ends[best]) - np.maximum(starts, starts[best]))
        is_left &= shared <= overlap * (ends - starts + ends[best] - starts[best] - shared)
        is_left[best] = False
    return kept
