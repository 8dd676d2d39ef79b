"""One search, from what is asked to hits: vectors of the query, the vector index, confidence, and the second look."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import cast

from vlm.encoders.base import Encoder
from vlm.encoders.once import ReadOnce
from vlm.errors import NotAVideo
from vlm.index.cache import EncodeTexts
from vlm.index.confidence import is_one_text, with_confidence
from vlm.index.equipment import Equipment
from vlm.index.filters import Filters
from vlm.index.footage import Footage, picture
from vlm.index.query import Term, query_vector, terms_of, told
from vlm.index.records import Looked, SearchResult
from vlm.index.scan import PathLike
from vlm.index.search import GroupBy, Searcher, query_warnings
from vlm.index.second import DEPTH, look_again
from vlm.index.vectors import VectorIndex
from vlm.models.plain import Reader

OpenFootage = Callable[[PathLike | int], Footage]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of a library; see Library.search. ``videos`` are those that may be found; None for all."""

    query: str
    like: Sequence[PathLike | int | Footage] = ()
    plus: Sequence[str | tuple[str, float]] = ()
    minus: Sequence[str | tuple[str, float]] = ()
    only: Filters | None = None
    videos: Collection[int] | None = None
    top_k: int = 10
    skip: int = 0
    group_by: GroupBy = "video"
    min_confidence: float | None = None
    second_look: bool = True
    latency_ms: float | None = None


@dataclass(slots=True)
class _Stopwatch:
    """Seconds by the name of what took them."""

    seconds: dict[str, float] = field(default_factory=dict)
    last: float = field(default_factory=time.perf_counter)

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name], self.last = now - self.last, now


def find(gear: Equipment, request: Request, open_footage: OpenFootage) -> SearchResult:
    """The hits of a request in a library that holds segments; raises as Library.search."""
    watch = _Stopwatch()

    def look(named: PathLike | int | Footage) -> Footage:
        return _look(named, open_footage, gear)

    terms = terms_of(request.query, request.plus, request.minus, request.like, look)
    encoder = ReadOnce(gear.load_encoder())
    watch.lap("load model")
    gear.checked_texts()
    watch.lap("check model")
    embed, index = index_and_texts(gear, encoder)
    watch.lap("open index")
    shows = any(not isinstance(term.what, str) for term in terms)
    vector = query_vector(terms, embed, gear.reader(encoder) if shows else None, dim=index.dim)
    watch.lap("encode")
    reader = gear.reader(encoder) if request.second_look and request.group_by == "video" and is_one_text(terms) else None
    skip, top_k = _depth(request, reader)
    passing = request.only.passing(gear.store) if request.only else request.videos
    searcher = Searcher(gear.store, index)
    hits, parts = searcher.search(vector, top_k=top_k, skip=skip, group_by=request.group_by, only=passing)
    watch.seconds |= parts
    watch.last = time.perf_counter()
    measure = gear.confidence(encoder, index) if is_one_text(terms) else None
    hits = with_confidence(hits, measure, vector[0], least=request.min_confidence)
    watch.lap("confidence")
    looked: Looked | None = None
    if reader is not None and hits:
        hits, looked = look_again(reader, terms[0].name, hits, open_footage, latency_ms=request.latency_ms)
        watch.lap("second look")
    page = tuple(hit for hit in hits if request.skip < hit.rank <= request.skip + request.top_k)
    return SearchResult(told(terms), page, watch.seconds, _warnings(terms, encoder), looked)


def _depth(request: Request, reader: Reader | None) -> tuple[int, int]:
    """How many hits to leave out and how many to find. Where the second look orders, it sees the same videos whatever the page."""
    if reader is not None and reader.tells_presence and request.top_k >= 1 and request.skip >= 0:
        return 0, max(request.skip + request.top_k, DEPTH)
    return request.skip, request.top_k


def index_and_texts(gear: Equipment, encoder: Encoder) -> tuple[EncodeTexts, VectorIndex]:
    """The vector index, and what makes vectors of texts by the same model; another process may just be changing it."""
    held = gear.slot.held()
    while True:
        embed = gear.text_vectors(encoder)
        index = gear.index_cache().current(probe_texts=embed)
        if (now := gear.slot.held()) == held:
            return embed, index
        held = now


def _look(named: PathLike | int | Footage, open_footage: OpenFootage, gear: Equipment) -> Footage:
    """The footage that hits should look like; a picture file is footage of one frame."""
    if isinstance(named, Footage):
        return named
    try:
        return open_footage(named)
    except NotAVideo:
        return picture(os.fsdecode(cast(PathLike, named)), gear.load_encoder())


def _warnings(terms: Sequence[Term], encoder: Encoder) -> tuple[str, ...]:
    """What the user should know before trusting the hits, each once."""
    texts = [warning for term in terms if isinstance(term.what, str) for warning in query_warnings(term.what, encoder)]
    looks = [note for term in terms if not isinstance(term.what, str) for note in term.what.notes]
    return tuple(dict.fromkeys([*texts, *looks]))
