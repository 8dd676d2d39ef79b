"""Frames of a world: numpy only, many frames at a time, and the same bytes whichever frames are rendered together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import index

import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.backdrop import Speck, light_gain, pattern_mix, sensor_noise, specks_of
from vlm.data.toybox.motion import states as states_of
from vlm.data.toybox.sprites import coverage, paint
from vlm.data.toybox.vocabulary import PALETTE, TEXTURES
from vlm.data.toybox.world import Backdrop, States, World
from vlm.errors import InputError

Floats = NDArray[np.float32]

SMALLEST_SIZE = 32
_PIXELS_AT_ONCE = 1 << 18  # of one block of frames: its working memory is about 10 MB, near the caches


def render(world: World, times: NDArray[np.float64], *, size: int = 64) -> NDArray[np.uint8]:
    """Frames (t, size, size, 3) uint8 RGB of ``world`` at ``times`` (t,) seconds.

    A frame depends on its own time alone. Other machines give the same grey levels within one.

    Raises:
        InputError: ``size`` below 32, or a time outside the world.
    """
    return render_states(states_of(world, times), [scene.backdrop for scene in world.scenes], size=size)


def iter_frames(world: World, times: NDArray[np.float64], *, size: int = 64, at_once: int = 256) -> Iterator[NDArray[np.uint8]]:
    """As ``render``, in chunks of at most ``at_once`` frames, so that memory does not grow with the length of the video."""
    check_size(size)
    if at_once < 1:
        raise InputError(f"at_once must be at least 1 frame, got {at_once}")
    for first in range(0, len(times), at_once):
        yield render(world, times[first : first + at_once], size=size)


def render_states(states: States, backdrops: Sequence[Backdrop], *, size: int = 64) -> NDArray[np.uint8]:
    """Frames (t, size, size, 3) uint8 RGB of ``states``; ``backdrops[i]`` belongs to scene i.

    Raises:
        InputError: ``size`` below 32.
    """
    check_size(size)
    frames = np.empty((len(states.times), size, size, 3), dtype=np.uint8)
    for rows in _blocks(states, max(1, _PIXELS_AT_ONCE // size**2)):
        frames[rows] = _paint_block(states, rows, backdrops[int(states.scene[rows[0]])], size)
    return frames


def check_size(size: int) -> None:
    """Raises InputError where a frame of ``size`` x ``size`` pixels shows nothing that could be named."""
    try:
        is_large_enough = index(size) >= SMALLEST_SIZE
    except TypeError:
        raise InputError(f"size must be a whole number of pixels, got {size!r}") from None
    if not is_large_enough:
        raise InputError(f"size must be at least {SMALLEST_SIZE} pixels, got {size}: too small to show anything; 64 shows every shape")


def _blocks(states: States, at_once: int) -> Iterator[NDArray[np.int64]]:
    """Positions of frames that are painted together: of one shot, so that they share backdrop and pattern."""
    for shot in np.unique(states.shot):
        rows = np.flatnonzero(states.shot == shot)
        for first in range(0, len(rows), at_once):
            yield rows[first : first + at_once]


def _paint_block(states: States, rows: NDArray[np.int64], backdrop: Backdrop, size: int) -> NDArray[np.uint8]:
    """Frames (n, size, size, 3) of ``rows``, all of one shot."""
    times = states.times[rows]
    canvas = _ground(backdrop, int(states.shot[rows[0]]), times, size)  # (n, 3, size, size)
    for speck in specks_of(backdrop):
        _add_speck(canvas, speck, times, size)
    _add_things(canvas, states, rows, size)
    canvas *= light_gain(backdrop, size)
    for frame, time in zip(canvas, times.tolist(), strict=True):
        frame += np.float32(backdrop.noise) * sensor_noise(backdrop, time, frame.size).reshape(frame.shape)
    np.rint(canvas, out=canvas)
    np.clip(canvas, 0, 255, out=canvas)
    return canvas.astype(np.uint8).transpose(0, 2, 3, 1)


def _ground(backdrop: Backdrop, shot: int, times: NDArray[np.float64], size: int) -> Floats:
    mix = pattern_mix(backdrop, shot, times, size)[:, None]  # (t or 1, 1, size, size)
    first, second = (np.array(colour, dtype=np.float32)[:, None, None] for colour in backdrop.colours)
    canvas = np.empty((len(times), 3, size, size), dtype=np.float32)
    np.multiply(mix, second - first, out=canvas)
    canvas += first
    return canvas


def _add_things(canvas: Floats, states: States, rows: NDArray[np.int64], size: int) -> None:
    """Paints the shown things, the farthest of each frame first; of two at one depth, the earlier column."""
    is_shown = states.is_shown[rows]
    order = np.argsort(np.where(is_shown, states.depth[rows], np.inf), axis=1, kind="stable")  # (n, k)
    for rank in range(order.shape[1]):
        for thing in np.unique(order[:, rank]):
            chosen = np.flatnonzero((order[:, rank] == thing) & is_shown[:, thing])
            if len(chosen):
                _add_thing(canvas, states, rows[chosen], chosen, int(thing), size)


def _add_thing(canvas: Floats, states: States, rows: NDArray[np.int64], frames: NDArray[np.int64], thing: int, size: int) -> None:
    """Paints one thing as it is at ``rows`` on the ``frames`` of the canvas."""
    x, y, pixels = (values[rows, thing] * size for values in (states.x, states.y, states.radius))
    angle = states.angle[rows, thing]
    cos, sin = (_per_frame(values / pixels) for values in (np.cos(angle), np.sin(angle)))
    patch = _Patch(x, y, float(pixels.max()) + 2, size)
    # The heading is (sin, -cos) on screen; (cos, sin) lies to the right of it.
    u = patch.dx * cos + patch.dy * sin
    v = patch.dx * sin - patch.dy * cos
    keep, tone, white = paint(int(states.shape[thing]), TEXTURES[states.texture[thing]], u, v, _per_frame(pixels))
    mix = states.mix[rows, thing, None]
    palette = np.array(PALETTE, dtype=np.float64)
    colour = palette[states.colour[rows, thing, 0]] * (1 - mix) + palette[states.colour[rows, thing, 1]] * mix  # (n, 3)
    patch.blend(canvas, frames, keep, colour.astype(np.float32), tone, white)


def _add_speck(canvas: Floats, speck: Speck, times: NDArray[np.float64], size: int) -> None:
    x, y = (place * size for place in speck.at(times))
    along, across = (np.float32(part) for part in speck.direction)
    patch = _Patch(x, y, (speck.half_length + speck.half_width) * size + 2, size)
    u = np.abs(patch.dx * along + patch.dy * across) - np.float32(speck.half_length * size)
    v = patch.dy * along - patch.dx * across
    distance = np.sqrt(np.maximum(u, 0) ** 2 + v * v) - np.float32(speck.half_width * size)
    tone = coverage(distance)
    colour = np.broadcast_to(np.array(speck.colour, dtype=np.float32), (len(times), 3))
    patch.blend(canvas, np.arange(len(times)), 1 - tone, colour, tone, None)


class _Patch:
    """The part of every frame around a thing: a square of one size, moved so that it lies inside the frame.

    Shapes:
        dx, dy: (n, 1, p) and (n, p, 1), from the thing's centre to the pixels' centres, in pixels.
    """

    def __init__(self, x: NDArray[np.float64], y: NDArray[np.float64], reach: float, size: int) -> None:
        side = min(size, int(np.ceil(2 * reach)) + 1)
        left, top = (np.clip(np.floor(place - reach), 0, size - side).astype(np.int64) for place in (x, y))
        span = np.arange(side)
        self._columns, self._rows, self._size = left[:, None] + span, top[:, None] + span, size
        self.dx = ((self._columns + 0.5) - x[:, None]).astype(np.float32)[:, None, :]
        self.dy = ((self._rows + 0.5) - y[:, None]).astype(np.float32)[:, :, None]

    def blend(self, canvas: Floats, frames: NDArray[np.int64], keep: Floats, colour: Floats, tone: Floats, white: Floats | None) -> None:
        """``behind * keep + colour * tone + white`` on the patches of ``frames``; colour is (n, 3), the weights (n, p, p)."""
        area = self._size**2
        places = frames[:, None, None] * (3 * area) + self._rows[:, :, None] * self._size + self._columns[:, None, :]  # (n, p, p)
        flat = canvas.reshape(-1)
        for channel in range(3):
            seen = flat[places]
            seen *= keep
            seen += colour[:, channel, None, None] * tone
            if white is not None:
                seen += white
            flat[places] = seen
            places += area


def _per_frame(values: NDArray[np.float64]) -> Floats:
    return values.astype(np.float32)[:, None, None]
