"""``python -m vlm.train RECIPE --out FOLDER``: train by a recipe, and say where the result lies."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import torch

from vlm.errors import InputError, VlmError


def main(words: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m vlm.train", description="Train by a recipe. The frames that it needs are rendered first."
    )
    parser.add_argument("recipe", help="a TOML file, or the name of one that comes with vlm: pocket, toybox-all, …")
    parser.add_argument("--out", type=Path, required=True, help="folder for the log, the checkpoints and the result")
    parser.add_argument("--cache", type=Path, default=None, help="folder for rendered frames (default: OUT/cache)")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in OUT, or begin where there is none")
    parser.add_argument(
        "--begin-with",
        type=Path,
        default=None,
        help="pocket: folder of a pocket, train its text tower on, before its image tower; toybox-…: of a training to go on from",
    )
    parser.add_argument("--steps", type=int, default=None, help="instead of the recipe's")
    parser.add_argument("--seed", type=int, default=None, help="instead of the recipe's")
    parser.add_argument("--mixer", default=None, help="instead of the recipe's: mamba, vim, dbm or attention (not for pocket)")
    parser.add_argument("--encoder", default="pocket", help="whose vectors are trained on (not for pocket; default: pocket)")
    parser.add_argument("--sight", default=None, help="how much of a video is shown, for baselines: all, frame or none (toybox alone)")
    parser.add_argument(
        "--data", type=Path, default=None, help="your own annotations; what they are is in docs/training.md and docs/suite.md"
    )
    parser.add_argument("--videos", type=Path, default=None, help="folder of the videos that --data annotates (suite-… alone)")
    parser.add_argument(
        "--subset", default=None, help="which of the videos of --data: a subset of a detection file, or the name of a bundle"
    )
    parser.add_argument(
        "--label-rate", type=float, default=None, help="labels a second of a folder of frame labels (suite-segmentation alone)"
    )
    parser.add_argument("--threads", type=int, default=None, help="of torch (default: all cores)")
    given = parser.parse_args(words)
    threads = given.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU; no change on a CPU
    try:
        folder = _train(given, threads)
    except (VlmError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{folder}\n")
    return 0


def _train(given: argparse.Namespace, threads: int) -> Path:
    from vlm.train.recipe import SUITE_TASKS, recipe_path, task_of

    recipe, cache = recipe_path(given.recipe), given.cache or given.out / "cache"
    task = task_of(recipe)
    if task == "clip":
        return _train_clips(given, recipe, threads)
    if task == "own":
        raise InputError("this recipe learns from rows over a library: vlm train --library LIBRARY --data FILE (docs/train.md)")
    if task in SUITE_TASKS:
        from vlm.train.suite_command import train_from_words

        return train_from_words(task, given, recipe, cache, threads)
    if task != "pocket":
        from vlm.encoders.registry import load_encoder

        encoder = load_encoder(given.encoder)
        asked = {"mixer": given.mixer, "steps": given.steps, "seed": given.seed, "sight": given.sight}
        instead = {name: value for name, value in asked.items() if value is not None}
        options: dict[str, Any] = {"cache": cache, "resume": given.resume, "workers": threads, **instead}
        if task == "retrieval":
            from vlm.train.retrieval import train_retrieval

            train_retrieval(recipe, given.out, encoder, **options)
        else:
            from vlm.train.toybox import train_toybox

            train_toybox(recipe, given.out, encoder, begin_with=given.begin_with, **options)
        folder: Path = given.out / "model"
        return folder
    from vlm.train.pocket import train_pocket

    return train_pocket(
        recipe,
        given.out,
        cache=cache,
        resume=given.resume,
        steps=given.steps,
        seed=given.seed,
        workers=threads,
        begin_with=given.begin_with,
    )


def _train_clips(given: argparse.Namespace, recipe: Path, threads: int) -> Path:
    from vlm.encoders.registry import load_encoder
    from vlm.train.clip_training import train_clips

    # Under torchrun each rank has a GPU of its own.
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "auto"
    encoder = load_encoder(given.encoder, device=device)
    train_clips(
        recipe,
        given.out,
        encoder,
        data=given.data,
        videos=given.videos,
        resume=given.resume,
        workers=threads,
        steps=given.steps,
        seed=given.seed,
        mixer=given.mixer,
    )
    folder: Path = given.out / "model"
    return folder


if __name__ == "__main__":
    sys.exit(main())
