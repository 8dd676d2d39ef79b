"""What frames show, from states that were written by hand."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from vlm.data.toybox.motion import states
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.stills import ABSENT, CLEAR, UNCLEAR, Stills, joined, quarter_turned, size_names, stills
from vlm.data.toybox.vocabulary import COLOURS, RADII, SHAPES
from vlm.data.toybox.world import Backdrop, Look, Scene, Shot, States, Thing, World
from vlm.types import Span

RED, GREEN, BLUE = COLOURS.index("red"), COLOURS.index("green"), COLOURS.index("blue")


def still(*things: dict[str, object]) -> Stills:
    """The still of one frame: things with colour, x, y and what else differs from a medium circle that is wholly seen."""
    plain = {
        "colour": RED,
        "to": None,
        "mix": 0.0,
        "x": 0.5,
        "y": 0.5,
        "radius": RADII[1],
        "angle": 0.0,
        "depth": 0.0,
        "shown": True,
        "shape": 0,
    }
    rows = [plain | thing for thing in things]

    def column(name: str, kind: type = float) -> np.ndarray:
        return np.array([[row[name] for row in rows]], dtype=kind)

    given = States(
        times=np.zeros(1),
        scene=np.zeros(1, np.int64),
        shot=np.zeros(1, np.int64),
        is_shown=column("shown", bool),
        x=column("x"),
        y=column("y"),
        radius=column("radius"),
        angle=column("angle"),
        colour=np.array([[[row["colour"], row["colour"] if row["to"] is None else row["to"]] for row in rows]]),
        mix=column("mix"),
        depth=column("depth"),
        size=np.zeros((1, len(rows)), np.int64),
        shape=np.array([row["shape"] for row in rows]),
        texture=np.zeros(len(rows), np.int64),
    )
    backdrop = Backdrop("tiles", ((1, 1, 1), (2, 2, 2)), (0.0, 0.0), 0.1, (1.0, 1.0), 0.0, 0, 0)
    look = Look("circle", "red", "medium", "plain")
    span = Span(0, 5)
    world = World(
        name="hand-made",
        split="train",
        seconds=5.0,
        scenes=(Scene(span, tuple(range(len(rows))), backdrop),),
        shots=(Shot(span, 0, 0.5, 0.5, 1.0),),
        things=tuple(Thing(n, 0, look) for n in range(len(rows))),
        events=(),
        **({"tracks": ()} if "tracks" in {field.name for field in fields(World)} else {}),
    )
    return stills(world, given)


def test_a_thing_stands_in_the_row_of_its_colour() -> None:
    found = still({"colour": BLUE, "x": 0.25, "y": 0.75, "angle": 1.0, "shape": SHAPES.index("star")})
    assert found.clarity[0].tolist() == [CLEAR if colour == BLUE else ABSENT for colour in range(8)]
    assert (found.x[0, BLUE], found.y[0, BLUE], found.angle[0, BLUE]) == (0.25, 0.75, 1.0)
    assert (found.shape[0, BLUE], found.size[0, BLUE], found.backdrop[0]) == (SHAPES.index("star"), 1, 3)


@pytest.mark.parametrize(
    ("thing", "clarity"),
    [
        ({}, CLEAR),
        ({"shown": False}, ABSENT),
        ({"x": 0.0}, UNCLEAR),  # half outside
        ({"x": 0.095}, CLEAR),  # a sliver outside
        ({"to": GREEN, "mix": 0.1}, CLEAR),
        ({"to": GREEN, "mix": 0.4}, UNCLEAR),
    ],
)
def test_clarity_of_a_thing_alone(thing: dict[str, object], clarity: int) -> None:
    assert still(thing).clarity[0, RED] == clarity


def test_a_thing_behind_another_is_unclear_and_the_one_in_front_is_clear() -> None:
    found = still({"colour": RED, "depth": 0.0}, {"colour": BLUE, "depth": 1.0, "x": 0.55})
    assert (found.clarity[0, RED], found.clarity[0, BLUE]) == (UNCLEAR, CLEAR)


def test_what_is_not_shown_covers_nothing() -> None:
    assert still({"colour": RED}, {"colour": BLUE, "depth": 1.0, "shown": False}).clarity[0, RED] == CLEAR


def test_past_the_middle_of_a_fade_the_new_colour_is_named_and_the_old_is_in_doubt() -> None:
    found = still({"colour": RED, "to": GREEN, "mix": 0.95})
    assert (found.clarity[0, GREEN], found.clarity[0, RED]) == (CLEAR, UNCLEAR)


def test_sizes_are_named_by_what_the_frame_shows_and_not_near_the_middle() -> None:
    small, medium, large = RADII
    radii = np.array([small, medium, large, (small + medium) / 2, 2 * large, small / 2])
    assert size_names(radii).tolist() == [0, 1, 2, -1, 2, 0]


def test_four_quarter_turns_bring_everything_back() -> None:
    world = make_world(3, 0)
    truth = stills(world, states(world, np.array([0.5, 2.0, 4.0])))
    turned = truth
    for _ in range(4):
        turned = quarter_turned(turned, np.ones(3, np.int64))
    np.testing.assert_allclose(turned.x, truth.x, atol=1e-6)
    np.testing.assert_allclose(turned.y, truth.y, atol=1e-6)
    np.testing.assert_allclose(np.cos(turned.angle), np.cos(truth.angle), atol=1e-5)


def test_a_quarter_turn_is_that_of_the_picture() -> None:
    """Whatever lies in the brightest pixel of a picture lies there after both are turned."""
    truth = still({"x": 0.25, "y": 0.125})
    picture = np.zeros((8, 8))
    picture[1, 2] = 1.0
    turned = quarter_turned(truth, np.array([1]))
    row, column = np.argwhere(np.rot90(picture, k=-1))[0]
    assert (row, column) == (2, 6)
    assert (turned.x[0, RED], turned.y[0, RED]) == (0.875, 0.25)


def test_joined_stills_are_those_of_the_parts() -> None:
    parts = [still({"x": 0.3}), still({"x": 0.6})]
    assert joined(parts).x[:, RED].tolist() == [np.float32(0.3), np.float32(0.6)]
    assert len(joined(parts)[np.array([1])]) == 1
