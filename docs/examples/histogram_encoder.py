"""A whole encoder plug-in in numpy: colour histograms, and texts that name colours.

vlm add videos/ --library lib --encoder python:docs/examples/histogram_encoder.py:histogram
vlm search "red" --library lib --encoder python:docs/examples/histogram_encoder.py:histogram
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vlm.encoders.base import Preprocessing
from vlm.types import Framing

HUES = {"red": 0, "yellow": 60, "green": 120, "cyan": 180, "blue": 240, "magenta": 300}
SIZE = 64
# Hue of every colour with four bits a channel, so that frames need a look-up and no arithmetic.
_HUE = np.array([int(colorsys.rgb_to_hsv(c >> 8, c >> 4 & 15, c & 15)[0] * 6 + 0.5) % 6 for c in range(4096)])
_SATURATION = np.array([max(c >> 8, c >> 4 & 15, c & 15) - min(c >> 8, c >> 4 & 15, c & 15) for c in range(4096)], np.float32) / 15


class Histogram:
    """Six hues and one bin for grey: 7 wide."""

    name = "histogram"
    fingerprint = "histogram-1"  # change it with everything that changes a vector
    dim = len(HUES) + 1
    thread_safe = True
    preprocessing = Preprocessing(Framing(height=SIZE, width=SIZE, resize="squash", interpolation="bilinear"))

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit vectors (n, 7) of frames (n, 64, 64, 3): the share of each hue, weighted by how colourful it is."""
        codes = (frames.astype(np.int64) >> 4) @ np.array([256, 16, 1])  # (n, h, w)
        rows = np.empty((len(frames), self.dim), np.float32)
        for row, code in zip(rows, codes.reshape(len(frames), SIZE * SIZE), strict=True):
            row[:-1] = np.bincount(_HUE[code], weights=_SATURATION[code], minlength=len(HUES))
            row[-1] = 0.3 * (1 - _SATURATION[code]).sum() + 1
        return _unit(rows)

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (n, 7) of texts: the hues that they name; grey where they name none."""
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().split():
                if word in HUES:
                    row[HUES[word] // 60] += 1
            row[-1] = 0.1 if row.any() else 1 + len(text)
        return _unit(rows)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def histogram() -> Histogram:
    """What the spec names: a function without arguments that gives the encoder; it may take ``device``."""
    return Histogram()
