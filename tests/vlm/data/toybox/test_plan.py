"""What every world holds to: the minimum difficulty, the splits, the rules."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm.data.toybox import vocabulary
from vlm.data.toybox.motion import states
from vlm.data.toybox.plan import event_clip, make_world, order_twins
from vlm.data.toybox.rules import CAUSES, LAG
from vlm.data.toybox.splits import is_held_out_action, is_held_out_look, is_held_out_order
from vlm.data.toybox.vocabulary import ACTIONS, ACTIONS_THAT_RESTORE, COLOURS, SHAPES, SPLITS, TEXTURES
from vlm.data.toybox.world import Event, World
from vlm.errors import InputError

TINY = 1e-9


@cache
def worlds(split: str) -> list[World]:
    return [make_world(11, index, split=split) for index in range(100)]


def events(split: str) -> list[tuple[World, Event]]:
    return [(world, event) for world in worlds(split) for event in world.events]


def overlap(first: Event, second: Event) -> bool:
    return first.span.start < second.span.end - TINY and second.span.start < first.span.end - TINY


def colour_now(world: World, thing: int, at: float) -> str:
    seen = states(world, np.array([min(at, world.seconds - 0.01)]))
    return COLOURS[int(seen.colour_name_index()[0, thing])]


def test_the_vocabulary_is_as_rich_as_promised():
    assert len(set(SHAPES)) >= 8
    assert len(set(COLOURS)) >= 8
    assert len(set(vocabulary.SIZES)) >= 3
    assert len(set(TEXTURES)) >= 4
    assert len(ACTIONS) == 12


@pytest.mark.parametrize("split", SPLITS)
def test_worlds_last_5_s_to_10_min_with_1_to_40_events(split: str):
    assert all(5 <= world.seconds <= (600 if split == "test" else 180) for world in worlds(split))
    assert all(1 <= len(world.events) <= 40 for world in worlds(split))


def test_the_longest_videos_are_held_out_for_testing():
    assert max(world.seconds for world in worlds("test")) > 400
    assert max(len(world.events) for world in worlds("test")) > 25


@pytest.mark.parametrize("split", SPLITS)
def test_every_event_lasts_at_least_3_s_inside_its_scene(split: str):
    for world, event in events(split):
        scene = world.scenes[world.things[event.subject].scene]
        assert event.span.seconds >= 3 - TINY
        assert scene.span.start <= event.span.start
        assert event.span.end <= scene.span.end


@pytest.mark.parametrize("split", SPLITS)
def test_at_least_30_percent_of_events_overlap_another(split: str):
    overlapping = sum(any(other is not event and overlap(event, other) for other in world.events) for world, event in events(split))
    assert overlapping / len(events(split)) >= 0.30


@pytest.mark.parametrize("split", SPLITS)
def test_at_least_30_percent_of_videos_have_cuts(split: str):
    assert np.mean([len(world.shots) > 1 for world in worlds(split)]) >= 0.30
    assert np.mean([len(world.scenes) < len(world.shots) for world in worlds(split)]) >= 0.15, "several shots of one scene"


@pytest.mark.parametrize("split", SPLITS)
def test_at_least_half_of_the_videos_have_a_textured_or_moving_ground(split: str):
    textured = [
        any(scene.backdrop.kind in ("clouds", "tiles", "waves") or scene.backdrop.is_moving for scene in w.scenes) for w in worlds(split)
    ]
    assert np.mean(textured) >= 0.5


@pytest.mark.parametrize("split", SPLITS)
def test_2_to_6_things_share_the_stage(split: str):
    for world in worlds(split):
        times = np.arange(0.05, world.seconds, 1.0)
        seen = states(world, times)
        # A thing exists where its track says so; blinking and hiding do not end it.
        exists = np.zeros_like(seen.is_shown)
        for number, (thing, track) in enumerate(zip(world.things, world.tracks, strict=True)):
            for start, end in track.present:
                exists[:, number] |= (times * 10 >= start) & (times * 10 < end) & (seen.scene == thing.scene)
        together = exists.sum(axis=1)
        assert together.min() >= 2
        assert together.max() <= 6


@pytest.mark.parametrize("split", SPLITS)
def test_things_of_a_scene_never_share_a_colour(split: str):
    for world in worlds(split)[:60]:
        seen = states(world, np.arange(0.05, world.seconds, 0.7))
        for shown, colours in zip(seen.is_shown, seen.colour_name_index(), strict=True):
            assert len(set(colours[shown])) == shown.sum()


@pytest.mark.parametrize("split", SPLITS)
def test_everything_that_stands_still_is_wholly_in_the_frame(split: str):
    for world in worlds(split)[:60]:
        seen = states(world, np.arange(0.05, world.seconds, 0.5))
        busy = np.zeros_like(seen.is_shown)
        for event in world.events:
            inside = (seen.times >= event.span.start) & (seen.times < event.span.end)
            busy[:, event.subject] |= inside
            if event.target is not None:
                busy[:, event.target] |= inside
        still = seen.is_shown & ~busy
        for place in (seen.x, seen.y):
            assert (place - seen.radius)[still].min() >= 0
            assert (place + seen.radius)[still].max() <= 1


@pytest.mark.parametrize("split", SPLITS)
def test_a_thing_takes_part_in_one_event_at_a_time(split: str):
    for world in worlds(split):
        for event in world.events:
            for other in world.events[: event.id]:
                if overlap(event, other):
                    assert not {event.subject, event.target} - {None} & {other.subject, other.target} - {None}


@pytest.mark.parametrize("split", SPLITS)
def test_the_look_of_an_event_is_what_is_seen_when_it_starts(split: str):
    for world, event in events(split)[:200]:
        at = event.span.start + 0.01
        assert colour_now(world, event.subject, at) == event.look.colour
        if event.target is not None and event.target_look is not None:
            assert colour_now(world, event.target, at) == event.target_look.colour


# Splits


@pytest.mark.parametrize("split", ["train", "val"])
def test_training_never_shows_a_held_out_look_or_triple(split: str):
    for world in worlds(split):
        seen = states(world, np.arange(0.05, world.seconds, 1.0))
        for thing, colour in {(k, int(c)) for t, k in np.argwhere(seen.is_shown) for c in [seen.colour_name_index()[t, k]]}:
            look = world.things[thing].look
            assert not is_held_out_look(look.shape, COLOURS[colour], look.texture)
        assert not any(is_held_out_action(event.look.shape, event.look.colour, event.action) for event in world.events)


def test_at_least_15_percent_of_triples_are_held_out_and_every_pair_is_still_seen():
    triples = [(shape, colour, action) for shape in SHAPES for colour in COLOURS for action in ACTIONS]
    assert np.mean([is_held_out_action(*triple) for triple in triples]) >= 0.15
    seen = {pair for s, c, a in triples if not is_held_out_action(s, c, a) for pair in ((s, c), (s, a), (c, a))}
    assert len(seen) == 64 + 96 + 96
    looks = [(shape, colour, texture) for shape in SHAPES for colour in COLOURS for texture in TEXTURES]
    assert np.mean([is_held_out_look(*look) for look in looks]) >= 0.15


def test_at_least_15_percent_of_pairs_of_actions_are_held_out_in_both_orders():
    pairs = [(first, second) for first in ACTIONS_THAT_RESTORE for second in ACTIONS_THAT_RESTORE]
    assert np.mean([is_held_out_order(*pair) for pair in pairs]) >= 0.15
    assert all(is_held_out_order(first, second) == is_held_out_order(second, first) for first, second in pairs)


def test_most_events_of_the_test_split_are_held_out_triples():
    assert np.mean([is_held_out_action(event.look.shape, event.look.colour, event.action) for _, event in events("test")]) >= 0.5


def test_actions_are_about_as_frequent():
    counts = Counter(event.action for _, event in events("train"))
    assert min(counts.values()) >= 0.04 * counts.total()
    assert max(counts.values()) <= 0.20 * counts.total()


# Rules


@pytest.mark.parametrize("split", SPLITS)
def test_every_cause_has_its_consequence_soon_after_it(split: str):
    for world in worlds(split):
        caused = {event.cause: event for event in world.events if event.cause is not None}
        for event in world.events:
            assert (event.action in CAUSES) == (event.id in caused)
            if event.id in caused:
                effect = caused[event.id]
                assert LAG[0] / 10 - TINY <= effect.span.start - event.span.end <= LAG[1] / 10 + TINY
                expected = {
                    "collide": ("rotate clockwise", event.target),
                    "hide": ("rotate anticlockwise", event.target),
                    "recolour": ("bounce", event.subject),
                    "grow": ("blink", effect.subject),
                }[event.action]
                assert (effect.label, effect.subject) == expected


# Legible at 2 frames a second


@pytest.mark.parametrize("split", SPLITS)
def test_two_frames_a_second_show_every_action(split: str):
    for world, event in events(split)[:400]:
        times = np.arange(0.0, world.seconds, 0.5)
        times = times[(times >= event.span.start) & (times < event.span.end)]
        seen = states(world, times)
        k = event.subject
        x, y, radius = seen.x[:, k], seen.y[:, k], seen.radius[:, k]
        assert len(times) >= 5
        match event.action:
            case "move" | "enter" | "leave":
                axis = x if event.way in ("left", "right") else y
                sign = 1 if (event.way in ("right", "down")) == (event.action != "enter" and event.action != "leave") else 0
                assert np.ptp(axis) > 0.12, event
                if event.action == "move":
                    assert (axis[-1] > axis[0]) == bool(sign)
            case "bounce":
                assert np.ptp(y) > 0.05
            case "rotate":
                steps = np.diff(seen.angle[:, k])
                assert np.all(np.abs(steps) < np.pi / 2), "faster and the sense would be lost between two frames"
                assert np.all(np.sign(steps) == (1 if event.way == "clockwise" else -1))
            case "grow":
                assert radius.max() / radius.min() > 1.25
            case "shrink":
                assert radius.max() / radius.min() > 1.25
            case "blink":
                assert (~seen.is_shown[:, k]).sum() >= 2
                assert seen.is_shown[:, k].sum() >= 2
            case "recolour":
                assert len(set(seen.colour_name_index()[:, k])) == 2
            case "collide":
                apart = np.hypot(x - seen.x[:, event.target], y - seen.y[:, event.target])
                assert apart.min() < 1.35 * (radius + seen.radius[:, event.target]).max()
            case "hide":
                apart = np.hypot(x - seen.x[:, event.target], y - seen.y[:, event.target])
                assert (apart < 0.03).sum() >= 2
                assert seen.depth[0, k] < seen.depth[0, event.target]
            case "follow":
                assert np.hypot(np.ptp(seen.x[:, event.target]), np.ptp(seen.y[:, event.target])) > 0.15


# Clips and twins


@pytest.mark.parametrize("split", SPLITS)
def test_a_clip_has_one_event_and_no_cut(split: str):
    for index in range(30):
        clip = event_clip(3, index, split=split)
        assert len(clip.events) == len(clip.shots) == 1
        assert 5 <= clip.seconds <= 9
        event = clip.events[0]
        assert is_held_out_action(event.look.shape, event.look.colour, event.action) == (split == "test")


@pytest.mark.parametrize("split", SPLITS)
def test_twins_differ_in_the_order_of_two_events_alone(split: str):
    for index in range(30):
        first, second = order_twins(3, index, split=split)
        told = [[(event.label, event.subject, event.target, event.look) for event in twin.events] for twin in (first, second)]
        assert told[0] == told[1][::-1]
        assert told[0] != told[1]
        assert first.things == second.things
        assert first.scenes == second.scenes
        assert first.shots == second.shots
        assert all(event.action in ACTIONS_THAT_RESTORE for event in first.events)
        assert not overlap(*first.events)


@pytest.mark.parametrize("split", SPLITS)
def test_twins_look_alike_before_and_after_but_for_where_a_rotation_ended(split: str):
    for index in range(30):
        first, second = order_twins(3, index, split=split)
        rotated = {event.subject for event in first.events if event.action == "rotate"}
        ends = np.array([0.0, first.seconds - 0.1])
        a, b = states(first, ends), states(second, ends)
        for name in ("is_shown", "x", "y", "radius", "mix"):
            assert np.allclose(getattr(a, name), getattr(b, name))
            assert np.allclose(getattr(a, name)[0], getattr(a, name)[1])
        still = [k for k in range(len(first.things)) if k not in rotated]
        assert np.allclose(a.angle[:, still], b.angle[:, still])


# The same everywhere


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 10**6), st.sampled_from(SPLITS))
def test_a_seed_makes_one_world(seed: int, index: int, split: str):
    assert make_world(seed, index, split=split) == make_world(seed, index, split=split)


def test_worlds_of_other_seeds_indices_and_splits_differ():
    made = [make_world(1, 0), make_world(2, 0), make_world(1, 1), make_world(1, 0, split="val")]
    assert len({world.tracks for world in made}) == len(made)


@settings(max_examples=25, deadline=None)
@given(st.integers(50, 6000), st.integers(1, 40), st.integers(0, 1000))
def test_any_length_and_number_of_events_can_be_asked_for(ticks: int, num_events: int, seed: int):
    world = make_world(seed, 0, split="test", seconds=ticks / 10, num_events=num_events)
    assert world.seconds == ticks / 10
    assert 1 <= len(world.events) <= num_events
    assert world.scenes[0].span.start == 0
    assert world.scenes[-1].span.end == world.seconds
    edges = [shot.span for shot in world.shots]
    assert all(before.end == after.start for before, after in pairwise(edges))


# Bad input


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"split": "tests"}, "'tests'"),
        ({"seconds": 4.9}, "4.9"),
        ({"seconds": 181.0}, "held out"),
        ({"seconds": 601.0, "split": "test"}, "601"),
        ({"seconds": float("nan")}, "nan"),
        ({"num_events": 0}, "0"),
        ({"num_events": 41}, "41"),
    ],
)
def test_what_no_world_can_be_is_refused_by_name(arguments: dict[str, object], named: str):
    with pytest.raises(InputError, match=named):
        make_world(0, 0, **arguments)  # type: ignore[arg-type]


def test_a_time_outside_the_world_is_refused():
    world = make_world(0, 0)
    with pytest.raises(InputError, match="times"):
        states(world, np.array([world.seconds]))
