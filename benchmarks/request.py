"""One whole search request over a library of a million segments, stage by stage.

    python -m benchmarks.request [--work FOLDER] [--vectors 1000000] [--encoder SPEC]

The library is a real one on disk: 20,000 videos of 50 segments, with the vectors of benchmarks/search.py, written once and kept. The text
tower is a ViT-B-32's with random weights, run for real in every request; its vector is then replaced by that of a query whose answer is
known, so that the recall of the whole path is measured too.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.random_vit import random_vit
from benchmarks.search import DIM, SEGMENTS_PER_VIDEO, TOP_K, Corpus, make_corpus, query_sets
from vlm import Library
from vlm.encoders.base import Encoder
from vlm.encoders.registry import load_encoder
from vlm.index import passport
from vlm.index.cache import PROBE_TEXTS
from vlm.index.store import FileStamp, Store
from vlm.types import Clock, Segment, Span, VideoInfo

SEGMENT_SECONDS = 5.0
NUM_REQUESTS = 200


class KnownQueries:
    """A real text tower whose vectors are replaced by those of known queries: ``text 17`` is the seventeenth of the set ``text``."""

    def __init__(self, base: Encoder, corpus: Corpus) -> None:
        self._base = base
        self._queries = query_sets(corpus)
        self._probes = corpus.probes

    def __getattr__(self, name: str) -> object:
        return getattr(self._base, name)

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = self._base.encode_text(texts)
        if tuple(texts) == PROBE_TEXTS:
            return self._probes[: len(texts)]
        for row, text in enumerate(texts):
            name, _, number = text.partition(" number ")
            if name in self._queries:
                vectors[row] = self._queries[name][int(number)]
        return vectors


def write_library(folder: Path, corpus: Corpus, encoder: Encoder) -> None:
    """Writes the store as ``add`` would, without decoding anything."""
    store = Store.create(folder)
    with store.transaction():
        store.set_meta("passport", passport.issue(encoder, "every:1").to_json())
    clock = Clock(Fraction(1, 1000))
    spans = [Span(i * SEGMENT_SECONDS, (i + 1) * SEGMENT_SECONDS) for i in range(SEGMENTS_PER_VIDEO)]
    cut = [Segment(0, i, i + 1, span) for i, span in enumerate(spans)]
    for first in range(0, len(corpus.vectors) // SEGMENTS_PER_VIDEO, 500):
        with store.transaction():
            for number in range(first, min(first + 500, len(corpus.vectors) // SEGMENTS_PER_VIDEO)):
                info = VideoInfo(
                    container="mp4",
                    codec="h264",
                    width=1280,
                    height=720,
                    rotation_degrees=0,
                    frame_rate=Fraction(25),
                    clock=clock,
                    promised_seconds=spans[-1].end,
                    digest=f"{number:064x}",
                    num_bytes=1,
                )
                vectors = corpus.vectors[number * SEGMENTS_PER_VIDEO : (number + 1) * SEGMENTS_PER_VIDEO]
                video_id = store.begin_video(info)
                store.append_rows(video_id, np.arange(SEGMENTS_PER_VIDEO) * 5000, vectors)
                store.finish_video(
                    video_id,
                    end_seconds=spans[-1].end,
                    num_rows=SEGMENTS_PER_VIDEO,
                    coverage=1.0,
                    reason="",
                    segments=cut,
                    vectors=vectors,
                )
                store.set_location(b"/videos/%08d.mp4" % number, video_id, FileStamp(1, 1))
    store.close()


def exact_best(corpus: Corpus, queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """The score of the tenth best of all stored vectors, by comparing with every one."""
    best = np.full((len(queries), TOP_K), -np.inf, np.float32)
    for first in range(0, len(corpus.vectors), 100_000):
        scores = queries @ corpus.vectors[first : first + 100_000].astype(np.float32).T
        best = np.sort(np.concatenate([best, np.partition(scores, -TOP_K, axis=1)[:, -TOP_K:]], axis=1), axis=1)[:, -TOP_K:]
    return best[:, 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/vlm-benchmarks")
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--encoder")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    corpus = make_corpus(options.vectors)
    base = load_encoder(options.encoder or random_vit(options.work), device="cpu")
    assert base.dim == DIM, f"the vectors are {DIM} wide"
    encoder = KnownQueries(base, corpus)
    folder = options.work / f"request-{options.vectors}"
    print(f"machine: {platform.processor() or platform.machine()}, {os.cpu_count()} cores; {options.vectors:,} segments of width {DIM}")
    if not folder.exists():
        folder.mkdir()
        begin = time.perf_counter()
        write_library(folder, corpus, encoder)
        print(f"store written in {time.perf_counter() - begin:.0f} s, {sum(f.stat().st_size for f in folder.iterdir()) / 1e9:.2f} GB")
    with Library.open(folder, encoder=encoder) as library:
        begin = time.perf_counter()
        first = library.search("text number 0", group_by="segment")
        how = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in first.timings.items())
        print(f"first request of the process: {time.perf_counter() - begin:.2f} s ({how})")
        print(f"index: {library.stats().index}")
        for name, queries in query_sets(corpus).items():
            tenth = exact_best(corpus, queries[:NUM_REQUESTS])
            stages: dict[str, list[float]] = {}
            right = 0
            for number in range(NUM_REQUESTS):
                begin = time.perf_counter()
                result = library.search(f"{name} number {number}", top_k=TOP_K, group_by="segment")
                stages.setdefault("whole request", []).append(time.perf_counter() - begin)
                for stage, seconds in result.timings.items():
                    stages.setdefault(stage, []).append(seconds)
                right += sum(hit.score >= tenth[number] - 1e-5 for hit in result)
            print(f"{name}-like queries: recall@{TOP_K} {right / NUM_REQUESTS / TOP_K:.3f}")
            for stage, seconds in stages.items():
                p50, p95 = np.percentile(np.array(seconds) * 1e3, [50, 95])
                print(f"  {stage:14} p50 {p50:7.2f} ms   p95 {p95:7.2f} ms")


if __name__ == "__main__":
    main()
