"""Models of clips: ViViM at its published sizes, and multi-instance retrieval on Toybox by mixer.

    python -m benchmarks.clips sizes                                          # one training step at full size, timed
    python -m benchmarks.clips mir --seeds 0 1 2 --out runs/mir               # a stopped run goes on by row

*Sizes.* Clips of 8 frames of 224 x 224, one a batch; a step is forward, backward and AdamW. Counts are with a head of 1,000 classes.

*MIR.* Zero-shot is the encoder itself, the mean of its frames' vectors; each other row is a training by the recipe suite-mir with another
mixer in the encoder's tower, or a ViViM before its text tower (``vivim``), in a process of its own. Figures are of clips of the split test:
triples of shape, colour and action that training never shows. Averages are of both directions, as EPIC-KITCHENS publishes them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.encode import machine
from benchmarks.suite import TEST_SEED, print_line, spread
from vlm.encoders.registry import load_encoder
from vlm.eval.suite_clips import held_out_clips, instance_figures_of
from vlm.models.clip_model import ClipModel
from vlm.models.finetune import FinetuneConfig
from vlm.models.suite.clip_classes import ClipReading
from vlm.models.suite.recognition import RecognitionConfig, Recognizer
from vlm.models.suite.vivim import SIZES, num_tokens, sized
from vlm.ssm.stack import count_parameters
from vlm.train.clip_training import SECTIONS, train_clips
from vlm.train.recipe import read_recipe, recipe_path

MIXERS = ("attention", "vim", "dbm")
ROWS = (*MIXERS, "vivim")
CLASSES = tuple(f"class {number}" for number in range(1000))


def size_row(size: Any, mixer: Any) -> None:
    config = sized(size, mixer=mixer)
    torch.manual_seed(0)
    model = Recognizer(RecognitionConfig(classes=CLASSES, **{name: getattr(config, name) for name in config.__dataclass_fields__}))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    pixels = torch.randint(256, (1, 8, 224, 224, 3), dtype=torch.uint8)
    seconds, busy = [], []
    for _ in range(2):
        begin, used = time.perf_counter(), time.process_time()
        torch.nn.functional.cross_entropy(model(pixels), torch.tensor([3])).backward()
        optimiser.step()
        optimiser.zero_grad()
        seconds.append(time.perf_counter() - begin)
        busy.append(time.process_time() - used)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print_line(
        size, mixer, f"{count_parameters(model):,}", f"{num_tokens(config):,}", f"{min(seconds):.2f}", f"{min(busy):.2f}", f"{peak:.0f}"
    )


def print_sizes(given: argparse.Namespace) -> None:
    print_line("size", "mixer", "parameters", "tokens", "s a step", "of processors, s", "peak, MiB")
    print_line(*["---"] * 7)
    for size in SIZES:
        for mixer in MIXERS:
            run_self(given, "--row", size, mixer)


def figures_of(model: ClipModel, count: int) -> dict[str, float]:
    reading = ClipReading(model.window.frames, model.framing)
    model.eval()

    @torch.inference_mode()
    def clips(pixels: np.ndarray) -> np.ndarray:
        vectors: np.ndarray = model.encode_video(torch.from_numpy(pixels)).float().cpu().numpy()
        return vectors

    @torch.inference_mode()
    def texts(some: Any) -> np.ndarray:
        vectors: np.ndarray = model.encode_text(list(some)).float().cpu().numpy()
        return vectors

    both = instance_figures_of(held_out_clips(count, seed=TEST_SEED), reading, clips, texts)
    found: dict[str, float] = {"sentences": both[0].num_candidates}
    for way, one in zip(("v2t", "t2v"), both, strict=True):
        found |= {f"map_{way}": one.mean_average_precision, f"ndcg_{way}": one.ndcg}
    return found | {f"{name}_mean": (found[f"{name}_v2t"] + found[f"{name}_t2v"]) / 2 for name in ("map", "ndcg")}


def train_row(given: argparse.Namespace, name: str, seed: int) -> None:
    """One training and its figures, into its folder; ``zero-shot`` trains nothing."""
    made, encoder = read_recipe(recipe_path("suite-mir"), SECTIONS), load_encoder(given.encoder, precision="float32")
    folder, row = given.out / f"{name}-{seed}", dict[str, Any](seconds=0.0)
    folder.mkdir(parents=True, exist_ok=True)
    if name == "zero-shot":
        model = ClipModel(encoder, made["adapter"], FinetuneConfig(mode="heads"), window=made["window"].of(made["data"].frames))
        row["parameters"] = 0
    else:
        begin = time.perf_counter()
        recipe = recipe_path("suite-mir") if name != "vivim" else vivim_recipe(folder)
        mixer = None if name == "vivim" else name
        model = train_clips(recipe, folder, encoder, resume=True, workers=0, steps=given.steps, seed=seed, mixer=mixer)  # type: ignore[arg-type]
        row |= {"seconds": time.perf_counter() - begin, "parameters": count_parameters(model)}
    row |= {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, **figures_of(model, given.clips)}
    (folder / "figures.json").write_text(json.dumps(row) + "\n")


def vivim_recipe(folder: Path) -> Path:
    """The recipe with a ViViM in the place of the encoder's vision tower."""
    text = recipe_path("suite-mir").read_text("utf-8")
    path = folder / "recipe.toml"
    path.write_text(text.replace('kind = "encoder"', 'kind = "vivim"').replace('mode = "adapters"', 'mode = "heads"'))
    tower = read_recipe(path, SECTIONS)["tower"]
    assert replace(tower, kind="vivim") == tower
    return path


def print_mir(given: argparse.Namespace) -> None:
    given.out.mkdir(parents=True, exist_ok=True)
    held: dict[str, list[dict[str, float]]] = {}
    for name, seeds in (("zero-shot", [0]), *((row, given.seeds) for row in given.rows)):
        for seed in seeds:
            kept = given.out / f"{name}-{seed}" / "figures.json"
            if not kept.exists():
                run_self(given, "--row", name, str(seed))
            held.setdefault(name, []).append(json.loads(kept.read_text()))
    columns = ("map_v2t", "map_t2v", "map_mean", "ndcg_v2t", "ndcg_t2v", "ndcg_mean")
    sentences = int(held["zero-shot"][0]["sentences"])
    print(f"\n{given.clips} clips of the split test, {sentences} sentences; {len(given.seeds)} seeds; encoder {given.encoder}\n")
    print_line("", "trained", *columns, "train, s", "peak, MiB")
    print_line(*["---"] * (len(columns) + 4))
    for name, runs in held.items():
        cells = [spread(np.array([run[key] for run in runs])) for key in columns]
        seconds, peak = np.mean([run["seconds"] for run in runs]), max(run["peak_mib"] for run in runs)
        print_line(name, f"{int(runs[0]['parameters']):,}", *cells, f"{seconds:.0f}", f"{peak:.0f}")


def run_self(given: argparse.Namespace, *more: str) -> None:
    """This command again, for one row in a process of its own."""
    subprocess.run([sys.executable, "-m", "benchmarks.clips", *sys.argv[1:], *more], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sizes", "mir"])
    parser.add_argument("--out", type=Path, default=Path("runs/mir"))
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=None, help="instead of the recipe's")
    parser.add_argument("--clips", type=int, default=300, help="of the split test")
    parser.add_argument("--encoder", default="pocket")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--row", nargs=2, default=None, metavar=("NAME", "SEED|MIXER"), help="one row alone, as they are made")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.row is not None and given.what == "sizes":
        size_row(*given.row)
    elif given.row is not None:
        train_row(given, given.row[0], int(given.row[1]))
    else:
        print(machine(), flush=True)
        print_sizes(given) if given.what == "sizes" else print_mir(given)


if __name__ == "__main__":
    main()
