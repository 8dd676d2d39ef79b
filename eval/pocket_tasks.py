"""What pocket is examined on, made from held-out worlds: labelled frames, captions among hard negatives, clips of one event, twins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.dice import Dice
from vlm.data.toybox.language import event_caption
from vlm.data.toybox.motion import states
from vlm.data.toybox.plan import event_clip, make_world, order_twins
from vlm.data.toybox.render import render
from vlm.data.toybox.splits import is_held_out_look
from vlm.data.toybox.still_captions import all_negatives, full_claim, phrase, true_claim, wording_of
from vlm.data.toybox.still_facts import Scene, Sight, may_hold, scene
from vlm.data.toybox.stills import Stills, joined, stills
from vlm.data.toybox.vocabulary import COLOURS, SHAPES, TEXTURES, VERSION
from vlm.data.toybox.world import World

NUM_CANDIDATES, NUM_CHANGED = 100, 60
FRAMES_PER_WORLD = 4
FRAMES_PER_SECOND = 2


@dataclass(frozen=True, slots=True)
class LabelledFrames:
    """Frames (n, h, w, 3) uint8 with their truth."""

    pixels: NDArray[np.uint8]
    truth: Stills


@dataclass(frozen=True, slots=True)
class CaptionChoice:
    """One frame and its candidates: the right caption first, then NUM_CHANGED with one attribute changed, then those of other frames.

    ``changed`` names the attribute for each candidate, "" for the first and those of other frames; none but the first may hold.
    """

    frame: int
    texts: tuple[str, ...]
    changed: tuple[str, ...]


def labelled_frames(seed: int, num_worlds: int, *, split: str, size: int) -> LabelledFrames:
    """FRAMES_PER_WORLD frames of each of ``num_worlds`` worlds of up to 30 s at random times."""
    pixels, truths = [], []
    for index in range(num_worlds):
        dice = Dice(VERSION, "examination", seed, split, index)
        world = make_world(seed, index, split=split, seconds=dice.between(50, 300) / 10)
        times = np.sort([dice.below(int(world.seconds * 10)) / 10 for _ in range(FRAMES_PER_WORLD)])
        pixels.append(render(world, times, size=size))
        truths.append(stills(world, states(world, times)))
    return LabelledFrames(np.concatenate(pixels), joined(truths))


def caption_choices(frames: LabelledFrames, seed: int, *, most: int) -> list[CaptionChoice]:
    """Choices for up to ``most`` of the frames that hold a thing whose look training never showed, and at least one thing beside it.

    The caption says all that can be told of the held-out thing and of another; backdrop and number are added where fewer than NUM_CHANGED
    changes of it would be false.
    """
    scenes = [scene(frames.truth, row) for row in range(len(frames.truth))]
    found: list[CaptionChoice] = []
    for row, frame in enumerate(scenes):
        if len(found) == most:
            break
        dice = Dice(VERSION, "choice", seed, row)
        held_out = [sight for sight in frame.clear if _is_held_out(sight)]
        if held_out and len(frame.clear) > 1:
            choice = _choice(row, frame, held_out, scenes, dice)
            if choice is not None:
                found.append(choice)
    return found


def _is_held_out(sight: Sight) -> bool:
    return is_held_out_look(SHAPES[sight.shape], COLOURS[sight.colour], TEXTURES[sight.texture])


def _choice(row: int, frame: Scene, held_out: list[Sight], scenes: list[Scene], dice: Dice) -> CaptionChoice | None:
    claim, wording = full_claim(frame, dice, first=held_out[:1]), wording_of(dice)
    changed = all_negatives(claim, frame, wording)
    if len(changed) < NUM_CHANGED:
        claim = replace(claim, backdrop=frame.backdrop)
        changed = all_negatives(claim, frame, wording)
    if len(changed) < NUM_CHANGED and frame.is_countable:
        claim = replace(claim, count=len(frame.sights))
        changed = all_negatives(claim, frame, wording)
    if len(changed) < NUM_CHANGED:
        return None
    changed = dice.shuffled(changed)[:NUM_CHANGED]
    others: dict[str, None] = {}
    while len(others) < NUM_CANDIDATES - 1 - NUM_CHANGED:
        other = dice.choose(scenes)
        said = full_claim(other, dice) if other.clear else true_claim(other, dice)
        if not may_hold(said, frame):
            others[phrase(said, wording_of(dice))] = None
    texts = (phrase(claim, wording), *(caption.text for caption in changed), *others)
    return CaptionChoice(row, texts, ("", *(caption.changed for caption in changed), *("" for _ in others)))


@dataclass(frozen=True, slots=True)
class Clip:
    """A video and what happens in it in words."""

    world: World
    text: str


def event_clips(seed: int, count: int, *, split: str = "test") -> Iterator[Clip]:
    """Clips of one event each, with a full caption of it."""
    for index in range(count):
        world = event_clip(seed, index, split=split)
        yield Clip(world, event_caption(world.events[0], Dice(VERSION, "clip", seed, index), article="a"))


def order_pairs(seed: int, count: int, *, split: str = "test", phrasing: int = 0) -> Iterator[tuple[Clip, Clip]]:
    """Order twins, each with the text of its own order; both texts use the same two clauses. Every ``phrasing`` has clauses of its own."""
    for index in range(count):
        twins = order_twins(seed, index, split=split)
        # Events are sorted by start, so the second world's first event is the first world's second.
        dice = [Dice(VERSION, "twin", seed, index, n, *([phrasing] if phrasing else [])) for n in range(2)]
        clauses = [event_caption(event, one, article="a") for event, one in zip(twins[0].events, dice, strict=True)]
        first, second = clauses
        yield Clip(twins[0], f"{first}, then {second}"), Clip(twins[1], f"{second}, then {first}")


def pooled_video(world: World, encode: Callable[[NDArray[np.uint8]], NDArray[np.float32]], *, size: int) -> NDArray[np.float32]:
    """The mean (d,) of the unit vectors of FRAMES_PER_SECOND frames a second, made unit length: what the library's segments are."""
    times = np.arange(0, world.seconds, 1 / FRAMES_PER_SECOND)
    mean = encode(render(world, times, size=size)).mean(axis=0)
    unit: NDArray[np.float32] = mean / np.linalg.norm(mean)
    return unit
