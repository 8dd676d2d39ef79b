"""Linear probes: what a straight map can read off frozen vectors. Ridge regression in closed form, so that nothing is tuned by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError


@dataclass(frozen=True, slots=True)
class Probe:
    """A linear map with offset: ``vectors @ weight + offset``; weight (d, k), offset (k,)."""

    weight: NDArray[np.float64]
    offset: NDArray[np.float64]

    def __call__(self, vectors: NDArray[np.floating]) -> NDArray[np.float64]:
        """Predictions (n, k) for vectors (n, d)."""
        predicted: NDArray[np.float64] = vectors @ self.weight + self.offset
        return predicted


def fit_ridge(vectors: NDArray[np.floating], targets: NDArray[np.floating], *, penalty: float = 1e-6) -> Probe:
    """The probe with least squared error plus ``penalty`` * n * |weight|^2 (Hoerl and Kennard 1970); the offset is not penalised.

    Args:
        vectors: (n, d). targets: (n, k).

    Raises:
        InputError: fewer than two rows, or not as many targets as vectors.
    """
    if len(vectors) < 2 or len(vectors) != len(targets):
        raise InputError(f"a probe needs as many targets as vectors, at least two, got {len(vectors)} and {len(targets)}")
    x, y = vectors.astype(np.float64), targets.astype(np.float64)
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    x, y = x - mean_x, y - mean_y
    weight = np.linalg.solve(x.T @ x + penalty * len(x) * np.eye(x.shape[1]), x.T @ y)
    return Probe(weight, mean_y - mean_x @ weight)


def r_squared(predicted: NDArray[np.floating], targets: NDArray[np.floating]) -> NDArray[np.float64]:
    """The share of variance explained, for each column of (n, k): 1 is perfect, 0 as good as the mean, less is worse.

    Raises:
        InputError: a column without variance.
    """
    spread = ((targets - targets.mean(axis=0)) ** 2).sum(axis=0)
    if not (spread > 0).all():
        raise InputError("R2 needs targets that vary")
    found: NDArray[np.float64] = 1 - ((predicted - targets) ** 2).sum(axis=0) / spread
    return found
