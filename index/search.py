"""From a sentence to ranked, timed hits: encode the text, ask the vector index, group what comes back."""

from __future__ import annotations

import os
import time
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vlm.encoders.base import Encoder
from vlm.encoders.threads import one_thread
from vlm.errors import BadVectors, InputError, QueryError
from vlm.index.cache import EncodeTexts
from vlm.index.records import SearchResult
from vlm.index.store import Store, StoredSegment
from vlm.index.vectors import VectorIndex
from vlm.spans import overlap_seconds
from vlm.types import Hit

GroupBy = Literal["video", "segment"]
MAX_QUERY_WORDS = 300
# Two segments of one video that share more than half of the shorter one show the same thing twice.
SAME_STRETCH = 0.5
MULTILINGUAL_PRESET = "hf:google/siglip2-base-patch16-224"

# Short words that are frequent in one language and no English words: enough to notice a query that an English model was not trained for.
_FOREIGN_WORDS = {
    "German": "der das und ein eine einen einem auf ist nicht im über unter",
    "French": "le les une des dans avec qui est et du sur un homme femme",
    "Spanish": "el las una con que del por sobre un en hombre mujer perro",
    "Italian": "il gli una con che della nel di un uomo donna",
    "Portuguese": "uma com que da em não homem mulher",
    "Dutch": "het een en op naar niet man vrouw",
    "Polish": "na się nie jest w z człowiek kobieta",
}


def checked_query(query: str) -> str:
    """The query without outer white space.

    Raises:
        QueryError: it is empty, of punctuation alone, or longer than any encoder reads.
    """
    text = " ".join(query.split())
    if not text:
        raise QueryError("the query is empty: say what should be seen, for example 'a dog jumps over a fence'")
    if not any(unicodedata.category(character)[0] in "LN" or unicodedata.category(character) == "So" for character in text):
        raise QueryError(f"the query {query!r} is punctuation alone: say what should be seen, for example 'a dog jumps over a fence'")
    if (words := len(text.split(" "))) > MAX_QUERY_WORDS:
        raise QueryError(
            f"the query has {words:,} words, at most {MAX_QUERY_WORDS} are taken (encoders read about 50): "
            "search for one sentence at a time"
        )
    return text


def foreign_language(text: str) -> str | None:
    """What makes ``text`` look as if it were not English, in words for a warning; None where nothing does."""
    letters = [c for c in text if c.isalpha()]
    for letter in letters:
        script = unicodedata.name(letter, "").split(" ")[0]
        if script not in ("LATIN", ""):
            return f"{script.title()} script"
    words = {w.strip(".,;:!?\"'()").lower() for w in text.split()}
    counts = {language: len(words & set(known.split())) for language, known in _FOREIGN_WORDS.items()}
    best = max(counts, key=lambda language: counts[language])
    english = len(words & {"a", "the", "and", "of", "on", "with", "is", "are", "to", "at", "from"})
    return best if counts[best] > english and (counts[best] >= 2 or len(words) <= 4) else None


def query_warnings(query: str, encoder: Encoder) -> list[str]:
    """What the user should know before trusting the hits of ``query``."""
    warnings = []
    languages: Sequence[str] = getattr(encoder, "languages", ("en",))
    if "*" not in languages and (found := foreign_language(query)) is not None:
        warnings.append(
            f"the query looks like {found}, but {encoder.name!r} was trained on English: hits may be poor. "
            f"A multilingual model: --encoder {MULTILINGUAL_PRESET} (a new library)"
        )
    unknown: list[str] = getattr(encoder, "unknown_words", lambda texts: [])([query])
    if unknown:
        scope = getattr(encoder, "scope", "")
        warnings.append(
            f"{encoder.name!r} {f'knows only {scope} and ' if scope else ''}was never taught {', '.join(map(repr, unknown))}: "
            "it guesses from the letters, and hits may be poor"
        )
    unread = getattr(encoder, "unread_text", lambda text: "")(query)
    if unread:
        warnings.append(f"the query is longer than {encoder.name!r} reads; this was left out: {unread!r}")
    return warnings


class Searcher:
    """Searches one library; holds nothing that changes. ``embed`` makes vectors of texts, in the space of the library's segments."""

    def __init__(self, store: Store, index: VectorIndex, encoder: Encoder, embed: EncodeTexts) -> None:
        self._store = store
        self._index = index
        self._encoder = encoder
        self._embed = embed

    def search(self, query: str, *, top_k: int, group_by: GroupBy) -> SearchResult:
        """The ``top_k`` best stretches for ``query``: one per video, or all that do not show the same stretch twice."""
        if top_k < 1:
            raise InputError(f"top_k must be at least 1, got {top_k}")
        if group_by not in ("video", "segment"):
            raise InputError(f"group_by must be 'video' or 'segment', got {group_by!r}")
        text = checked_query(query)
        timings: dict[str, float] = {}
        begin = time.perf_counter()
        with one_thread():
            vector = self._embed([text])
        if vector.shape != (1, self._index.dim) or not np.isfinite(vector).all():
            raise BadVectors(f"{self._encoder.name!r} gave no finite vector of width {self._index.dim} for the query {text!r}")
        timings["encode"] = time.perf_counter() - begin
        hits = self._hits(vector, top_k, group_by, timings)
        return SearchResult(query, tuple(hits), timings, tuple(query_warnings(text, self._encoder)))

    def _hits(self, vector: NDArray[np.float32], top_k: int, group_by: GroupBy, timings: dict[str, float]) -> list[Hit]:
        """Asks for more and more segments until ``top_k`` groups are found or none are left."""
        wanted = max(32, 4 * top_k)
        timings["vectors"] = timings["assemble"] = 0.0
        while True:
            begin = time.perf_counter()
            scores, ids = self._index.search(vector, min(wanted, self._index.num_vectors), fetch=self._fetch)
            between = time.perf_counter()
            found = [(float(s), int(i)) for s, i in zip(scores[0], ids[0], strict=True) if i >= 0]
            segments = self._store.segments([i for _, i in found])
            chosen = _choose(((score, segments[i]) for score, i in found if i in segments), top_k, group_by)
            complete = len(chosen) == top_k or wanted >= self._index.num_vectors
            hits = self._assemble(chosen) if complete else []
            timings["vectors"] += between - begin
            timings["assemble"] += time.perf_counter() - between
            if complete:
                return hits
            wanted *= 4

    def _fetch(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._store.segment_vectors(ids, self._index.dim)

    def _assemble(self, chosen: list[tuple[float, StoredSegment]]) -> list[Hit]:
        videos = self._store.hit_rows({segment.video_id for _, segment in chosen})
        hits = []
        for rank, (score, segment) in enumerate(chosen, start=1):
            paths, duration, coverage = videos[segment.video_id]
            names = tuple(os.fsdecode(path) for path in paths)
            hits.append(
                Hit(
                    rank=rank,
                    score=score,
                    video_id=segment.video_id,
                    segment_id=segment.segment_id,
                    path=names[0] if names else "",
                    span=segment.span,
                    duration_seconds=duration,
                    coverage=coverage,
                    locations=names,
                )
            )
        return hits


def _choose(ranked: Iterable[tuple[float, StoredSegment]], top_k: int, group_by: GroupBy) -> list[tuple[float, StoredSegment]]:
    """The first ``top_k`` of ``ranked`` that are not the same video, or not the same stretch."""
    chosen: list[tuple[float, StoredSegment]] = []
    by_video: dict[int, list[StoredSegment]] = {}
    for score, segment in ranked:
        others = by_video.setdefault(segment.video_id, [])
        if others and (group_by == "video" or any(_same_stretch(segment, other) for other in others)):
            continue
        others.append(segment)
        chosen.append((score, segment))
        if len(chosen) == top_k:
            break
    return chosen


def _same_stretch(one: StoredSegment, other: StoredSegment) -> bool:
    return overlap_seconds(one.span, other.span) > SAME_STRETCH * min(one.span.seconds, other.span.seconds)
