"""Frames and texts a second of pocket beside ViT-B/32 of open_clip, in the same run.

    nice python -m benchmarks.pocket [--rounds 5] [--json FILE]

ViT-B/32 has random weights: speed does not depend on them, and nothing is downloaded. Both run as ``vlm add`` runs them: bytes in at each
encoder's own size, one call a core with one thread each, in the precision that the encoder itself finds faster. Runs alternate, and the
best of each counts.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from benchmarks.encode import best, machine, save_random_model
from vlm.encoders.base import Encoder
from vlm.encoders.registry import load_encoder

BATCH = 64
TEXTS = [f"a small red circle moves to the left, then a large {colour} star bounces" for colour in ("blue", "green", "pink", "cyan")] * 16


def runs(encoders: dict[str, Encoder], pool: ThreadPoolExecutor, cores: int) -> tuple[dict[str, Callable[[], object]], ...]:
    frames: dict[str, Callable[[], object]] = {}
    texts: dict[str, Callable[[], object]] = {}
    for name, encoder in encoders.items():
        framing = encoder.preprocessing.framing
        pixels = np.random.default_rng(0).integers(0, 256, (BATCH, framing.height, framing.width, 3), dtype=np.uint8)
        frames[name] = lambda encoder=encoder, pixels=pixels: list(pool.map(encoder.encode_frames, [pixels] * cores))
        texts[name] = lambda encoder=encoder: list(pool.map(encoder.encode_text, [TEXTS] * cores))
    return frames, texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    print(machine())
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        save_random_model("ViT-B-32", Path(folder))
        encoders = {"ViT-B/32": load_encoder(f"openclip:local-dir:{folder}", device="cpu"), "pocket": load_encoder("pocket", device="cpu")}
        figures: dict[str, dict[str, float]] = {}
        print(f"\n| a second, {cores} cores | {' | '.join(encoders)} | ratio |\n|---|---|---|---|")
        for what, count, jobs in zip(("frames", "texts"), (BATCH, len(TEXTS)), runs(encoders, pool, cores), strict=True):
            rates = {name: count * cores / clock for name, (clock, _) in best(jobs, options.rounds).items()}
            figures[what] = rates
            print(f"| {what} | {rates['ViT-B/32']:.1f} | {rates['pocket']:.1f} | {rates['pocket'] / rates['ViT-B/32']:.1f} |")
        for name, encoder in encoders.items():
            print(f"\n{name}: frames in {getattr(encoder, 'precision', None)}")
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine(), "a_second": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
