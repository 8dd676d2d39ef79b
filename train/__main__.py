"""``python -m vlm.train RECIPE --out FOLDER``: train by a recipe, and say where the result lies."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from vlm.errors import VlmError


def main(words: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m vlm.train", description="Train by a recipe. The frames that it needs are rendered first."
    )
    parser.add_argument("recipe", help="a TOML file, or the name of a recipe that comes with vlm: pocket")
    parser.add_argument("--out", type=Path, required=True, help="folder for the log, the checkpoints and the result")
    parser.add_argument("--cache", type=Path, default=None, help="folder for rendered frames (default: OUT/cache)")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in OUT, or begin where there is none")
    parser.add_argument("--begin-with", type=Path, default=None, help="folder of a pocket: train its text tower on, before its image tower")
    parser.add_argument("--steps", type=int, default=None, help="instead of the recipe's")
    parser.add_argument("--seed", type=int, default=None, help="instead of the recipe's")
    parser.add_argument("--threads", type=int, default=None, help="of torch (default: all cores)")
    given = parser.parse_args(words)
    from vlm.train.pocket import train_pocket
    from vlm.train.recipe import recipe_path

    threads = given.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    try:
        folder = train_pocket(
            recipe_path(given.recipe),
            given.out,
            cache=given.cache or given.out / "cache",
            resume=given.resume,
            steps=given.steps,
            seed=given.seed,
            workers=threads,
            begin_with=given.begin_with,
        )
    except (VlmError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
