"""How much of exact search an approximate one finds: the queries to ask, the measure, and the report that is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm.errors import EncoderMismatch
from vlm.index.rows import Vectors

__all__ = ["RECALL_AT", "RecallReport", "SetRecall", "query_sets", "recall_of"]

RECALL_AT = 10
STORED_QUERIES = 256
PROBE_QUERIES = 512


@dataclass(frozen=True, slots=True)
class SetRecall:
    """Recall over one set of queries: the share of the exact best ten that a search with re-ranking returns, in [0, 1]."""

    queries: str
    num_queries: int
    recall: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallReport:
    """What was measured when an index was built: with ``nprobe`` of ``num_lists`` lists scanned, over ``num_vectors`` vectors.

    ``sets`` names its queries: ``stored`` are stored vectors moved a little; ``probe`` are the caller's, such as encoded sentences;
    ``outlying``, measured where the caller gave none, are stored vectors under random noise, in place of text.
    """

    nprobe: int
    num_lists: int
    num_vectors: int
    sets: tuple[SetRecall, ...]


def query_sets(vectors: Vectors, probe_queries: NDArray[np.float32] | None, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Queries (q, d) to measure with, by name of the set: always ``stored``, and ``probe`` or ``outlying``.

    A stored vector is moved by 0.3 of the difference of two others: noise of the data's own shape. An outlying query is what sets
    a stored vector apart from the mean, under 1.5 times as much white noise: its best cosine is then about 0.4, as between text and
    pictures, and it needs about as many lists.
    """
    num_vectors, dim = vectors.shape
    trio = np.asarray(vectors[rng.integers(num_vectors, size=3 * min(num_vectors, STORED_QUERIES))], dtype=np.float32)
    here, there, elsewhere = np.split(trio, 3)
    stored = here + 0.3 * (there - elsewhere)
    if probe_queries is None:
        signal = here - trio.mean(axis=0)
        noise = rng.standard_normal(signal.shape, dtype=np.float32) / np.sqrt(dim, dtype=np.float32)
        return {"stored": stored, "outlying": signal / np.linalg.norm(signal, axis=1, keepdims=True) + 1.5 * noise}
    if probe_queries.ndim != 2 or probe_queries.shape[1] != dim:
        raise EncoderMismatch(f"probe_queries must be (q, {dim}) as the vectors are, got {probe_queries.shape}")
    chosen = rng.permutation(len(probe_queries))[:PROBE_QUERIES]
    return {"stored": stored, "probe": np.ascontiguousarray(probe_queries[chosen], dtype=np.float32)}


def recall_of(found: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    """The share of places filled as well as exact search fills them, from the scores (q, k) of both, in [0, 1].

    Scores are compared, not ids: of several equal vectors any will do. The margin covers the rounding of float32 sums.
    """
    return float(np.mean(found >= exact[:, -1:] - 1e-6))
