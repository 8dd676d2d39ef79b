"""Vectors known by id, row for row: gathered from blocks, checked, and taken in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from vlm.errors import BadVectors, EncoderMismatch, InputError

__all__ = ["Vectors", "checked_ids", "contains", "gather", "named", "refuse_non_finite", "row_blocks"]

Vectors = NDArray[np.float32] | NDArray[np.float16]
BLOCK_ROWS = 65_536  # taken to float32 at a time: 128 MiB at 512 values


def gather(blocks: Iterable[Vectors], num_vectors: int) -> Vectors:
    """The blocks' rows (n, d) in one array of the first block's precision."""
    gathered: Vectors | None = None
    filled = 0
    for block in blocks:
        if gathered is None:
            gathered = np.empty((num_vectors, block.shape[1]), block.dtype)
        if block.shape[1] != gathered.shape[1]:
            raise EncoderMismatch(f"blocks of vectors must have one width, got {gathered.shape[1]} and {block.shape[1]}")
        if filled + len(block) > num_vectors:
            raise InputError(f"vectors must be one per id, got more than {num_vectors}")
        gathered[filled : filled + len(block)] = block
        filled += len(block)
    if gathered is None or filled < num_vectors:
        raise InputError(f"vectors must be one per id, got {filled} for {num_vectors} ids; give an (0, d) array for an empty index")
    return gathered


def checked_ids(ids: NDArray[np.int64], vectors: Vectors) -> NDArray[np.int64]:
    """The ids (n,) as int64, fit to name the vectors (n, d).

    Raises:
        InputError: ids that are negative, repeated, or not one per vector.
    """
    if vectors.ndim != 2 or ids.shape != vectors.shape[:1]:
        raise InputError(f"ids must be (n,) and vectors (n, d), got {ids.shape} and {vectors.shape}")
    ids = np.ascontiguousarray(ids, dtype=np.int64)
    if np.any(ids < 0):
        raise InputError(f"ids must not be negative, got {named(ids[ids < 0])}")
    in_order = np.sort(ids)
    repeated = in_order[1:][in_order[1:] == in_order[:-1]]
    if len(repeated):
        raise InputError(f"ids must differ, got {named(repeated)} more than once")
    return ids


def refuse_non_finite(vectors: Vectors, ids: NDArray[np.int64], *, what: str = "vectors of ids") -> None:
    """Nothing where all vectors (n, d) are finite; the error names the ids (n,) of those that are not."""
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise BadVectors(f"{what} {named(ids[~finite])} are NaN or infinite; encode them again")


def named(ids: NDArray[np.int64]) -> str:
    """The ids for a message: all, or the first five and how many more."""
    listed = ", ".join(str(i) for i in ids[:5])
    return listed if len(ids) <= 5 else f"{listed} and {len(ids) - 5} more"


def row_blocks(num_rows: int) -> Iterator[slice]:
    """The rows in order, in pieces that are converted one at a time."""
    return (slice(first, min(first + BLOCK_ROWS, num_rows)) for first in range(0, num_rows, BLOCK_ROWS))


def contains(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of ``wanted`` are among ``ids``, which are in order."""
    if not len(ids):
        return np.zeros(len(wanted), np.bool_)
    is_known: NDArray[np.bool_] = ids[np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)] == wanted
    return is_known
