"""From a query's vector to ranked, timed hits: ask the vector index, group what comes back."""

from __future__ import annotations

import os
import time
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vlm.encoders.base import Encoder
from vlm.errors import InputError, QueryError
from vlm.index.store import Store, StoredSegment
from vlm.index.vectors import VectorIndex
from vlm.spans import overlap_seconds
from vlm.types import Hit

GroupBy = Literal["video", "segment"]
MAX_QUERY_WORDS = 300
# Two segments of one video that share more than half of the shorter one show the same thing twice.
SAME_STRETCH = 0.5
# Up to so many segments of some videos are compared one by one: 80 MB at a width of 512, a tenth of a second.
COMPARED_AT_ONCE = 40_000
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
    """Searches one library; holds nothing that changes."""

    def __init__(self, store: Store, index: VectorIndex) -> None:
        self._store = store
        self._index = index

    def search(
        self,
        vector: NDArray[np.float32],
        *,
        top_k: int,
        skip: int = 0,
        group_by: GroupBy = "video",
        only: Collection[int] | None = None,
    ) -> tuple[list[Hit], dict[str, float]]:
        """The best stretches for a unit vector (1, d) from rank ``skip + 1`` on, and the seconds that each stage took.

        One per video, or all that do not show the same stretch twice; of the videos ``only``, where they are given.
        """
        if top_k < 1:
            raise InputError(f"top_k must be at least 1, got {top_k}")
        if skip < 0:
            raise InputError(f"skip must be at least 0, got {skip}")
        if group_by not in ("video", "segment"):
            raise InputError(f"group_by must be 'video' or 'segment', got {group_by!r}")
        timings = {"vectors": 0.0, "assemble": 0.0}
        wanted = max(32, 4 * (skip + top_k))
        rank = self._ranked if only is None else self._ranked_of(only)
        while True:
            begin = time.perf_counter()
            found, is_all = rank(vector, wanted)
            between = time.perf_counter()
            segments = self._store.segments([i for _, i in found])
            kept = ((score, segments[i]) for score, i in found if i in segments and (only is None or segments[i].video_id in only))
            chosen = _choose(kept, skip + top_k, group_by)
            is_complete = len(chosen) == skip + top_k or is_all
            hits = self._assemble(chosen[skip:], first_rank=skip + 1) if is_complete else []
            timings["vectors"] += between - begin
            timings["assemble"] += time.perf_counter() - between
            if is_complete:
                return hits, timings
            wanted *= 4

    def nearest(self, vector: NDArray[np.float32], *, most: int) -> list[tuple[float, StoredSegment]]:
        """The ``most`` segments nearest to a unit vector (1, d), best first, with their scores: nothing is grouped and nothing left out."""
        found, _ = self._ranked(vector, most)
        segments = self._store.segments([i for _, i in found])
        return [(score, segments[i]) for score, i in found if i in segments]

    def _ranked(self, vector: NDArray[np.float32], wanted: int) -> tuple[list[tuple[float, int]], bool]:
        """The best ``wanted`` segments, and whether there are no more."""
        scores, ids = self._index.search(vector, min(wanted, self._index.num_vectors), fetch=self._fetch)
        found = [(float(s), int(i)) for s, i in zip(scores[0], ids[0], strict=True) if i >= 0]
        return found, wanted >= self._index.num_vectors

    def _ranked_of(self, videos: Collection[int]) -> Callable[[NDArray[np.float32], int], tuple[list[tuple[float, int]], bool]]:
        """As ``_ranked``, of some videos. Where they have few segments all are compared: an index would be asked for most of what it holds
        before it came to them."""
        ids = self._store.segment_ids_of(videos, most=COMPARED_AT_ONCE)
        if ids is None:
            return self._ranked
        vectors = self._fetch(ids)

        def compared(vector: NDArray[np.float32], wanted: int) -> tuple[list[tuple[float, int]], bool]:
            scores = vectors @ vector[0]
            best = np.argsort(-scores, kind="stable")[:wanted]
            return [(float(scores[row]), int(ids[row])) for row in best], wanted >= len(ids)

        return compared

    def _fetch(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._store.segment_vectors(ids, self._index.dim)

    def _assemble(self, chosen: list[tuple[float, StoredSegment]], *, first_rank: int) -> list[Hit]:
        videos = self._store.hit_rows({segment.video_id for _, segment in chosen})
        hits = []
        for rank, (score, segment) in enumerate(chosen, start=first_rank):
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
        if others and (group_by == "video" or any(same_stretch(segment, other) for other in others)):
            continue
        others.append(segment)
        chosen.append((score, segment))
        if len(chosen) == top_k:
            break
    return chosen


def same_stretch(one: StoredSegment, other: StoredSegment) -> bool:
    """Whether two segments of one video show the same thing twice."""
    return overlap_seconds(one.span, other.span) > SAME_STRETCH * min(one.span.seconds, other.span.seconds)
