"""A tiny encoder without torch, for tests of everything around it: colours on a 4 x 4 grid, and words that name colours.

Text and pictures share a space of one axis per colour word, one per block of the grid for brightness, and a few for all other words;
a seeded rotation mixes them, so that no test can lean on single coordinates.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vlm.encoders.base import Preprocessing
from vlm.types import Framing

SIZE = 64
GRID = 4
DIM = 32
COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (220, 30, 30),
    "green": (30, 180, 30),
    "blue": (30, 30, 220),
    "yellow": (230, 220, 30),
    "orange": (240, 140, 20),
    "purple": (140, 30, 180),
    "cyan": (30, 210, 210),
}
OTHER_WORDS = DIM - len(COLOURS) - GRID * GRID
_ROTATION = np.linalg.qr(np.random.default_rng(7).standard_normal((DIM, DIM)))[0].astype(np.float32)


class Blocks:
    """Frames (n, 64, 64, 3) and texts to unit vectors (n, 32)."""

    name = "python:tests/plugins/blocks.py:blocks"
    fingerprint = "blocks-1"
    dim = DIM
    thread_safe = True
    preprocessing = Preprocessing(Framing(height=SIZE, width=SIZE, resize="squash", interpolation="bilinear"))

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        step = SIZE // GRID
        blocks = frames.reshape(-1, GRID, step, GRID, step, 3).mean(axis=(2, 4), dtype=np.float32).reshape(-1, GRID * GRID, 3)
        palette = np.asarray(list(COLOURS.values()), np.float32)
        distance = np.linalg.norm(blocks[:, :, None] - palette, axis=-1)  # (n, blocks, colours)
        likeness = np.exp(-distance / 40).mean(axis=1)
        layout = blocks.mean(axis=-1) / 255 - 0.5
        others = np.zeros((len(frames), OTHER_WORDS), np.float32)
        return self._unit(
            np.concatenate([likeness / (np.linalg.norm(likeness, axis=1, keepdims=True) + 1e-3), 0.2 * layout, others], axis=1)
        )

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.zeros((len(texts), DIM), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()) or [""]:
                if word in COLOURS:
                    row[list(COLOURS).index(word)] += 1
                else:
                    digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
                    row[-1 - int.from_bytes(digest, "little") % OTHER_WORDS] += 0.1 * (1 if digest[0] % 2 else -1)
            row[len(COLOURS)] += 1e-2  # words may cancel each other out
        return self._unit(rows)

    def _unit(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        rotated = rows.astype(np.float32) @ _ROTATION
        unit: NDArray[np.float32] = rotated / np.linalg.norm(rotated, axis=1, keepdims=True)
        return unit


def blocks() -> Blocks:
    return Blocks()
