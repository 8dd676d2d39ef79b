"""Texts as a frozen text tower gives them, read once: what training on top of it needs of words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm.encoders.base import Encoder, text_tokens

TEXTS_AT_ONCE = 512
_PARTS = ("pooled.npy", "words.npy", "bounds.npy")


@dataclass(frozen=True, slots=True)
class Words:
    """Texts of one batch: pooled (n, d) unit vectors, and words (n, q, d) with their mask (n, q); zeros at pads."""

    pooled: Tensor
    tokens: Tensor
    mask: Tensor

    def to(self, device: torch.device | str) -> Words:
        """The same on a device, in float32."""
        return Words(self.pooled.to(device).float(), self.tokens.to(device).float(), self.mask.to(device))


class TextBank:
    """Many texts, each read once, its words in float16 without pads.

    With a ``folder`` what was read is kept there, and mapped into memory by whoever asks for the same texts of the same encoder again.
    """

    def __init__(self, encoder: Encoder, texts: Sequence[str], folder: Path | None = None) -> None:
        self._rows: dict[str, int] = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        if folder is None:
            self._pooled, self._words, self._bounds = _read(encoder, list(self._rows))
            return
        key = hashlib.sha256(json.dumps([encoder.fingerprint, list(self._rows)]).encode()).hexdigest()[:16]
        home = folder / f"texts-{key}"
        home.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(home / "lock"):
            if not (home / "done").exists():
                arrays: tuple[NDArray[Any], ...] = _read(encoder, list(self._rows))
                for name, array in zip(_PARTS, arrays, strict=True):
                    np.save(home / name, array)
                (home / "done").touch()
        self._pooled, self._words, self._bounds = (np.load(home / name, mmap_mode="r") for name in _PARTS)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, text: str) -> bool:
        return text in self._rows

    def words(self, texts: Sequence[str]) -> Words:
        """Some of the texts as a batch.

        Raises:
            KeyError: a text was not read.
        """
        rows = [self._rows[text] for text in texts]
        lengths = self._bounds[1:][rows] - self._bounds[:-1][rows]
        tokens = np.zeros((len(rows), int(lengths.max(initial=1)), self._words.shape[1]), np.float16)
        for place, row in enumerate(rows):
            tokens[place, : lengths[place]] = self._words[self._bounds[row] : self._bounds[row + 1]]
        mask = np.arange(tokens.shape[1]) < lengths[:, None]
        return Words(torch.from_numpy(self._pooled[rows]), torch.from_numpy(tokens), torch.from_numpy(mask))


def _read(encoder: Encoder, texts: list[str]) -> tuple[NDArray[np.float16], NDArray[np.float16], NDArray[np.int64]]:
    """Pooled vectors (n, d), words (m, d), and the bounds (n + 1,) of each text's words. Texts of like length are read together."""
    pooled, words = np.zeros((len(texts), encoder.dim), np.float16), [np.zeros((0, encoder.dim), np.float16)] * len(texts)
    for rows in _parts(sorted(range(len(texts)), key=lambda row: len(texts[row]))):
        some = [texts[row] for row in rows]
        read = text_tokens(encoder, some)
        pooled[rows] = encoder.encode_text(some)
        for row, vectors, mask in zip(rows, read.vectors, read.mask, strict=True):
            words[row] = vectors[mask].astype(np.float16)
    bounds = np.concatenate([[0], np.cumsum([len(one) for one in words])]).astype(np.int64)
    return pooled, np.concatenate([np.zeros((0, encoder.dim), np.float16), *words]), bounds


def _parts(rows: list[int]) -> Iterator[list[int]]:
    for first in range(0, len(rows), TEXTS_AT_ONCE):
        yield rows[first : first + TEXTS_AT_ONCE]
