"""Near duplicates beyond Toybox: joins of the real clips of ../shared that show the same clips, and the time of a large library.

    python -m benchmarks.duplicates_more --out runs/duplicates --joins 0 1 2
    python -m benchmarks.duplicates_more --out runs/duplicates --hours 10

Joins are made by benchmarks.joins: odd seeds with cross-fades and another codec, seeds 2, 5, 8, ... at another frame rate. A clip of 5 s or
more that two of them show is to be found, within a second at all ends (TOLERANCE).
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from benchmarks import joins
from benchmarks.duplicates import LEAST_SECONDS, SEED, Truth, figures, ours
from benchmarks.encode import machine
from tests.films import library_of
from vlm import Library
from vlm.encoders.registry import load_encoder
from vlm.index.footage import read_file
from vlm.spans import overlap_seconds
from vlm.types import Features, Span
from vlm.video.sample import Sampling
from vlm.video.write import write_video


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--joins", type=int, nargs="+", metavar="SEED", help="joins by these seeds")
    parser.add_argument("--hours", type=float, help="time a library of so many hours of made-up rows")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.joins:
        real_clips(given.out, given.joins)
    if given.hours:
        time_rows(given.out, given.hours)


def real_clips(out: Path, seeds: Sequence[int]) -> None:
    """Joins of the real clips of ../shared (benchmarks.joins), of which two show many of the same clips, at 8 and at 10 frames a second."""
    folder = out / "joins"
    folder.mkdir(parents=True, exist_ok=True)
    encoder = load_encoder(joins.PHOTO)
    videos: dict[str, Features] = {}
    captions: dict[str, dict[str, Span]] = {}
    for seed in seeds:
        name, cache, told = f"join-{seed}", folder / f"{seed}.npz", folder / f"{seed}.json"
        if not told.exists():
            pictures, spans = joins.joined(seed, fade=joins.FADE_FRAMES if seed % 2 else 0)
            rate = Fraction(joins.RATE)
            if seed % 3 == 2:
                rate = Fraction(10)
                pictures = pictures[(np.arange(int(len(pictures) * rate / joins.RATE)) * joins.RATE / float(rate)).astype(int)]
            path = folder / f"{name}.{'avi' if seed % 2 else 'mp4'}"
            path.unlink(missing_ok=True)
            write_video(path, pictures, codec="mpeg4" if seed % 2 else "h264", frame_rate=rate)
            features = read_file(path, encoder, Sampling.parse("every:1")).features
            np.savez(cache, vectors=features.vectors, times=features.times, end=features.end)
            told.write_text(json.dumps(spans))
        with np.load(cache) as parts:
            videos[name] = Features(parts["vectors"], parts["times"], float(parts["end"]))
        spans = json.loads(told.read_text())
        once = {text for text, *_ in spans if [other for other, *_ in spans].count(text) == 1}
        captions[name] = {text: Span(start, end) for text, start, end in spans if text in once}
    library = folder / ("library-" + "-".join(map(str, seeds)))
    if not library.exists():
        library_of(library, videos)
    truths = [
        Truth("real clips", True, (one, other), (captions[one][text], captions[other][text]))
        for one, other in itertools.combinations(videos, 2)
        for text in captions[one].keys() & captions[other].keys()
        if min(captions[one][text].seconds, captions[other][text].seconds) >= LEAST_SECONDS + 1
    ]
    with Library.open(library, create=False, read_only=True) as held:
        found = ours(held, {video.video_id: video.path for video in held.videos()})
    print(f"{len(videos)} joins, {sum(one.end for one in videos.values()) / 60:.0f} minutes, {len(truths)} shared clips of 5 s and more")
    print(json.dumps(figures(found, truths), indent=2))
    inside = [any(one == t.names[0] and other == t.names[1] and meets(spans, t) for t in truths) for one, other, *spans in found]
    print(f"{sum(inside)} of {len(found)} that were found lie on a clip that both show")


def meets(spans: Sequence[Span], truth: Truth) -> bool:
    return all(overlap_seconds(mine, true) > 0 for mine, true in zip(spans, truth.spans, strict=True))


def time_rows(folder: Path, hours: float) -> None:
    """Times a library of videos of six minutes, a row a second: scenes of ten seconds about points of their own; every tenth video shows a
    minute of the one before.
    """
    rng = np.random.default_rng(SEED)
    videos: dict[str, Features] = {}
    before = np.empty((0, 512), np.float32)
    for number in range(round(hours * 10)):
        centres = np.repeat(rng.normal(size=(36, 512)), 10, axis=0)
        rows = centres + np.cumsum(rng.normal(size=centres.shape) / 6, axis=0) + 1.0
        if number % 10 == 9:
            rows[100:160] = before[30:90] + rng.normal(size=(60, 512)) / 10
        before = rows
        unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        videos[f"made-up-{number}"] = Features(unit, np.arange(360.0), 360.0)
    if not (folder / f"rows-{hours:g}").exists():
        library_of(folder / f"rows-{hours:g}", videos)
    with Library.open(folder / f"rows-{hours:g}", create=False, read_only=True) as library:
        begin, used = time.perf_counter(), time.process_time()
        found = library.duplicates()
        seconds, cpu = time.perf_counter() - begin, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    taken = f"{seconds:.1f} s ({cpu:.1f} s of CPU), {peak:.0f} MiB"
    print(f"{hours:g} hours, {360 * len(videos)} rows of 512: {taken}, {len(found)} found; {machine()}")


if __name__ == "__main__":
    main()
