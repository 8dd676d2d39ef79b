"""Finding the video and the moment in it, end to end from rendered files: the two stages of search beside each alone and beside chunks.

    python -m benchmarks.two_stage --out runs/two_stage                            # with what comes with pocket
    python -m benchmarks.two_stage --out runs/two_stage --model FOLDER             # with another trained model; keeps what was rendered
    python -m benchmarks.two_stage --out runs/two_stage --videos 24 --queries 20   # a smoke run

The library holds Toybox videos of the test split (5 s to 10 min long), rendered at 8 frames/s, added by `vlm add` two frames a second. The
queries are sentences about events of held-out compositions, each true of one video alone: of video and span together the span must overlap
a true one by an IoU of 0.5. Peers cut every video alike: chunks of 5, 10 and 30 s (what most tools do) and the shots that PySceneDetect
finds (where it is installed: the extra `bench`), each the mean of its frames. The ceiling is of who picks the
best part of the right video.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.joins import chunks, shots_of
from benchmarks.latency import copy_of
from benchmarks.toybox_library import Made, toybox_library
from vlm import Library
from vlm.data.toybox.dice import Dice
from vlm.data.toybox.facts import Facts, keeps_split
from vlm.data.toybox.language import clause, pattern_of
from vlm.encoders.registry import load_encoder
from vlm.models.model import VideoTextModel
from vlm.models.shipped import shipped_with
from vlm.spans import temporal_iou
from vlm.types import Features, Span

CHUNKS = (5.0, 10.0, 30.0)
SAMPLING = "every:2"
# Where the rows that are attached were made by: a place in the library, and what is true of it.
Found = tuple[int, Span] | None
Find = Callable[[str], Found]


@dataclass(frozen=True, slots=True)
class Asked:
    """A sentence, the one video that it is true of, and its spans there."""

    text: str
    video: int
    spans: tuple[Span, ...]


def asked_of(made: Made, number: int) -> list[Asked]:
    """So many sentences, one an event, evenly over the videos; fewer where fewer are true of one video alone."""
    dice, found = Dice("two stages"), []
    for video, world in enumerate(made.worlds):
        facts = Facts(world)
        for event in world.events:
            mention = dice.choose((("size", "colour", "shape"), ("size", "colour", "texture", "shape")))
            pattern = pattern_of(event, mention, target_mention=("colour", "shape"))
            if not keeps_split(world.split, pattern) or not facts.is_clear(pattern):
                continue
            if any(pattern.fits(other) for place, one in enumerate(made.worlds) if place != video for other in one.events):
                continue
            found.append(Asked(clause(pattern, dice), video, tuple(each.span for each in facts.events(pattern))))
    kept = {one.text: one for one in found}
    places = np.unique(np.linspace(0, len(kept) - 1, min(number, len(kept))).round().astype(int))
    return [list(kept.values())[place] for place in places]


def searching(library: Library, made: Made, *, second_look: bool) -> Find:
    """The first hit of a search."""
    places = {str(path.resolve()): number for number, path in enumerate(made.files)}

    def find(text: str) -> Found:
        hits = library.search(text, top_k=1, second_look=second_look).hits
        return (places[str(Path(hits[0].path).resolve())], hits[0].span) if hits else None

    return find


def best_part(encode: Callable[[str], NDArray[np.float32]], features: Sequence[Features], parts: Sequence[Sequence[Span]]) -> Find:
    """The part of any video whose mean frame is nearest to the sentence."""
    where = [(video, span) for video, spans in enumerate(parts) for span in spans]
    means = np.concatenate([mean_frames(one, spans) for one, spans in zip(features, parts, strict=True)])

    def find(text: str) -> Found:
        return where[int((means @ encode(text)).argmax())]

    return find


def mean_frames(features: Features, spans: Sequence[Span]) -> NDArray[np.float32]:
    """Unit vectors (n, d) of the rows whose middle lies in each span; zeros where there is none."""
    middles = (features.times + np.append(features.times[1:], features.end)) / 2
    means = np.zeros((len(spans), features.vectors.shape[1]), np.float32)
    for row, span in zip(means, spans, strict=True):
        inside = features.vectors[(middles >= span.start) & (middles < span.end)]
        if len(inside):
            mean = inside.mean(axis=0)
            row[:] = mean / max(float(np.linalg.norm(mean)), 1e-9)
    return means


def figures(find: Find, asked: Sequence[Asked]) -> dict[str, float]:
    """How often the first hit is right: of the video; of video and span at IoU 0.5, and at 0.7; and the mean IoU, 0 in another video."""
    right, ious = [], []
    for one in asked:
        found = find(one.text)
        right.append(found is not None and found[0] == one.video)
        ious.append(max(temporal_iou(found[1], span) for span in one.spans) if found is not None and right[-1] else 0.0)
    return told(np.array(right), np.array(ious))


def ceiling(parts: Sequence[Sequence[Span]], asked: Sequence[Asked]) -> dict[str, float]:
    """Of who knows the video and picks the best of its parts."""
    ious = [max(temporal_iou(part, span) for part in parts[one.video] for span in one.spans) for one in asked]
    return told(np.ones(len(asked), np.bool_), np.array(ious))


def told(right: NDArray[np.bool_], ious: NDArray[np.float64]) -> dict[str, float]:
    return {
        "video": float(right.mean()),
        "video and span at 0.5": float((ious >= 0.5).mean()),
        "at 0.7": float((ious >= 0.7).mean()),
        "mIoU": float(ious.mean()),
    }


def shots_in(made: Made, kept: Path) -> list[list[Span]]:
    """The shots of each file, kept in a file once found."""
    held: dict[str, list[tuple[float, float]]] = json.loads(kept.read_text()) if kept.exists() else {}
    for path in made.files:
        if path.name not in held:
            held[path.name] = shots_of(path)
    kept.write_text(json.dumps(held))
    return [[Span(start, end) for start, end in held[path.name]] for path in made.files]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=None, help="folder of a trained model; by default what comes with pocket")
    parser.add_argument("--videos", type=int, default=300)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--seed", type=int, default=141)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    encoder = load_encoder("pocket", device="cpu")
    folder = given.model or shipped_with(encoder.fingerprint)
    made = toybox_library(given.out, videos=given.videos, seconds=None, sampling=SAMPLING, seed=given.seed)
    asked = asked_of(made, given.queries)
    with Library.open(copy_of(made.library, given.out / "plain", None)) as library:
        ids = [library.resolve(str(path)) for path in made.files]
        features = [library.features(video_id) for video_id in ids]
        rows = rows_of(made, asked, features, encoder.encode_text, given.out)
        rows["stage 1 alone: segments"] = figures(searching(library, made, second_look=False), asked)
        rows["two stages, training-free"] = figures(searching(library, made, second_look=True), asked)
    if folder is not None:
        with Library.open(copy_of(made.library, given.out / "trained", VideoTextModel.from_pretrained(folder))) as library:
            rows[f"two stages, {folder.name}"] = figures(searching(library, made, second_look=True), asked)
    held = {"videos": given.videos, "hours": sum(one.end for one in features) / 3600, "queries": len(asked), "seed": given.seed}
    (given.out / "two_stage.json").write_text(json.dumps(held | {"model": str(folder), "rows": rows}, indent=2) + "\n")
    table(rows, asked, held["hours"])


def rows_of(
    made: Made,
    asked: Sequence[Asked],
    features: Sequence[Features],
    encode_text: Callable[[Sequence[str]], NDArray[np.float32]],
    out: Path,
) -> dict[str, dict[str, float]]:
    """The rows of the peers, and their ceilings."""

    def encode(text: str) -> NDArray[np.float32]:
        vector: NDArray[np.float32] = encode_text([text])[0]
        return vector

    rows = {}
    cut = {f"chunks of {seconds:g} s": [chunks(one, seconds) for one in features] for seconds in CHUNKS}
    if find_spec("scenedetect") is None:
        print("no row of shots: PySceneDetect is not installed (pip install -e '.[bench]')", flush=True)
    else:
        cut["shots (PySceneDetect)"] = shots_in(made, out / "shots.json")
    for name, parts in cut.items():
        rows[name] = figures(best_part(encode, features, parts), asked)
    for name, parts in cut.items():
        rows[f"ceiling of {name}"] = ceiling(parts, asked)
    return rows


def table(rows: dict[str, dict[str, float]], asked: Sequence[Asked], hours: float) -> None:
    n, videos = len(asked), len({one.video for one in asked})
    print(f"\n{n} queries of {videos} videos in {hours:.1f} h; a standard error is at most {0.5 / n**0.5:.3f}\n")
    print("| row | R@1, video | R@1, video and span (IoU 0.5) | at 0.7 | mIoU |\n|---|---|---|---|---|")
    for name, found in rows.items():
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in found.values())} |")


if __name__ == "__main__":
    main()
