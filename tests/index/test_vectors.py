from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from vlm.errors import BackendUnavailable, BadVectors, EncoderMismatch, InputError
from vlm.index.vectors import FLAT_UP_TO, Fetch, VectorIndex, faiss_build

DIM = 24
# Of float32 inner products of unit vectors, and of the same through 8-bit values.
SCORE_TOLERANCE = {"flat": 1e-6, "ivf-sq8": 0.02}


def clustered(num_vectors: int, *, seed: int = 0, dim: int = DIM) -> NDArray[np.float32]:
    """Unit vectors in groups of about ten around a common mean."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((num_vectors // 10 + 1, dim))
    rows = 1.0 + centres[rng.integers(len(centres), size=num_vectors)] + 0.4 * rng.standard_normal((num_vectors, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def best_of(queries: NDArray[np.float32], ids: NDArray[np.int64], vectors: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Every inner product, sorted: highest first, equal ones by id."""
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    return np.stack([ids[np.lexsort((ids, -row.round(12)))][:k] for row in scores])


def fetch_from(ids: NDArray[np.int64], vectors: NDArray[Any]) -> Fetch:
    row_of = {int(i): row for row, i in enumerate(ids)}
    return lambda wanted: vectors[[row_of[int(i)] for i in wanted]]


def recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    return float(np.mean([np.isin(t, f).mean() for f, t in zip(found, truth, strict=True)]))


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    return clustered(4000)


@pytest.fixture(scope="module")
def ids(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Neither dense nor in order."""
    return np.random.default_rng(1).permutation(10 * len(vectors))[: len(vectors)].astype(np.int64)


@pytest.fixture(scope="module")
def queries() -> NDArray[np.float32]:
    return clustered(60, seed=2)


@pytest.fixture(scope="module")
def trained(ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> VectorIndex:
    """Read by many tests, changed by none."""
    return VectorIndex.build(ids, vectors, flat_up_to=1000)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_flat_search_equals_brute_force(
    ids: NDArray[np.int64], vectors: NDArray[np.float32], queries: NDArray[np.float32], dtype: type
) -> None:
    stored = vectors.astype(dtype)
    index = VectorIndex.build(ids, stored)
    scores, found = index.search(queries, 10)
    assert (index.kind, index.num_vectors, index.dim, index.recall) == ("flat", 4000, DIM, None)
    np.testing.assert_array_equal(found, best_of(queries, ids, stored, 10))
    row_of = np.argsort(ids)[np.searchsorted(np.sort(ids), found)]
    np.testing.assert_allclose(scores, np.einsum("qd,qkd->qk", queries, stored[row_of].astype(np.float32)), atol=1e-6)


def test_trained_search_with_fetch_reaches_its_reported_recall(
    trained: VectorIndex, ids: NDArray[np.int64], vectors: NDArray[np.float32], queries: NDArray[np.float32]
) -> None:
    scores, found = trained.search(queries, 10, fetch=fetch_from(ids, vectors))
    assert trained.kind == "ivf-sq8"
    assert trained.recall is not None
    assert {s.queries for s in trained.recall.sets} == {"stored", "outlying"}
    assert min(s.recall for s in trained.recall.sets) >= 0.97
    assert recall(found, best_of(queries, ids, vectors, 10)) >= 0.95
    assert trained.recall.nprobe < trained.recall.num_lists
    row_of = np.argsort(ids)[np.searchsorted(np.sort(ids), found)]
    np.testing.assert_allclose(scores, np.einsum("qd,qkd->qk", queries, vectors[row_of]), atol=1e-6)


def test_trained_search_without_fetch_scores_within_the_8_bit_error(
    trained: VectorIndex, ids: NDArray[np.int64], vectors: NDArray[np.float32], queries: NDArray[np.float32]
) -> None:
    scores, found = trained.search(queries, 10)
    row_of = np.argsort(ids)[np.searchsorted(np.sort(ids), found)]
    exact = np.einsum("qd,qkd->qk", queries, vectors[row_of])
    assert 1e-6 < np.abs(scores - exact).max() < SCORE_TOLERANCE["ivf-sq8"]
    assert recall(found, best_of(queries, ids, vectors, 10)) >= 0.9


def test_queries_unlike_the_stored_vectors_raise_the_number_of_lists_scanned(ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
    rng = np.random.default_rng(5)
    near, far = (
        VectorIndex.build(ids, vectors, probe_queries=probes, flat_up_to=1000)
        for probes in (vectors[:60], rng.standard_normal((600, DIM)).astype(np.float32))
    )
    assert near.recall is not None
    assert far.recall is not None
    assert [(s.queries, s.num_queries) for s in near.recall.sets] == [("stored", 256), ("probe", 60)]
    assert [(s.queries, s.num_queries) for s in far.recall.sets] == [("stored", 256), ("probe", 512)]
    assert far.recall.nprobe > near.recall.nprobe
    unseen = rng.standard_normal((200, DIM)).astype(np.float32)
    found, found_with_too_few = (index.search(unseen, 10, fetch=fetch_from(ids, vectors))[1] for index in (far, near))
    truth = best_of(unseen, ids, vectors, 10)
    assert recall(found, truth) >= 0.95 > recall(found_with_too_few, truth)


def test_the_kind_changes_above_the_flat_limit(ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
    assert FLAT_UP_TO == 100_000
    assert VectorIndex.build(ids, vectors, flat_up_to=4000).kind == "flat"
    assert VectorIndex.build(ids, vectors, flat_up_to=3999).kind == "ivf-sq8"


@pytest.mark.parametrize("flat_up_to", [100_000, 1000])
def test_blocks_and_a_memory_map_build_the_same_index_as_an_array(
    ids: NDArray[np.int64], vectors: NDArray[np.float32], queries: NDArray[np.float32], tmp_path: Any, flat_up_to: int
) -> None:
    halves = vectors.astype(np.float16)
    np.save(tmp_path / "vectors.npy", halves)

    def blocks() -> Iterator[NDArray[np.float16]]:
        yield from np.array_split(halves, 7)

    expected = VectorIndex.build(ids, halves, flat_up_to=flat_up_to).search(queries, 5)
    for source in (blocks(), np.load(tmp_path / "vectors.npy", mmap_mode="r")):
        found = VectorIndex.build(ids, source, flat_up_to=flat_up_to).search(queries, 5)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize(("flat_up_to", "parts"), [(1000, ["read", "add"]), (100, ["read", "train", "add", "measure"])])
def test_building_tells_which_part_begins(flat_up_to: int, parts: list[str]) -> None:
    told: list[str] = []
    VectorIndex.build(np.arange(300), clustered(300), flat_up_to=flat_up_to, on_part=told.append)
    assert told == parts


def test_one_seed_gives_one_index_and_another_seed_another(ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
    def scores(seed: int) -> NDArray[np.float32]:
        return VectorIndex.build(ids, vectors, flat_up_to=1000, seed=seed).search(vectors[:50], 10)[0]

    np.testing.assert_array_equal(scores(3), scores(3))
    assert not np.array_equal(scores(3), scores(4))


@pytest.mark.parametrize("flat_up_to", [10_000, 100])
@pytest.mark.parametrize("num_queries", [1, 64])
def test_equal_vectors_are_ordered_by_id_also_across_the_last_place(flat_up_to: int, num_queries: int) -> None:
    rows = clustered(500)
    rows[100:400] = rows[100]  # more equal vectors than are asked for
    ids = np.random.default_rng(0).permutation(500).astype(np.int64)
    index = VectorIndex.build(ids, rows, flat_up_to=flat_up_to)
    queries = np.repeat(rows[100:101], num_queries, axis=0)
    _, found = index.search(queries, 7, fetch=fetch_from(ids, rows))
    if index.kind == "flat":
        np.testing.assert_array_equal(found, best_of(queries, ids, rows, 7))
    else:  # an approximate index shortlists some of the equal ones
        assert np.all(np.diff(found, axis=1) > 0)
        assert set(found.ravel()) <= set(ids[100:400])


@pytest.mark.parametrize("flat_up_to", [10_000, 100])
def test_k_beyond_the_vectors_is_padded(flat_up_to: int) -> None:
    rows = clustered(150)
    index = VectorIndex.build(np.arange(150), rows, flat_up_to=flat_up_to)
    scores, found = index.search(rows[:3], 400, fetch=lambda wanted: rows[wanted])
    assert scores.shape == found.shape == (3, 400)
    assert np.all((found == -1) == np.isneginf(scores))
    assert np.all(found[:, 150:] == -1)
    for row in found:
        kept = row[row >= 0]
        assert len(set(kept)) == len(kept) > 0


def test_an_empty_index_finds_nothing_and_can_be_added_to() -> None:
    index = VectorIndex.build(np.empty(0, np.int64), np.empty((0, DIM), np.float32))
    scores, found = index.search(clustered(2), 3)
    assert np.all(found == -1)
    assert np.all(np.isneginf(scores))
    index.add(np.array([7]), clustered(1))
    assert index.search(clustered(1), 2)[1].tolist() == [[7, -1]]


@pytest.mark.parametrize("flat_up_to", [10_000, 1000])
def test_no_queries_give_no_rows(ids: NDArray[np.int64], vectors: NDArray[np.float32], flat_up_to: int) -> None:
    index = VectorIndex.build(ids[:1500], vectors[:1500], flat_up_to=flat_up_to)
    scores, found = index.search(np.empty((0, DIM), np.float32), 4, fetch=fetch_from(ids, vectors))
    assert scores.shape == found.shape == (0, 4)


@pytest.mark.parametrize("flat_up_to", [100_000, 800])
@pytest.mark.parametrize("seed", range(3))
def test_random_changes_keep_search_equal_to_brute_force(flat_up_to: int, seed: int, tmp_path: Any) -> None:
    rng = np.random.default_rng(seed)
    pool = clustered(3000, seed=seed)
    live = set(range(1000))
    index = VectorIndex.build(np.arange(1000), pool[:1000], flat_up_to=flat_up_to, seed=seed)
    fresh = 1000
    recalls = []
    for step in range(30):
        if step % 3 == 0:
            count = int(rng.integers(1, 60))
            index.add(np.arange(fresh, fresh + count), pool[fresh : fresh + count])
            live |= set(range(fresh, fresh + count))
            fresh += count
        elif step % 3 == 1:
            # Twice an id, unknown ids and ids long gone count for nothing.
            gone = rng.integers(0, fresh + 50, size=40)
            assert index.remove(gone) == len(set(gone.tolist()) & live)
            live -= set(gone.tolist())
        else:
            index.save(tmp_path / "index", generation=step, library_id="a")
            index = VectorIndex.load(tmp_path / "index", library_id="a")
        kept = np.array(sorted(live))
        assert index.num_vectors == len(kept)
        queries = clustered(20, seed=100 + step)
        _, found = index.search(queries, 10, fetch=lambda wanted: pool[wanted])
        truth = best_of(queries, kept, pool[kept], 10)
        if index.kind == "flat":
            np.testing.assert_array_equal(found, truth)
        else:
            assert set(found.ravel().tolist()) <= live
            recalls.append(recall(found, truth))
    assert len(recalls) == (0 if index.kind == "flat" else 30)
    assert not recalls or np.mean(recalls) >= 0.95


def test_every_vector_of_a_trained_index_is_its_own_best_answer_until_removed(ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
    index = VectorIndex.build(ids, vectors, flat_up_to=1000)
    fetch = fetch_from(ids, vectors)
    np.testing.assert_array_equal(index.search(vectors[:300], 1, fetch=fetch)[1][:, 0], ids[:300])
    assert index.remove(ids[:150]) == 150
    found = index.search(vectors[:300], 1, fetch=fetch)[1][:, 0]
    np.testing.assert_array_equal(found[150:], ids[150:300])
    assert not np.isin(found[:150], ids[:150]).any()


def test_a_flat_index_needs_retraining_once_it_outgrows_the_limit() -> None:
    index = VectorIndex.build(np.arange(100), clustered(100), flat_up_to=100)
    assert not index.needs_retraining()
    index.add(np.array([100]), clustered(1))
    assert index.needs_retraining()


def test_a_trained_index_needs_retraining_beyond_twice_its_size_or_when_flat_would_do() -> None:
    index = VectorIndex.build(np.arange(300), clustered(300), flat_up_to=200)
    index.add(np.arange(300, 600), clustered(300, seed=1))
    assert not index.needs_retraining()
    index.add(np.array([600]), clustered(1))
    assert index.needs_retraining()
    index.remove(np.arange(101, 601))
    assert not index.needs_retraining()
    index.remove(np.array([0]))
    assert index.needs_retraining()


@pytest.mark.parametrize("flat_up_to", [10_000, 100])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused_by_id_and_change_nothing(flat_up_to: int, bad: float) -> None:
    rows = clustered(300)
    index = VectorIndex.build(np.arange(300), rows, flat_up_to=flat_up_to)
    broken = clustered(8)
    broken[1:8, 3] = bad
    with pytest.raises(BadVectors, match="ids 901, 902, 903, 904, 905 and 2 more"):
        index.add(np.arange(900, 908), broken)
    with pytest.raises(BadVectors, match="ids 901"):
        VectorIndex.build(np.arange(900, 908), broken)
    assert index.num_vectors == 300
    with pytest.raises(BadVectors, match="queries at row 1"):
        index.search(broken[:2], 1)


def test_other_widths_are_refused(trained: VectorIndex) -> None:
    wide = clustered(3, dim=32)
    with pytest.raises(EncoderMismatch, match=re.escape("queries must be (n, 24) as the index is, got (3, 32)")):
        trained.search(wide, 5)
    with pytest.raises(EncoderMismatch, match="vectors must be"):
        trained.add(np.arange(90_000, 90_003), wide)
    with pytest.raises(EncoderMismatch, match="fetched vectors must be"):
        trained.search(clustered(1), 5, fetch=lambda wanted: clustered(len(wanted), dim=32))
    with pytest.raises(EncoderMismatch, match="probe_queries must be"):
        VectorIndex.build(np.arange(300), clustered(300), probe_queries=wide, flat_up_to=100)


def test_a_fetch_that_leaves_out_rows_is_refused(trained: VectorIndex) -> None:
    with pytest.raises(InputError, match="got 127 for 128 ids"):
        trained.search(clustered(1), 5, fetch=lambda wanted: clustered(len(wanted) - 1))


@pytest.mark.parametrize(
    ("ids", "message"),
    [([1, -4, 2], "must not be negative, got -4"), ([1, 5, 5], "must differ, got 5 more than once"), ([1, 2], r"ids must be \(n,\)")],
)
def test_ids_that_cannot_name_vectors_are_refused(ids: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        VectorIndex.build(np.array(ids), clustered(3))


def test_an_id_that_is_in_cannot_be_added_again() -> None:
    index = VectorIndex.build(np.arange(3), clustered(3))
    with pytest.raises(InputError, match="ids must be new, got 2 "):
        index.add(np.array([9, 2]), clustered(2))
    assert index.num_vectors == 3


@pytest.mark.parametrize(("sizes", "message"), [([2, 1], "got 3 for 4 ids"), ([2, 3], "more than 4"), ([], "got 0 for 4 ids")])
def test_blocks_that_are_not_one_row_per_id_are_refused(sizes: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        VectorIndex.build(np.arange(4), (clustered(size) for size in sizes))


def test_blocks_of_two_widths_are_refused() -> None:
    with pytest.raises(EncoderMismatch, match="one width, got 24 and 1"):
        VectorIndex.build(np.arange(4), iter([clustered(2), clustered(2, dim=1)]))


@pytest.mark.parametrize("k", [0, -3])
def test_k_below_one_is_refused(trained: VectorIndex, k: int) -> None:
    with pytest.raises(InputError, match=f"k must be at least 1, got {k}"):
        trained.search(clustered(1), k)


def test_searching_leaves_the_number_of_threads_alone(trained: VectorIndex) -> None:
    before = faiss.omp_get_max_threads()
    trained.search(clustered(1), 5)
    assert faiss.omp_get_max_threads() == before


def test_a_gpu_that_is_not_there_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(faiss, "StandardGpuResources", raising=False)
    with pytest.raises(BackendUnavailable, match="'cuda:0' needs faiss-gpu, got faiss-cpu"):
        VectorIndex.build(np.arange(3), clustered(3), device="cuda:0")
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2)
    with pytest.raises(BackendUnavailable, match="'cuda:2' is not there: FAISS sees 2 GPUs"):
        VectorIndex.build(np.arange(3), clustered(3), device="cuda:2")


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:-1", ""])
def test_a_device_of_no_known_form_is_refused(device: str) -> None:
    with pytest.raises(InputError, match=f"got '{device}'"):
        VectorIndex.build(np.arange(3), clustered(3), device=device)


def test_the_automatic_device_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    assert VectorIndex.build(np.arange(3), clustered(3), device="auto").search(clustered(1), 1)[1].tolist() == [[0]]


def test_the_build_is_named_with_its_version() -> None:
    assert re.fullmatch(rf"faiss-(cpu|gpu) {re.escape(faiss.__version__)} \(.+\)", faiss_build())
