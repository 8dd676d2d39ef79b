"""What a Toybox world is: scenes with their things, events over time, camera shots. Everything here is truth; pixels come from render.py.

Time is float seconds on a grid of 0.1 s. The world is a square, (0, 0) top left and (1, 1) bottom right; a camera maps it to the frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.tracks import Track
from vlm.types import Span


@dataclass(frozen=True, slots=True)
class Look:
    """The four named attributes of a thing; names from vocabulary.py."""

    shape: str
    colour: str
    size: str
    texture: str


@dataclass(frozen=True, slots=True)
class Thing:
    """One object. ``look`` is how it is at the start of its scene; no two things of a scene ever have the same colour.

    Attributes:
        id: its column in ``States``.
        scene: the number of the scene in which it lives.
    """

    id: int
    scene: int
    look: Look


@dataclass(frozen=True, slots=True)
class Event:
    """One action of one thing, on another where the action asks for one.

    Attributes:
        id: position in ``World.events``, which is sorted by start, then end.
        action, way: keys and values of ``vocabulary.ACTIONS``; way is "" where an action has none.
        subject, target: ids of things; target is None unless the action is in ``ACTIONS_ON_ANOTHER``.
        look, target_look: how the two look when the event starts.
        cause: the id of the event whose consequence this is by a rule of the world (rules.py), None for a free event.
    """

    id: int
    action: str
    way: str
    span: Span
    subject: int
    look: Look
    target: int | None = None
    target_look: Look | None = None
    cause: int | None = None

    @property
    def label(self) -> str:
        """The action with its way, as a class name: ``move left``, ``rotate clockwise``, ``bounce``."""
        return f"{self.action} {self.way}" if self.way else self.action


@dataclass(frozen=True, slots=True)
class Backdrop:
    """What lies behind the things of a scene, and the light on all of it.

    Attributes:
        kind: one of ``vocabulary.BACKDROPS``.
        colours: two muted sRGB colours, 0 to 255, between which the pattern varies.
        drift: velocity (x, y) of the pattern in frame widths a second; (0, 0) stands still.
        scale: size of the pattern's features in frame widths.
        light: brightness factor at the top left and at the bottom right corner, about 0.8 to 1.15.
        noise: standard deviation of the sensor's noise in grey levels.
        specks: how many small muted marks drift about; they have no shape's name and take part in nothing.
        seed: of everything in the picture that has no name.
    """

    kind: str
    colours: tuple[tuple[int, int, int], tuple[int, int, int]]
    drift: tuple[float, float]
    scale: float
    light: tuple[float, float]
    noise: float
    specks: int
    seed: int

    @property
    def is_moving(self) -> bool:
        """Whether the pattern drifts; on a plain ground nothing can be seen to."""
        return self.kind != "plain" and self.drift != (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Scene:
    """A stretch of time with one backdrop and one set of things. Scenes follow each other with a cut."""

    span: Span
    things: tuple[int, ...]
    backdrop: Backdrop


@dataclass(frozen=True, slots=True)
class Shot:
    """A stretch of one scene seen by one still camera: the frame shows the world around (x, y), ``zoom`` times larger."""

    span: Span
    scene: int
    x: float
    y: float
    zoom: float


@dataclass(frozen=True, slots=True)
class States:
    """Every thing at some times, as the camera sees it: (0, 0) is the top left of the frame, (1, 1) the bottom right.

    Shapes, for t times and k things:
        times: (t,) float64 seconds. scene, shot: (t,) int64, what is on screen.
        is_shown: (t, k) bool, in the scene on screen, partly inside the frame, not blinked away. Things in front may still hide it.
        x, y, radius: (t, k) float64 in frame widths; radius of the circle around the shape.
        angle: (t, k) float64 radians, clockwise on screen from straight up: where the thing's white mark points.
        colour: (t, k, 2) int64, the colours between which it fades; mix: (t, k) float64, 0 = wholly the first.
        depth: (t, k) float64, painter's order: larger is nearer.
        size: (t, k) int64, the named size (the nearest, while it grows or shrinks).
        shape, texture: (k,) int64.
    Where ``is_shown`` is False the other values are of no meaning.
    """

    times: NDArray[np.float64]
    scene: NDArray[np.int64]
    shot: NDArray[np.int64]
    is_shown: NDArray[np.bool_]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    radius: NDArray[np.float64]
    angle: NDArray[np.float64]
    colour: NDArray[np.int64]
    mix: NDArray[np.float64]
    depth: NDArray[np.float64]
    size: NDArray[np.int64]
    shape: NDArray[np.int64]
    texture: NDArray[np.int64]

    def colour_name_index(self) -> NDArray[np.int64]:
        """The colour (t, k) that a viewer would name: the nearer end of the fade."""
        return np.where(self.mix < 0.5, self.colour[..., 0], self.colour[..., 1])


@dataclass(frozen=True, slots=True)
class World:
    """One video's truth. Made by ``plan.make_world``; the same seed, index and split give the same world on every machine.

    Attributes:
        name: ``toybox-1/SPLIT/SEED/INDEX``, with a suffix for special kinds; unique.
        scenes, shots: in order of time; together they cover [0, seconds).
        tracks: the motion of each thing, in the order of ``things``.
    """

    name: str
    split: str
    seconds: float
    scenes: tuple[Scene, ...]
    shots: tuple[Shot, ...]
    things: tuple[Thing, ...]
    events: tuple[Event, ...]
    tracks: tuple[Track, ...]
