"""Whether a library's stated false-alarm rates and confidences are true: absent and present queries over three libraries.

    python -m benchmarks.confidence --out runs/confidence            # Toybox; and the real clips of ../shared, where they are
    python -m benchmarks.confidence --out runs/confidence --libraries val --videos 20

Libraries: 40 videos of 30 s of Toybox's test split; 100 videos of 60 s of its val split, from other seeds; the real clips. The background
sentences are those that ship. The absent queries are from another source: of Toybox, captions of events of other worlds that
fit no event of the library; of the real clips, queries of QVHighlights and Charades-STA, of which a few may happen to be true of a clip.
Present queries are captions of the library's own events or clips. Each is weighed so that absent and present ones are as many: the
expected calibration error (Naeini et al. 2015) is of ten bins of confidence.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm.data.formats.charades_sta import read_moments
from vlm.data.formats.qvhighlights import read_queries
from vlm.data.toybox.dice import Dice
from vlm.data.toybox.language import clause, pattern_of
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.world import World
from vlm.encoders.base import Encoder
from vlm.encoders.registry import load_encoder
from vlm.index import segments
from vlm.index.background import background
from vlm.index.confidence import at_even_odds, fitted
from vlm.index.library import Library
from vlm.train.features import open_features

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
PHOTO = f"python:{Path(__file__).resolve().parents[1] / 'tests/plugins/photo.py'}:photo"
STATED = (0.01, 0.05, 0.1, 0.2)
# How much of a thing is said: what captions of Toybox say too.
MENTIONS = (("colour", "shape"), ("size", "colour", "shape"), ("size", "colour", "texture", "shape"))
NUM_ABSENT, NUM_PRESENT = 2000, 1000


@dataclass(frozen=True, slots=True)
class Toybox:
    """A library of so many videos of a split, and the seed of the worlds whose events are absent."""

    split: str
    seed: int
    absent_seed: int
    videos: int
    seconds: float


TOYBOXES = {"test": Toybox("test", 31, 32, 40, 30.0), "val": Toybox("val", 33, 34, 100, 60.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--encoder", default="pocket")
    parser.add_argument("--libraries", nargs="+", choices=[*TOYBOXES, "real"], default=[*TOYBOXES, "real"])
    parser.add_argument("--videos", type=int, default=None, help="videos of the Toybox libraries, instead of their own numbers")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    encoder = load_encoder(given.encoder)
    found = {}
    for name in given.libraries:
        if name != "real":
            kind = TOYBOXES[name]
            number = given.videos or kind.videos
            title = f"Toybox, {name}: {number} videos of {kind.seconds:g} s"
            found[title] = toybox(replace(kind, videos=number), encoder, given.out / "cache")
        elif SHARED.is_dir():
            title = "real clips"
            found[title] = real(given.out / "real")
        else:
            continue
        print(row(title, found[title]), flush=True)
    (given.out / "confidence.json").write_text(json.dumps(found, indent=2) + "\n")
    heads = " | ".join(f"false alarms at {stated:.0%}" for stated in STATED)
    print(f"\n| library | segments | absent, present | {heads} | calibration error | AUROC |\n|{'---|' * (5 + len(STATED))}")
    for name, figures in found.items():
        print(row(name, figures))


def toybox(kind: Toybox, encoder: Encoder, cache: Path) -> dict[str, Any]:
    worlds = [make_world(kind.seed, index, split=kind.split, seconds=kind.seconds) for index in range(kind.videos)]
    features = open_features(worlds, encoder, cache, frames_per_second=1.0)
    vectors = [segments.pool(features[place], segments.cut(features[place])) for place in range(kind.videos)]
    dice = Dice("benchmark", kind.videos)
    present = present_of(worlds, dice)
    return judged(encoder, np.concatenate(vectors), absent_of(kind, worlds, dice), present)


def present_of(worlds: Sequence[World], dice: Dice) -> list[str]:
    """Captions of the events of ``worlds`` in turn, each in other words than before: NUM_PRESENT, or as many as a few rounds give."""
    events = [event for world in worlds for event in world.events]
    found: dict[str, None] = {}
    for event in events * (1 + 4 * NUM_PRESENT // len(events)):
        if len(found) == NUM_PRESENT:
            break
        found[clause(pattern_of(event, dice.choose(MENTIONS)), dice)] = None
    return list(found)


def absent_of(kind: Toybox, worlds: Sequence[World], dice: Dice) -> list[str]:
    """Captions of events of other worlds that no event of ``worlds`` fits, each once."""
    events = [event for world in worlds for event in world.events]
    found: dict[str, None] = {}
    index = 0
    while len(found) < NUM_ABSENT:
        for event in make_world(kind.absent_seed, index, split=kind.split, seconds=kind.seconds).events:
            pattern = pattern_of(event, dice.choose(MENTIONS))
            if not any(pattern.fits(other) for other in events):
                found[clause(pattern, dice)] = None
        index += 1
    return list(found)[:NUM_ABSENT]


def real(folder: Path) -> dict[str, Any]:
    encoder = load_encoder(PHOTO)
    with Library.open(folder, encoder=encoder) as library:
        library.add(SHARED / "clips")
        ids = library._store.segment_ids()
        vectors = library._store.segment_vectors(ids, encoder.dim)
    captions = [json.loads(line)["caption"] for line in (SHARED / "clips/captions.jsonl").read_text().splitlines()]
    return judged(encoder, vectors, public_captions()[:NUM_ABSENT], sorted(set(captions)))


def public_captions() -> list[str]:
    """Queries of QVHighlights and of Charades-STA, in turn."""
    folder = SHARED / "annotations"
    asked = [one.query for one in read_queries(folder / "qvhighlights/highlight_val_release.jsonl")]
    said = [one.sentence for one in read_moments(folder / "charades_sta/charades_sta_test.txt")]
    return [text for pair in zip(dict.fromkeys(asked), dict.fromkeys(said), strict=False) for text in pair]


def judged(encoder: Encoder, vectors: NDArray[np.float32], absent: Sequence[str], present: Sequence[str]) -> dict[str, Any]:
    sentences = encoder.encode_text(background(encoder))
    measure = fitted(vectors, sentences, (sentences @ vectors.T).max(axis=1))
    rates = []
    for texts in (absent, present):
        queries = encoder.encode_text(list(texts))
        best = (queries @ vectors.T).max(axis=1)
        rates.append(np.array([measure.false_alarm_rate(q, np.array([b]))[0] for q, b in zip(queries, best, strict=True)]))
    shown = [float((rates[0] <= stated).mean()) for stated in STATED]
    interval = [1.96 * float(np.sqrt(share * (1 - share) / len(absent))) for share in shown]
    return {
        "segments": len(vectors),
        "absent": len(absent),
        "present": len(present),
        "false_alarms": shown,
        "interval": interval,
        "calibration_error": calibration_error(*map(at_even_odds, rates)),
        "auroc": float((rates[1][:, None] < rates[0]).mean() + 0.5 * (rates[1][:, None] == rates[0]).mean()),
        "rates": [np.quantile(rate, np.linspace(0, 1, 41)).round(5).tolist() for rate in rates],
    }


def calibration_error(absent: NDArray[np.float64], present: NDArray[np.float64]) -> float:
    """How far confidence and truth lie apart, on average over ten bins, with as much weight on absent as on present queries."""
    sure = np.concatenate([absent, present])
    weight = np.concatenate([np.full(len(absent), 0.5 / len(absent)), np.full(len(present), 0.5 / len(present))])
    is_true = np.concatenate([np.zeros(len(absent)), np.ones(len(present))])
    places = np.minimum((sure * 10).astype(int), 9)
    return float(sum(abs((weight * (sure - is_true))[places == place].sum()) for place in range(10)))


def row(name: str, figures: dict[str, Any]) -> str:
    alarms = " | ".join(f"{share:.3f} ± {half:.3f}" for share, half in zip(figures["false_alarms"], figures["interval"], strict=True))
    counts = f"{figures['absent']:,}, {figures['present']:,}"
    return f"| {name} | {figures['segments']:,} | {counts} | {alarms} | {figures['calibration_error']:.3f} | {figures['auroc']:.3f} |"


if __name__ == "__main__":
    main()
