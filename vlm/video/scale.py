"""A decoded frame to the encoder's input and to thumbnails: swscale for the pixels, geometry.py for the boxes."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
from av import VideoFrame
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from vlm.types import Framing
from vlm.video.geometry import Orientation, compose, fit_within, place

THUMBNAIL_EDGE = 160
_JPEG_QUALITY = 80

# Up to this many pixels a frame becomes RGB at full size first where the framing asks for it: within 0.5 grey levels of PIL. Larger ones
# are scaled straight from the stored planes all the same: a third of the time and none of the memory, within 2 grey levels.
_EXACT_PIXELS = 4_000_000

_KERNELS = {"bicubic": Interpolation.BICUBIC, "bilinear": Interpolation.BILINEAR}


def orientation_of(frame: VideoFrame) -> Orientation:
    """How this frame becomes upright."""
    try:
        matrix = frame.side_data.get(SideDataType.DISPLAYMATRIX)  # type: ignore[call-overload]  # PyAV types its keys as str
    except ValueError:  # one of the frame's side data is of a kind that this PyAV cannot name, and then it lists none
        turns = round(-frame.rotation / 90) % 4 if abs(frame.rotation) <= 360 else 0
        return Orientation(swaps_axes=turns % 2 == 1, flips_x=turns in (1, 2), flips_y=turns in (2, 3))
    return Orientation.from_matrix(None if matrix is None else bytes(matrix))


class Scaler:
    """Scales the frames of one file; keeps swscale's tables between frames of one size."""

    def __init__(self, framing: Framing, *, pixel_aspect: Fraction | None, threads: int = 1) -> None:
        self._framing = framing
        self._pixel_aspect = pixel_aspect
        self._threads = threads
        self._to_rgb = VideoReformatter()
        self._to_input = VideoReformatter()
        self._to_thumbnail = VideoReformatter()

    def pixels(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """The frame as the encoder takes it: (framing.height, framing.width, 3) uint8 RGB, upright."""
        orientation = orientation_of(frame)
        displayed = orientation.displayed(frame.width, frame.height, self._pixel_aspect)
        placement = place(*displayed, self._framing)
        kernel = _KERNELS[self._framing.interpolation]
        if self._framing.scale_from == "rgb":
            kernel |= Interpolation.FULL_CHR_H_INT
            if frame.width * frame.height <= _EXACT_PIXELS:
                frame = self._to_rgb.reformat(frame, format="rgb24", threads=self._threads)
        resized = self._resize(self._to_input, frame, orientation, (placement.width, placement.height), kernel)
        return compose(resized, placement, self._framing)

    def thumbnail(self, frame: VideoFrame) -> bytes:
        """The whole picture as a JPEG, upright, with its longer edge at 160 pixels."""
        orientation = orientation_of(frame)
        displayed = orientation.displayed(frame.width, frame.height, self._pixel_aspect)
        size = fit_within(*displayed, THUMBNAIL_EDGE)
        picture = self._resize(self._to_thumbnail, frame, orientation, size, Interpolation.BILINEAR)
        out = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(picture)).save(out, "JPEG", quality=_JPEG_QUALITY)
        return out.getvalue()

    def _resize(
        self, reformatter: VideoReformatter, frame: VideoFrame, orientation: Orientation, size: tuple[int, int], kernel: Interpolation
    ) -> NDArray[np.uint8]:
        """Upright pixels of the displayed ``size`` (width, height)."""
        # Scaling before turning: the kernels are separable and symmetric, so the order does not show, and the small picture is turned.
        width, height = size[::-1] if orientation.swaps_axes else size
        interpolation = int(kernel | Interpolation.ACCURATE_RND)
        frame = reformatter.reformat(frame, width, height, "rgb24", interpolation=interpolation, threads=self._threads)
        pixels: NDArray[np.uint8] = frame.to_ndarray()  # type: ignore[assignment]  # rgb24 is uint8
        return orientation.upright(pixels)
