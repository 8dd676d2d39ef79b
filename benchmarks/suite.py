"""The suite's tasks on Toybox: what each mixer reaches at equal size, and how long it takes by length. One row a mixer and task.

    python -m benchmarks.suite --task localization segmentation --seeds 0 1 2 --out runs/suite     # a stopped run goes on by row
    python -m benchmarks.suite --lengths --out runs/suite                                          # the second table alone

Every row is a training by the shipped recipe with another mixer, at the width whose count of parameters is nearest to the recipe's (within
3 %), in a process of its own, whose largest memory is told. Figures are of worlds of the split test: looks, actions of certain things and
lengths that training never shows. Chance does not look; the oracle knows the world, and rounds to rows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from benchmarks.encode import machine
from benchmarks.suite_tasks import MEASURED
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.truth import Labels
from vlm.encoders.base import Encoder
from vlm.encoders.registry import load_encoder
from vlm.eval import suite, suite_clips
from vlm.models.suite.matching import matched
from vlm.ssm.stack import count_parameters
from vlm.train.features import open_features
from vlm.train.recipe import read_recipe, recipe_path
from vlm.train.suite import Task, train_suite
from vlm.train.suite_command import task_named

MIXERS = ("attention", "mamba", "vim", "dbm")
TEST_SEED = 101
LONG = 20.0  # seconds


def task_of(name: str) -> Task:
    """The task of a table."""
    return task_named(MEASURED[name].recipe or name)


def recipe_of(name: str) -> Path:
    """The recipe of a table."""
    return recipe_path(f"suite-{MEASURED[name].recipe or name}")


def changes(name: str, row: str) -> dict[str, Any]:
    """What a row of a table, a mixer or another, changes in the recipe."""
    return {**MEASURED[name].instead, **MEASURED[name].others.get(row, {"mixer": row})}


def made(name: str, row: str | None = None) -> dict[str, Any]:
    """The sections of a table's recipe, as a row changes them."""
    sections, wanted = read_recipe(recipe_of(name), task_of(name).sections), changes(name, row) if row else MEASURED[name].instead
    for key in ("model", "data"):
        known = {field.name for field in fields(sections[key])}
        sections[key] = replace(sections[key], **{field: value for field, value in wanted.items() if field in known})
    return sections


def data_of(given: argparse.Namespace, name: str) -> Any:
    """The section [data] of a task's recipe as the options change it."""
    data = made(name)["data"]
    return replace(data, labels=given.labels, worlds=given.train_worlds or data.worlds)


def sized(given: argparse.Namespace, name: str, mixer: str, encoder: Encoder) -> Any:
    """A new model with a mixer, at the width at which it has the recipe's count of parameters."""
    task, section, own, data = task_of(name), made(name, mixer)["model"], made(name)["model"], data_of(given, name)
    classes = task.classes(data)
    if not hasattr(section, "width"):
        return task.build(section, classes, encoder, data)

    def build(width: int, of: Any = section) -> torch.nn.Module:
        model: torch.nn.Module = task.build(replace(of, width=width), classes, encoder, data)
        return model

    width = matched(build, count_parameters(build(own.width, own)), among=range(8, 3 * own.width))
    return build(width)


def test_videos(given: argparse.Namespace, name: str, encoder: Encoder) -> Sequence[Any]:
    """What a task is measured on: videos with their rows, or clips."""
    if MEASURED[name].of_clips:
        return suite_clips.held_out_clips(given.clips, seed=TEST_SEED)
    rate = data_of(given, name).frames_per_second
    worlds = [make_world(TEST_SEED, number, split="test") for number in range(given.worlds)]
    features = open_features(worlds, encoder, given.cache or given.out / "cache", frames_per_second=rate, workers=given.threads)
    return [suite.Video(world, features[number]) for number, world in enumerate(worlds)]


def train_row(given: argparse.Namespace, name: str, mixer: str, seed: int) -> None:
    """One training and its figures, into its folder."""
    encoder, task, data = load_encoder(given.encoder), task_of(name), data_of(given, name)
    model = sized(given, name, mixer, encoder)
    row: dict[str, Any] = {
        "parameters": count_parameters(model),
        "width": getattr(model.config, "width", None),
        "fingerprint": encoder.fingerprint,
    }
    own = {**changes(name, mixer), "width": row["width"], "seed": seed, "steps": given.steps}
    instead = own | {"worlds": data.worlds, "labels": data.labels}
    folder, cache = folder_of(given, name, mixer, seed), given.cache or given.out / "cache"
    task.worlds(data, encoder, cache, split="train", workers=given.threads)  # not part of the time
    begin = time.perf_counter()
    model = train_suite(task, recipe_of(name), folder, encoder, cache=cache, resume=True, workers=given.threads, **instead)
    row |= {"seconds": time.perf_counter() - begin, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    row |= MEASURED[name].figures(model, test_videos(given, name, encoder), data)
    (folder / "figures.json").write_text(json.dumps(row) + "\n")


def folder_of(given: argparse.Namespace, name: str, row: str, seed: int) -> Path:
    folder: Path = given.out / f"{name}-{given.labels}-{row.replace(' ', '-')}-{seed}"
    return folder


def rows_of(given: argparse.Namespace, name: str) -> dict[str, list[dict[str, float]]]:
    """The figures of every row of a task, by mixer; those that are missing are made, each in a process of its own."""
    rows: dict[str, list[dict[str, float]]] = {}
    for mixer in (*MEASURED[name].others, *given.mixers):
        for seed in given.seeds:
            kept = folder_of(given, name, mixer, seed) / "figures.json"
            if not kept.exists():
                words = [sys.executable, "-m", "benchmarks.suite", *sys.argv[1:], "--row", name, mixer, str(seed)]
                subprocess.run(words, check=True)
            rows.setdefault(mixer, []).append(json.loads(kept.read_text()))
    return rows


def print_rows(given: argparse.Namespace, name: str, encoder: Encoder) -> None:
    """The figures of a task, those of every mixer between those of who does not look and of who knows more."""
    columns, data, rows = MEASURED[name].columns, data_of(given, name), rows_of(given, name)
    beside = MEASURED[name].beside(test_videos(given, name, encoder), data)
    shown = f"{given.clips} clips" if MEASURED[name].of_clips else f"{given.worlds} worlds"
    print(f"\n{name}, labels {given.labels}: {shown} of the split test, {len(given.seeds)} seeds\n")
    print_line("mixer", "parameters", *columns.values(), "train, s", "peak, MiB")
    print_line(*["---"] * (len(columns) + 4))
    lines = {way: (way, "", *(f"{found[key]:.3f}" for key in columns), "", "") for way, found in beside.items()}
    oracle = lines.pop("oracle", None)
    for line in lines.values():
        print_line(*line)
    for mixer, runs in rows.items():
        seconds, peak = np.mean([run["seconds"] for run in runs]), max(run["peak_mib"] for run in runs)
        cells = [spread(np.array([run[key] for run in runs])) for key in columns]
        print_line(mixer, f"{runs[0]['parameters']:,}", *cells, f"{seconds:.0f}", f"{peak:.0f}")
    if oracle:
        print_line(*oracle)


def spread(values: np.ndarray) -> str:
    """The mean, and the least and most where there are several."""
    return f"{values.mean():.3f}" + (f" ({values.min():.3f} to {values.max():.3f})" if len(values) > 1 else "")


def print_line(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def print_lengths(given: argparse.Namespace, name: str, encoder: Encoder) -> None:
    """Seconds of one pass over rows of several lengths, by mixer."""
    path = given.out / f"lengths-{name}.json"
    held: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    for mixer in given.mixers:
        matching = sized(given, name, mixer, encoder)
        for length in MEASURED[name].lengths:
            if f"{mixer} {length}" not in held:
                model = type(matching)(replace(matching.config, **MEASURED[name].whole(length))).eval()
                held[f"{mixer} {length}"] = seconds_of(model, MEASURED[name].shown(model, length))
                path.write_text(json.dumps(held) + "\n")
    print(f"\n{name}: seconds of a pass over a video, {torch.get_num_threads()} threads\n")
    print_line("frames" if MEASURED[name].of_clips else "rows", *given.mixers)
    print_line(*["---"] * (len(given.mixers) + 1))
    for length in MEASURED[name].lengths:
        print_line(f"{length:,}", *[f"{held[f'{mixer} {length}']:.4f}" for mixer in given.mixers])


@torch.inference_mode()
def seconds_of(model: torch.nn.Module, frames: torch.Tensor, *, rounds: int = 3) -> float:
    """The shortest of some passes after one that warms up; one that took long is not run again."""
    found = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        model(frames)
        found.append(time.perf_counter() - begin)
        if found[-1] > LONG:
            return found[-1]
    return min(found[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=None, help="folder of encoded worlds (default: OUT/cache)")
    parser.add_argument("--task", nargs="+", default=list(MEASURED), choices=list(MEASURED))
    parser.add_argument("--mixers", nargs="+", default=list(MIXERS), choices=MIXERS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--worlds", type=int, default=60, help="of the split test")
    parser.add_argument("--clips", type=int, default=300, help="of the split test, for tasks of clips")
    parser.add_argument("--train-worlds", type=int, default=None, help="instead of the recipe's")
    parser.add_argument("--steps", type=int, default=None, help="instead of the recipe's")
    parser.add_argument("--labels", default="actions", choices=get_args(Labels), help="whether the way of an action is part of its label")
    parser.add_argument("--encoder", default="pocket")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--lengths", action="store_true", help="the table of time against length alone")
    parser.add_argument("--row", nargs=3, default=None, metavar=("TASK", "MIXER", "SEED"), help="one training alone, as the rows are made")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.row:
        train_row(given, given.row[0], given.row[1], int(given.row[2]))
        return
    encoder = load_encoder(given.encoder)
    print(f"{machine()}; {encoder.name} {encoder.fingerprint}")
    for name in given.task:
        if not given.lengths:
            print_rows(given, name, encoder)
        if MEASURED[name].lengths:
            print_lengths(given, name, encoder)


if __name__ == "__main__":
    main()
