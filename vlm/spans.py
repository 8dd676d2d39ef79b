"""Interval arithmetic on half-open spans of seconds: the one place for it."""

from __future__ import annotations

from vlm.types import Span


def overlap_seconds(one: Span, other: Span) -> float:
    """Length of what two spans share; 0 where they only touch."""
    return max(0.0, min(one.end, other.end) - max(one.start, other.start))


def temporal_iou(one: Span, other: Span) -> float:
    """What two spans share over what they cover together, in [0, 1]."""
    both = overlap_seconds(one, other)
    return both / (one.seconds + other.seconds - both)
