"""Where a curve of similarities is high: stretches found without any training.

The idea is that of training-free grounding with shot boundaries and a watershed on CLIP's curve (peers in docs/results.md): flood the
curve level by level, take what stays dry, and prefer what stands out most from its surroundings. A stretch is judged by how unlikely its
mean would be if the curve were noise, as in scan statistics (Kulldorff 1997) and circular binary segmentation (Olshen et al. 2004).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError
from vlm.spans import temporal_iou
from vlm.types import Moment, Span

# Levels of the flood, as shares of the way from the lowest to the highest value.
LEVELS = tuple(np.linspace(0.05, 0.95, 19).tolist())
# An end of a stretch moves to a boundary of the picture that is as near as this.
SNAP_SECONDS = 1.0
# Widths of the smoothing that is tried, in rows: events are rarely shorter than a few.
SMOOTHINGS = (1, 3, 5)


def stretches(
    curve: NDArray[np.float64],
    edges: NDArray[np.float64],
    *,
    boundaries: Sequence[float] = (),
    most: int = 10,
    overlap: float = 0.7,
) -> list[Moment]:
    """Up to ``most`` stretches where ``curve`` stands out, best first; of two that overlap by more than ``overlap`` the better stays.

    Args:
        curve: (t,) similarities of rows to a text.
        edges: (t + 1,) seconds at which rows begin, and the end of the last.
        boundaries: seconds at which the picture changes; ends of stretches snap to them.

    The score is the contrast of the stretch with the rest in standard errors, at least 0. A flat curve gives the whole video with score 0.

    Raises:
        InputError: no rows, a curve that is not finite, or edges that do not rise.
    """
    if len(curve) == 0 or edges.shape != (len(curve) + 1,) or not np.isfinite(curve).all() or np.any(np.diff(edges) <= 0):
        raise InputError(f"a curve (t,) of finite numbers and rising edges (t + 1,) are needed, got {curve.shape} and {edges.shape}")
    found: dict[tuple[int, int], float] = {(0, len(curve)): 0.0}
    for width in SMOOTHINGS:
        smooth = _smoothed(curve, width)
        low, high = float(smooth.min()), float(smooth.max())
        if high - low < 1e-9:
            continue
        for level in LEVELS:
            for run in _runs(smooth > low + level * (high - low)):
                if run not in found:
                    found[run] = _contrast(curve, *run)
    moments = [Moment(_snapped(edges[first], edges[last], edges, boundaries), max(0.0, score)) for (first, last), score in found.items()]
    return suppressed(moments, most=most, overlap=overlap)


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


def _smoothed(curve: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """The running mean over ``width`` rows, of fewer at the ends."""
    if width == 1 or len(curve) < width:
        return curve
    kernel = np.ones(width)
    smooth: NDArray[np.float64] = np.convolve(curve, kernel, "same") / np.convolve(np.ones(len(curve)), kernel, "same")
    return smooth


def _runs(is_dry: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Half-open ranges of rows in a row that are True."""
    steps = np.diff(np.concatenate([[False], is_dry, [False]]).astype(np.int8))
    return list(zip(np.flatnonzero(steps == 1).tolist(), np.flatnonzero(steps == -1).tolist(), strict=True))


def _contrast(curve: NDArray[np.float64], first: int, last: int) -> float:
    """How many standard errors the mean of rows [first, last) lies above that of all others; 0 where there are no others."""
    inside, total = last - first, len(curve)
    if inside == total:
        return 0.0
    within = curve[first:last]
    rest_mean = (curve.sum() - within.sum()) / (total - inside)
    squares = ((within - within.mean()) ** 2).sum() + ((np.concatenate([curve[:first], curve[last:]]) - rest_mean) ** 2).sum()
    deviation = np.sqrt(squares / max(1, total - 2)) + 1e-6
    return float((within.mean() - rest_mean) / (deviation * np.sqrt(1 / inside + 1 / (total - inside))))


def _snapped(start: float, end: float, edges: NDArray[np.float64], boundaries: Sequence[float]) -> Span:
    """The stretch with its ends at boundaries that are near, unless nothing would be left."""
    marks = np.asarray(boundaries, dtype=np.float64)
    ends = []
    for value in (start, end):
        near = marks[np.abs(marks - value) <= SNAP_SECONDS]
        ends.append(float(near[np.abs(near - value).argmin()]) if len(near) else float(value))
    first, last = max(ends[0], float(edges[0])), min(ends[1], float(edges[-1]))
    return Span(first, last) if last > first else Span(float(start), float(end))
