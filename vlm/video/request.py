"""What is asked of a decoder: one file, which frames, in which shape."""

from __future__ import annotations

from dataclasses import dataclass

from vlm.errors import InputError
from vlm.types import Framing
from vlm.video.sample import Moments, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRequest:
    """One file to decode.

    ``path`` is ``os.fsencode`` of the file's name, so that any name of the file system passes. Rows whose first timestamp is at or before
    ``after_pts`` are left out: that is how interrupted work goes on. ``thumbnail_seconds`` is the least distance between thumbnails;
    0 makes none.
    """

    path: bytes
    digest: str
    sampling: Sampling | Moments
    framing: Framing
    after_pts: int | None = None
    thumbnail_seconds: float = 10.0
    batch_rows: int = 32

    def __post_init__(self) -> None:
        if self.batch_rows < 1:
            raise InputError(f"batch_rows must be at least 1, got {self.batch_rows}")
        if self.thumbnail_seconds < 0:
            raise InputError(f"thumbnail_seconds must be 0 (none) or positive, got {self.thumbnail_seconds:g}")
