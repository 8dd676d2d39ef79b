from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2

from vlm.types import Framing
from vlm.video.geometry import Orientation, compose, fit_within, place

STORED = np.arange(6).reshape(2, 3)
MATRICES = {  # a, b, c, d of the eight orientations, and what they make of STORED
    "upright": ((1, 0, 0, 1), STORED),
    "clockwise": ((0, 1, -1, 0), np.rot90(STORED, -1)),
    "half turn": ((-1, 0, 0, -1), np.rot90(STORED, 2)),
    "counterclockwise": ((0, -1, 1, 0), np.rot90(STORED)),
    "mirrored": ((-1, 0, 0, 1), STORED[:, ::-1]),
    "flipped": ((1, 0, 0, -1), STORED[::-1]),
    "transposed": ((0, 1, 1, 0), STORED.T),
    "transposed and turned": ((0, -1, -1, 0), np.rot90(STORED.T, 2)),
}
DEGREES = {"upright": 0, "clockwise": 90, "half turn": 180, "counterclockwise": 270}


def matrix(a: int, b: int, c: int, d: int) -> bytes:
    one = 1 << 16
    return np.asarray([a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30], dtype=np.int32).tobytes()


@pytest.mark.parametrize("name", MATRICES)
def test_every_orientation_of_the_square_is_made_upright(name: str) -> None:
    entries, expected = MATRICES[name]
    orientation = Orientation.from_matrix(matrix(*entries))
    assert orientation.upright(STORED).tolist() == expected.tolist()
    assert orientation.displayed(3, 2, None) == expected.shape[::-1]


@pytest.mark.parametrize("name", DEGREES)
def test_degrees_are_the_clockwise_turn(name: str) -> None:
    assert Orientation.from_matrix(matrix(*MATRICES[name][0])).clockwise_degrees == DEGREES[name]


@pytest.mark.parametrize("garbage", [None, b"", b"\0" * 36, b"\0" * 35, matrix(1, 1, 1, 1)])
def test_a_matrix_that_is_none_leaves_the_picture_alone(garbage: bytes | None) -> None:
    assert Orientation.from_matrix(garbage) == Orientation()


def test_pixels_are_made_square_before_turning() -> None:
    assert Orientation().displayed(640, 480, Fraction(16, 9)) == (1138, 480)
    assert Orientation(swaps_axes=True).displayed(640, 480, Fraction(16, 9)) == (480, 1138)


@pytest.mark.parametrize("aspect", [None, Fraction(0), Fraction(1, 1000), Fraction(65535)])
def test_a_senseless_pixel_aspect_is_ignored(aspect: Fraction | None) -> None:
    assert Orientation().displayed(640, 480, aspect) == (640, 480)


sizes = st.integers(1, 500)


@given(sizes, sizes, st.integers(1, 300))
def test_shortest_is_torchvision_to_the_pixel(width: int, height: int, side: int) -> None:
    picture = torch.zeros(1, height, width, dtype=torch.uint8)
    resized = v2.functional.resize(picture, [side], interpolation=v2.InterpolationMode.NEAREST)
    placed = place(width, height, Framing(height=side, width=side))
    assert (placed.height, placed.width) == tuple(resized.shape[1:])
    # The crop's offsets show in the coordinates of what is left.
    rows = torch.arange(resized.shape[1])[None, :, None].expand(resized.shape)
    columns = torch.arange(resized.shape[2])[None, None, :].expand(resized.shape)
    assert v2.functional.center_crop(rows, [side, side])[0, 0, 0] == placed.top
    assert v2.functional.center_crop(columns, [side, side])[0, 0, 0] == placed.left


@given(sizes, sizes, sizes, sizes)
def test_shortest_covers_any_target(width: int, height: int, target_height: int, target_width: int) -> None:
    placed = place(width, height, Framing(height=target_height, width=target_width))
    assert placed.width >= target_width
    assert placed.height >= target_height
    assert placed.width == target_width or placed.height == target_height


@given(sizes, sizes, sizes, sizes)
def test_longest_fits_any_target_and_touches_it(width: int, height: int, target_height: int, target_width: int) -> None:
    placed = place(width, height, Framing(height=target_height, width=target_width, resize="longest"))
    assert placed.width <= target_width
    assert placed.height <= target_height
    assert placed.width == target_width or placed.height == target_height


def test_padding_surrounds_the_picture_with_the_fill() -> None:
    framing = Framing(height=4, width=4, resize="longest", fill=7)
    out = compose(np.full((2, 4, 3), 200, np.uint8), place(100, 50, framing), framing)
    assert out[:, 0, 0].tolist() == [7, 200, 200, 7]


def test_a_thumbnail_keeps_the_shape() -> None:
    assert fit_within(1920, 1080, 160) == (160, 90)
    assert fit_within(1, 5000, 160) == (1, 160)
