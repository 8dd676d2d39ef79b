"""Peak memory of a training step over a long video: the interaction and its heads before one text and many frame features.

    python -m benchmarks.train_memory [--rows 16384] [--mixer dbm] [--width 192] [--layers 4] [--batch 1]

Each way is two steps of ``vlm.train.loop.run`` in a process of its own, on the CPU: as it is, with gradient checkpointing, in bfloat16, and
with both. What is told is the largest resident set of that process, with the interpreter and torch in it, and the bar is 8 GiB.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from vlm.models.adapter import AdapterConfig
from vlm.models.interaction import InteractionConfig
from vlm.models.model import VideoTextConfig, VideoTextModel
from vlm.train.batches import Batch
from vlm.train.examples import IGNORED
from vlm.train.loop import LoopConfig, run
from vlm.train.video_text import CrossingTraining, LossConfig
from vlm.train.words import Words

GIB = 2**30
DIM, NUM_WORDS, RATE = 512, 16, 2.0  # CLIP's width, a long sentence, frames a second
PLAIN = "float32"
WAYS = (PLAIN, "float32 recomputed", "bfloat16", "bfloat16 recomputed")


@dataclass(frozen=True, slots=True)
class LongVideos:
    """Batches of random features of ``rows`` frames, a tenth of them where the text holds."""

    rows: int
    size: int

    def batch(self, index: int) -> Batch:
        """The same whenever it is asked for."""
        random = torch.Generator().manual_seed(index)
        frames = F.normalize(torch.randn(self.size, self.rows, DIM, generator=random), dim=-1)
        tokens = torch.randn(self.size, NUM_WORDS, DIM, generator=random)
        words = Words(F.normalize(tokens.mean(dim=1), dim=-1), tokens, torch.ones(self.size, NUM_WORDS, dtype=torch.bool))
        times = (torch.arange(self.rows, dtype=torch.float64) / RATE).expand(self.size, -1)
        start, end = 0.4 * self.rows / RATE, 0.5 * self.rows / RATE
        inside = ((times >= start) & (times < end)).float()
        spans = torch.tensor([start, end]).expand(self.size, self.rows, 2)
        ones, ignored = torch.ones(self.size, dtype=torch.int64), torch.full((self.size,), IGNORED)
        nothing = torch.zeros(self.size, 0)
        return Batch(
            frames,
            times,
            torch.ones(self.size, self.rows, dtype=torch.bool),
            torch.full((self.size,), self.rows / RATE, dtype=torch.float64),
            words,
            inside,
            spans,
            ones.bool(),
            inside,
            ones,
            ones,
            ignored,
            -ones,
            ~ones.bool(),
            nothing.long(),
            nothing.bool(),
        )

    def describe_batch(self, index: int) -> str:
        """Its number."""
        return f"batch {index} of random features"


def train(given: argparse.Namespace) -> tuple[float, float]:
    """Largest resident set in GiB, and seconds a step, of two steps."""
    interaction = InteractionConfig(text_dim=DIM, video_dim=DIM, width=given.width, num_layers=given.layers, mixer=given.mixer)
    adapter = AdapterConfig(dim=DIM, num_layers=0, text_layers=0)
    torch.manual_seed(0)
    model = VideoTextModel(VideoTextConfig(encoder="random", fingerprint="random", adapter=adapter, interaction=interaction))
    precision, _, is_recomputed = given.way.partition(" ")
    config = LoopConfig(steps=2, precision=precision, gradient_checkpointing=bool(is_recomputed))
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run(CrossingTraining(model, LossConfig()), LongVideos(given.rows, given.batch), config, Path(folder))
    seconds = (time.perf_counter() - begin) / config.steps
    scale = 1 if sys.platform == "darwin" else 1024  # getrusage tells bytes there and KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / GIB, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16_384)
    parser.add_argument("--mixer", default="dbm")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--way", choices=WAYS, default=None, help="this way alone, in this process")
    given = parser.parse_args()
    if given.way is not None:
        peak, seconds = train(given)
        print(f"| {given.way} | {peak:.2f} | {seconds:.1f} |")
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    print(f"{given.mixer}, width {given.width}, {given.layers} layers, batch {given.batch}, {given.rows} rows of {DIM}\n")
    print("| way | peak resident set, GiB | seconds a step |\n| --- | --- | --- |", flush=True)
    for way in WAYS:
        subprocess.run([sys.executable, "-m", "benchmarks.train_memory", *sys.argv[1:], "--way", way], check=True)


if __name__ == "__main__":
    main()
