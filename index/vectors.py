"""The segments with the highest inner product to a query: a cache of the store's vectors, and the only file that knows FAISS.

Up to 100,000 vectors every one is compared (``flat``). Above, they lie in inverted lists as 8-bit values (``ivf-sq8``): the lists
nearest to a query are scanned and the best candidates compared again with the store's own vectors. How many lists are scanned is
measured when the index is built, against exact search.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from vlm.errors import BackendUnavailable, EncoderMismatch, InputError
from vlm.index.recall import RECALL_AT, RecallReport, SetRecall, query_sets, recall_of
from vlm.index.rows import Vectors, checked_ids, contains, gather, named, refuse_non_finite, row_blocks
from vlm.index.sealed import StaleOrDamaged, Write, read_sealed, write_sealed

__all__ = ["FLAT_UP_TO", "BuildPart", "Fetch", "RecallReport", "SetRecall", "StaleOrDamaged", "VectorIndex", "faiss_build"]

FLAT_UP_TO = 100_000  # exact search answers within some 10 ms up to here
TARGET_RECALL = 0.97  # of the measured sample: leaves room for its error above a promised 0.95
ROWS_PER_LIST = 64  # training rows per k-means centroid
FORMAT = 1

_GPU_LIMIT = 2048  # FAISS on a GPU scans at most so many lists and returns at most so many ids
_SHORTLIST = 128  # candidates compared again, at least

Fetch = Callable[[NDArray[np.int64]], Vectors]
Kind = Literal["flat", "ivf-sq8"]
BuildPart = Literal["read", "train", "add", "measure"]


class VectorIndex:
    """Maximum inner product search over vectors known by id.

    Searches may run side by side; ``add`` and ``remove`` must not run beside anything else.
    """

    def __init__(self, index: Any, *, kind: Kind, device: str, flat_up_to: int, num_trained: int = 0) -> None:
        """Wraps a FAISS index; ``build`` and ``load`` make one."""
        self.kind: Kind = kind
        self.generation = 0
        self.recall: RecallReport | None = None
        self.num_trained = num_trained
        self.flat_up_to = flat_up_to
        self._index = index
        self._nprobe = 1
        self._gpu = _gpu_number(device)
        self._on_gpu: Any = None  # copy of _index, made at the next search after a change
        if kind == "ivf-sq8":
            index.parallel_mode = 1  # the threads share the lists of one query: 1.8 times the speed on 2 cores; not kept in files
        self._ids = _stored_ids(index)

    @classmethod
    def build(
        cls,
        ids: NDArray[np.int64],
        vectors: Vectors | Iterable[Vectors],
        *,
        probe_queries: NDArray[np.float32] | None = None,
        device: str = "cpu",
        seed: int = 0,
        flat_up_to: int = FLAT_UP_TO,
        on_part: Callable[[BuildPart], None] | None = None,
    ) -> Self:
        """An index of the vectors; above ``flat_up_to`` of them trained and tuned until recall@10 reaches 0.97 on each set of queries.

        ``vectors`` is (n, d), which may be a memory map, or its blocks in order, which are gathered once in their own precision.
        Queries unlike the stored vectors (text against pictures) need more lists, so give a few hundred of them as
        ``probe_queries`` (q, d). The same arguments and ``seed`` give the same index. ``on_part`` is told as each part of the
        work begins: a million vectors take minutes.

        Raises:
            InputError: ids that are negative, repeated, or not one per vector.
            BadVectors: NaN or infinite values; the message names the ids.
        """
        tell = on_part or (lambda part: None)
        tell("read")
        stored = vectors if isinstance(vectors, np.ndarray) else gather(vectors, len(ids))
        ids = checked_ids(ids, stored)
        for rows in row_blocks(len(ids)):
            refuse_non_finite(stored[rows], ids[rows])
        dim = stored.shape[1]
        if len(ids) <= flat_up_to:
            flat = cls(faiss.IndexIDMap(faiss.IndexFlatIP(dim)), kind="flat", device=device, flat_up_to=flat_up_to)
            tell("add")
            flat.add(ids, stored)
            return flat
        tell("train")
        rng = np.random.default_rng(seed)
        index = cls(_train(stored, rng), kind="ivf-sq8", device=device, flat_up_to=flat_up_to, num_trained=len(ids))
        tell("add")
        index.add(ids, stored)
        tell("measure")
        index._tune(ids, stored, query_sets(stored, probe_queries, rng))
        return index

    @classmethod
    def load(
        cls, path: str | Path, *, library_id: str, dim: int | None = None, generation: int | None = None, device: str = "auto"
    ) -> Self:
        """The index that ``save`` wrote.

        Raises:
            StaleOrDamaged: the file is missing, damaged, of another format or library, or not of the ``dim`` or ``generation`` given.
            BackendUnavailable: ``device`` names a GPU that cannot be used.
        """
        _gpu_number(device)  # the caller's mistake comes before the file's
        with read_sealed(Path(path)) as (header, body):
            expected = {"format": FORMAT, "library_id": library_id, "dim": dim, "generation": generation}
            for name, value in expected.items():
                if value is not None and header.get(name) != value:
                    raise StaleOrDamaged(f"{Path(path).name!r} has {name} {header.get(name)!r}, needed is {value!r}")
            try:
                index = faiss.read_index(faiss.PyCallbackIOReader(body.read, 1 << 20))
            except RuntimeError as error:
                raise StaleOrDamaged(f"{Path(path).name!r} was written by FAISS {header['faiss']}, which this one cannot read") from error
        loaded = cls(index, kind=header["kind"], device=device, flat_up_to=header["flat_up_to"], num_trained=header["num_trained"])
        loaded.generation = header["generation"]
        loaded._nprobe = header["nprobe"]
        if (report := header["recall"]) is not None:
            loaded.recall = RecallReport(**{**report, "sets": tuple(SetRecall(**s) for s in report["sets"])})
        return loaded

    def save(self, path: str | Path, *, generation: int, library_id: str) -> None:
        """Writes the index in one step, as of the store's ``generation``.

        Raises:
            OSError: no space or no permission; an existing file is as it was.
        """
        header = {
            "format": FORMAT,
            "library_id": library_id,
            "generation": generation,
            "dim": self.dim,
            "kind": self.kind,
            "nprobe": self._nprobe,
            "flat_up_to": self.flat_up_to,
            "num_trained": self.num_trained,
            "recall": None if self.recall is None else dataclasses.asdict(self.recall),
            "faiss": faiss.__version__,
        }
        write_sealed(Path(path), header, self._write_body)
        self.generation = generation

    @property
    def num_vectors(self) -> int:
        """Vectors that a search can find."""
        return len(self._ids)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self._index.d)

    def needs_retraining(self) -> bool:
        """Whether a build from the store would serve better: too large for flat, half as large, or twice what was trained on."""
        if self.kind == "flat":
            return self.num_vectors > self.flat_up_to
        return self.num_vectors > 2 * self.num_trained or 2 * self.num_vectors <= self.flat_up_to

    def add(self, ids: NDArray[np.int64], vectors: Vectors) -> None:
        """Makes vectors (n, d) searchable.

        Raises:
            InputError: ids that are negative, repeated, already in, or not one per vector.
            BadVectors: NaN or infinite values. Nothing is added.
        """
        ids = checked_ids(ids, vectors)
        self._refuse_other_width(vectors, "vectors")
        known = ids[contains(self._ids, ids)]
        if len(known):
            raise InputError(f"ids must be new, got {named(known)} which the index holds")
        for rows in row_blocks(len(ids)):
            refuse_non_finite(vectors[rows], ids[rows])
        for rows in row_blocks(len(ids)):
            self._index.add_with_ids(np.ascontiguousarray(vectors[rows], dtype=np.float32), ids[rows])
        self._ids = np.sort(np.concatenate([self._ids, ids]))
        self._on_gpu = None

    def remove(self, ids: NDArray[np.int64]) -> int:
        """How many of the ids were in; none of them is found from now on."""
        gone = self._ids[contains(np.sort(ids), self._ids)]
        if len(gone):
            self._index.remove_ids(gone)
            self._ids = self._ids[~contains(gone, self._ids)]
            self._on_gpu = None
        return len(gone)

    def search(self, queries: NDArray[np.float32], k: int, *, fetch: Fetch | None = None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores (q, k) float32 and ids (q, k) int64 of the best vectors for queries (q, d), best first, ties by lower id.

        Where fewer than k are found, rows end in score -inf and id -1. A flat index returns exact scores. An ivf-sq8 index needs
        ``fetch``, which returns the stored vectors (n, d) of the ids it is given, to compare its candidates exactly; without it the
        scores carry the 8-bit error (up to 0.001 between unit vectors) and recall is some 1 % lower than reported.

        Raises:
            EncoderMismatch: queries, or what ``fetch`` returned, have another width.
            InputError: ``k`` is below 1, or ``fetch`` returned more or fewer rows than it was asked for.
            BadVectors: a query is NaN or infinite.
        """
        if k < 1:
            raise InputError(f"k must be at least 1, got {k}")
        self._refuse_other_width(queries, "queries")
        refuse_non_finite(queries, np.arange(len(queries)), what="queries at row")
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if self.kind == "flat":
            scores, ids = self._search_flat(queries, k)
        else:
            scores, ids = self._candidates(queries, max(2 * k, _SHORTLIST))
            if fetch is not None:
                scores = np.stack([self._exact(*pair, fetch) for pair in zip(queries, ids, strict=True)]) if len(ids) else scores
            scores, ids = _ordered(scores, ids)
        scores, ids = scores[:, :k], ids[:, :k]
        missing = k - ids.shape[1]
        return (
            np.pad(scores, ((0, 0), (0, missing)), constant_values=-np.inf),
            np.pad(ids, ((0, 0), (0, missing)), constant_values=-1),
        )

    def _search_flat(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Exact search, widened until no tie crosses the k-th place: FAISS cuts through equal scores in no order of ids."""
        width = k + 16
        while True:
            scores, ids = _ordered(*self._candidates(queries, width))
            if ids.shape[1] < width or not np.any(scores[:, k - 1] == scores[:, -1]):
                return scores, ids
            width *= 4

    def _candidates(self, queries: NDArray[np.float32], width: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The best ``width`` ids by the index's own scores, fewer where it holds fewer; -1 with score -inf where lists ran out."""
        width = min(width, self.num_vectors)
        if not width or not len(queries):
            return np.empty((len(queries), width), np.float32), np.empty((len(queries), width), np.int64)
        params = faiss.SearchParametersIVF(nprobe=self._nprobe) if self.kind == "ivf-sq8" else None
        scores, ids = self._searcher(width).search(queries, width, params=params)
        scores[ids < 0] = -np.inf
        return scores, ids

    def _searcher(self, width: int) -> Any:
        """The index on the device, or on the CPU for what FAISS cannot do on a GPU."""
        if self._gpu is None or width > _GPU_LIMIT or self._nprobe > _GPU_LIMIT:
            return self._index
        if self._on_gpu is None:
            self._on_gpu = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), self._gpu, self._index)
        return self._on_gpu

    def _exact(self, query: NDArray[np.float32], ids: NDArray[np.int64], fetch: Fetch) -> NDArray[np.float32]:
        """Scores of one query's candidates (k,) from the stored vectors; -inf where there is none."""
        found = ids >= 0
        rows = fetch(ids[found])
        self._refuse_other_width(rows, "fetched vectors")
        if len(rows) != len(ids[found]):
            raise InputError(
                f"fetch must return one row per id, got {len(rows)} for {len(ids[found])} ids: is the index that of its store?"
            )
        scores = np.full(len(ids), -np.inf, np.float32)
        scores[found] = rows.astype(np.float32) @ query
        return scores

    def _tune(self, ids: NDArray[np.int64], vectors: Vectors, sets: dict[str, NDArray[np.float32]]) -> None:
        """Sets ``nprobe`` to the fewest lists that reach the target on every set, and reports what search then reaches.

        The lists of the exact best tell how many must be scanned to meet them; search itself may miss some more, so it has the
        last word.
        """
        order = np.argsort(ids)
        quantizer = self._index.quantizer
        num_lists = int(self._index.nlist)

        def fetch(wanted: NDArray[np.int64]) -> Vectors:
            rows: Vectors = vectors[order[np.searchsorted(ids, wanted, sorter=order)]]
            return rows

        truth = {name: _exact_search(queries, vectors, RECALL_AT) for name, queries in sets.items()}
        for name, queries in sets.items():
            _, rows = truth[name]
            _, homes = quantizer.search(np.asarray(vectors[rows.ravel()], dtype=np.float32), 1)
            _, lists = quantizer.search(queries, num_lists)
            ranks = np.argsort(lists, axis=1)[np.arange(len(queries))[:, None], homes.reshape(rows.shape)]
            needed = np.sort(ranks.ravel())[math.ceil(TARGET_RECALL * ranks.size) - 1] + 1
            self._nprobe = max(self._nprobe, int(needed))
        while True:
            measured = tuple(
                SetRecall(name, len(queries), recall_of(self.search(queries, RECALL_AT, fetch=fetch)[0], truth[name][0]))
                for name, queries in sets.items()
            )
            if self._nprobe == num_lists or all(s.recall >= TARGET_RECALL for s in measured):
                break
            self._nprobe = min(num_lists, math.ceil(1.06 * self._nprobe))
        self.recall = RecallReport(nprobe=self._nprobe, num_lists=num_lists, num_vectors=self.num_vectors, sets=measured)

    def _write_body(self, write: Write) -> None:
        """Hands the FAISS index to ``write``; its error comes through, not the one that FAISS makes of it."""
        failure: list[BaseException] = []

        def guarded(chunk: bytes) -> int:
            try:
                return write(chunk)
            except BaseException as error:
                failure.append(error)
                raise

        try:
            faiss.write_index(self._index, faiss.PyCallbackIOWriter(guarded, 1 << 20))
        except BaseException:
            if failure:
                raise failure[0] from None
            raise

    def _refuse_other_width(self, vectors: NDArray[Any], name: str) -> None:
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise EncoderMismatch(f"{name} must be (n, {self.dim}) as the index is, got {vectors.shape}: another encoder made them")


def faiss_build() -> str:
    """Which FAISS is installed, with its version and vector instructions: ``faiss-cpu 1.15.1 (AVX2 AVX512)``."""
    name = "faiss-gpu" if _has_gpu_code() else "faiss-cpu"
    levels = [word for word in faiss.get_compile_options().split() if word.startswith(("AVX", "SVE", "NEON"))]
    return f"{name} {faiss.__version__} ({' '.join(levels) or 'generic'})"


def _has_gpu_code() -> bool:
    return hasattr(faiss, "StandardGpuResources")


def _gpu_number(device: str) -> int | None:
    """The GPU to search on, or None for the CPU."""
    num_gpus = faiss.get_num_gpus() if _has_gpu_code() else 0
    if device == "cpu" or (device == "auto" and not num_gpus):
        return None
    if device == "auto":
        return 0
    name, _, number = device.partition(":")
    if name != "cuda" or not (number or "0").isdecimal():
        raise InputError(f"index device must be 'auto', 'cpu' or 'cuda:N', got {device!r}")
    if not _has_gpu_code():
        raise BackendUnavailable(
            f"index device {device!r} needs faiss-gpu, got {faiss_build()}: see docs/install.md, or use 'auto' or 'cpu'"
        )
    if int(number or 0) >= num_gpus:
        raise BackendUnavailable(f"index device {device!r} is not there: FAISS sees {num_gpus} GPUs; use 'auto' or 'cpu'")
    return int(number or 0)


def _train(vectors: Vectors, rng: np.random.Generator) -> Any:
    """An empty ivf-sq8 index whose lists and value ranges fit a sample of the vectors."""
    num_vectors, dim = vectors.shape
    num_lists = 2 ** round(math.log2(2 * math.sqrt(num_vectors)))
    num_rows = min(num_vectors, ROWS_PER_LIST * num_lists)
    sample = np.sort(rng.choice(num_vectors, num_rows, replace=False))
    index = faiss.IndexIVFScalarQuantizer(faiss.IndexFlatIP(dim), dim, num_lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = int(rng.integers(1, 2**31))
    index.cp.niter = 8
    index.cp.min_points_per_centroid = 1  # silences a warning on stderr; the sample is what there is
    index.train(np.asarray(vectors[sample], dtype=np.float32))
    return index


def _exact_search(queries: NDArray[np.float32], vectors: Vectors, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores and row numbers (q, k) of the best of all vectors, best first: the truth that recall is measured against."""
    scores = np.empty((len(queries), 0), np.float32)
    rows = np.empty((len(queries), 0), np.int64)
    for block in row_blocks(len(vectors)):
        there = np.asarray(vectors[block], dtype=np.float32)
        found = faiss.knn(queries, there, min(k, len(there)), metric=faiss.METRIC_INNER_PRODUCT)
        scores = np.concatenate([scores, found[0]], axis=1)
        rows = np.concatenate([rows, found[1] + block.start], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
    return scores, rows


def _ordered(scores: NDArray[np.float32], ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Both (q, k) with the best score first, equal scores by id."""
    order = np.lexsort((ids, -scores))
    return np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)


def _stored_ids(index: Any) -> NDArray[np.int64]:
    """The ids that a FAISS index holds, in order."""
    if hasattr(index, "id_map"):
        return np.sort(faiss.vector_to_array(index.id_map))
    lists = index.invlists
    sizes = [lists.list_size(number) for number in range(index.nlist)]
    parts = [faiss.rev_swig_ptr(lists.get_ids(number), size).copy() for number, size in enumerate(sizes) if size]
    return np.sort(np.concatenate([np.empty(0, np.int64), *parts]))
