"""Rendering Toybox: frames a second of ours with one and two threads or processes, against the plain reference, in one run.

    OMP_NUM_THREADS=1 python benchmarks/toybox.py [--worlds 8] [--frames 200] [--files]

The reference draws one frame after another and one thing after another on whole float64 frames; it gives the same picture within one grey
level. Every row renders the same worlds, 8 frames a second (the reference fewer of them); threads and processes share the worlds out and
are started beforehand; planning a world is counted in. With --files, real files are written too: rendering and encoding together.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np

from vlm.data.toybox import motion, reference
from vlm.data.toybox.files import render_files
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.render import render, render_states
from vlm.video.write import CODECS

SIZES = (64, 96, 224)
REPEATS = 3


def times_of(seconds: float, most: int) -> np.ndarray:
    return np.arange(0, seconds, 1 / 8)[:most]


def ours(index: int, size: int, most: int) -> int:
    world = make_world(0, index)
    return len(render(world, times_of(world.seconds, most), size=size))


def plain(index: int, size: int, most: int) -> int:
    world = make_world(0, index)
    states = motion.states(world, times_of(world.seconds, most))
    return len(reference.render_states(states, [scene.backdrop for scene in world.scenes], size=size))


def check(index: int, size: int) -> int:
    """The greatest difference of the two in grey levels."""
    world = make_world(0, index)
    states, backdrops = motion.states(world, times_of(world.seconds, 16)), [scene.backdrop for scene in world.scenes]
    fast, slow = (module(states, backdrops, size=size).astype(int) for module in (render_states, reference.render_states))
    return int(np.abs(fast - slow).max())


def best_rate(run: Callable[[], int]) -> float:
    """Frames a second of the fastest of a few runs: others use the machine too."""
    rates = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        count = run()
        rates.append(count / (time.perf_counter() - began))
    return max(rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=8)
    parser.add_argument("--frames", type=int, default=200, help="at most, of each world")
    parser.add_argument("--files", action="store_true", help="measure writing files too")
    arguments = parser.parse_args()
    worlds, most = range(arguments.worlds), arguments.frames
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{machine}; numpy {np.__version__}, PyAV {av.__version__}")
    print(f"{'':44}{'frames/s':>10}{'x reference':>13}")
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes, ThreadPoolExecutor(2) as threads:
        list(processes.map(ours, (0, 1), (64, 64), (8, 8)))
        for size in SIZES:
            assert max(check(world, size) for world in worlds) <= 1
            runs: list[tuple[str, Callable[[], int]]] = [
                ("reference", lambda s=size: sum(plain(world, s, max(4, most * 16 // s)) for world in list(worlds)[:4])),
                ("ours, 1 thread", lambda s=size: sum(ours(world, s, most) for world in worlds)),
                ("ours, 2 threads", lambda s=size: sum(threads.map(ours, worlds, [s] * len(worlds), [most] * len(worlds)))),
                ("ours, 2 processes", lambda s=size: sum(processes.map(ours, worlds, [s] * len(worlds), [most] * len(worlds)))),
            ]
            baseline = None
            for name, run in runs:
                rate = best_rate(run)
                baseline = baseline or rate
                print(f"{f'{size} x {size}, {name}':44}{rate:10.0f}{rate / baseline:13.1f}", flush=True)
    if arguments.files:
        write_files(arguments.worlds)


def write_files(videos: int) -> None:
    for codec in CODECS:
        for workers in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                written = render_files(Path(folder), videos=videos, seed=0, codec=codec, size=224, frame_rate=Fraction(10), workers=workers)
                took = time.perf_counter() - began
                frames, num_bytes = sum(len(video.times) for video in written), sum(video.path.stat().st_size for video in written)
            print(
                f"{f'224 x 224, {codec} files, {workers} workers':44}{frames / took:10.0f}{num_bytes / frames:13.0f} bytes a frame",
                flush=True,
            )


if __name__ == "__main__":
    main()
