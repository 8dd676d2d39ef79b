"""The names of Toybox, and the few numbers behind them. Positions in these tables are the integers of ``States``."""

from __future__ import annotations

VERSION = "toybox-1"

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "moon", "ring")
TEXTURES = ("plain", "striped", "dotted", "checked")

# Radius of the circle around a thing, in heights of the world.
SIZES = ("small", "medium", "large")
RADII = (0.075, 0.11, 0.16)

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
# sRGB, under white light.
PALETTE = ((220, 40, 40), (240, 140, 30), (235, 220, 50), (50, 170, 60), (60, 210, 220), (50, 80, 220), (140, 60, 190), (245, 140, 190))

BACKDROPS = ("plain", "gradient", "clouds", "tiles", "waves")

SIDES = ("left", "right", "top", "bottom")
DIRECTIONS = ("left", "right", "up", "down")
TURNS = ("clockwise", "anticlockwise")

# Every action, and its ways: the part of an event that tells two of the same action apart. A thing changes to one of COLOURS.
ACTIONS: dict[str, tuple[str, ...]] = {
    "enter": SIDES,
    "leave": SIDES,
    "move": DIRECTIONS,
    "bounce": (),
    "rotate": TURNS,
    "grow": (),
    "shrink": (),
    "blink": (),
    "recolour": COLOURS,
    "collide": (),
    "hide": (),
    "follow": (),
}
# These need a second thing: it is bumped, hidden behind, followed.
ACTIONS_ON_ANOTHER = ("collide", "hide", "follow")
# These end as they began, so that a single frame beside them does not tell whether they have happened: order queries are made of them.
ACTIONS_THAT_RESTORE = ("bounce", "rotate", "blink", "collide", "hide")
# Shapes without holes or waists: something smaller can hide behind them.
SHAPES_THAT_COVER = ("circle", "square")

SPLITS = ("train", "val", "test")
