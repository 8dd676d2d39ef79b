"""A picture file as an encoder takes it."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from vlm.errors import InputError
from vlm.types import Framing
from vlm.video.geometry import compose, place

_KERNELS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
# What lies behind transparent parts.
_PAPER = (255, 255, 255)


def read_picture(path: str | os.PathLike[str], framing: Framing) -> NDArray[np.uint8]:
    """The picture, upright by its EXIF tag and on white where it is transparent: (framing.height, framing.width, 3) uint8 RGB.

    Raises:
        InputError: it cannot be read, or is no picture.
    """
    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            rgba = upright.convert("RGBA")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no picture, or a damaged one"
        raise InputError(f"{os.fspath(path)!r} cannot be read as a picture: {reason}") from error
    paper = Image.new("RGBA", rgba.size, (*_PAPER, 255))
    picture = Image.alpha_composite(paper, rgba).convert("RGB")
    placement = place(*picture.size, framing)
    resized = picture.resize((placement.width, placement.height), _KERNELS[framing.interpolation])
    return compose(np.asarray(resized), placement, framing)
