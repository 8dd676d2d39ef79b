"""A library of Toybox videos that were rendered to files and added as anybody's would be; kept, and gone on with where it was stopped."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vlm import Library
from vlm.data.toybox.dice import Dice
from vlm.data.toybox.files import VIDEOS_FOLDER, file_name, render_worlds
from vlm.data.toybox.language import clause, pattern_of
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.world import World

RATE = Fraction(8)
SIZE = 128  # pixels: what pocket looks at
AT_ONCE = 40  # videos in a folder of their own: a stopped run loses no more
# How much of a thing is said: what captions of Toybox say too.
MENTIONS = (("colour", "shape"), ("size", "colour", "shape"), ("size", "colour", "texture", "shape"))


@dataclass(frozen=True)
class Made:
    """The worlds, their files in the same order, and the folder of the library."""

    worlds: list[World]
    files: list[Path]
    library: Path


def toybox_library(
    work: Path, *, videos: int, seconds: float | None, sampling: str, seed: int = 41, split: str = "test", encoder: str = "pocket"
) -> Made:
    """The library of the first ``videos`` worlds of a seed and split, each of that many seconds (None: as they come)."""
    worlds = [make_world(seed, number, split=split, seconds=seconds) for number in range(videos)]
    home = work / f"{split}-{seed}-{'any' if seconds is None else f'{seconds:g}s'}"
    begin, files = time.perf_counter(), []
    for first in range(0, videos, AT_ONCE):
        some, folder = worlds[first : first + AT_ONCE], home / f"{first:05}"
        if len(some) < AT_ONCE:
            folder = folder.with_name(f"{first:05}-{len(some)}")
        if not folder.exists():
            part = home / "part"
            shutil.rmtree(part, ignore_errors=True)
            render_worlds(part, some, size=SIZE, frame_rate=RATE)
            part.rename(folder)
        files += [folder / VIDEOS_FOLDER / f"{file_name(world)}.mp4" for world in some]
    rendered = time.perf_counter()
    library = home / f"library-{videos}-{sampling.replace(':', '-')}"
    with Library.open(library, encoder=encoder, sampling=sampling) as held:
        report = held.add(files)
    took = f"rendered in {rendered - begin:.0f} s, added {len(report.with_status('added'))} in {time.perf_counter() - rendered:.0f} s"
    print(f"{videos:,} videos, {sum(world.seconds for world in worlds) / 3600:.1f} h: {took}", flush=True)
    return Made(worlds, files, library)


def captions_of_events(worlds: Sequence[World], number: int) -> list[str]:
    """So many captions of events, all different, from videos evenly over the library."""
    dice, found = Dice("captions of events"), dict[str, None]()
    events = [event for world in worlds for event in world.events]
    step = max(1, len(events) // (2 * number))
    for event in [*events[::step], *events]:
        found[clause(pattern_of(event, dice.choose(MENTIONS)), dice)] = None
        if len(found) == number:
            break
    return list(found)
