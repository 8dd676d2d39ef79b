"""What lies behind the things: a pattern between two muted colours, small marks that drift, and the noise of a sensor.

A pattern belongs to the frame, not to the world: it does not grow with a camera's zoom, and each shot sees another part of it. Everything
is arithmetic on integers and on additions and products of floats, so that other machines get the same picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.dice import Dice
from vlm.data.toybox.world import Backdrop

Floats = NDArray[np.float32]
Real = TypeVar("Real", bound=np.floating[Any])

CELLS = 32  # the random lattice of clouds and tiles repeats after so many cells
OCTAVES = ((1.0, 0.65), (0.5, 0.35))  # of the clouds: size of a cell in scales, weight
_NOISE_PERIOD = 1 << 18  # noise values before a frame's noise begins anew


def random_bits(seed: int, count: int) -> NDArray[np.uint64]:
    """``count`` random 64-bit integers (SplitMix64 from ``seed`` on, as in dice.py)."""
    mixed = (np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) + np.uint64(seed)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def wave(phase: NDArray[Real]) -> NDArray[Real]:
    """A smooth wave of period 1 between 0 (at whole phases) and 1, without a sine, which differs between machines."""
    ramp: NDArray[Real] = np.abs(2 * (phase - np.floor(phase)) - 1)
    height: NDArray[Real] = 1 - ramp * ramp * (3 - 2 * ramp)
    return height


@dataclass(frozen=True, slots=True)
class Pattern:
    """What is random about one backdrop in one shot: where the pattern begins (in frame widths), which way it runs, its lattice."""

    offset: tuple[float, float]
    direction: tuple[float, float]
    lattice: Floats

    @classmethod
    def of(cls, backdrop: Backdrop, shot: int) -> Pattern:
        """The pattern of ``backdrop`` as shot number ``shot`` sees it."""
        dice = Dice(backdrop.seed, "pattern", shot)
        angle = Dice(backdrop.seed, "direction").uniform(0, 2 * math.pi)
        lattice = (random_bits(backdrop.seed, CELLS * CELLS) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
        return cls(
            offset=(dice.uniform(0, CELLS), dice.uniform(0, CELLS)),
            direction=(math.cos(angle), math.sin(angle)),
            lattice=lattice.reshape(CELLS, CELLS),
        )


def pattern_mix(backdrop: Backdrop, shot: int, times: NDArray[np.float64], size: int) -> Floats:
    """How far each pixel lies from the first to the second colour: (t, size, size) in [0, 1]; t is 1 for a pattern that stands still."""
    if not backdrop.is_moving:
        times = np.zeros(1)
    pattern = Pattern.of(backdrop, shot)
    centres = (np.arange(size) + 0.5) / size
    # In frame widths, as float64: the phase must stay exact after minutes of drift.
    x, y = (centres - backdrop.drift[axis] * times[:, None] + pattern.offset[axis] for axis in (0, 1))  # (t, size) each
    if backdrop.kind == "plain":
        return np.zeros((1, size, size), dtype=np.float32)
    if backdrop.kind == "gradient":
        along, across = pattern.direction
        return wave(_fold(x, along / 2.2)[:, None, :] + _fold(y, across / 2.2)[:, :, None])
    if backdrop.kind == "waves":
        bent = _fold(y, 1 / backdrop.scale)[:, :, None] + np.float32(0.35) * wave(_fold(x, 0.5 / backdrop.scale))[:, None, :]
        return wave(bent)
    if backdrop.kind == "tiles":
        return _lattice_values(pattern.lattice, x / backdrop.scale, y / backdrop.scale, sharpness=backdrop.scale * size)
    parts = [
        np.float32(weight) * _lattice_values(pattern.lattice, x / (backdrop.scale * cell), y / (backdrop.scale * cell), sharpness=None)
        for cell, weight in OCTAVES
    ]
    return parts[0] + parts[1]


def _fold(position: NDArray[np.float64], per_width: float) -> Floats:
    """Phases in [0, 1) as float32, whatever the position."""
    phase = position * per_width
    return (phase - np.floor(phase)).astype(np.float32)


def _lattice_values(lattice: Floats, x: NDArray[np.float64], y: NDArray[np.float64], *, sharpness: float | None) -> Floats:
    """The lattice between its points (t, size, size) at the cells ``x`` and ``y`` (t, size): smoothly, or in flat tiles.

    ``sharpness`` is the width of a tile in pixels, over one of which it passes into the next; None for smooth.
    """
    row, down = _cell(y, sharpness)
    column, across = _cell(x, sharpness)
    lines = lattice[row] * (1 - down)[..., None] + lattice[(row + 1) % CELLS] * down[..., None]  # (t, size, CELLS)
    left = np.take_along_axis(lines, column[:, None, :], axis=2)
    right = np.take_along_axis(lines, (column[:, None, :] + 1) % CELLS, axis=2)
    left += across[:, None, :] * (right - left)
    return left


def _cell(position: NDArray[np.float64], sharpness: float | None) -> tuple[NDArray[np.int64], Floats]:
    """The cell below each position, and how far it lies towards the next."""
    floor = np.floor(position)
    part = (position - floor).astype(np.float32)
    if sharpness is None:
        part = part * part * (3 - 2 * part)
    else:
        part = np.clip((part - np.float32(0.5)) * np.float32(sharpness) + np.float32(0.5), 0, 1)
    return floor.astype(np.int64) % CELLS, part


@dataclass(frozen=True, slots=True)
class Speck:
    """A short dash that drifts: position at time 0 and velocity in frame widths (a second), half its length and thickness, its tone."""

    x: float
    y: float
    velocity: tuple[float, float]
    direction: tuple[float, float]
    half_length: float
    half_width: float
    colour: tuple[int, int, int]

    def at(self, times: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Its centre at ``times``; it leaves on one side and comes back on the other."""
        x, y = (start + speed * times + SPECK_MARGIN for start, speed in zip((self.x, self.y), self.velocity, strict=True))
        period = 1 + 2 * SPECK_MARGIN
        return x % period - SPECK_MARGIN, y % period - SPECK_MARGIN


SPECK_MARGIN = 0.04


@lru_cache(maxsize=256)
def specks_of(backdrop: Backdrop) -> tuple[Speck, ...]:
    """The specks of a backdrop."""
    return tuple(_speck(Dice(backdrop.seed, "speck", number), backdrop) for number in range(backdrop.specks))


def _speck(dice: Dice, backdrop: Backdrop) -> Speck:
    angle = dice.uniform(0, 2 * math.pi)
    base = backdrop.colours[0] if dice.chance(0.5) else backdrop.colours[1]
    shift = dice.choose((-45, -35, 35, 45))
    return Speck(
        x=dice.uniform(),
        y=dice.uniform(),
        velocity=(dice.uniform(-0.06, 0.06), dice.uniform(-0.06, 0.06)),
        direction=(math.cos(angle), math.sin(angle)),
        half_length=dice.uniform(0.014, 0.024),
        half_width=dice.uniform(0.005, 0.008),
        colour=(_grey_level(base[0] + shift), _grey_level(base[1] + shift), _grey_level(base[2] + shift)),
    )


def _grey_level(value: int) -> int:
    return min(255, max(0, value))


def light_gain(backdrop: Backdrop, size: int) -> Floats:
    """The brightness factor of every pixel (size, size), linear from the top left to the bottom right corner."""
    centres = (np.arange(size, dtype=np.float64) + 0.5) / size
    share = (centres[:, None] + centres[None, :]) / 2
    return (backdrop.light[0] + (backdrop.light[1] - backdrop.light[0]) * share).astype(np.float32)


def sensor_noise(backdrop: Backdrop, time: float, count: int) -> Floats:
    """``count`` grey levels of noise for the frame at ``time``: they depend on the backdrop's seed and the time alone."""
    table = _noise_table(-(-count // _NOISE_PERIOD) * _NOISE_PERIOD + _NOISE_PERIOD)
    # To the microsecond, so that a time that passed through a container's time base finds the same noise.
    start = Dice(backdrop.seed, "noise", round(time * 1_000_000)).below(_NOISE_PERIOD)
    return table[start : start + count]


@lru_cache(maxsize=4)
def _noise_table(count: int) -> Floats:
    """Random values of mean 0 and variance 1, nearly normal: sums of four numbers of 16 bits (Irwin and Hall)."""
    bits = random_bits(0x746F79626F78, count)
    total = sum((bits >> np.uint64(shift)) & np.uint64(0xFFFF) for shift in (0, 16, 32, 48))
    table = ((total.astype(np.float64) - 2 * 65535) * (math.sqrt(3) / 65536)).astype(np.float32)  # type: ignore[union-attr]
    table.flags.writeable = False
    return table
