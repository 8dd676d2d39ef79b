"""How a thing looks: shape, texture, outline and mark as functions of a pixel's place in the thing's own axes.

In these axes the circle around the thing has radius 1, v points ahead (where the mark is) and u to the right of that. Distances are signed:
negative inside. The functions take arrays of any float type and shape; render.py calls them on patches, reference.py on whole frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.vocabulary import SHAPES

Floats = NDArray[np.floating[Any]]

# Where the white mark's centre lies ahead of the thing's, in radii, and the mark's own radius; a mark is never smaller than MARK_PIXELS.
MARK_AHEAD = {
    "circle": 0.56,
    "square": 0.40,
    "triangle": 0.36,
    "star": 0.42,
    "cross": 0.60,
    "heart": 0.24,
    "moon": 0.62,
    "ring": 0.69,
}
MARK_RADIUS, MARK_PIXELS = 0.17, 1.15
MARK_LEVEL = 250.0
RIM_RADIUS, RIM_PIXELS = 0.06, 0.6
OUTLINE_RADIUS, OUTLINE_PIXELS = 0.06, 0.6
# Brightness of outline, rim and the texture's second tone beside the thing's own colour.
OUTLINE_TONE, RIM_TONE, SECOND_TONE = 0.3, 0.15, 0.45

# In radii. A thing is 2 across; the periods differ so that the textures stay apart where they shrink to a few pixels.
STRIPE_PERIOD, CHECK_PERIOD, DOT_PERIOD, DOT_RADIUS = 0.7, 1.0, 0.8, 0.19

_HEART, _HEART_RISE = 0.79, 0.265
_SIN36, _COS36 = math.sin(math.pi / 5), math.cos(math.pi / 5)
_STAR, _STAR_NOTCH = 0.97, 0.51


def circle(u: Floats, v: Floats) -> Floats:
    """A disc."""
    distance: Floats = np.sqrt(u * u + v * v) - 0.94
    return distance


def square(u: Floats, v: Floats) -> Floats:
    """A square with one edge ahead and rounded corners, so that it is wide enough to hide the next smaller thing."""
    u, v = np.abs(u) - 0.59, np.abs(v) - 0.59
    outside: Floats = np.sqrt(np.maximum(u, 0) ** 2 + np.maximum(v, 0) ** 2)
    return outside + np.minimum(np.maximum(u, v), 0) - 0.14


def triangle(u: Floats, v: Floats) -> Floats:
    """An equilateral triangle with one tip ahead."""
    distance: Floats = np.maximum(-v - 0.5, math.sqrt(0.75) * np.abs(u) + 0.5 * v - 0.5)
    return distance


def star(u: Floats, v: Floats) -> Floats:
    """A star of five tips, one of them ahead."""
    u = np.abs(u)
    # Mirrored on the lines between its tips, every tip comes to lie on the one ahead.
    for mirror_u, mirror_v in ((_COS36, -_SIN36), (-_COS36, -_SIN36)):
        beyond = 2 * np.maximum(mirror_u * u + mirror_v * v, 0)
        u, v = u - beyond * mirror_u, v - beyond * mirror_v
    u = np.abs(u)
    # The edge runs from the tip (0, _STAR) to the notch beside it.
    run, fall = _STAR_NOTCH * _SIN36, _STAR - _STAR_NOTCH * _COS36
    length = math.hypot(run, fall)
    return (u * fall + (v - _STAR) * run) / length


def cross(u: Floats, v: Floats) -> Floats:
    """A cross of two bars, one pointing ahead."""
    u, v = np.abs(u), np.abs(v)
    return np.maximum(np.minimum(u, v) - 0.34, np.maximum(u, v) - 0.92)


def heart(u: Floats, v: Floats) -> Floats:
    """A heart with its tip behind: a square on its corner and two half discs."""
    u, v = np.abs(u) / _HEART, v / _HEART + _HEART_RISE
    board = np.maximum(np.abs(u + v), np.abs(u - v)) / math.sqrt(2) - 1 / math.sqrt(2)
    lobe = np.sqrt((u - 0.5) ** 2 + (v - 0.5) ** 2) - 1 / math.sqrt(2)
    return np.minimum(board, lobe) * _HEART


def moon(u: Floats, v: Floats) -> Floats:
    """A crescent with its round side ahead."""
    return np.maximum(np.sqrt(u * u + v * v) - 0.97, 0.76 - np.sqrt(u * u + (v + 0.52) ** 2))


def ring(u: Floats, v: Floats) -> Floats:
    """A ring with a hole."""
    return np.abs(np.sqrt(u * u + v * v) - 0.70) - 0.25


DISTANCES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "star": star,
    "cross": cross,
    "heart": heart,
    "moon": moon,
    "ring": ring,
}


def _bands(position: Floats, period: float) -> Floats:
    """Signed distance to the nearest border of bands half a period wide; negative in the band around 0 and every second one."""
    part = position / period
    distance: Floats = (np.abs(part - np.floor(part + 0.5)) - 0.25) * period
    return distance


def texture_distance(texture: str, u: Floats, v: Floats) -> Floats | None:
    """Signed distance in radii to the second tone, negative inside it; None for a plain thing."""
    if texture == "striped":
        return _bands(v, STRIPE_PERIOD)
    if texture == "checked":
        across, along = (_bands(place - CHECK_PERIOD / 4, CHECK_PERIOD) for place in (u, v))
        return np.maximum(np.minimum(across, along), -np.maximum(across, along))
    if texture == "dotted":
        # Every second row of dots is moved by half the distance between two.
        squared = np.minimum(_from_dots(u, v), _from_dots(u + DOT_PERIOD / 2, v + DOT_PERIOD / 2))
        distance: Floats = np.sqrt(squared) - DOT_RADIUS
        return distance
    return None


def _from_dots(u: Floats, v: Floats) -> Floats:
    """Squared distance to the nearest of the points on a square grid."""
    u, v = (place - DOT_PERIOD * np.floor(place / DOT_PERIOD + 0.5) for place in (u, v))
    return u * u + v * v


def coverage(distance: Floats) -> Floats:
    """The share of a pixel that lies inside, by its centre's signed distance in pixels from the border."""
    share: Floats = np.clip(0.5 - distance, 0, 1)
    return share


def paint(shape: int, texture: str, u: Floats, v: Floats, pixels: Floats) -> tuple[Floats, Floats, Floats]:
    """Three weights a pixel: what is seen of a thing over what lies behind it is ``behind * keep + colour * tone + white``.

    Args:
        shape: position in ``vocabulary.SHAPES``.
        texture: its name.
        u, v: places in the thing's axes.
        pixels: radius of the thing in pixels; broadcasts against u and v.
    """
    name = SHAPES[shape]
    distance = DISTANCES[name](u, v) * pixels
    inside = coverage(distance)
    body = coverage(distance + np.maximum(OUTLINE_RADIUS * pixels, OUTLINE_PIXELS))
    second = texture_distance(texture, u, v)
    surface: Floats | float = 1.0 if second is None else 1 - (1 - SECOND_TONE) * coverage(second * pixels)
    tone = inside * OUTLINE_TONE + body * (surface - OUTLINE_TONE)

    radius = np.maximum(MARK_RADIUS * pixels, MARK_PIXELS)
    from_mark = np.sqrt(u * u + (v - MARK_AHEAD[name]) ** 2) * pixels - radius
    mark = coverage(from_mark)
    rim = coverage(from_mark - np.maximum(RIM_RADIUS * pixels, RIM_PIXELS))
    tone = (tone * (1 - rim) + RIM_TONE * inside * rim) * (1 - mark)
    return (1 - inside) * (1 - mark), tone, MARK_LEVEL * mark
