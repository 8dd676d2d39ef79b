"""The plain truth of render.py: one frame after another, one thing after another, every formula on the whole frame in float64.

Tests hold the fast renderer to it within one grey level, and the benchmark measures against it. Nothing else uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.backdrop import CELLS, OCTAVES, Pattern, sensor_noise, specks_of, wave
from vlm.data.toybox.sprites import coverage, paint
from vlm.data.toybox.vocabulary import PALETTE, TEXTURES
from vlm.data.toybox.world import Backdrop, States

Floats = NDArray[Any]  # float64


def render_states(states: States, backdrops: Sequence[Backdrop], *, size: int = 64) -> NDArray[np.uint8]:
    """As ``render.render_states``."""
    frames = [_frame(states, row, backdrops[states.scene[row]], size) for row in range(len(states.times))]
    return np.array(frames, dtype=np.uint8).reshape(-1, size, size, 3)


def _frame(states: States, row: int, backdrop: Backdrop, size: int) -> Floats:
    time = float(states.times[row])
    y, x = np.mgrid[:size, :size] + 0.5  # the centres of the pixels
    mix = _mix(backdrop, Pattern.of(backdrop, int(states.shot[row])), x / size, y / size, time)[..., None]
    picture = (1 - mix) * np.array(backdrop.colours[0]) + mix * np.array(backdrop.colours[1])
    for speck in specks_of(backdrop):
        centre_x, centre_y = (place.item() * size for place in speck.at(np.array([time])))
        along, across = speck.direction
        u = np.maximum(np.abs((x - centre_x) * along + (y - centre_y) * across) - speck.half_length * size, 0)
        v = (y - centre_y) * along - (x - centre_x) * across
        tone = coverage(np.hypot(u, v) - speck.half_width * size)[..., None]
        picture = (1 - tone) * picture + tone * np.array(speck.colour)
    for thing in np.argsort(states.depth[row], kind="stable"):
        if states.is_shown[row, thing]:
            picture = _with_thing(picture, states, row, int(thing), x, y, size)
    share = (x + y) / (2 * size)
    picture *= ((1 - share) * backdrop.light[0] + share * backdrop.light[1])[..., None]
    noise = backdrop.noise * sensor_noise(backdrop, time, picture.size).astype(np.float64)
    frame: Floats = np.clip(np.rint(picture + noise.reshape(3, size, size).transpose(1, 2, 0)), 0, 255)
    return frame


def _with_thing(picture: Floats, states: States, row: int, thing: int, x: Floats, y: Floats, size: int) -> Floats:
    radius, angle, mix = (float(values[row, thing]) for values in (states.radius, states.angle, states.mix))
    dx, dy = x / size - states.x[row, thing], y / size - states.y[row, thing]
    u = (dx * np.cos(angle) + dy * np.sin(angle)) / radius
    v = (dx * np.sin(angle) - dy * np.cos(angle)) / radius
    keep, tone, white = paint(int(states.shape[thing]), TEXTURES[states.texture[thing]], u, v, np.array(radius * size))
    first, second = (np.array(PALETTE[colour], dtype=np.float64) for colour in states.colour[row, thing])
    return picture * keep[..., None] + (first + mix * (second - first)) * tone[..., None] + white[..., None]


def _mix(backdrop: Backdrop, pattern: Pattern, x: Floats, y: Floats, time: float) -> Floats:
    """How far each pixel lies from the first to the second colour."""
    x = x - backdrop.drift[0] * time + pattern.offset[0]
    y = y - backdrop.drift[1] * time + pattern.offset[1]
    match backdrop.kind:
        case "plain":
            return np.zeros_like(x)
        case "gradient":
            return wave((x * pattern.direction[0] + y * pattern.direction[1]) / 2.2)
        case "waves":
            return wave(y / backdrop.scale + 0.35 * wave(x / (2 * backdrop.scale)))
        case "tiles":
            return _between_points(pattern.lattice, x / backdrop.scale, y / backdrop.scale, len(x) * backdrop.scale)
        case _:
            octaves = [(cell * backdrop.scale, weight) for cell, weight in OCTAVES]
            parts = [weight * _between_points(pattern.lattice, x / cell, y / cell, None) for cell, weight in octaves]
            return parts[0] + parts[1]


def _between_points(lattice: Floats, x: Floats, y: Floats, sharpness: float | None) -> Floats:
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    across, down = (
        part * part * (3 - 2 * part) if sharpness is None else np.clip((part - 0.5) * sharpness + 0.5, 0, 1)
        for part in (x - column, y - row)
    )
    corner = [[lattice[(row + i) % CELLS, (column + j) % CELLS] for j in (0, 1)] for i in (0, 1)]
    upper: Floats = (1 - across) * corner[0][0] + across * corner[0][1]
    lower: Floats = (1 - across) * corner[1][0] + across * corner[1][1]
    value: Floats = (1 - down) * upper + down * lower
    return value
