"""Search over a million segment vectors, and the cutting of a ten-hour video into segments.

    python benchmarks/search.py                      # the figures of docs/index.md: 1,000,000 vectors, some minutes
    python benchmarks/search.py --vectors 120000     # a smoke run
    python benchmarks/search.py --hnsw               # an HNSW graph beside it: many minutes more

Every figure of a peer comes from the same run. Peers are built from FAISS directly; the package knows it in vlm/index/vectors.py alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from vlm.index.recall import recall_of
from vlm.index.segments import cut, pool
from vlm.index.vectors import BuildPart, VectorIndex, faiss_build
from vlm.types import Features

DIM = 512
SEGMENTS_PER_VIDEO = 50
TOP_K = 10
NUM_QUERIES = 500
NUM_PROBES = 256
Search = Callable[[NDArray[np.float32]], NDArray[np.int64]]


@dataclass(frozen=True)
class Corpus:
    """Stored vectors (n, d) float16 of 50 correlated segments a video, and two sets of queries (q, d).

    ``probes`` are text-like queries that the index is tuned on; no query that is measured is among them.
    """

    vectors: NDArray[np.float16]
    segment_queries: NDArray[np.float32]
    text_queries: NDArray[np.float32]
    probes: NDArray[np.float32]


def make_corpus(num_vectors: int, *, seed: int = 0) -> Corpus:
    """Vectors that lie as CLIP's do.

    A stored vector is, before it is scaled to unit length, 0.71 of a mean common to all pictures, 0.59 of its video's own direction and
    0.39 of its segment's, both drawn with variances 1/1, 1/2, ..., 1/512 along random axes. A segment-like query is a stored vector
    under white noise of length 0.45. A text-like query is 0.71 of the texts' mean, which has cosine 0.2 with the pictures' mean, 0.6 of
    what sets one stored vector apart from its mean, and 0.55 of noise whose spectrum is flatter than the pictures'.
    """
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    variances = 1 / np.arange(1, DIM + 1)
    spread = (np.sqrt(variances / variances.sum())[:, None] * axes).astype(np.float32)
    flatter = (np.sqrt(np.sqrt(variances) / np.sqrt(variances).sum())[:, None] * axes).astype(np.float32)
    picture_mean, other = unit(rng.standard_normal((2, DIM)).astype(np.float32))
    text_mean = unit(0.2 * picture_mean + np.sqrt(1 - 0.2**2) * unit(other - (other @ picture_mean) * picture_mean))

    vectors = np.empty((num_vectors, DIM), np.float16)
    rows_at_once = 500 * SEGMENTS_PER_VIDEO
    for first in range(0, num_vectors, rows_at_once):
        block = vectors[first : first + rows_at_once]
        num_videos = -(-len(block) // SEGMENTS_PER_VIDEO)
        video = rng.standard_normal((num_videos, DIM), dtype=np.float32).repeat(SEGMENTS_PER_VIDEO, axis=0)[: len(block)]
        segment = rng.standard_normal(block.shape, dtype=np.float32)
        block[:] = unit((np.sqrt(0.35) * video + np.sqrt(0.15) * segment) @ spread + np.sqrt(0.5) * picture_mean)

    def stored(num_rows: int) -> NDArray[np.float32]:
        return vectors[rng.choice(num_vectors, num_rows, replace=False)].astype(np.float32)

    targets = stored(NUM_QUERIES)
    segment_queries = unit(targets + 0.45 * unit(rng.standard_normal(targets.shape, dtype=np.float32)))
    targets = stored(NUM_QUERIES + NUM_PROBES)
    apart = targets - np.sqrt(0.5).astype(np.float32) * picture_mean
    noise = unit(rng.standard_normal(targets.shape, dtype=np.float32) @ flatter)
    texts = unit(np.sqrt(0.5) * text_mean + 0.6 * apart + np.sqrt(0.3) * noise)
    return Corpus(vectors, segment_queries, texts[:NUM_QUERIES], texts[NUM_QUERIES:])


def unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def describe(corpus: Corpus, truth: dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]]) -> None:
    """Prints what a reader needs to judge whether the vectors are like CLIP's."""
    sample = corpus.vectors[np.random.default_rng(1).permutation(len(corpus.vectors))[:4000]].astype(np.float32)
    pairs = np.einsum("nd,nd->n", sample[:2000], sample[2000:])
    siblings = np.einsum("nd,nd->n", *(corpus.vectors[i:40_000:SEGMENTS_PER_VIDEO].astype(np.float32) for i in (0, 1)))
    print(f"stored pairs: cosine {pairs.mean():.2f} +- {pairs.std():.2f}; two segments of one video {siblings.mean():.2f}")
    for name, queries in query_sets(corpus).items():
        others = queries @ sample.T
        scores = truth[name][0]
        print(
            f"{name} queries: best cosine {scores[:, 0].mean():.2f}, tenth {scores[:, -1].mean():.2f}, "
            f"any stored vector {others.mean():.2f} +- {others.std():.2f}"
        )


def query_sets(corpus: Corpus) -> dict[str, NDArray[np.float32]]:
    return {"segment": corpus.segment_queries, "text": corpus.text_queries}


@dataclass(frozen=True)
class Latency:
    """Of single queries in milliseconds, and the share of the machine that other processes took meanwhile, in [0, 1]."""

    p50: float
    p95: float
    taken_by_others: float


def latency(search: Search, queries: NDArray[np.float32], *, patience_seconds: float) -> Latency:
    """Measured after 20 queries to warm up, once others leave the machine alone or patience is over."""
    for row in queries[:20]:
        search(row[None])
    await_quiet(patience_seconds)
    busy, begun = busy_elsewhere(), time.perf_counter()
    taken = []
    for row in queries:
        begin = time.perf_counter()
        search(row[None])
        taken.append(1e3 * (time.perf_counter() - begin))
    others = (busy_elsewhere() - busy) / (time.perf_counter() - begun) / (os.cpu_count() or 1)
    p50, p95 = np.percentile(taken, [50, 95])
    return Latency(float(p50), float(p95), others)


def await_quiet(patience_seconds: float) -> None:
    """Returns once other processes took less than 5 % of the machine for half a second."""
    deadline = time.perf_counter() + patience_seconds
    while time.perf_counter() < deadline:
        busy = busy_elsewhere()
        time.sleep(0.5)
        if busy_elsewhere() - busy < 0.05 * 0.5 * (os.cpu_count() or 1):
            return


def busy_elsewhere() -> float:
    """Processor seconds that all other processes have used, as Linux counts them; nan elsewhere."""
    counters = Path("/proc/stat")
    if not counters.exists():
        return float("nan")
    user, nice, system, _, _, irq, softirq, *_ = (int(ticks) for ticks in counters.read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK") - time.process_time()


def build(corpus: Corpus) -> VectorIndex:
    """The index under test, with the time of each part printed."""
    marks: list[tuple[str, float]] = []

    def mark(part: BuildPart | str) -> None:
        marks.append((part, time.perf_counter()))

    index = VectorIndex.build(np.arange(len(corpus.vectors)), corpus.vectors, probe_queries=corpus.probes, on_part=mark)
    mark("end")
    parts = ", ".join(f"{name} {end - begin:.1f} s" for (name, begin), (_, end) in pairwise(marks))
    print(f"build: {marks[-1][1] - marks[0][1]:.1f} s ({parts}); {index.kind}")
    if index.recall is not None:
        sets = ", ".join(f"{s.queries} {s.recall:.3f} of {s.num_queries}" for s in index.recall.sets)
        print(f"chosen at build: {index.recall.nprobe} of {index.recall.num_lists} lists; recall@10 there: {sets}")
    return index


def save_and_load(index: VectorIndex) -> VectorIndex:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors"
        begin = time.perf_counter()
        index.save(path, generation=1, library_id="benchmark")
        middle = time.perf_counter()
        loaded = VectorIndex.load(path, library_id="benchmark", device="cpu")
        end = time.perf_counter()
        print(f"file: {path.stat().st_size / 1e6:.0f} MB; save {middle - begin:.2f} s, load with checksum {end - middle:.2f} s")
    return loaded


def measure_vectors(num_vectors: int, *, hnsw: bool, patience_seconds: float) -> None:
    begin = time.perf_counter()
    corpus = make_corpus(num_vectors)
    print(f"corpus: {num_vectors:,} x {DIM} float16 in {time.perf_counter() - begin:.1f} s")
    index = save_and_load(build(corpus))

    exact = faiss.IndexFlatIP(DIM)
    for first in range(0, num_vectors, 65_536):
        exact.add(corpus.vectors[first : first + 65_536].astype(np.float32))
    truth = {name: exact.search(queries, TOP_K) for name, queries in query_sets(corpus).items()}
    describe(corpus, truth)

    def stored(ids: NDArray[np.int64]) -> NDArray[np.float16]:
        return corpus.vectors[ids]

    searches: dict[str, Search] = {
        "exact (IndexFlatIP)": lambda q: exact.search(q, TOP_K)[1],
        "ours, 8-bit scores": lambda q: index.search(q, TOP_K)[1],
        "ours, re-ranked": lambda q: index.search(q, TOP_K, fetch=stored)[1],
    }
    if index.recall is not None:
        searches["same lists, centred"] = centred_peer(corpus, index.recall.num_lists, index.recall.nprobe)
    if hnsw:
        searches["HNSW M=32, ef 256"] = hnsw_peer(corpus)
    print(f"\n{'':22} {'queries':8} {'recall@10':>9} {'p50 ms':>8} {'p95 ms':>8} {'times exact':>12} {'others took':>12}")
    exact_p50: dict[str, float] = {}
    for name, search in searches.items():
        for key, queries in query_sets(corpus).items():
            found = search(queries)
            rows = corpus.vectors[np.maximum(found, 0)].astype(np.float32)
            recall = recall_of(np.where(found >= 0, np.einsum("qd,qkd->qk", queries, rows), -np.inf), truth[key][0])
            took = latency(search, queries[:200], patience_seconds=patience_seconds)
            ratio = exact_p50.setdefault(key, took.p50) / took.p50
            print(f"{name:22} {key:8} {recall:9.4f} {took.p50:8.2f} {took.p95:8.2f} {ratio:11.1f}x {took.taken_by_others:12.0%}")
    changes(index)


def changes(index: VectorIndex) -> None:
    """One video out of the index and in again."""
    ids = np.arange(SEGMENTS_PER_VIDEO)
    begin = time.perf_counter()
    index.remove(ids)
    middle = time.perf_counter()
    index.add(ids, unit(np.random.default_rng(0).standard_normal((SEGMENTS_PER_VIDEO, DIM))))
    end = time.perf_counter()
    print(f"\na video of {SEGMENTS_PER_VIDEO} segments: remove {1e3 * (middle - begin):.1f} ms, add {1e3 * (end - middle):.1f} ms")


def centred_peer(corpus: Corpus, num_lists: int, nprobe: int) -> Search:
    """The same kind over vectors less their mean, which leaves the order of inner products as it is."""
    mean = corpus.vectors[:: max(1, len(corpus.vectors) // 100_000)].astype(np.float32).mean(axis=0)
    quantizer = faiss.IndexFlatIP(DIM)
    peer = faiss.IndexIVFScalarQuantizer(quantizer, DIM, num_lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    peer.cp.niter = 8
    peer.parallel_mode = 1
    rows = np.sort(np.random.default_rng(0).choice(len(corpus.vectors), min(len(corpus.vectors), 64 * num_lists), replace=False))
    peer.train(corpus.vectors[rows].astype(np.float32) - mean)
    for first in range(0, len(corpus.vectors), 65_536):
        peer.add(corpus.vectors[first : first + 65_536].astype(np.float32) - mean)
    peer.nprobe = nprobe

    def search(queries: NDArray[np.float32]) -> NDArray[np.int64]:
        """Re-ranked as ours is."""
        best = []
        for query, ids in zip(queries, peer.search(queries, 128)[1], strict=True):
            scores = corpus.vectors[ids].astype(np.float32) @ query
            best.append(ids[np.argsort(-scores, kind="stable")[:TOP_K]])
        return np.stack(best)

    return search


def hnsw_peer(corpus: Corpus) -> Search:
    begin = time.perf_counter()
    graph = faiss.IndexHNSWFlat(DIM, 32, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = 80
    for first in range(0, len(corpus.vectors), 65_536):
        graph.add(corpus.vectors[first : first + 65_536].astype(np.float32))
    graph.hnsw.efSearch = 256
    print(f"HNSW: build {time.perf_counter() - begin:.0f} s")
    return lambda queries: graph.search(queries, TOP_K)[1]


def measure_segments(num_rows: int = 36_000) -> None:
    """Cuts a ten-hour video, at one row a second, whose picture drifts and changes at scenes of about 20 s."""
    rng = np.random.default_rng(0)
    scene = np.cumsum(rng.random(num_rows) < 0.05)
    rows = rng.standard_normal((scene[-1] + 1, DIM), dtype=np.float32)[scene] + 0.7 * rng.standard_normal((num_rows, DIM), dtype=np.float32)
    video = Features(unit(rows), np.arange(num_rows, dtype=np.float64), float(num_rows))
    begin = time.perf_counter()
    segments = cut(video)
    middle = time.perf_counter()
    pool(video, segments)
    end = time.perf_counter()
    took = f"cut {middle - begin:.2f} s, pool {end - middle:.2f} s"
    print(f"{num_rows:,} rows x {DIM} ({num_rows / 3600:g} h): {took}; {len(segments):,} segments")
    for level in range(segments[-1].level + 1):
        seconds = [s.span.seconds for s in segments if s.level == level]
        print(f"  level {level}: {len(seconds):5,} segments, mean {np.mean(seconds):8.1f} s, longest {max(seconds):8.1f} s")
    bounds = {s.first for s in segments if s.level == 0}
    planted = (np.flatnonzero(np.diff(scene)) + 1).tolist()
    print(f"  {np.mean([row in bounds for row in planted]):.1%} of {len(planted):,} planted changes are cuts of level 0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=1_000_000, help="stored vectors (default: %(default)s)")
    parser.add_argument("--hnsw", action="store_true", help="build an HNSW graph as well")
    parser.add_argument("--patience", type=float, default=0.0, help="seconds to wait, before each timing, for other processes to rest")
    parser.add_argument("--only", choices=["vectors", "segments"], help="one part alone")
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, {faiss_build()}, numpy {np.__version__}, load {os.getloadavg()[0]:.1f}\n")
    if options.only != "segments":
        measure_vectors(options.vectors, hnsw=options.hnsw, patience_seconds=options.patience)
    if options.only != "vectors":
        print()
        measure_segments()
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


if __name__ == "__main__":
    main()
