"""Queries about time over a library, or over one video: every sentence read once, every row compared once, and then interval algebra."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm.errors import GrammarError, QueryError
from vlm.index.equipment import Equipment
from vlm.index.footage import Footage
from vlm.index.presence import Seen, curves, measure_of, measured_by, rows_of, stored_rows
from vlm.index.search import checked_query, query_warnings
from vlm.intervals import Intervals
from vlm.models.plain import Reader
from vlm.temporal.grammar import RULES, parse
from vlm.temporal.meaning import Found, Meaning, Proof
from vlm.temporal.tree import sentences
from vlm.types import Features, Span

# From this probability on a row shows a sentence; stretches of a sentence so near to each other are one. Chosen on Toybox's validation
# split, see docs/temporal.md.
MIN_PROBABILITY, JOIN_SECONDS = 0.5, 0.0
# Rows that a trained model reads for a query, each as often as the query has sentences.
MOST_READ = 6_144
# Stands for the id of a file that has none; ids begin at 1.
_NO_ID = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldInterval:
    """An interval in which a query holds, with its proof; ``video_id`` is None for a file that is not of the library."""

    rank: int
    probability: float
    video_id: int | None
    path: str
    span: Span
    duration_seconds: float
    proof: tuple[Proof, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """Where a query about time holds.

    Attributes:
        intervals: the surest, best first; of equally sure ones by video and time. num_found: how many there are in all.
        num_videos, num_rows: how much was looked at. num_read: rows that the trained model read; what the others show was told by each
            frame alone.
        timings: seconds of each part.
    """

    query: str
    sentences: tuple[str, ...]
    min_probability: float
    join_seconds: float
    intervals: tuple[HeldInterval, ...]
    num_found: int
    num_videos: int
    num_rows: int
    num_read: int
    warnings: tuple[str, ...]
    timings: dict[str, float]


def when(
    gear: Equipment,
    query: str,
    footage: Footage | None = None,
    *,
    top_k: int,
    min_probability: float,
    join_seconds: float,
    most_read: int = MOST_READ,
) -> When:
    """Where a query holds: in ``footage``, or in all videos of a library that holds some. A trained model reads ``most_read`` rows.

    Raises:
        GrammarError: the query is none. QueryError: one of its sentences cannot be read, or ``top_k`` or ``most_read`` is below 1.
        InputError: as ``Meaning``. EncoderError: the encoder is not here, or is another one than the library's.
    """
    if top_k < 1:
        raise QueryError(f"top_k must be at least 1, got {top_k}")
    if most_read < 1:
        raise QueryError(f"most_read must be at least 1 row, got {most_read}")
    begin = time.perf_counter()
    tree = parse(query)
    texts = sentences(tree)
    readable = [_readable(query, text) for text in texts]
    encoder = gear.load_encoder() if gear.read_passport() is None else gear.checked_texts()
    loaded = time.perf_counter()
    stored = stored_rows(gear.store) if gear.store.has_segments() else None
    seen = stored if footage is None else rows_of(footage, footage.video_id or _NO_ID)
    assert seen is not None
    measure = measured_by(encoder, seen) if stored is None else measure_of(gear, stored, encoder)
    read = time.perf_counter()
    told = curves(measure, seen, encoder.encode_text(readable))
    compared = time.perf_counter()
    num_read = read_through(gear.reader(encoder), readable, seen, told, most=most_read)
    held = dict(zip(texts, told, strict=True))
    understood = time.perf_counter()
    meaning = Meaning(seen.rows, held, least=min_probability, join_seconds=join_seconds)
    intervals = _placed(gear, meaning.found(tree, most=top_k), seen.rows.whole, footage)
    ended = time.perf_counter()
    notes = [note for text in texts for note in query_warnings(text, encoder)]
    if 0 < num_read < len(seen.rows.video):
        of_all = f"{num_read:,} of {len(seen.rows.video):,} rows"
        more = f"--most-read {len(seen.rows.video) * len(texts)} reads all"
        notes.append(f"the trained model read {of_all}, those of the likeliest videos; frames alone tell of the rest ({more})")
    return When(
        query=query,
        sentences=tuple(texts),
        min_probability=min_probability,
        join_seconds=join_seconds,
        intervals=intervals,
        num_found=len(meaning.intervals(tree)),
        num_videos=len(seen.rows.whole),
        num_rows=len(seen.rows.video),
        num_read=num_read,
        warnings=tuple(dict.fromkeys([*notes, *(() if footage is None else footage.notes)])),
        timings={
            "load model": loaded - begin,
            "read rows": read - loaded,
            "compare": compared - read,
            "understand": understood - compared,
            "combine": ended - understood,
        },
    )


def read_through(reader: Reader, texts: Sequence[str], seen: Seen, told: NDArray[np.float64], *, most: int = MOST_READ) -> int:
    """Puts what a trained reader says of rows in the place of what frames alone have told (n, t) of the sentences, and returns of how many
    rows: of all, or of the videos in which the sentences are likeliest, at most ``most``. 0 where nothing was trained."""
    first = np.flatnonzero(np.diff(seen.rows.video, prepend=np.iinfo(np.int64).min))
    bounds = list(zip(first.tolist(), [*first[1:].tolist(), len(seen.rows.video)], strict=True))
    likely = np.maximum.reduceat(told, first, axis=1).mean(axis=0)
    chosen: list[tuple[int, int]] = []
    room = max(1, most // max(1, len(texts)))
    for place in np.argsort(-likely, kind="stable").tolist():
        start, stop = bounds[place]
        if chosen and stop - start > room:
            break
        chosen.append((start, stop))
        room -= stop - start
    chosen.sort(key=lambda bound: bound[1] - bound[0])  # like lengths stand side by side, and few rows are pads
    rows = seen.rows
    shown = [Features(seen.vectors[a:b], rows.start[a:b], float(rows.end[b - 1])) for a, b in chosen]
    found = reader.holds(texts, shown)
    if found is None:
        return 0
    for curve, parts in zip(told, found, strict=True):
        for (start, stop), part in zip(chosen, parts, strict=True):
            curve[start:stop] = part
    return sum(stop - start for start, stop in chosen)


def _readable(query: str, sentence: str) -> str:
    """The sentence without outer white space. Raises GrammarError where no encoder can read it."""
    try:
        return checked_query(sentence)
    except QueryError as error:
        raise GrammarError(str(error), query, max(0, query.find(sentence) - 1), RULES["SENTENCE"]) from error


def _placed(gear: Equipment, found: Sequence[Found], whole: Intervals, footage: Footage | None) -> tuple[HeldInterval, ...]:
    """What was found, with names and ranks."""
    durations = dict(zip(whole.video.tolist(), whole.end.tolist(), strict=True))
    if footage is not None:
        names = {footage.video_id or _NO_ID: footage.path}
    else:
        paths = gear.store.hit_rows({one.video for one in found})
        names = {video: _name([os.fsdecode(path) for path in held[0]]) for video, held in paths.items()}
    return tuple(
        HeldInterval(
            rank=rank,
            probability=one.probability,
            video_id=None if one.video == _NO_ID else one.video,
            path=names[one.video],
            span=one.span,
            duration_seconds=durations[one.video],
            proof=one.proof,
        )
        for rank, one in enumerate(found, start=1)
    )


def _name(paths: Sequence[str]) -> str:
    """The first file that is still there; else the first that was."""
    return next((path for path in paths if os.path.isfile(path)), paths[0] if paths else "")
