"""Finding the moment of a sentence in real footage: joins of the distinct clips of ../shared, through the offline encoder.

    python -m benchmarks.joins --out runs/joins            # seeds 0 to 9; files and features are kept, a stopped run goes on

Each seed joins clips in random order into one video of 2 to 7 minutes, no clip twice; those of odd seeds with cross-fades of a second, in
whose middle one span ends and the next begins. Each clip's caption is asked of its video. All rows see the same frames' vectors, one a
second. Beside ours: the best of the chunks that most tools cut (with the span that an oracle would choose among them), and shots by
PySceneDetect (pip install scenedetect), each pooled by the mean.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from vlm.encoders.base import Encoder
from vlm.encoders.registry import load_encoder
from vlm.index import segments
from vlm.index.footage import read_file
from vlm.models.plain import PlainReader
from vlm.spans import temporal_iou
from vlm.types import Features, Span
from vlm.video.sample import Sampling
from vlm.video.write import write_video

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
PHOTO = f"python:{Path(__file__).resolve().parents[1] / 'tests/plugins/photo.py'}:photo"
RATE, SIZE = 8, 224
SHORTEST, LONGEST = 120.0, 420.0
FADE_FRAMES = RATE
CHUNKS = (5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class Join:
    """A joined video: its file, its features, the shots that PySceneDetect finds, and each caption with its span."""

    path: Path
    features: Features
    shots: list[Span]
    captions: list[tuple[str, Span]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    encoder = load_encoder(PHOTO)
    joins = [open_join(given.out, seed, encoder) for seed in given.seeds]
    found = {name: figures(joins, encoder, spans) for name, spans in rows(encoder).items()}
    for seconds in CHUNKS:
        found[f"oracle among chunks of {seconds:g} s"] = oracle(joins, seconds)
    (given.out / "joins.json").write_text(json.dumps(found, indent=2) + "\n")
    table(found, joins)


Finder = Callable[[Join, str, NDArray[np.float32]], Span]


def rows(encoder: Encoder) -> dict[str, Finder]:
    """What finds a span in a join for a caption and its vector."""
    reader = PlainReader(encoder)

    def by_segments(join: Join, caption: str, vector: NDArray[np.float32]) -> Span:
        cut = segments.cut(join.features)
        return cut[int((segments.pool(join.features, cut) @ vector).argmax())].span

    def ours(join: Join, caption: str, vector: NDArray[np.float32]) -> Span:
        return reader.ground([caption], join.features)[0].moments[0].span

    found: dict[str, Finder] = {f"chunks of {seconds:g} s": by_chunks(seconds) for seconds in CHUNKS}
    found["shots, mean pooling"] = lambda join, caption, vector: best_of(join.features, join.shots, vector)
    found["ours, first stage: segments"] = by_segments
    found["ours, training-free moments"] = ours
    return found


def by_chunks(seconds: float) -> Finder:
    return lambda join, caption, vector: best_of(join.features, chunks(join.features, seconds), vector)


def chunks(features: Features, seconds: float) -> list[Span]:
    edges = [*np.arange(0.0, features.end, seconds), features.end]
    return [Span(float(a), float(b)) for a, b in itertools.pairwise(edges) if b > a]


def best_of(features: Features, spans: Sequence[Span], vector: NDArray[np.float32]) -> Span:
    """The span whose mean row is nearest to the text; rows belong to the span that holds their middle."""
    middles = (features.times + np.append(features.times[1:], features.end)) / 2
    scores = []
    for span in spans:
        inside = features.vectors[(middles >= span.start) & (middles < span.end)]
        mean = inside.mean(axis=0) if len(inside) else np.zeros_like(vector)
        scores.append(float(mean @ vector / max(np.linalg.norm(mean), 1e-9)) if len(inside) else -1.0)
    return spans[int(np.argmax(scores))]


def figures(joins: Sequence[Join], encoder: Encoder, find: Finder) -> dict[str, float]:
    overlaps = []
    for join in joins:
        vectors = encoder.encode_text([caption for caption, _ in join.captions])
        overlaps += [
            temporal_iou(find(join, caption, vector), truth) for (caption, truth), vector in zip(join.captions, vectors, strict=True)
        ]
    return told(np.array(overlaps))


def oracle(joins: Sequence[Join], seconds: float) -> dict[str, float]:
    best = [max(temporal_iou(span, truth) for span in chunks(join.features, seconds)) for join in joins for _, truth in join.captions]
    return told(np.array(best))


def told(overlaps: NDArray[np.float64]) -> dict[str, float]:
    return {
        "recall_at_half": float((overlaps >= 0.5).mean()),
        "recall_at_0.7": float((overlaps >= 0.7).mean()),
        "mean_iou": float(overlaps.mean()),
    }


def table(found: dict[str, dict[str, float]], joins: Sequence[Join]) -> None:
    queries = sum(len(join.captions) for join in joins)
    minutes = sum(join.features.end for join in joins) / 60
    print(f"\n{len(joins)} joins, {minutes:.0f} minutes, {queries} queries\n")
    print("| row | R1@0.5 | R1@0.7 | mIoU |\n|---|---|---|---|")
    for name, made in found.items():
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in made.values())} |")


def open_join(folder: Path, seed: int, encoder: Encoder) -> Join:
    """The join of a seed, made unless it is there."""
    path, held, cache = (folder / f"join-{seed}{suffix}" for suffix in (".mp4", ".json", ".npz"))
    if not held.exists():
        pictures, captions = joined(seed, fade=FADE_FRAMES if seed % 2 else 0)
        path.unlink(missing_ok=True)
        write_video(path, pictures, frame_rate=Fraction(RATE))
        held.write_text(json.dumps({"captions": captions, "shots": shots_of(path)}))
    if not cache.exists():
        features = read_file(path, encoder, Sampling.parse("every:1")).features
        np.savez(cache, vectors=features.vectors, times=features.times, end=features.end)
    with np.load(cache) as parts:
        features = Features(parts["vectors"], parts["times"], float(parts["end"]))
    told_of = json.loads(held.read_text())
    captions = [(text, Span(start, end)) for text, start, end in told_of["captions"]]
    return Join(path, features, [Span(start, end) for start, end in told_of["shots"]], captions)


def joined(seed: int, *, fade: int) -> tuple[NDArray[np.uint8], list[tuple[str, float, float]]]:
    """The pictures (t, h, w, 3) of a join, and each caption with start and end in seconds."""
    clips = [json.loads(line) for line in (CLIPS / "captions.jsonl").read_text().splitlines()]
    distinct = [row for row in clips if "_asl_" not in row["file"] and row["file"] != "mdn_flower.webm"]
    rng = np.random.default_rng(seed)
    wanted = rng.uniform(SHORTEST, LONGEST)
    parts: list[NDArray[np.uint8]] = []
    captions: list[tuple[str, float, float]] = []
    total = 0
    for number in rng.permutation(len(distinct)):
        row = distinct[number]
        if (total + row["duration_s"] * RATE) / RATE > LONGEST:
            continue
        pictures = pictures_of(CLIPS / row["file"])
        begin = total
        if fade and parts and min(len(pictures), len(parts[-1])) > fade:
            weights = ((np.arange(fade) + 1) / (fade + 1))[:, None, None, None]
            mixed = parts[-1][-fade:] * (1 - weights) + pictures[:fade] * weights
            parts[-1] = np.concatenate([parts[-1][:-fade], mixed.round().astype(np.uint8)])
            pictures = pictures[fade:]
            begin = total - fade / 2
            text, start, _ = captions[-1]
            captions[-1] = (text, start, begin / RATE)
        parts.append(pictures)
        total += len(pictures)
        captions.append((re.sub(r"\(.*?\)", "", row["caption"]).strip(), begin / RATE, total / RATE))
        if total / RATE >= wanted:
            break
    return np.concatenate(parts), captions


def pictures_of(path: Path) -> NDArray[np.uint8]:
    """Frames (t, SIZE, SIZE, 3) of a file at RATE, the last one shown at each time."""
    found: list[NDArray[np.uint8]] = []
    with av.open(str(path)) as container:
        first: float | None = None
        for frame in container.decode(video=0):
            seconds = float(frame.time or 0.0)
            first = seconds if first is None else first
            if (seconds - first) * RATE >= len(found):
                found.append(frame.to_ndarray(format="rgb24", width=SIZE, height=SIZE))
    return np.stack(found)


def shots_of(path: Path) -> list[tuple[float, float]]:
    """The shots of PySceneDetect's ContentDetector at its own threshold; the whole video where it finds no cut."""
    from scenedetect import ContentDetector, detect

    found = detect(str(path), ContentDetector(min_scene_len=RATE), start_in_scene=True)
    return [(start.seconds, end.seconds) for start, end in found]


if __name__ == "__main__":
    main()
