"""Moments, saliency, absence and questions on held-out Toybox: one row a mixer and seed, beside what needs no training and no video.

    python -m benchmarks.understanding --out runs/understanding                                   # all rows; a stopped run goes on
    python -m benchmarks.understanding --out runs/understanding --mixers dbm --seeds 0 --sights all
    python -m benchmarks.understanding --out runs/rows --recipe toybox-rows --ablations             # short trainings

Each row is `python -m vlm.train toybox-all --mixer M --seed S [--sight none|frame]`; with --models FOLDER its trained model is taken from
FOLDER/MIXER-SIGHT-SEED, as a GPU made it. --ablations adds rows of DBM with one thing changed each, of ABLATIONS. Texts are balanced, so
that words do not tell what is true (vlm/data/toybox/balance.py); videos are those of the test split, of 5 s to 10 min. Chance is of who
knows the templates.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlm.data.toybox.queries import balanced_queries
from vlm.data.toybox.questions import KINDS, balanced_questions, chance
from vlm.data.toybox.truth import saliency
from vlm.data.toybox.world import World
from vlm.encoders.base import Encoder
from vlm.encoders.registry import load_encoder
from vlm.eval.understanding import AskedMoment, AskedQuestion, accuracies, area_under_curve, judge, moment_figures
from vlm.models.model import VideoTextModel
from vlm.models.plain import PlainReader, Reader
from vlm.models.reader import TrainedReader
from vlm.train.examples import Sight
from vlm.train.features import FeatureCache, open_features
from vlm.train.recipe import recipe_path
from vlm.train.toybox import RATE, train_toybox, worlds_of

TEST_SEED = 105
SHORT, LONG = 120.0, 300.0  # seconds of a video: up to the one, and from the other on
MIXERS, SIGHTS = ("attention", "vim", "dbm"), ("all",)
ABLATIONS: dict[str, dict[str, Any]] = {"text-right": {"text_side": "right"}, "pads-take-part": {"exact_masks": False}}


class Asked:
    """The texts of the test split with their truth."""

    def __init__(self, worlds: list[World], per_kind: int) -> None:
        video_of = {world.name: number for number, world in enumerate(worlds)}
        self.worlds = worlds
        self.present: list[AskedMoment] = []
        self.absent: list[AskedMoment] = []
        for query in balanced_queries(worlds, kinds=("event", "absent"), per_kind=per_kind):
            video = video_of[query.id.split("/query/")[0]]
            levels = saliency(worlds[video], query.spans, query.things)
            known = dict(zip(levels.seconds, levels.levels, strict=True))
            (self.present if query.is_true else self.absent).append(
                AskedMoment(video=video, text=query.text, spans=query.spans, levels=known)
            )
        asked = balanced_questions(worlds, per_type=per_kind)
        self.questions = [
            AskedQuestion(
                video=video_of[one.id.split("/question/")[0]], text=one.text, kind=one.kind, options=one.options, answer=one.answer
            )
            for one in asked
        ]
        self.chance = {kind: chance([one for one in asked if one.kind == kind]) for kind in KINDS}


def figures(reader: Reader, features: FeatureCache, asked: Asked, sight: Sight, *, answers: bool) -> dict[str, Any]:
    """Everything that is measured of one reader."""

    def shown(video: int) -> Any:
        return sight.of(features[video], video)

    begin = time.perf_counter()
    found: dict[str, Any] = {}
    if sight.name == "all":
        present, absent = judge(reader, shown, asked.present), judge(reader, shown, asked.absent)
        lengths = np.array([asked.worlds[one.video].seconds for one in asked.present])
        for name, rows in (("all", lengths > 0), ("short", lengths <= SHORT), ("long", lengths >= LONG)):
            if rows.any():
                found[f"moments {name}"] = asdict(moment_figures([present[row] for row in np.flatnonzero(rows)]))
        found["presence"] = area_under_curve([one.presence for one in present], [one.presence for one in absent])
        found["threshold"] = area_under_curve([one.score for one in present], [one.score for one in absent])
    if answers:
        found["questions"] = accuracies(reader, shown, asked.questions)
        if isinstance(reader, TrainedReader) and sight.name == "all":
            sure = [[reader.answer(one.text, shown(one.video)).answerable for one in some] for some in (asked.present, asked.absent)]
            found["abstain"] = area_under_curve(*sure)  # type: ignore[arg-type]
    return found | {"seconds of evaluation": round(time.perf_counter() - begin, 1)}


def row(
    given: argparse.Namespace,
    mixer: str,
    sight: str,
    seed: int,
    encoder: Encoder,
    features: FeatureCache,
    asked: Asked,
    changed: str = "",
) -> dict[str, Any]:
    """The figures of one training, from its folder where it has ended before; ``changed`` names one of ABLATIONS."""
    name = f"{mixer}-{changed or sight}-{seed}"
    folder = given.out / name
    kept = folder / "figures.json"
    if kept.exists():
        held: dict[str, Any] = json.loads(kept.read_text())
        return held
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    if given.models:
        model = VideoTextModel.from_pretrained(given.models / name)
    else:
        instead = {"mixer": mixer, "seed": seed, "sight": sight, "steps": given.steps, "interaction": ABLATIONS.get(changed, {})}
        cache = given.cache or given.out / "cache"
        model = train_toybox(recipe_path(given.recipe), folder, encoder, cache=cache, resume=True, begin_with=given.begin_with, **instead)
    seconds = time.perf_counter() - begin
    found = figures(TrainedReader(encoder, model), features, asked, Sight(sight), answers=bool(model.config.answers))
    found |= {"parameters": sum(model.num_parameters().values()), "seconds of training": None if given.models else round(seconds, 1)}
    kept.write_text(json.dumps(found) + "\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=None, help="folder of models that were trained elsewhere")
    parser.add_argument("--recipe", default="toybox-all")
    parser.add_argument("--begin-with", type=Path, default=None, help="folder of a training of what recipes that learn a part begin with")
    parser.add_argument("--ablations", action="store_true")
    parser.add_argument("--cache", type=Path, default=None, help="folder for features and texts (default: OUT/cache)")
    parser.add_argument("--mixers", nargs="+", default=list(MIXERS))
    parser.add_argument("--sights", nargs="+", default=list(SIGHTS), help="all, frame, none")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--worlds", type=int, default=300)
    parser.add_argument("--per-kind", type=int, default=400)
    parser.add_argument("--encoder", default="pocket")
    given = parser.parse_args()
    encoder = load_encoder(given.encoder)
    given.out.mkdir(parents=True, exist_ok=True)
    asked = Asked(worlds_of(TEST_SEED, given.worlds, split="test"), given.per_kind)
    features = open_features(asked.worlds, encoder, given.cache or given.out / "cache", frames_per_second=RATE)
    rows = {"training-free": [figures(PlainReader(encoder), features, asked, Sight(), answers=False)]}
    table(rows, asked)
    for sight in given.sights:
        for mixer in given.mixers:
            for seed in given.seeds:
                name = mixer if sight == "all" else f"{mixer}, {'one frame' if sight == 'frame' else 'no video'}"
                rows.setdefault(name, []).append(row(given, mixer, sight, seed, encoder, features, asked))
                table(rows, asked)
    for changed in ABLATIONS if given.ablations else ():
        for seed in given.seeds:
            rows.setdefault(f"dbm, {changed}", []).append(row(given, "dbm", "all", seed, encoder, features, asked, changed))
            table(rows, asked)
    held = {"encoder": encoder.fingerprint, "worlds": given.worlds, "chance": asked.chance, "rows": rows}
    (given.out / "understanding.json").write_text(json.dumps(held, indent=2) + "\n")


def table(rows: dict[str, list[dict[str, Any]]], asked: Asked) -> None:
    """Two tables: moments and absence, then questions."""
    print(f"\n{len(asked.present)} moments, {len(asked.absent)} absent events, {len(asked.questions)} questions")
    print(
        "| model | parameters | mIoU | R1@.5 | R1@.7 | mIoU to 2 min | from 5 min | HIT@1 | absence: presence | score | abstain | seeds |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for name, runs in rows.items():
        if "moments all" in runs[0]:
            cells = [_cell([run["moments all"][key] for run in runs]) for key in ("mean_iou", "recall_50", "recall_70")]
            cells += [_cell([run[f"moments {slice}"]["mean_iou"] for run in runs]) for slice in ("short", "long")]
            cells.append(_cell([run["moments all"]["hit_at_1"] for run in runs]))
            cells += [_cell([run.get(key, float("nan")) for run in runs]) for key in ("presence", "threshold", "abstain")]
            print(f"| {name} | {runs[0].get('parameters', 0):,} | {' | '.join(cells)} | {len(runs)} |", flush=True)
    print(f"\n| model | {' | '.join(KINDS)} | seeds |\n|{'---|' * (len(KINDS) + 2)}")
    print(f"| chance | {' | '.join(f'{asked.chance[kind]:.3f}' for kind in KINDS)} | |")
    for name, runs in rows.items():
        if "questions" in runs[0]:
            cells = [_cell([run["questions"].get(kind, float("nan")) for run in runs]) for kind in KINDS]
            print(f"| {name} | {' | '.join(cells)} | {len(runs)} |", flush=True)


def _cell(values: list[float]) -> str:
    spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    main()
