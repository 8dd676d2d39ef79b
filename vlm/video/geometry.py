"""Where the pixels go: orientation from a display matrix, displayed size, and the boxes of each resize mode. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from vlm.types import Framing

Pixel = TypeVar("Pixel", bound=np.generic)

# A sample aspect ratio beyond this is a damaged header, not a lens.
_MAX_ASPECT = 16


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a stored picture becomes upright: first the axes change places, then each may be mirrored. All eight cases of the square."""

    swaps_axes: bool = False
    flips_x: bool = False
    flips_y: bool = False

    @classmethod
    def from_matrix(cls, matrix: bytes | None) -> Orientation:
        """The nearest of the eight orientations to a display matrix of nine int32; none where the matrix is missing or singular.

        A stored point (x, y) is shown at (a x + c y, b x + d y) for the matrix a, b, u, c, d, v, ... of ISO/IEC 14496-12.
        """
        if matrix is None or len(matrix) < 36:
            return cls()
        a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, dtype=np.int32, count=5))
        if a * d == b * c:
            return cls()
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(swaps_axes=True, flips_x=c < 0, flips_y=b < 0)
        return cls(flips_x=a < 0, flips_y=d < 0)

    @property
    def clockwise_degrees(self) -> Literal[0, 90, 180, 270]:
        """The turn that makes the picture upright, followed by a left-right mirroring where there is one."""
        if self.swaps_axes:
            return 270 if self.flips_y else 90
        return 180 if self.flips_y else 0

    def upright(self, pixels: NDArray[Pixel]) -> NDArray[Pixel]:
        """A view of (h, w, ...) pixels as displayed."""
        if self.swaps_axes:
            pixels = pixels.swapaxes(0, 1)
        return pixels[:: -1 if self.flips_y else 1, :: -1 if self.flips_x else 1]

    def displayed(self, width: int, height: int, pixel_aspect: Fraction | None) -> tuple[int, int]:
        """Width and height on screen, with square pixels: the stored width is stretched by the aspect of its pixels."""
        if pixel_aspect and Fraction(1, _MAX_ASPECT) <= pixel_aspect <= _MAX_ASPECT:
            width = max(1, round(width * pixel_aspect))
        return (height, width) if self.swaps_axes else (width, height)


@dataclass(frozen=True, slots=True)
class Placement:
    """A resized picture and its place on the target: positive offsets are cut away, negative ones are padding."""

    width: int
    height: int
    left: int
    top: int


def place(width: int, height: int, framing: Framing) -> Placement:
    """Where a displayed picture of ``width`` x ``height`` lands under ``framing``.

    ``shortest`` on a square target is torchvision's ``Resize(size)`` and ``CenterCrop(size)`` to the pixel, its rounding included;
    on another target the picture covers it in the same way.
    """
    if framing.resize == "squash":
        return Placement(framing.width, framing.height, 0, 0)
    fits_width = framing.width * height >= framing.height * width  # the width needs the larger factor
    if framing.resize == "shortest":
        across, down = (
            (framing.width, framing.width * height // width) if fits_width else (framing.height * width // height, framing.height)
        )
        return Placement(across, down, round((across - framing.width) / 2), round((down - framing.height) / 2))
    across = max(1, round(width * framing.height / height)) if fits_width else framing.width
    down = framing.height if fits_width else max(1, round(height * framing.width / width))
    return Placement(across, down, -((framing.width - across) // 2), -((framing.height - down) // 2))


def fit_within(width: int, height: int, longest: int) -> tuple[int, int]:
    """The size with the longer edge brought to ``longest``."""
    factor = longest / max(width, height)
    return max(1, round(width * factor)), max(1, round(height * factor))


def compose(pixels: NDArray[np.uint8], placement: Placement, framing: Framing) -> NDArray[np.uint8]:
    """The target (framing.height, framing.width, 3) with the resized picture (placement.height, placement.width, 3) put in its place."""
    target = np.full((framing.height, framing.width, 3), framing.fill, dtype=np.uint8)
    left, top = max(0, -placement.left), max(0, -placement.top)
    cut = pixels[max(0, placement.top) :, max(0, placement.left) :][: framing.height - top, : framing.width - left]
    target[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return target
