"""``python -m vlm.train.join ADAPTERS CROSSING --out FOLDER``: one model of the adapters of the first and all else of the second."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from vlm.errors import VlmError
from vlm.models.model import VideoTextModel, joined


def main(words: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m vlm.train.join", description="Put adapters beside an interaction trained apart.")
    parser.add_argument("adapters", help="folder of the model whose adapters are taken")
    parser.add_argument("crossing", help="folder of the model whose interaction and heads are taken")
    parser.add_argument("--out", type=Path, required=True, help="folder of the new model")
    parser.add_argument("--half", action="store_true", help="store the weights in float16")
    given = parser.parse_args(words)
    try:
        made = joined(*(VideoTextModel.from_pretrained(name, offline=True) for name in (given.adapters, given.crossing)))
        folder = made.save_pretrained(given.out, dtype=torch.float16 if given.half else torch.float32)
    except (VlmError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
