"""How long a search takes, stage by stage: cold, warm, and its second look beside what no network of its size can beat.

    python -m benchmarks.latency --out runs/latency                                # 2,000 videos, 40 h: making them takes most of the time
    python -m benchmarks.latency --out runs/latency --videos 24 --seconds 20       # a smoke run
    python -m benchmarks.latency --out runs/latency --model FOLDER                 # another network than the one that comes with pocket
    python -m benchmarks.latency --out runs/latency --only network                 # one part

- network: the second look's network over 1,500 feature rows (10 videos of 150), beside the matrix products and convolutions of that very
  pass, done again one after the other. They take turns in one process. It is the network that comes with pocket; --untrained takes one of
  the size that the recipe toybox-all makes, since weights do not change what it costs.
- warm: one process, one library of Toybox videos rendered at 8 frames/s, one second a row; every query another caption of an event of it.
  Without a trained model (plain) and with one attached.
- cold: `vlm search` as a process of its own, from start to exit: over that library by pocket and what comes with it, and over ten videos of
  it by a ViT-B-32 of open_clip with random weights. Imports are read from the disk's cache: one run before is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.random_vit import random_vit
from benchmarks.ssm_blocks import in_turns, milliseconds
from benchmarks.toybox_library import captions_of_events, toybox_library
from vlm import Library
from vlm.encoders.base import Encoder
from vlm.encoders.once import ReadOnce
from vlm.encoders.registry import load_encoder
from vlm.index.second import MOST_ROWS, ROWS_A_VIDEO
from vlm.models.model import VideoTextModel, build
from vlm.models.reader import TrainedReader
from vlm.models.shipped import shipped_with
from vlm.train.recipe import read_recipe, recipe_path
from vlm.train.toybox import SECTIONS, model_config
from vlm.types import Features

RECIPE = "toybox-all"
QUERY = "a small red circle with stripes bounces"
BARS = {"network ms": 60, "network / products": 2.0, "warm request ms": 120, "cold pocket s": 4, "cold ViT-B-32 s": 9}
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "matmul", "linear", "einsum", "convolution", "conv1d", "_convolution"}


class Products(TorchDispatchMode):
    """Remembers every matrix product and convolution that is done inside, with what went in."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func.overloadpacket.__name__ in PRODUCTS:
            self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))

    @torch.inference_mode()
    def again(self) -> None:
        """All of them, one after the other."""
        for func, args, kwargs in self.calls:
            func(*args, **kwargs)


def untrained(encoder: Encoder, recipe: str = RECIPE) -> VideoTextModel:
    """A network of a recipe's size, its weights as training would begin with."""
    made = read_recipe(recipe_path(recipe), SECTIONS)
    torch.manual_seed(0)
    return build(encoder, config=model_config(encoder, made["adapter"], made["interaction"], made["kinds"])).eval()


def rows_of_videos(encoder: Encoder, *, rows: int = MOST_ROWS, rows_a_video: int = ROWS_A_VIDEO) -> list[Features]:
    """Videos of random unit rows (t, d), a second each."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(rows // rows_a_video):
        vectors = rng.standard_normal((rows_a_video, encoder.dim)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        found.append(Features(vectors, np.arange(float(rows_a_video)), float(rows_a_video)))
    return found


def network(encoder: Encoder, model: VideoTextModel, videos: Sequence[Features], *, rounds: int) -> dict[str, float]:
    """Milliseconds of the second look's pass over the videos and of its own products, in turns."""
    reader = TrainedReader(ReadOnce(encoder), model)
    reader.ground_each(QUERY, videos)  # reads the text: a request has read it for its first stage
    with Products() as products:
        reader.ground_each(QUERY, videos)

    def look() -> None:
        reader.ground_each(QUERY, videos)

    best, best_products, ratio = in_turns(look, products.again, rounds)
    times = [milliseconds(look) for _ in range(rounds)]
    return {
        "rows": sum(len(one.times) for one in videos),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "products": len(products.calls),
        "p50": float(np.percentile(times, 50)),
        "p95": float(np.percentile(times, 95)),
        "best": best,
        "best of products": best_products,
        "ratio of the bests": best / best_products,
        "median ratio of a round": ratio,
    }


def warm(folder: Path, queries: Sequence[str], *, top_k: int = 10) -> dict[str, Any]:
    """Milliseconds of the first request of a process, and of all after it by stage."""
    with Library.open(folder) as library:
        stages: dict[str, list[float]] = {}
        first: dict[str, float] = {}
        looked: list[int] = []
        for number, query in enumerate(queries):
            begin = time.perf_counter()
            result = library.search(query, top_k=top_k)
            took = {"whole request": time.perf_counter() - begin, **result.timings}
            if number == 0:
                first = {stage: 1e3 * seconds for stage, seconds in took.items()}
                continue
            looked.append(0 if result.looked is None else result.looked.num_videos)
            for stage, seconds in took.items():
                stages.setdefault(stage, []).append(1e3 * seconds)
        held = library.stats()
    percentiles = {stage: {f"p{rank}": float(np.percentile(times, rank)) for rank in (50, 95)} for stage, times in stages.items()}
    loading = [stages[stage][0] for stage in ("load model", "check model", "open index")]
    return {
        "videos": held.num_videos,
        "segments": held.num_segments,
        "requests": len(queries) - 1,
        "videos read again": float(np.mean(looked)),
        "first request": first,
        "second request, loading": sum(loading),
        "stages": percentiles,
    }


def cold(folder: Path, *, runs: int) -> dict[str, float]:
    """Seconds of ``vlm search`` as a process of its own."""
    command = [str(Path(sys.executable).with_name("vlm")), "search", QUERY, "-k", "10", "--library", str(folder)]
    taken = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        taken.append(time.perf_counter() - begin)
    return {"runs": runs, "best": min(taken[1:]), "p50": float(np.median(taken[1:])), "worst": max(taken[1:])}


def copy_of(library: Path, folder: Path, model: VideoTextModel | None) -> Path:
    """A copy of a library with the model attached, or with none."""
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(library, folder)
    begin = time.perf_counter()
    with Library.open(folder) as held:
        if model is None:
            held.detach()
        else:
            held.attach(model.save_pretrained(folder.parent / "model"))
        held.search(QUERY)  # measures the confidence of the new vectors
    weights = 0 if model is None else sum(parameter.numel() for parameter in model.parameters())
    print(f"a copy of the library with a model of {weights:,} weights: {time.perf_counter() - begin:.0f} s", flush=True)
    return folder


def machine() -> str:
    threads = f"torch {torch.__version__} on {torch.get_num_threads()} threads"
    return f"{platform.machine()}, {os.cpu_count()} cores, {threads}, load {os.getloadavg()[0]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=None, help="folder of a trained model; by default what comes with pocket")
    parser.add_argument("--untrained", action="store_true", help=f"a network of the size of {RECIPE} instead")
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=72.0, help="of each video")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--runs", type=int, default=7, help="cold runs of each encoder")
    parser.add_argument("--only", nargs="+", choices=("network", "warm", "cold"), default=["network", "warm", "cold"])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    encoder = load_encoder("pocket", device="cpu")
    folder = None if given.untrained else given.model or shipped_with(encoder.fingerprint)
    model = untrained(encoder) if folder is None else VideoTextModel.from_pretrained(folder)
    found: dict[str, Any] = {"machine": machine(), "model": str(folder or f"untrained, as {RECIPE} makes it")}
    print(found["machine"], found["model"], sep="\n")
    if "network" in given.only:
        found["network"] = network(encoder, model, rows_of_videos(encoder), rounds=given.rounds)
        told("network over 1,500 rows, ms", found["network"])
    if {"warm", "cold"} & set(given.only):
        made = toybox_library(given.out, videos=given.videos, seconds=given.seconds, sampling="every:1")
    if "warm" in given.only:
        queries = captions_of_events(made.worlds, given.requests + 1)
        found["warm, plain"] = warm(copy_of(made.library, given.out / "plain", None), queries)
        told("warm, plain, ms", found["warm, plain"])
        found["warm, trained"] = warm(copy_of(made.library, given.out / "with-model", model), queries)
        told("warm, with the model, ms", found["warm, trained"])
    if "cold" in given.only:
        found["cold, pocket"] = cold(made.library, runs=given.runs)
        told("cold, pocket, s", found["cold, pocket"])
        vit = given.out / "vit"
        with Library.open(vit, encoder=random_vit(given.out), sampling="every:0.2") as library:
            library.add(made.files[:10])
        found["cold, ViT-B-32"] = cold(vit, runs=given.runs)
        told("cold, ViT-B-32, s", found["cold, ViT-B-32"])
    (given.out / "latency.json").write_text(json.dumps(found, indent=2) + "\n")
    print(f"bars: {BARS}")


def told(title: str, figures: dict[str, Any]) -> None:
    print(f"\n{title}")
    for name, value in figures.items():
        if isinstance(value, dict):
            print(f"  {name}:")
            for stage, inner in value.items():
                values = inner.values() if isinstance(inner, dict) else [inner]
                print(f"    {stage:16} {'  '.join(f'{one:9.2f}' for one in values)}", flush=True)
        else:
            print(f"  {name:28} {value:,.3f}" if isinstance(value, float) else f"  {name:28} {value:,}", flush=True)


if __name__ == "__main__":
    main()
