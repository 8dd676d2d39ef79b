"""Pictures that carry a number, and the rows of a decoded file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlm.types import DecodeOutcome, Frames, Framing, VideoInfo

MakeVideo = Callable[..., Path]

# The smallest framing from which a frame number can still be read.
NUMBER_FRAMING = Framing(height=16, width=16, resize="squash", interpolation="bilinear")


def numbered_picture(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """A 4 x 4 board of black and white fields: the binary digits of ``number``."""
    bits = (number >> np.arange(16)) & 1
    board = np.where(bits.reshape(4, 4), 235, 20).astype(np.uint8)
    tall = np.repeat(np.repeat(board, height // 4, axis=0), width // 4, axis=1)
    return np.repeat(tall[:, :, None], 3, axis=2)


def number_in(picture: NDArray[np.uint8]) -> int:
    """The number that ``numbered_picture`` drew, read from (16, 16, 3) pixels."""
    fields = picture.reshape(4, 4, 4, 4, 3).mean(axis=(1, 3, 4))
    return int(((fields.ravel() > 128) << np.arange(16)).sum())


def collect(items: Iterator[VideoInfo | Frames | DecodeOutcome]) -> tuple[VideoInfo, list[Frames], DecodeOutcome]:
    """What a decoder gives, by kind; the order of the kinds is checked."""
    info, *batches, outcome = items
    assert isinstance(info, VideoInfo)
    assert isinstance(outcome, DecodeOutcome)
    frames = [batch for batch in batches if isinstance(batch, Frames)]
    assert len(frames) == len(batches)
    return info, frames, outcome


def times_of(info: VideoInfo, batches: list[Frames]) -> list[float]:
    """Seconds of all rows."""
    return [t for batch in batches for t in info.clock.seconds(batch.pts).ravel().tolist()]


def numbers_of(batches: list[Frames]) -> list[int]:
    """The numbers in the pictures of all rows."""
    return [number_in(picture) for batch in batches for picture in batch.pixels.reshape(-1, 16, 16, 3)]
