"""What ``vlm add`` reaches of the best that shared cores allow, and its peak memory on a two-hour file.

    python -m benchmarks.add [--work FOLDER] [--encoder SPEC] [--files 4] [--long-hours 2]

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

import av
import numpy as np

from benchmarks.decode import render
from benchmarks.random_vit import random_vit
from vlm import Library
from vlm.encoders.registry import load_encoder
from vlm.types import Frames
from vlm.video.decode import decode_request
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
        pixels += [item.pixels for item in decode_request(request, threads=1) if isinstance(item, Frames)]
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
import json, os, resource, sys, threading
from pathlib import Path
import numpy as np
from tests.killing import children_of
from vlm import Library
from vlm.encoders.registry import load_encoder
encoder = load_encoder(sys.argv[1])
framing = encoder.preprocessing.framing
for _ in range(2):
    encoder.encode_frames(np.zeros((16, framing.height, framing.width, 3), np.uint8))
peak = lambda who: resource.getrusage(who).ru_maxrss * 1024
before = peak(resource.RUSAGE_SELF)
children, ended = [], threading.Event()
def watch():
    # RUSAGE_CHILDREN would count this process as well: what it held at the moment of each fork.
    while not ended.wait(1.0):
        for pid in children_of(os.getpid()):
            status = Path(f"/proc/{pid}/status").read_text()
            children.append(int(status.split("VmHWM:")[1].split()[0]) * 1024)
threading.Thread(target=watch, daemon=True).start()
with Library.open(sys.argv[2], encoder=encoder) as library:
    report = library.add(sys.argv[3])
ended.set()
print(json.dumps([before, peak(resource.RUSAGE_SELF), max(children), report.num_rows, report.elapsed_seconds]))
"""


def source(work: Path) -> Path:
    """The ten-minute 720p file of benchmarks/decode.py, rendered once."""
    path = work / "decode-720p-10min.mp4"
    if not path.exists():
        render(path, 10)
    return path


def parts(whole: Path, work: Path, *, seconds: float, count: int) -> list[Path]:
    """Consecutive stretches of ``whole`` as files of their own, cut at keyframes without encoding."""
    paths = [work / f"part-{number}.mp4" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            with av.open(str(whole)) as container:
                packets = [p for p in container.demux(video=0) if p.dts is not None]
                stream = container.streams.video[0]
                first, last = (float((number + k) * seconds / stream.time_base) for k in (0, 1))
                begin = next(i for i, p in enumerate(packets) if p.is_keyframe and p.pts >= first)
                end = next((i for i, p in enumerate(packets) if p.is_keyframe and p.pts >= last), len(packets))
                write(path, stream, packets[begin:end], repeats=1)
    return paths


def long_file(whole: Path, work: Path, hours: float) -> Path:
    """``whole`` joined to itself without encoding until it is so long."""
    path = work / f"long-{hours:g}h.mp4"
    if not path.exists():
        with av.open(str(whole)) as container:
            packets = [p for p in container.demux(video=0) if p.dts is not None]
            stream = container.streams.video[0]
            seconds = float(stream.duration * stream.time_base)
            write(path, stream, packets, repeats=round(hours * 3600 / seconds))
    return path


def write(path: Path, template: av.VideoStream, packets: list[av.Packet], *, repeats: int) -> None:
    step = packets[1].dts - packets[0].dts
    length = packets[-1].dts - packets[0].dts + step
    times = [(p.pts - packets[0].pts, p.dts - packets[0].pts) for p in packets]
    with av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(template)
        for repeat in range(repeats):
            for packet, (pts, dts) in zip(packets, times, strict=True):
                packet.pts, packet.dts = pts + repeat * length, dts + repeat * length
                packet.stream = stream
                out.mux(packet)


def memory(video: Path, spec: str, work: Path) -> None:
    shutil.rmtree(work / "memory", ignore_errors=True)
    run = subprocess.run([sys.executable, "-c", MEMORY_CHILD, spec, work / "memory", video], capture_output=True, text=True, check=True)
    before, peak, child, rows, seconds = json.loads(run.stdout)
    gib = 1 / 2**30
    print(f"memory: {video.name}, {rows} frames in {seconds:.0f} s")
    print(f"  encoder warm {before * gib:.2f} GiB, peak of vlm add {peak * gib:.2f} GiB, of its decoding child {child * gib:.2f} GiB")
    print(f"  over the encoder's own: {(peak - before + child) * gib:.2f} GiB (bar 1.5)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/vlm-benchmarks")
    parser.add_argument("--encoder", help="default: ViT-B-32 with random weights, which is as fast as with trained ones")
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--long-hours", type=float, default=2)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    spec = options.encoder or random_vit(options.work)
    whole = source(options.work)
    videos = parts(whole, options.work, seconds=120, count=options.files)
    print(f"machine: {platform.processor() or platform.machine()}, {os.cpu_count()} cores; encoder {spec}")
    throughput(videos, spec, options.work, "every:1")
    throughput(videos, spec, options.work, "keyframes")
    throughput(videos[:1], spec, options.work, "every:1")
    if options.long_hours:
        memory(long_file(whole, options.work, options.long_hours), spec, options.work)


if __name__ == "__main__":
    main()
