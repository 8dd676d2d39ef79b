"""Where the styles of a world's frames lie, so that an encoder can say which frames are not of that world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vlm.encoders.pocket import Familiar
from vlm.errors import InputError
from vlm.train.stills_source import relit

# Share of the mean variance that is added to every direction: without it, directions that the world never uses would have no scale.
SHRINKAGE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class FamiliarConfig:
    """What the statistics are taken of.

    Attributes:
        frames: of training; held_out_worlds: of the split val, with as many frames each as in training.
        allowed: share of held-out frames that may be called unfamiliar.
    """

    frames: int = 6000
    held_out_worlds: int = 1000
    allowed: float = 0.001

    def __post_init__(self) -> None:
        if self.frames < 1 or self.held_out_worlds < 1 or not 0 < self.allowed < 1:
            raise InputError(f"frames and held_out_worlds must be at least 1 and allowed within 0..1, got {self}")


def fit_familiar(styles: NDArray[np.float32], held_out: NDArray[np.float32], *, allowed: float) -> Familiar:
    """The Gaussian of ``styles`` (n, s), with its limit where the share ``allowed`` of ``held_out`` (m, s) lies beyond it.

    Raises:
        InputError: too few of either to say so.
    """
    if len(styles) <= styles.shape[1] or len(held_out) < 1 / allowed:
        least = f"more than {styles.shape[1]} frames and at least {1 / allowed:g} held out"
        raise InputError(f"statistics need {least}, got {len(styles)} and {len(held_out)}")
    mean = styles.mean(axis=0, dtype=np.float64)
    away = styles - mean
    covariance = away.T @ away / len(styles)
    covariance += SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    free = Familiar(mean.astype(np.float32), np.linalg.inv(covariance).astype(np.float32), np.inf)
    return Familiar(free.mean, free.precision, float(np.quantile(free.distances(held_out), 1 - allowed)))


def frame_styles(style: Callable[[NDArray[np.uint8]], NDArray[np.float32]], pixels: NDArray[np.uint8], *, seed: int) -> NDArray[np.float32]:
    """Styles (2 n, s) of frames (n, h, w, 3) as they are, and under other light: videos come through cameras' and codecs' hands."""
    parts = []
    for first in range(0, len(pixels), 256):
        part = np.array(pixels[first : first + 256])
        parts += [style(part), style(relit(torch.from_numpy(part), seed + first).numpy())]
    return np.concatenate(parts)
