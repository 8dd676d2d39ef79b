"""Where everything of a world is at given times, as its cameras see it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.tracks import TICKS_PER_SECOND, eased, even, hop_heights, inside
from vlm.data.toybox.vocabulary import RADII, SHAPES, TEXTURES
from vlm.data.toybox.world import States, World
from vlm.errors import InputError


def states(world: World, times: NDArray[np.float64]) -> States:
    """The states of all things of ``world`` at ``times`` (t,), each in [0, world.seconds).

    Raises:
        InputError: a time outside the world.
    """
    times = np.asarray(times, dtype=np.float64)
    if len(times) and not (times.min() >= 0 and times.max() < world.seconds):
        raise InputError(f"times must lie in [0, {world.seconds:g}) s of {world.name!r}, got {times.min():g} to {times.max():g} s")
    t, k = len(times), len(world.things)
    shot = np.searchsorted(np.array([shot.span.start for shot in world.shots]), times, side="right") - 1
    scene = np.array([shot.scene for shot in world.shots], dtype=np.int64)[shot]
    camera_x, camera_y, zoom = (np.array([getattr(shot, name) for shot in world.shots])[shot] for name in ("x", "y", "zoom"))

    # Times are rounded to a 2**-20 of a tick, so that a time such as 0.3 s meets the tick 3 exactly.
    ticks = np.round(times * TICKS_PER_SECOND * 2**20) / 2**20
    x, y, radius, angle, mix = (np.zeros((t, k)) for _ in range(5))
    colour = np.zeros((t, k, 2), dtype=np.int64)
    is_shown = np.zeros((t, k), dtype=np.bool_)
    for number, (thing, track) in enumerate(zip(world.things, world.tracks, strict=True)):
        rows = np.flatnonzero(scene == thing.scene)
        if len(rows) == 0:
            continue
        at = ticks[rows]
        x[rows, number] = (eased(track.x, at) - camera_x[rows]) * zoom[rows] + 0.5
        y[rows, number] = (eased(track.y, at) - hop_heights(track.hops, at) - camera_y[rows]) * zoom[rows] + 0.5
        radius[rows, number] = eased(track.radius, at)
        angle[rows, number] = np.deg2rad(even(track.turn, at))
        colour[rows, number] = track.colour
        for fade in track.fades:
            later = at >= fade.start
            colour[rows[later], number] = (fade.before, fade.after)
            mix[rows[later], number] = np.clip((at[later] - fade.start) / (fade.end - fade.start), 0.0, 1.0)
        is_shown[rows, number] = inside(track.present, at) & ~inside(track.unseen, at)
    size = np.argmin(np.abs(radius[..., None] - np.array(RADII)), axis=-1)
    radius *= zoom[:, None]
    is_shown &= (x > -radius) & (x < 1 + radius) & (y > -radius) & (y < 1 + radius)
    return States(
        times=times,
        scene=scene,
        shot=shot.astype(np.int64),
        is_shown=is_shown,
        x=x,
        y=y,
        radius=radius,
        angle=angle,
        colour=colour,
        mix=mix,
        depth=np.broadcast_to(np.array([track.depth for track in world.tracks]), (t, k)),
        size=size,
        shape=np.array([SHAPES.index(thing.look.shape) for thing in world.things], dtype=np.int64),
        texture=np.array([TEXTURES.index(thing.look.texture) for thing in world.things], dtype=np.int64),
    )
