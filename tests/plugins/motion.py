"""A window encoder without torch: mean colours of four frames, and how much the picture changes between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vlm.encoders.base import Preprocessing, Window
from vlm.types import Framing

SIZE = 32
COLOURS = {"red": 0, "green": 1, "blue": 2}
MOTION = {"still": -1.0, "moving": 1.0}
DIM = 8


class Motion:
    """Windows (b, 4, 32, 32, 3) and texts to unit vectors (b, 8): three axes of colour, one of motion, the rest constant."""

    name = "python:tests/plugins/motion.py:motion"
    fingerprint = "motion-1"
    dim = DIM
    thread_safe = True
    window = Window(frames=4, seconds=2.0, stride=1.0)
    preprocessing = Preprocessing(Framing(height=SIZE, width=SIZE, resize="squash", interpolation="bilinear"))

    def encode_windows(self, frames: NDArray[np.uint8], times: NDArray[np.float64]) -> NDArray[np.float32]:
        pixels = frames.astype(np.float32) / 255
        rows = np.zeros((len(frames), DIM), np.float32)
        rows[:, :3] = pixels.mean(axis=(1, 2, 3))
        change = np.abs(np.diff(pixels, axis=1)).mean(axis=(1, 2, 3, 4)) if frames.shape[1] > 1 else np.zeros(len(frames), np.float32)
        rows[:, 3] = np.tanh(40 * change - 1)
        rows[:, 4] = 0.05
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Single frames as windows in which nothing moves."""
        still = np.repeat(frames[:, None], self.window.frames, axis=1)
        return self.encode_windows(still, np.zeros(still.shape[:2]))

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.zeros((len(texts), DIM), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().split():
                if word in COLOURS:
                    row[COLOURS[word]] += 1
                row[3] += MOTION.get(word, 0.0)
            row[4] = 0.05 + len(text) * 1e-5  # no two texts are the same
        unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit


def motion() -> Motion:
    return Motion()
