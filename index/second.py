"""The second look: a text against the stored rows of the best videos, in one batch. It orders them anew and finds the moment in each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError, UnknownVideo
from vlm.index.footage import Footage
from vlm.index.records import Looked
from vlm.models.plain import Reader
from vlm.types import Curve, Grounded, Hit, Span

# So many of the best videos are looked at again, whatever page is asked for: else pages would overlap.
DEPTH = 32
# Rows that are read in all; of a longer video than its share those around the hit.
MOST_ROWS, ROWS_A_VIDEO = 1500, 150
# A moment of a reader without presence takes the place of the first stage's from this score on: below, nothing in the video stands out.
# Of a shorter video the first stage's stretch is as exact as anybody needs, and a few rows always have one that stands out.
STANDS_OUT, SHORTEST_SECONDS = 1.0, 10.0
# With a limit of time the videos come in groups, so that a started one can be told in time.
FIRST_GROUP = 4


def look_again(
    reader: Reader, text: str, hits: Sequence[Hit], open_video: Callable[[int], Footage], *, latency_ms: float | None = None
) -> tuple[list[Hit], Looked]:
    """The hits, one a video and best first, with the span of the best moment of each and its curve. Where the reader tells ``presence``
    they are ordered by it; behind them come those that were not read, as they were.

    ``latency_ms`` bounds what this takes; a group of videos is begun where the time of those before says that it can be ended.

    Raises:
        InputError: a limit that is not positive.
    """
    if latency_ms is not None and not latency_ms > 0:
        raise InputError(f"latency_ms must be above 0, got {latency_ms:g}")
    begin = time.perf_counter()
    shares, rest, reason = _shares(hits, open_video)
    looked: list[Hit] = []
    for first, last in _groups(len(shares), at_once=latency_ms is None):
        spent = time.perf_counter() - begin
        if latency_ms is not None and spent + _expected(spent, first, last) > latency_ms / 1000:
            reason = f"{latency_ms:g} ms were over"
            break
        found = reader.ground_each(text, [part.features for _, part in shares[first:last]])
        looked += [_read(hit, part, one) for (hit, part), one in zip(shares[first:last], found, strict=True)]
    rest = [hit for hit, _ in shares[len(looked) :]] + rest
    if reader.tells_presence:
        looked.sort(key=lambda hit: -(hit.presence or 0.0))  # stable: of equals the one that was nearer
    ordered = [replace(hit, rank=hits[0].rank + place) for place, hit in enumerate([*looked, *rest])]
    return ordered, Looked(len(looked), len(rest), reason)


def around(footage: Footage, span: Span, most: int) -> Footage:
    """The footage, or its ``most`` rows about the middle of ``span``; all of the span where that has more."""
    times = footage.features.times + footage.offset_seconds
    if len(times) <= most:
        return footage
    first, last = (int(place) for place in np.searchsorted(times, [span.start, span.end]))
    more = max(0, most - (last - first))
    first = min(max(0, first - more // 2), max(0, len(times) - most))
    last = min(len(times), max(last, first + most))
    return replace(footage, features=footage.features.part(first, last), offset_seconds=float(times[first]))


def _shares(hits: Sequence[Hit], open_video: Callable[[int], Footage]) -> tuple[list[tuple[Hit, Footage]], list[Hit], str]:
    """The first hits whose rows fit together, each with the stretch that is read; the rest; and why there is one.

    A hit whose video has just been removed is in neither.
    """
    found: list[tuple[Hit, Footage]] = []
    rows = 0
    for place, hit in enumerate(hits):
        if len(found) == DEPTH:
            return found, list(hits[place:]), f"{DEPTH} videos are looked at"
        try:
            part = around(open_video(hit.video_id), hit.span, ROWS_A_VIDEO)
        except UnknownVideo:
            continue
        rows += len(part.features.times)
        if found and rows > MOST_ROWS:
            return found, list(hits[place:]), f"{MOST_ROWS:,} rows were reached"
        found.append((hit, part))
    return found, [], ""


def _groups(number: int, *, at_once: bool) -> list[tuple[int, int]]:
    """Ranges of videos: one, or each twice as long as the one before."""
    if at_once:
        return [(0, number)] if number else []
    found, first, size = [], 0, FIRST_GROUP
    while first < number:
        found.append((first, min(number, first + size)))
        first, size = first + size, size * 2
    return found


def _expected(spent: float, first: int, last: int) -> float:
    """Seconds that videos [first, last) will take, as the ``first`` before them did."""
    return spent / first * (last - first) if first else 0.0


def _read(hit: Hit, part: Footage, found: Grounded) -> Hit:
    """The hit with what was found in its video; the span stays where nothing stands out."""
    moments = part.on_its_clock(found).moments
    stands_out = bool(moments) and moments[0].score >= STANDS_OUT and part.features.end >= SHORTEST_SECONDS
    is_clear = bool(moments) and (found.presence is not None or stands_out)
    span = moments[0].span if is_clear else hit.span
    return replace(hit, span=span, presence=found.presence, curve=_curve(part, found))


def _curve(part: Footage, found: Grounded) -> Curve:
    times: NDArray[np.float64] = part.features.times + part.offset_seconds
    return Curve(tuple(times.tolist()), tuple(float(value) for value in found.curve), part.offset_seconds + part.features.end)
