"""Small videos that carry their frame numbers in their pixels, written with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests.vlm.video.numbered import MakeVideo, numbered_picture


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> MakeVideo:
    """A function that writes a numbered video and returns its path."""
    folder = tmp_path_factory.mktemp("videos")

    def make(
        name: str,
        pts: Sequence[int] | int = 50,
        *,
        codec: str = "libx264",
        options: dict[str, str] | None = None,
        time_base: Fraction = Fraction(1, 25),
        size: tuple[int, int] = (64, 48),
        pixel_format: str = "yuv420p",
        rotation: int = 0,
        container_options: dict[str, str] | None = None,
    ) -> Path:
        path = folder / name
        times = list(range(pts)) if isinstance(pts, int) else list(pts)
        with av.open(str(path), "w", options=container_options or {}) as container:
            stream = container.add_stream(codec, rate=25, options=options or {})
            stream.width, stream.height, stream.pix_fmt = size[0], size[1], pixel_format
            stream.codec_context.time_base = time_base
            stream.time_base = time_base
            if rotation:
                stream.set_display_rotation(rotation)
            for number, moment in enumerate(times):
                frame = av.VideoFrame.from_ndarray(numbered_picture(number, *size), format="rgb24")
                frame.pts, frame.time_base = moment, time_base
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return make
