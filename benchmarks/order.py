"""Order twins of Toybox: what each temporal adapter adds to mean pooling, on the same features. One row a mixer, three seeds.

    python -m benchmarks.order --out runs/order                      # all rows; a stopped run goes on
    python -m benchmarks.order --out runs/order --mixers dbm --seeds 0

Each run is `python -m vlm.train toybox-retrieval --mixer M --seed S`; the gallery are pairs of twins of the test split, whose triples
of shape, colour and action training never showed. Chance and a single frame stand at 0.5 by construction (benchmarks/blind.py), the
oracle over time at 1.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlm.encoders.registry import load_encoder
from vlm.eval.order import order_figures
from vlm.models.adapter import AdapterConfig
from vlm.models.model import VideoTextConfig, VideoTextModel
from vlm.train.features import open_features
from vlm.train.recipe import recipe_path
from vlm.train.retrieval import train_retrieval, twins, vectors_of
from vlm.train.words import TextBank

MIXERS = ("attention", "mamba", "vim", "dbm")
# What gates begin at in the row of --open-gates: open from the start, so that what is pooled is not CLIP's mean at first.
OPEN = 0.5
TEST_SEED = 101


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=None, help="folder of models order-MIXER-SEED that were trained elsewhere")
    parser.add_argument("--mixers", nargs="+", default=list(MIXERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pairs", type=int, default=500, help="of the gallery")
    parser.add_argument("--recipe", default="toybox-retrieval")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--open-gates", action="store_true", help=f"a row of DBM whose gates begin at {OPEN:g}")
    parser.add_argument("--encoder", default="pocket")
    given = parser.parse_args()
    encoder = load_encoder(given.encoder)
    given.out.mkdir(parents=True, exist_ok=True)
    shown = twins(TEST_SEED, given.pairs, split="test")
    features = open_features(shown.worlds, encoder, given.out / "cache")
    words = [texts[0] for texts in shown.texts]
    bank = TextBank(encoder, words)
    nothing = AdapterConfig(dim=encoder.dim, num_layers=0, text_layers=0)
    plain = VideoTextModel(VideoTextConfig(encoder=encoder.name, fingerprint=encoder.fingerprint, adapter=nothing))
    rows = {"mean pooling": [figures(plain, features, bank, words, seconds=0.0)]}
    table(rows, len(shown.worlds))
    for mixer in given.mixers:
        for seed in given.seeds:
            rows.setdefault(mixer, []).append(row(given, mixer, seed, encoder, features, bank, words))
            table(rows, len(shown.worlds))
    for seed in given.seeds if given.open_gates else ():
        rows.setdefault("dbm, gates open", []).append(row(given, "dbm", seed, encoder, features, bank, words, first_gate=OPEN))
        table(rows, len(shown.worlds))
    (given.out / "order.json").write_text(json.dumps({"encoder": encoder.fingerprint, "rows": rows}, indent=2) + "\n")


def row(
    given: argparse.Namespace,
    mixer: str,
    seed: int,
    encoder: Any,
    features: Any,
    bank: TextBank,
    words: list[str],
    *,
    first_gate: float = 0.0,
) -> dict[str, float]:
    """The figures of one training, from its folder where it has ended before."""
    folder = given.out / (f"{mixer}-open-{seed}" if first_gate else f"{mixer}-{seed}")
    kept = folder / "figures.json"
    if kept.exists():
        found: dict[str, float] = json.loads(kept.read_text())
        return found
    begin = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    if given.models:
        model = VideoTextModel.from_pretrained(given.models / f"order-{mixer}-{seed}")
    else:
        instead = {"mixer": mixer, "seed": seed, "steps": given.steps, "adapter": {"first_gate": first_gate}}
        model = train_retrieval(recipe_path(given.recipe), folder, encoder, cache=given.out / "cache", resume=True, **instead)
    found = figures(model, features, bank, words, seconds=time.perf_counter() - begin)
    kept.write_text(json.dumps(found) + "\n")
    return found


def figures(model: VideoTextModel, features: Any, bank: TextBank, words: list[str], *, seconds: float) -> dict[str, float]:
    videos, texts = vectors_of(model, features, bank, words)
    found = order_figures((texts @ videos.T).numpy())
    return {
        "order": found.accuracy,
        "recall_at_1": found.recall_at_1,
        "parameters": sum(model.num_parameters().values()),
        "seconds": round(seconds, 1),
    }


def table(rows: dict[str, list[dict[str, float]]], num_videos: int) -> None:
    print(f"\n| adapter | parameters | order of twins | R@1 among {num_videos} videos | seeds | seconds a run |\n|---|---|---|---|---|---|")
    for name, runs in rows.items():
        cells = []
        for key in ("order", "recall_at_1"):
            values = np.array([run[key] for run in runs])
            cells.append(f"{values.mean():.3f}" + (f" ({values.min():.3f} to {values.max():.3f})" if len(values) > 1 else ""))
        seconds = np.mean([run["seconds"] for run in runs])
        print(f"| {name} | {runs[0]['parameters']:,} | {' | '.join(cells)} | {len(runs)} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(os.cpu_count() or 1)
    main()
