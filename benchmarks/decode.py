"""Decoding a 10-minute 720p H.264 file at 1 frame a second: ours against seeking for every sample and against OpenCV, in one run.

    python benchmarks/decode.py [--work FOLDER] [--minutes 10] [--threads 2]

The file is rendered once and kept: moving textures with noise, 25 frames a second, a keyframe every 250, about 2.5 Mbit/s.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np

from vlm.types import Frames, Framing
from vlm.video.decode import decode
from vlm.video.sample import Sampling

WIDTH, HEIGHT, RATE, GROUP = 1280, 720, 25, 250
SIDE = 224


def render(path: Path, minutes: float) -> None:
    """Draws a camera that pans over a cluttered still world in which blocks move, with sensor noise; a new world every 8 s."""
    random = np.random.default_rng(0)
    noise = random.normal(0, 3, (8, HEIGHT, WIDTH, 1)).astype(np.int16)
    partial = path.with_suffix(".part.mp4")
    with av.open(str(partial), "w") as container:
        options = {
            "preset": "fast",
            "g": str(GROUP),
            "keyint_min": str(GROUP),
            "sc_threshold": "0",
            "b": "2500k",
            "maxrate": "4M",
            "bufsize": "8M",
        }
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = WIDTH, HEIGHT, "yuv420p", 0
        for index in range(round(minutes * 60 * RATE)):
            if index % (8 * RATE) == 0:
                world = world_picture(random)
                blocks = [
                    (random.integers(0, 255, 3), random.uniform(-4, 4, 2), random.uniform(0, 600, 2), random.integers(40, 160))
                    for _ in range(6)
                ]
            shift = index % (8 * RATE)
            picture = world[shift // 2 : shift // 2 + HEIGHT, shift : shift + WIDTH].copy()
            for colour, speed, start, size in blocks:
                x, y = (start + speed * shift).astype(int) % (HEIGHT - 160)
                picture[y : y + size, 2 * x : 2 * x + size] = colour
            picture = np.clip(picture + noise[index % len(noise)], 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    partial.rename(path)


def world_picture(random: np.random.Generator) -> np.ndarray:
    """A picture larger than the frame with structure at several scales."""
    height, width = HEIGHT + 200, WIDTH + 240
    world = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((4, 90), (16, 60), (64, 40), (256, 25)):
        patch = random.uniform(-1, 1, (cells * 9 // 16 + 1, cells, 3)).astype(np.float32)
        world += strength * cv2.resize(patch, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(world + 128, 0, 255).astype(np.int16)


def ours(path: Path, sampling: str, threads: int) -> int:
    framing = Framing(height=SIDE, width=SIDE)
    items = decode(path, Sampling.parse(sampling), framing, digest="", threads=threads)
    return sum(len(item.pts) for item in items if isinstance(item, Frames))


def seek_per_sample(path: Path, threads: int) -> int:
    """What a frame-at-a-time reader does: for every second, seek to the keyframe before it and decode up to it."""
    count = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count, stream.thread_type = threads, "AUTO"
        for second in range(int(stream.duration * stream.time_base)):
            wanted = int(second / stream.time_base)
            container.seek(wanted, stream=stream)
            frame = next(f for f in container.decode(stream) if f.pts >= wanted)
            frame.reformat(398, SIDE, "rgb24").to_ndarray()
            count += 1
    return count


def opencv_read(path: Path) -> int:
    """Every frame decoded and converted at full size; one a second resized."""
    capture, index, count = cv2.VideoCapture(str(path)), 0, 0
    while True:
        is_read, picture = capture.read()
        if not is_read:
            return count
        if index % RATE == 0:
            cv2.resize(picture, (398, SIDE), interpolation=cv2.INTER_CUBIC)
            count += 1
        index += 1


def opencv_grab(path: Path) -> int:
    """Every frame decoded, one a second converted and resized."""
    capture, index, count = cv2.VideoCapture(str(path)), 0, 0
    while capture.grab():
        if index % RATE == 0:
            cv2.resize(capture.retrieve()[1], (398, SIDE), interpolation=cv2.INTER_CUBIC)
            count += 1
        index += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "vlm-benchmarks")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="for PyAV rows other than '1 thread'")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    path = arguments.work / f"decode-720p-{arguments.minutes:g}min.mp4"
    if not path.exists():
        print(f"rendering {path} ...", flush=True)
        render(path, arguments.minutes)
    seconds = arguments.minutes * 60
    threads = arguments.threads
    runs: list[tuple[str, Callable[[], int]]] = [
        (f"ours, 1 fps, {threads} threads", lambda: ours(path, "every:1", threads)),
        ("ours, 1 fps, 1 thread", lambda: ours(path, "every:1", 1)),
        (f"ours, keyframes, {threads} threads", lambda: ours(path, "keyframes", threads)),
        (f"PyAV, a seek per second, {threads} threads", lambda: seek_per_sample(path, threads)),
        (f"OpenCV read() of all, {cv2.getNumThreads()} threads", lambda: opencv_read(path)),
        (f"OpenCV grab(), retrieve() at 1 fps, {cv2.getNumThreads()} threads", lambda: opencv_grab(path)),
    ]
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{machine}; PyAV {av.__version__}, OpenCV {cv2.__version__}")
    print(f"{path.name}: {path.stat().st_size * 8 / seconds / 1e6:.2f} Mbit/s, {GROUP}-frame groups")
    print(f"{'':52}{'frames':>8}{'seconds':>10}{'x real time':>13}{'x time of ours':>16}")
    baseline = None
    for name, run in runs:
        began = time.perf_counter()
        count = run()
        took = time.perf_counter() - began
        baseline = baseline or took
        print(f"{name:52}{count:8}{took:10.2f}{seconds / took:13.1f}{took / baseline:16.2f}", flush=True)


if __name__ == "__main__":
    main()
