"""``kill -9`` on 200 runs of a real ``vlm add``, each at a random moment; stops at the first loss.

python benchmarks/kill.py [--rounds 200] [--encoder SPEC] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

from tests.conftest import BLOCKS
from tests.killing import kill_rounds
from tests.media import scene_video
from vlm.encoders.registry import load_encoder

COLOURS = ("red", "green", "blue", "white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--encoder", default=BLOCKS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        videos = Path(work) / "videos"
        videos.mkdir()
        for number in range(24):
            scene_video(videos / f"{number:02}.mp4", [(COLOURS[number % 4], 4)], seed=number)
        for number in range(2):
            scene_video(videos / f"long {number}.mp4", [(COLOURS[i % 4], 60) for i in range(10)], rate=2, seed=number)
        begin = time.perf_counter()
        tally = kill_rounds(
            Path(work),
            videos,
            load_encoder(options.encoder),
            options.encoder,
            rounds=options.rounds,
            seed=options.seed,
        )
    print(f"machine: {platform.processor() or platform.machine()}, {os.cpu_count()} cores; encoder {options.encoder}")
    print(
        f"{options.rounds} runs in {time.perf_counter() - begin:.0f} s: {tally.killed} killed, {tally.ended} had ended before, "
        f"{tally.inside} left a video unfinished, {tally.libraries} libraries completed over several kills"
    )
    print("no committed video lost, none doubled, every library readable, no child outlived its run")


if __name__ == "__main__":
    main()
