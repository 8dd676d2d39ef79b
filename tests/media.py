"""Small real video files for tests, made with PyAV: scenes of plain colours with a moving square, so that decoders have work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 50, 220), "white": (240, 240, 240), "black": (10, 10, 10)}


def scene_video(
    path: Path | bytes,
    scenes: Sequence[tuple[str, float]],
    *,
    rate: int = 10,
    size: tuple[int, int] = (64, 96),
    codec: str = "libx264",
    container: str | None = None,
    seed: int = 0,
) -> Path:
    """Writes a video that shows each (colour, seconds) of ``scenes`` in turn; ``seed`` moves the square so that contents differ."""
    height, width = size
    target = Path(os.fsdecode(path)) if isinstance(path, bytes) else path
    plain = target.with_name(f"plain-{abs(hash((str(target), seed))):x}.part")  # FFmpeg takes no undecodable name; the file is renamed
    with av.open(
        str(plain), "w", format=container or {".mkv": "matroska", ".webm": "webm", ".gif": "gif"}.get(target.suffix, "mp4")
    ) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate)
        number = 0
        for colour, seconds in scenes:
            for _ in range(round(seconds * rate)):
                picture = np.empty((height, width, 3), np.uint8)
                picture[:] = COLOURS[colour]
                x, y = (number * 3 + seed * 7) % (width - 8), (number + seed * 5) % (height - 8)
                picture[y : y + 8, x : x + 8] = 128
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, rate)
                out.mux(stream.encode(frame))
                number += 1
        out.mux(stream.encode(None))
    os.replace(plain, os.fsencode(target))
    return target
