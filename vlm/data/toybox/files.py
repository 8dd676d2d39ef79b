"""Toybox worlds as real video files: at several frame rates, or at a variable one, each frame showing the world at its own time."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.dice import Dice
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.render import check_size, iter_frames
from vlm.data.toybox.vocabulary import SPLITS
from vlm.data.toybox.world import World
from vlm.errors import InputError, VideoUnwritable
from vlm.video.write import check_codec, suffix_for, write_video

# Frames a second, one of which each world gets unless one is named.
RATES = (Fraction(8), Fraction(10), Fraction(25, 2), Fraction(24000, 1001), Fraction(25), Fraction(30))
VIDEOS_FOLDER = "videos"
# Of a variable rate: milliseconds of a gap, and how often there is one.
GAP, GAP_CHANCE = (200, 400), 0.04
_FRAMES_AT_ONCE = 32

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class RenderedVideo:
    """One file, and the world in it.

    Attributes:
        path: of the file.
        world: its name.
        codec, size: as asked for; size is both height and width in pixels.
        frame_rate: frames a second; None where it varies.
        times: (t,) float64 seconds at which each frame begins, as a reader will see them: the container's clock may have rounded them.
        end_seconds: the end of the last frame: the world's own, except that .avi rounds it up to whole frames.
    """

    path: Path
    world: str
    codec: str
    size: int
    frame_rate: Fraction | None
    times: NDArray[np.float64]
    end_seconds: float


def render_files(
    folder: Path,
    *,
    videos: int,
    seed: int,
    split: str = "train",
    codec: str = "h264",
    size: int = 224,
    frame_rate: Fraction | float | None = None,
    vfr: bool = False,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> tuple[RenderedVideo, ...]:
    """The files of the worlds 0 to ``videos`` - 1 of a seed and split; see ``render_worlds``.

    Raises:
        InputError: as there, or no videos, or an unknown split.
    """
    if videos < 1:
        raise InputError(f"videos must be at least 1, got {videos}")
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}; known are {', '.join(SPLITS)}")
    _check(folder, codec, size, frame_rate, vfr, workers)
    worlds = [make_world(seed, number, split=split) for number in range(videos)]
    return render_worlds(folder, worlds, codec=codec, size=size, frame_rate=frame_rate, vfr=vfr, workers=workers, on_progress=on_progress)


def render_worlds(
    folder: Path,
    worlds: Sequence[World],
    *,
    codec: str = "h264",
    size: int = 224,
    frame_rate: Fraction | float | None = None,
    vfr: bool = False,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> tuple[RenderedVideo, ...]:
    """Writes one video of every world into ``folder``/videos, named after it, and returns them in the same order.

    All or nothing: when a file fails, or the caller is interrupted, the finished ones are removed too.

    Args:
        folder: new or empty.
        codec: one of ``vlm.video.write.CODECS``; it decides the container.
        size: pixels of the square frames, even, at least 32.
        frame_rate: of all files; None gives each world one of ``RATES`` by its name.
        vfr: irregular times instead, by the world's name, around that rate and with gaps up to 0.4 s.
        workers: threads that render and encode; None is one for each core. numpy and FFmpeg run beside each other in one process.
        on_progress: is called as ``on_progress(done, total)`` in the calling thread, after each file.

    Raises:
        InputError: a value breaks its rule, or ``folder`` is not empty; nothing is written then. VideoUnwritable: a file cannot be written.
    """
    folder = Path(folder)
    _check(folder, codec, size, frame_rate, vfr, workers)
    targets = [folder / VIDEOS_FOLDER / (file_name(world) + suffix_for(codec, is_variable=vfr)) for world in worlds]
    if not worlds or len({path.name for path in targets}) < len(targets):
        raise InputError(f"worlds must be at least one, each with a name of its own, got {len(worlds)}")
    made = [path for path in (folder / VIDEOS_FOLDER, folder, *folder.parents) if not path.exists()]
    stop = threading.Event()

    def work(world: World, path: Path) -> RenderedVideo:
        rate = _exact(frame_rate) if frame_rate is not None else rate_of(world)
        return _write(world, path, codec=codec, size=size, rate=rate, vfr=vfr, stop=stop)

    try:
        try:
            (folder / VIDEOS_FOLDER).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VideoUnwritable(f"folder {str(folder)!r} cannot be made: {error.strerror or error}; choose another") from error
        with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
            try:
                futures = [pool.submit(work, world, path) for world, path in zip(worlds, targets, strict=True)]
                _report(futures, on_progress)
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        return tuple(future.result() for future in futures)
    except BaseException:
        for path in targets:
            path.unlink(missing_ok=True)
        for path in made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        raise


def file_name(world: World) -> str:
    """The name of a world as a file name without suffix: ``toybox-1-train-7-12``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", world.name)


def rate_of(world: World) -> Fraction:
    """The frame rate that a world gets by its name."""
    return Dice(world.name, "frame rate").choose(RATES)


def frame_times(world: World, rate: Fraction, *, vfr: bool = False) -> NDArray[np.float64]:
    """When the frames of a world's video begin, in seconds (t,): at i / rate, or around that rate on a grid of milliseconds."""
    end = Fraction(round(world.seconds * 1000), 1000)
    if not vfr:
        return np.array([float(index / rate) for index in range(ceil(end * rate))])
    dice, usual = Dice(world.name, "frame times"), round(1000 / rate)
    shortest, longest = max(1, usual // 2), usual + usual // 2
    starts, now, last = [], 0, int(end * 1000)
    while now < last:
        starts.append(now)
        now += dice.between(*GAP) if dice.chance(GAP_CHANCE) else dice.between(shortest, longest)
    return np.array(starts) / 1000


def _check(folder: Path, codec: str, size: int, frame_rate: Fraction | float | None, vfr: bool, workers: int | None) -> None:
    check_codec(codec)
    check_size(size)
    if size % 2:
        raise InputError(f"size must be even, because colours are stored for blocks of 2 x 2 pixels, got {size}; use {size + 1}")
    # The fastest variable rate keeps every frame a few milliseconds long.
    if frame_rate is not None and not 1 <= frame_rate <= (120 if vfr else 1000):
        raise InputError(f"frame_rate must be within 1 to {120 if vfr else 1000} frames/s{' with vfr' if vfr else ''}, got {frame_rate}")
    if workers is not None and workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}")
    folder = Path(folder)
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"{str(folder)!r} is not a folder; choose another name")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"folder {str(folder)!r} is not empty, and nothing in it is overwritten; choose another or empty it")


def _exact(rate: Fraction | float) -> Fraction:
    """A float counts as the decimal it prints as: 12.5 is 25/2."""
    return rate if isinstance(rate, Fraction) else Fraction(repr(rate))


def _report(futures: Sequence[Future[RenderedVideo]], on_progress: Progress | None) -> None:
    """Waits for all, and raises the first error as soon as there is one."""
    waiting, total = set(futures), len(futures)
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
        if on_progress is not None:
            on_progress(total - len(waiting), total)


class _Stopped(Exception):
    """Another file failed, or the caller was interrupted."""


def _write(world: World, path: Path, *, codec: str, size: int, rate: Fraction, vfr: bool, stop: threading.Event) -> RenderedVideo:
    times = frame_times(world, rate, vfr=vfr)

    def frames() -> Iterator[NDArray[np.uint8]]:
        for chunk in iter_frames(world, times, size=size, at_once=_FRAMES_AT_ONCE):
            if stop.is_set():
                raise _Stopped
            yield chunk

    if vfr:
        seen, end = write_video(path, frames(), codec=codec, times=times, end_seconds=world.seconds)
    else:
        seen, end = write_video(path, frames(), codec=codec, frame_rate=rate, end_seconds=world.seconds)
    return RenderedVideo(path, world.name, codec, size, None if vfr else rate, seen, end)
