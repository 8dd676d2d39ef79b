"""Queries about time over a library, or over one video: every sentence read once, every row compared once, and then interval algebra."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from vlm.errors import GrammarError, QueryError
from vlm.index.equipment import Equipment
from vlm.index.footage import Footage
from vlm.index.presence import curves, measure_of, measured_by, rows_of, stored_rows
from vlm.index.search import checked_query, query_warnings
from vlm.intervals import Intervals
from vlm.temporal.grammar import RULES, parse
from vlm.temporal.meaning import Found, Meaning, Proof
from vlm.temporal.tree import sentences
from vlm.types import Span

# From this probability on a row shows a sentence; stretches of a sentence so near to each other are one. Chosen on Toybox's validation
# split, see docs/temporal.md.
MIN_PROBABILITY, JOIN_SECONDS = 0.5, 0.0
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
        num_videos, num_rows: how much was looked at.
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
    warnings: tuple[str, ...]
    timings: dict[str, float]


def when(gear: Equipment, query: str, footage: Footage | None = None, *, top_k: int, min_probability: float, join_seconds: float) -> When:
    """Where a query holds: in ``footage``, or in all videos of a library that holds some.

    Raises:
        GrammarError: the query is none. QueryError: one of its sentences cannot be read, or ``top_k`` is below 1.
        InputError: as ``Meaning``. EncoderError: the encoder is not here, or is another one than the library's.
    """
    if top_k < 1:
        raise QueryError(f"top_k must be at least 1, got {top_k}")
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
    held = dict(zip(texts, curves(measure, seen, encoder.encode_text(readable)), strict=True))
    compared = time.perf_counter()
    meaning = Meaning(seen.rows, held, least=min_probability, join_seconds=join_seconds)
    intervals = _placed(gear, meaning.found(tree, most=top_k), seen.rows.whole, footage)
    ended = time.perf_counter()
    notes = [note for text in texts for note in query_warnings(text, encoder)]
    return When(
        query=query,
        sentences=tuple(texts),
        min_probability=min_probability,
        join_seconds=join_seconds,
        intervals=intervals,
        num_found=len(meaning.intervals(tree)),
        num_videos=len(seen.rows.whole),
        num_rows=len(seen.rows.video),
        warnings=tuple(dict.fromkeys([*notes, *(() if footage is None else footage.notes)])),
        timings={"load model": loaded - begin, "read rows": read - loaded, "compare": compared - read, "combine": ended - compared},
    )


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
