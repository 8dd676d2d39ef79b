"""Worlds from seeds: how long, how many scenes and shots, what happens when."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator

from vlm.data.toybox.dice import Dice
from vlm.data.toybox.rules import CAUSES, LAG, consequence
from vlm.data.toybox.splits import LONGEST, LONGEST_IN_TRAINING, SHORTEST, check_split, is_held_out_action, is_held_out_order
from vlm.data.toybox.stage import Act, Actor, Stage, duration
from vlm.data.toybox.tracks import TICKS_PER_SECOND
from vlm.data.toybox.vocabulary import ACTIONS, ACTIONS_THAT_RESTORE, BACKDROPS, VERSION
from vlm.data.toybox.world import Backdrop, Event, Scene, Shot, Thing, World
from vlm.errors import InputError
from vlm.types import Span

MOST_EVENTS = 40
TICKS_PER_EVENT = 60  # with the pause after it; more events than this do not fit
SHORTEST_EVENT = 30
LEAD = 3  # ticks before the first event of a scene, and after the last
OVERLAP = 15  # ticks that two events share at least, where they overlap at all
# Scenes tried for an event that fits few of them.
ATTEMPTS = 100_000
WITHOUT_CONSEQUENCE = tuple(action for action in ACTIONS if action not in CAUSES)
# How eagerly each action is tried.
WEIGHTS = {
    "enter": 9,
    "leave": 10,
    "move": 12,
    "bounce": 2,
    "rotate": 1,
    "grow": 36,
    "shrink": 10,
    "blink": 2,
    "recolour": 16,
    "collide": 24,
    "hide": 120,
    "follow": 7,
}
# (parts of the worlds in a hundred, shortest, longest) in seconds.
LENGTHS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "train": ((45, 5, 30), (35, 30, 90), (20, 90, 180)),
    "val": ((45, 5, 30), (35, 30, 90), (20, 90, 180)),
    "test": ((35, 5, 30), (30, 30, 120), (20, 120, 300), (15, 300, 600)),
}


def make_world(seed: int, index: int, *, split: str = "train", seconds: float | None = None, num_events: int | None = None) -> World:
    """World number ``index`` of ``seed``: the same on every machine.

    Args:
        seconds: its length, on a grid of 0.1 s; random where None.
        num_events: how many events to plan, 1 to 40; as many as fit happen, at least one. Random where None.

    Raises:
        InputError: unknown split, or a length or number out of range; the splits train and val hold no video longer than 180 s.
    """
    check_split(split)
    name = f"{VERSION}/{split}/{seed}/{index}"
    dice = Dice(name)
    end = _length(dice, split, seconds)
    if num_events is None:
        num_events = dice.between(max(1, end // 200), max(1, min(MOST_EVENTS, end // TICKS_PER_EVENT)))
    elif not 1 <= num_events <= MOST_EVENTS:
        raise InputError(f"num_events must be 1 to {MOST_EVENTS}, got {num_events}")
    builder = _Builder(name, split, end)
    bounds = _scene_bounds(dice, end)
    left = num_events
    for number, (start, stop) in enumerate(bounds):
        share = -(-left * (stop - start) // (end - start))  # the scene's part of what is left, rounded up
        stage = Stage(Dice(name, "stage", number), split=split, start=start, end=stop, first_id=len(builder.things))
        stage = _Script(stage, Dice(name, "script", number), start, share).play()
        builder.add_scene(stage, start, stop, shots=True)
        left -= len(stage.acts)
    return builder.world()


def event_clip(seed: int, index: int, *, split: str = "train") -> World:
    """A clip of 5 to 9 s with one event and without cuts; in the test split a held-out triple of shape, colour and action."""
    check_split(split)
    name = f"{VERSION}/{split}/{seed}/{index}/clip"
    action = Dice(name).choose(tuple(ACTIONS))
    for attempt in range(ATTEMPTS):
        dice = Dice(name, attempt)
        ticks = duration(action, dice, 66)
        assert ticks is not None
        start = dice.between(LEAD, 14)
        end = max(int(SHORTEST * TICKS_PER_SECOND), start + ticks + dice.between(LEAD, 10))
        stage = Stage(dice, split=split, start=0, end=end, first_id=0)
        if _perform_some(stage, action, dice, start, start + ticks, strict=True) is not None:
            builder = _Builder(name, split, end)
            builder.add_scene(stage, 0, end, shots=False)
            return builder.world()
    raise AssertionError(f"no clip for {name}")


def order_twins(seed: int, index: int, *, split: str = "train") -> tuple[World, World]:
    """Two worlds with the same things and the same two events, in either order; they end as they began, so no single frame tells which.

    In the test split both triples are held out, and half of the pairs of actions; in the others no pair of actions is.
    """
    check_split(split)
    name = f"{VERSION}/{split}/{seed}/{index}/twin"
    dice = Dice(name)
    wants_held_out = split == "test" and dice.chance(0.5)
    pair = dice.choose(
        [
            (first, second)
            for first in ACTIONS_THAT_RESTORE
            for second in ACTIONS_THAT_RESTORE
            if is_held_out_order(first, second) == wants_held_out
        ]
    )
    for attempt in range(ATTEMPTS):
        dice = Dice(name, attempt)
        ticks = [duration(action, dice, 70) for action in pair]
        pauses = [dice.between(low, high) for low, high in ((5, 20), (10, 20), (5, 20))]
        picks = (dice.uniform(), dice.uniform())
        first = _twin(f"{name}-ab", name, attempt, split, pair, ticks, pauses, picks, (0, 1))
        second = _twin(f"{name}-ba", name, attempt, split, pair, ticks, pauses, picks, (1, 0))
        if first is not None and second is not None:
            return first, second
    raise AssertionError(f"no twins for {name}")


def _twin(
    world_name: str,
    name: str,
    attempt: int,
    split: str,
    pair: tuple[str, str],
    ticks: list[int | None],
    pauses: list[int],
    picks: tuple[float, float],
    order: tuple[int, int],
) -> World | None:
    lengths = [length for length in ticks if length is not None]
    assert len(lengths) == 2
    end = sum(lengths) + sum(pauses)
    stage = Stage(Dice(name, attempt, "stage"), split=split, start=0, end=end, first_id=0)
    tick = pauses[0]
    subjects = []
    for place in order:
        doers = [actor for actor in stage.present() if _suits(stage, actor, pair[place], strict=True)]
        if not doers:
            return None
        actor = doers[int(picks[place] * len(doers))]
        subjects.append(actor.id)
        act = stage.perform(pair[place], actor, Dice(name, attempt, "act", place), start=tick, end=tick + lengths[place])
        if act is None:
            return None
        tick += lengths[place] + pauses[1]
    if pair[0] == pair[1] and subjects[0] == subjects[1]:
        return None
    builder = _Builder(world_name, split, end, seed_name=f"{name}/{attempt}")
    builder.add_scene(stage, 0, end, shots=False)
    return builder.world()


def _length(dice: Dice, split: str, seconds: float | None) -> int:
    longest = LONGEST if split == "test" else LONGEST_IN_TRAINING
    if seconds is not None:
        if not SHORTEST <= seconds <= longest:
            raise InputError(
                f"seconds must be {SHORTEST:g} to {longest:g} in the split {split!r}, got {seconds:g}"
                + ("" if split == "test" else f"; longer ones, to {LONGEST:g} s, are held out for split='test'")
            )
        return round(seconds * TICKS_PER_SECOND)
    shares, ranges = zip(*((share, (low, high)) for share, low, high in LENGTHS[split]), strict=True)
    low, high = ranges[dice.weighted(shares)]
    return dice.between(low * TICKS_PER_SECOND, high * TICKS_PER_SECOND)


def _scene_bounds(dice: Dice, end: int) -> list[tuple[int, int]]:
    """One scene below 25 s (two in a fifth of the worlds from 16 s on); above, scenes of 15 to 60 s."""
    cuts: list[int] = []
    if end < 250:
        if end >= 160 and dice.chance(0.2):
            cuts.append(dice.between(80, end - 80))
    else:
        at = 0
        while end - at > 300:
            at += dice.between(150, min(600, end - at - 150))
            cuts.append(at)
    edges = [0, *cuts, end]
    return list(itertools.pairwise(edges))


def _suits(stage: Stage, actor: Actor, action: str, *, strict: bool) -> bool:
    """Whether the split lets ``actor`` do it; ``strict`` asks for held-out triples alone in the test split."""
    if stage.split == "test" and strict:
        return is_held_out_action(actor.shape, actor.look.colour, action)
    return stage.allows(actor, action)


def _perform_some(
    stage: Stage, action: str, dice: Dice, start: int, end: int, *, strict: bool, busy: frozenset[int] = frozenset()
) -> Act | None:
    """``action`` by some thing that suits; None where none can."""
    if action == "enter":
        act = stage.perform("enter", None, dice, start=start, end=end)
        if act is None or not strict or _suits(stage, stage.actors[act.subject], action, strict=True):
            return act
        return None  # the caller throws the stage away
    for actor in dice.shuffled(stage.present()):
        if actor.id not in busy and _suits(stage, actor, action, strict=strict):
            act = stage.perform(action, actor, dice, start=start, end=end, busy=busy)
            if act is not None:
                return act
    return None


class _Script:
    """What happens in one scene: alone, two at once, or with its consequence; then a pause; until the events or the time are used up."""

    def __init__(self, stage: Stage, dice: Dice, start: int, num_events: int) -> None:
        self.stage = stage
        self.dice = dice
        self.tick = start + LEAD
        self.num_events = num_events
        spare = (stage.end - start) - num_events * (TICKS_PER_EVENT - 10)
        self.pause = max(5, spare // (num_events + 1))

    def play(self) -> Stage:
        """The stage when all has happened."""
        self.tick += self.dice.below(self.pause)
        misses = 0
        while len(self.stage.acts) < self.num_events and self.stage.end - LEAD - self.tick >= SHORTEST_EVENT and misses < 20:
            before = copy.deepcopy(self.stage)
            last = self._beat()
            if last is None:
                self.stage = before
                misses += 1
                continue
            self.tick = last + max(5, self.pause * self.dice.between(5, 15) // 10)
        return self.stage

    def _beat(self) -> int | None:
        """The tick at which what begins now has ended; None where it did not fit, with the stage left half done."""
        stage, dice = self.stage, self.dice
        room = self.num_events - len(stage.acts)
        stage.reserve_spots()
        first = self._event(self.tick, stage.end - LEAD, tuple(ACTIONS) if room >= 2 else WITHOUT_CONSEQUENCE, frozenset())
        if first is None:
            return None
        follows = consequence(first, stage)
        wants_two = dice.chance(0.55) and room >= (2 if follows is None else 3)
        end = first.end
        busy = {first.subject, first.target} - {None}
        if follows is not None:
            busy.add(follows.actor.id)
        if wants_two:
            start = dice.between(first.start + 5, first.end - OVERLAP)
            second = self._event(start, stage.end - LEAD, WITHOUT_CONSEQUENCE, frozenset(number for number in busy if number is not None))
            end = max(end, second.end) if second is not None else end
        stage.release_spots()
        if follows is not None:
            start = first.end + dice.between(*LAG)
            ticks = duration(follows.action, dice, stage.end - LEAD - start)
            if ticks is None or not stage.allows(follows.actor, follows.action) or follows.actor.left is not None:
                return None
            act = stage.perform(follows.action, follows.actor, dice, start=start, end=start + ticks, way=follows.way)
            if act is None:
                return None
            end = max(end, stage.follow_up(act, cause=first).end)
        return end

    def _event(self, start: int, latest: int, actions: tuple[str, ...], busy: frozenset[int]) -> Act | None:
        prefers_held_out = self.stage.split == "test" and self.dice.chance(0.85)
        for strict in (True, False) if prefers_held_out else (False,):
            for action in self._in_random_order(actions):
                ticks = duration(action, self.dice, latest - start)
                if ticks is None or (action == "enter" and strict):
                    continue
                act = _perform_some(self.stage, action, self.dice, start, start + ticks, strict=strict, busy=busy)
                if act is not None:
                    return act
        return None

    def _in_random_order(self, actions: tuple[str, ...]) -> Iterator[str]:
        """``actions``, the likelier first the less often they fit: all become about as frequent."""
        left = list(actions)
        while left:
            yield left.pop(self.dice.weighted([WEIGHTS[action] for action in left]))


class _Builder:
    """Scenes as they are planned, put together into one world."""

    def __init__(self, name: str, split: str, end: int, *, seed_name: str | None = None) -> None:
        self.name = name
        self.seed_name = seed_name or name
        self.split = split
        self.end = end
        self.scenes: list[Scene] = []
        self.shots: list[Shot] = []
        self.things: list[Thing] = []
        self.stages: list[Stage] = []

    def add_scene(self, stage: Stage, start: int, end: int, *, shots: bool) -> None:
        """Append the scene of ``stage``, with cuts between cameras where ``shots`` allows them."""
        number = len(self.scenes)
        dice = Dice(self.seed_name, "look", number)
        actors = sorted(stage.actors.values(), key=lambda actor: actor.id)
        self.scenes.append(Scene(_span(start, end), tuple(actor.id for actor in actors), _backdrop(dice)))
        self.things += [Thing(actor.id, number, actor.first_look) for actor in actors]
        self.stages.append(stage)
        edges = [start, *(_shot_cuts(dice, start, end) if shots else []), end]
        before: tuple[float, float, float] | None = None
        for first, last in itertools.pairwise(edges):
            before = _camera(dice, before)
            self.shots.append(Shot(_span(first, last), number, *before))

    def world(self) -> World:
        """All of it."""
        found = [(number, place, act) for number, stage in enumerate(self.stages) for place, act in enumerate(stage.acts)]
        found.sort(key=lambda item: (item[2].start, item[2].end, item[2].subject))
        ids = {(number, place): position for position, (number, place, _) in enumerate(found)}
        events = tuple(
            Event(
                id=position,
                action=act.action,
                way=act.way,
                span=_span(act.start, act.end),
                subject=act.subject,
                look=act.look,
                target=act.target,
                target_look=act.target_look,
                cause=None if act.cause is None else ids[number, act.cause],
            )
            for position, (number, _, act) in enumerate(found)
        )
        ends = [round(scene.span.end * TICKS_PER_SECOND) for scene in self.scenes]
        tracks = tuple(
            actor.track(end)
            for stage, end in zip(self.stages, ends, strict=True)
            for actor in sorted(stage.actors.values(), key=lambda actor: actor.id)
        )
        return World(
            name=self.name,
            split=self.split,
            seconds=self.end / TICKS_PER_SECOND,
            scenes=tuple(self.scenes),
            shots=tuple(self.shots),
            things=tuple(self.things),
            events=events,
            tracks=tracks,
        )


def _span(start: int, end: int) -> Span:
    return Span(start / TICKS_PER_SECOND, end / TICKS_PER_SECOND)


def _shot_cuts(dice: Dice, start: int, end: int) -> list[int]:
    """Cuts within a scene: none below 8 s and in most others, else one or two."""
    if end - start < 80 or dice.chance(0.6):
        return []
    first = dice.between(start + 30, end - 30)
    if end - first >= 100 and dice.chance(0.5):
        return [first, dice.between(first + 40, end - 40)]
    return [first]


def _camera(dice: Dice, before: tuple[float, float, float] | None) -> tuple[float, float, float]:
    """A camera (x, y, zoom) that sees the whole world, and differs visibly from the one before."""
    while True:
        zoom = dice.uniform(0.85, 1.0)
        slack = (1.0 / zoom - 1.0) / 2.0
        camera = (0.5 + dice.uniform(-slack, slack), 0.5 + dice.uniform(-slack, slack), zoom)
        if before is None or abs(zoom - before[2]) > 0.05 or abs(camera[0] - before[0]) + abs(camera[1] - before[1]) > 0.08:
            return camera


def _backdrop(dice: Dice) -> Backdrop:
    kind = dice.choose(BACKDROPS)
    grey = dice.between(60, 180)
    dark = tuple(grey + dice.between(-18, 18) for _ in range(3))
    lift = dice.between(25, 45)
    light = tuple(min(255, level + lift + dice.between(-8, 8)) for level in dark)
    drifts = dice.chance(0.5)
    return Backdrop(
        kind=kind,
        colours=((dark[0], dark[1], dark[2]), (light[0], light[1], light[2])),
        drift=(dice.uniform(-0.08, 0.08), dice.uniform(-0.08, 0.08)) if drifts else (0.0, 0.0),
        scale=dice.uniform(0.12, 0.35),
        light=(dice.uniform(0.85, 1.1), dice.uniform(0.85, 1.1)),
        noise=dice.uniform(2.0, 6.0),
        specks=dice.below(9),
        seed=dice.below(1 << 31),
    )
