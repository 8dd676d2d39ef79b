"""Frames against the plain reference renderer, and what a viewer must be able to see in them."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vlm.data.toybox import motion, reference
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.render import iter_frames, render, render_states
from vlm.data.toybox.sprites import DISTANCES, texture_distance
from vlm.data.toybox.vocabulary import BACKDROPS, COLOURS, PALETTE, RADII, SHAPES, SHAPES_THAT_COVER, TEXTURES
from vlm.data.toybox.world import Backdrop, States
from vlm.errors import InputError

GREY = Backdrop(
    kind="plain", colours=((100, 100, 100), (100, 100, 100)), drift=(0.0, 0.0), scale=0.2, light=(1.0, 1.0), noise=0.0, specks=0, seed=1
)
MEDIUM, LARGE = RADII[1:]


def thing(**values: Any) -> dict[str, Any]:
    """One thing of one frame: a large plain red circle in the middle, pointing up, but for ``values``."""
    usual = {
        "x": 0.5,
        "y": 0.5,
        "radius": LARGE,
        "angle": 0.0,
        "colour": (0, 0),
        "mix": 0.0,
        "depth": 0.0,
        "shape": 0,
        "texture": 0,
        "is_shown": True,
    }
    assert values.keys() <= usual.keys()
    return usual | values


def one_frame(*things: dict[str, Any], time: float = 0.0, shot: int = 0) -> States:
    """States (1, k) of these things."""

    def column(name: str, dtype: type) -> NDArray[Any]:
        return np.array([[part[name] for part in things]], dtype=dtype)

    return States(
        times=np.array([time]),
        scene=np.array([0]),
        shot=np.array([shot]),
        is_shown=column("is_shown", bool),
        x=column("x", float),
        y=column("y", float),
        radius=column("radius", float),
        angle=column("angle", float),
        colour=column("colour", int).reshape(1, len(things), 2),
        mix=column("mix", float),
        depth=column("depth", float),
        size=np.zeros((1, len(things)), dtype=np.int64),
        shape=np.array([part["shape"] for part in things], dtype=np.int64),
        texture=np.array([part["texture"] for part in things], dtype=np.int64),
    )


def picture(*things: dict[str, Any], backdrop: Backdrop = GREY, size: int = 64, time: float = 0.0, shot: int = 0) -> NDArray[np.int64]:
    """The one frame (size, size, 3) of these things."""
    return render_states(one_frame(*things, time=time, shot=shot), [backdrop], size=size)[0].astype(np.int64)


def fraction(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_subnormal=False)


def colour_number() -> st.SearchStrategy[int]:
    return st.integers(0, len(COLOURS) - 1)


THINGS = st.fixed_dictionaries(
    {
        "x": fraction(-0.3, 1.3),
        "y": fraction(-0.3, 1.3),
        "radius": fraction(0.02, 0.5),
        "angle": fraction(-20, 20),
        "colour": st.tuples(colour_number(), colour_number()),
        "mix": fraction(0, 1),
        "depth": st.sampled_from([0.0, 1.0, 2.0]),
        "shape": st.integers(0, len(SHAPES) - 1),
        "texture": st.integers(0, len(TEXTURES) - 1),
        "is_shown": st.booleans(),
    }
)
LEVELS = st.tuples(st.integers(40, 200), st.integers(40, 200), st.integers(40, 200))
GROUNDS = st.builds(
    Backdrop,
    kind=st.sampled_from(BACKDROPS),
    colours=st.tuples(LEVELS, LEVELS),
    drift=st.tuples(fraction(-0.1, 0.1), fraction(-0.1, 0.1)) | st.just((0.0, 0.0)),
    scale=fraction(0.1, 0.5),
    light=st.tuples(fraction(0.75, 1.2), fraction(0.75, 1.2)),
    noise=fraction(0, 8),
    specks=st.integers(0, 4),
    seed=st.integers(0, (1 << 31) - 1),
)


@settings(max_examples=150, deadline=None)
@given(things=st.lists(THINGS, min_size=1, max_size=5), backdrop=GROUNDS, time=fraction(0, 600), size=st.integers(32, 80))
def test_frames_are_within_one_grey_level_of_the_plain_reference(
    things: list[dict[str, Any]], backdrop: Backdrop, time: float, size: int
) -> None:
    states = one_frame(*things, time=time)
    fast, plain = (module(states, [backdrop], size=size).astype(int) for module in (render_states, reference.render_states))
    assert np.abs(fast - plain).max() <= 1


def test_frames_of_a_whole_world_are_within_one_grey_level_of_the_plain_reference() -> None:
    world = make_world(3, 10, seconds=40.0)
    states = motion.states(world, np.linspace(0, world.seconds - 0.1, 24))
    backdrops = [scene.backdrop for scene in world.scenes]
    fast, plain = (module(states, backdrops, size=64).astype(int) for module in (render_states, reference.render_states))
    assert np.abs(fast - plain).max() <= 1


def test_a_frame_is_the_same_whichever_frames_are_rendered_beside_it() -> None:
    world = make_world(3, 10, seconds=60.0)
    times = np.arange(0, world.seconds, 0.5)
    together = render(world, times)
    shuffled = np.random.default_rng(0).permutation(len(times))
    assert np.array_equal(render(world, times[shuffled]), together[shuffled])
    assert np.array_equal(np.concatenate([render(world, times[i : i + 1]) for i in range(len(times))]), together)


def test_chunks_join_to_the_whole() -> None:
    world = make_world(3, 4)
    times = np.arange(0, 5, 0.25)
    chunks = list(iter_frames(world, times, size=48, at_once=7))
    assert [len(chunk) for chunk in chunks] == [7, 7, 6]
    assert np.array_equal(np.concatenate(chunks), render(world, times, size=48))


def test_no_times_give_no_frames() -> None:
    assert render(make_world(3, 4), np.zeros(0), size=40).shape == (0, 40, 40, 3)


@pytest.mark.parametrize("size", [31, 1, 0, -64])
def test_a_size_too_small_to_show_anything_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=rf"size must be at least 32 pixels, got {size}: too small"):
        render(make_world(3, 4), np.zeros(1), size=size)


def test_a_size_that_is_no_whole_number_is_refused() -> None:
    with pytest.raises(InputError, match=r"size must be a whole number of pixels, got 64\.5"):
        render(make_world(3, 4), np.zeros(1), size=64.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("front", ["first", "second"])
def test_the_nearer_thing_covers_the_farther(front: str) -> None:
    red, blue = thing(colour=(0, 0), depth=float(front == "first")), thing(colour=(5, 5), depth=float(front == "second"))
    expected = PALETTE[0 if front == "first" else 5]
    assert picture(red, blue)[36, 32].tolist() == list(expected)


def test_of_two_at_one_depth_the_later_column_is_in_front() -> None:
    assert picture(thing(colour=(0, 0)), thing(colour=(5, 5)))[36, 32].tolist() == list(PALETTE[5])


@pytest.mark.parametrize("cover", SHAPES_THAT_COVER)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [0, 1])
def test_a_thing_behind_the_next_larger_cover_cannot_be_seen(cover: str, shape: str, size: int) -> None:
    for angle in np.linspace(0, 2 * np.pi, 7):
        front = thing(shape=SHAPES.index(cover), colour=(5, 5), radius=RADII[size + 1], angle=0.3, depth=1.0)
        behind = thing(shape=SHAPES.index(shape), radius=RADII[size], angle=angle)
        assert np.array_equal(picture(front, behind, size=224), picture(front, size=224))


def test_a_thing_that_is_not_shown_leaves_no_trace() -> None:
    assert np.all(picture(thing(is_shown=False)) == 100)


def test_one_sees_through_the_hole_of_a_ring() -> None:
    behind = thing(colour=(4, 4), radius=0.05)
    ring = thing(shape=SHAPES.index("ring"), depth=1.0)
    assert np.array_equal(picture(behind, ring)[30:34, 30:34], picture(behind)[30:34, 30:34])


def test_halfway_through_a_fade_the_colour_is_the_mean() -> None:
    between = picture(thing(colour=(0, 5), mix=0.5))[36, 32]
    assert np.abs(between - (np.array(PALETTE[0]) + PALETTE[5]) / 2).max() <= 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", RADII)
def test_the_white_mark_shows_the_heading_of_every_shape(shape: str, radius: float) -> None:
    angles = np.linspace(0, 2 * np.pi, 13)
    errors = []
    for angle in angles:
        frame = picture(thing(shape=SHAPES.index(shape), colour=(5, 5), radius=radius, angle=angle, x=0.49, y=0.52))
        y, x = np.mgrid[:64, :64] + 0.5
        white = np.clip(frame[..., 0] - 150, 0, None)  # blue things have little red
        seen = np.arctan2((white * (x - 0.49 * 64)).sum(), -(white * (y - 0.52 * 64)).sum())
        errors.append(np.rad2deg(np.angle(np.exp(1j * (seen - angle)))))
    assert np.abs(errors).max() < 12


GRID = np.mgrid[-1.2:1.2:241j, -1.2:1.2:241j]  # v, u


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_lies_within_its_circle_and_fills_a_good_part_of_it(shape: str) -> None:
    v, u = GRID
    inside = DISTANCES[shape](u, v) < 0
    assert not np.any(inside & (u * u + v * v > 1.02**2))
    assert 0.3 < inside.sum() / (u * u + v * v < 1).sum() < 0.95


def test_no_two_shapes_look_alike_however_they_are_turned() -> None:
    v, u = GRID

    def silhouette(shape: str, turn: float) -> NDArray[np.bool_]:
        return DISTANCES[shape](u * np.cos(turn) - v * np.sin(turn), u * np.sin(turn) + v * np.cos(turn)) < 0

    def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
        return float((one & other).sum() / (one | other).sum())

    turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    alike = {(a, b): max(overlap(silhouette(a, 0.0), silhouette(b, turn)) for turn in turns) for a, b in combinations(SHAPES, 2)}
    assert max(alike.values()) < 0.85, alike


@pytest.mark.parametrize("texture", TEXTURES[1:])
def test_a_texture_has_much_of_both_tones(texture: str) -> None:
    v, u = GRID
    distance = texture_distance(texture, u, v)
    assert distance is not None
    assert 0.25 < (distance < 0).mean() < 0.75


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [MEDIUM, LARGE])
def test_the_textures_of_a_shape_differ_at_64_pixels(shape: str, radius: float) -> None:
    frames = [picture(thing(shape=SHAPES.index(shape), texture=texture, radius=radius, angle=0.4)) for texture in range(len(TEXTURES))]
    is_thing = np.any(frames[0] != 100, axis=-1)
    for one, other in combinations(frames, 2):
        assert np.abs(one - other).max(axis=-1)[is_thing].mean() > 15


def test_noise_has_the_given_strength_and_changes_from_frame_to_frame() -> None:
    noisy = replace(GREY, noise=5.0)
    first, second = (picture(thing(is_shown=False), backdrop=noisy, size=200, time=time) - 100 for time in (0.0, 0.04))
    assert first.std() == pytest.approx(5.0, rel=0.05)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02


def test_light_falls_from_the_top_left_to_the_bottom_right() -> None:
    lit = picture(thing(is_shown=False), backdrop=replace(GREY, light=(1.2, 0.8)), size=100)[..., 0]
    assert (lit[0, 0], lit[0, -1], lit[-1, 0], lit[-1, -1]) == (120, 100, 100, 80)


@pytest.mark.parametrize("kind", ["clouds", "tiles"])
def test_a_pattern_drifts_at_its_velocity(kind: str) -> None:
    drifting = replace(GREY, kind=kind, colours=((60, 60, 60), (180, 180, 180)), drift=(0.125, -0.0625))
    before, after = (picture(thing(is_shown=False), backdrop=drifting, time=time) for time in (0.0, 1.0))
    assert np.abs(after[:-4, 8:] - before[4:, :-8]).max() <= 1


@pytest.mark.parametrize("kind", BACKDROPS)
def test_a_pattern_without_drift_stands_still(kind: str) -> None:
    still = replace(GREY, kind=kind, colours=((60, 60, 60), (180, 180, 180)))
    frames = [picture(thing(is_shown=False), backdrop=still, time=time) for time in (0.0, 100.0)]
    assert np.array_equal(*frames)


@pytest.mark.parametrize("kind", BACKDROPS[2:])
def test_another_shot_sees_another_part_of_the_pattern(kind: str) -> None:
    pattern = replace(GREY, kind=kind, colours=((60, 60, 60), (180, 180, 180)))
    frames = [picture(thing(is_shown=False), backdrop=pattern, shot=shot) for shot in (0, 1)]
    assert np.abs(frames[0] - frames[1]).mean() > 5


def test_specks_drift_and_stay_muted() -> None:
    specked = replace(GREY, specks=8)
    frames = [picture(thing(is_shown=False), backdrop=specked, time=time) for time in (0.0, 3.0)]
    assert np.any(frames[0] != frames[1])
    assert np.abs(frames[0] - 100).max() <= 45
