"""What ``vlm add`` reaches of the best that shared cores allow, and its peak memory on a two-hour file.

    python benchmarks/add.py [--work FOLDER] [--encoder SPEC] [--minutes 10] [--long-hours 2]

Throughput: the CPU-seconds that one frame costs to decode alone and to encode alone are measured in this process, one after the other; no
schedule can add more than cores / (decode + encode) frames a second. ``add`` is then run on the same files and compared with that limit.
Memory: ``add`` of the long file in a child of its own; its peak less what the same child held with the encoder warm.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.decode import render
from benchmarks.encode import random_open_clip
from vlm import Library
from vlm.encoders.registry import load_encoder
from vlm.types import Frames
from vlm.video.decode import decode
from vlm.video.sample import Sampling
from vlm.video.supervise import DecodeRequest

BATCH = 16


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def decode_alone(videos: list[Path], encoder, sampling: str) -> tuple[np.ndarray, float]:
    """The frames of all videos, and CPU-seconds a frame."""
    begin, pixels = cpu_seconds(), []
    for video in videos:
        request = DecodeRequest(
            path=os.fsencode(video),
            digest="0",
            sampling=Sampling.parse(sampling),
            framing=encoder.preprocessing.framing,
            batch_rows=BATCH,
        )
        pixels += [item.pixels for item in decode(request, threads=1) if isinstance(item, Frames)]
    frames = np.concatenate(pixels)
    return frames, (cpu_seconds() - begin) / len(frames)


def encode_alone(frames: np.ndarray, encoder) -> float:
    """CPU-seconds a frame with one intra-op thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    encoder.encode_frames(frames[:BATCH])
    begin = cpu_seconds()
    for at in range(0, len(frames), BATCH):
        encoder.encode_frames(frames[at : at + BATCH])
    torch.set_num_threads(threads)
    return (cpu_seconds() - begin) / len(frames)


def throughput(videos: list[Path], spec: str, work: Path, sampling: str) -> None:
    encoder = load_encoder(spec)
    frames, decode_cost = decode_alone(videos, encoder, sampling)
    encode_cost = encode_alone(frames, encoder)
    shutil.rmtree(work / "library", ignore_errors=True)
    with Library.open(work / "library", encoder=encoder, sampling=sampling) as library:
        begin = time.perf_counter()
        report = library.add(videos)
        seconds = time.perf_counter() - begin
    assert report.num_rows == len(frames), (report.num_rows, len(frames))
    cores = os.cpu_count() or 1
    limit, reached = cores / (decode_cost + encode_cost), report.num_rows / seconds
    print(f"{sampling}: {len(videos)} files, {report.num_rows} frames, {report.seconds_of_video / 60:.1f} min of video")
    print(f"  decode alone {1e3 * decode_cost:7.1f} CPU-ms a frame   ({decode_cost / (decode_cost + encode_cost):.0%} of the work)")
    print(f"  encode alone {1e3 * encode_cost:7.1f} CPU-ms a frame")
    print(f"  limit        {limit:7.2f} frames/s on {cores} cores")
    print(f"  vlm add      {reached:7.2f} frames/s, {report.seconds_of_video / seconds:.1f} x real time   ratio {reached / limit:.3f}")


MEMORY_CHILD = """
import json, resource, sys
import numpy as np
from vlm import Library
from vlm.encoders.registry import load_encoder
encoder = load_encoder(sys.argv[1])
framing = encoder.preprocessing.framing
for _ in range(2):
    encoder.encode_frames(np.zeros((16, framing.height, framing.width, 3), np.uint8))
peak = lambda who: resource.getrusage(who).ru_maxrss * 1024
before = peak(resource.RUSAGE_SELF)
with Library.open(sys.argv[2], encoder=encoder) as library:
    report = library.add(sys.argv[3])
print(json.dumps([before, peak(resource.RUSAGE_SELF), peak(resource.RUSAGE_CHILDREN), report.num_rows, report.elapsed_seconds]))
"""


def long_file(source: Path, work: Path, hours: float) -> Path:
    """``source`` joined to itself without encoding until it is so long."""
    target = work / f"long-{hours:g}h.mp4"
    if not target.exists():
        import av

        with av.open(str(source)) as probe:
            seconds = probe.duration / 1e6
        list_file = work / "parts.txt"
        list_file.write_text(f"file '{source.resolve()}'\n" * round(hours * 3600 / seconds))
        with av.open(str(list_file), format="concat", options={"safe": "0"}) as parts, av.open(str(target), "w") as out:
            stream = out.add_stream_from_template(parts.streams.video[0])
            for packet in parts.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    return target


def memory(video: Path, spec: str, work: Path) -> None:
    shutil.rmtree(work / "memory", ignore_errors=True)
    run = subprocess.run([sys.executable, "-c", MEMORY_CHILD, spec, work / "memory", video], capture_output=True, text=True, check=True)
    before, peak, child, rows, seconds = json.loads(run.stdout)
    gib = 1 / 2**30
    print(f"memory: {video.name}, {rows} frames in {seconds:.0f} s")
    print(f"  encoder warm {before * gib:.2f} GiB, peak of vlm add {peak * gib:.2f} GiB, of its largest decoding child {child * gib:.2f} GiB")
    print(f"  over the encoder's own, two children counted: {(peak - before + 2 * child) * gib:.2f} GiB (bar 1.5)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/vlm-benchmarks")
    parser.add_argument("--encoder", help="default: ViT-B-32 with random weights, which is as fast as with trained ones")
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--long-hours", type=float, default=2)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    spec = options.encoder or random_open_clip("ViT-B-32", options.work)
    videos = [render(options.work, seconds=120, seed=seed) for seed in range(options.files)]
    print(f"machine: {platform.processor() or platform.machine()}, {os.cpu_count()} cores; encoder {spec}")
    throughput(videos, spec, options.work, "every:1")
    throughput(videos, spec, options.work, "keyframes")
    throughput(videos[:1], spec, options.work, "every:1")
    if options.long_hours:
        memory(long_file(render(options.work, seconds=600, seed=0), options.work, options.long_hours), spec, options.work)


if __name__ == "__main__":
    main()
