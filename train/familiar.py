"""Where the vectors of a world's frames lie, so that an encoder can say which frames are not of that world."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from vlm.encoders.pocket import Familiar
from vlm.errors import InputError
from vlm.train.stills_source import relit

# Share of the mean variance that is added to every direction: without it, directions that the world never uses would have no scale.
SHRINKAGE = 1e-3
# Frames of the world itself that may be called unfamiliar.
ALLOWED = 0.001


def fit_familiar(vectors: NDArray[np.float32], held_out: NDArray[np.float32]) -> Familiar:
    """The Gaussian of ``vectors`` (n, d), with its limit where ALLOWED of ``held_out`` (m, d) lie beyond it.

    Raises:
        InputError: too few of either to say so.
    """
    if len(vectors) <= vectors.shape[1] or len(held_out) < 1 / ALLOWED:
        least = f"more than {vectors.shape[1]} vectors and at least {1 / ALLOWED:g} held out"
        raise InputError(f"statistics need {least}, got {len(vectors)} and {len(held_out)}")
    mean = vectors.mean(axis=0, dtype=np.float64)
    away = vectors - mean
    covariance = away.T @ away / len(vectors)
    covariance += SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    free = Familiar(mean.astype(np.float32), np.linalg.inv(covariance).astype(np.float32), np.inf)
    return Familiar(free.mean, free.precision, float(np.quantile(free.distances(held_out), 1 - ALLOWED)))


def frame_vectors(
    encode: Callable[[NDArray[np.uint8]], NDArray[np.float32]], pixels: NDArray[np.uint8], *, seed: int
) -> NDArray[np.float32]:
    """Vectors (2 n, d) of frames (n, h, w, 3) as they are, and under other light: videos come through cameras' and codecs' hands."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for first in range(0, len(pixels), 256):
        part = np.array(pixels[first : first + 256])
        parts += [encode(part), encode(relit(torch.from_numpy(part), generator).numpy())]
    return np.concatenate(parts)
