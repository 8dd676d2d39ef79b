"""The vector index of a library on disk: loaded when it is the store's, brought up to date, or built anew; never trusted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vlm.index.lock import WriterLock
from vlm.index.store import Store
from vlm.index.vectors import FLAT_UP_TO, StaleOrDamaged, VectorIndex

FILE_NAME = "vectors.faiss"
EncodeTexts = Callable[[Sequence[str]], NDArray[np.float32]]

# Sentences of the kind that people search with: a large index is tuned on how it finds these, not on the library's own vectors alone.
_WHO = ("a dog", "a man", "a woman", "two children", "a red car", "a crowd of people", "a cat", "a bird")
_DOES = ("runs", "stands still", "is seen from above", "moves away", "turns around", "next to a table", "in close-up", "in the distance")
_WHERE = ("on a beach", "in a kitchen", "on a street at night", "in a snowy forest")
PROBE_TEXTS = tuple(" ".join(parts) for parts in itertools.product(_WHO, _DOES, _WHERE))


class IndexCache:
    """Keeps one VectorIndex equal to the store's segments."""

    def __init__(self, store: Store, lock: WriterLock, *, dim: int | None, device: str) -> None:
        self.dim = dim
        self._store = store
        self._lock = lock
        self._device = device
        self._path = store.folder / FILE_NAME
        self._index: VectorIndex | None = None
        self._why_not_loaded = ""

    def current(self, *, probe_texts: EncodeTexts | None = None, save: bool = False) -> VectorIndex:
        """The index of exactly the segments that the store holds now.

        What had to be made anew is saved where ``save`` is set (the caller holds the lock), or where nobody is writing.
        """
        assert self.dim is not None, "a library without passport has no vectors"
        generation = self._store.generation
        if self._index is None:
            self._index = self._load()
        index = self._index
        if index is None or index.generation > generation or index.generation < self._store.compacted_generation:
            return self.rebuild(probe_texts=probe_texts, save=save)
        if index.generation != generation:
            self._catch_up(index, generation)
            if index.needs_retraining() and save:
                return self.rebuild(probe_texts=probe_texts, save=save)
            self._save(index, generation, save)
        return index

    def rebuild(self, *, probe_texts: EncodeTexts | None = None, save: bool = True) -> VectorIndex:
        """Builds the index from the store, whatever lies on disk."""
        assert self.dim is not None
        generation = self._store.generation
        ids = self._store.segment_ids()
        large = len(ids) > FLAT_UP_TO
        self._index = VectorIndex.build(
            ids,
            (vectors for _, vectors in self._store.vector_blocks(self.dim)) if len(ids) else np.empty((0, self.dim), np.float32),
            probe_queries=probe_texts(PROBE_TEXTS) if large and probe_texts is not None else None,
            device=self._device,
        )
        self._save(self._index, generation, save)
        return self._index

    def problems(self) -> list[str]:
        """What is wrong with the file on disk; a missing or an old one is no problem, it is made anew."""
        if self.dim is None or not self._path.exists():
            return []
        index = self._load()
        return [f"{self._path.name}: {self._why_not_loaded}; `vlm check --rebuild` makes it anew"] if index is None else []

    def describe(self) -> str:
        """The kind and state of the index in a few words."""
        if self.dim is None:
            return "none yet"
        index = self._index or self._load()
        if index is None:
            return f"to be built ({self._why_not_loaded})"
        state = "up to date" if index.generation == self._store.generation else "behind; brought up to date by the next search"
        reached = "" if index.recall is None else f", recall@10 {min(s.recall for s in index.recall.sets):.3f} of exact search"
        return f"{index.kind}, {index.num_vectors:,} vectors{reached}, {state}"

    def num_bytes(self) -> int:
        """Size of the file on disk."""
        return self._path.stat().st_size if self._path.exists() else 0

    def _load(self) -> VectorIndex | None:
        assert self.dim is not None
        try:
            return VectorIndex.load(self._path, library_id=self._store.library_id, dim=self.dim, device=self._device)
        except StaleOrDamaged as reason:
            self._why_not_loaded = str(reason)
            return None

    def _catch_up(self, index: VectorIndex, generation: int) -> None:
        index.remove(self._store.buried(after_generation=index.generation))
        for ids, vectors in self._store.vector_blocks(index.dim, after_generation=index.generation):
            index.add(ids, vectors)
        index.generation = generation

    def _save(self, index: VectorIndex, generation: int, save: bool) -> None:
        index.generation = generation
        if self._store.read_only or not (save or self._lock.free_to_write()):
            return
        with self._lock.held():
            index.save(self._path, generation=generation, library_id=self._store.library_id)
