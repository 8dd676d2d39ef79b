"""Frames and texts a second of the built-in encoders, beside open_clip's own encode_image and encode_text in the same run.

    nice python benchmarks/encode.py [--models ViT-B-32 ViT-B-16] [--rounds 5]

Weights are random: speed does not depend on them, and nothing is downloaded. open_clip gets float pixels that are ready on the device;
the encoder gets bytes and normalises them itself, so that the comparison favours open_clip. Runs alternate, and the best of each counts.
"per CPU-second" divides by the processor time of this process instead of the clock's, which neighbours on the machine disturb less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file

from vlm.encoders.device import has_bfloat16
from vlm.encoders.registry import load_encoder
from vlm.encoders.towers import TorchEncoder

BATCH = 16
CAPTIONS = [f"a person number {n} walks a small dog over the green grass of a park" for n in range(64)]


def machine() -> str:
    model = next((line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor())
    half = "bfloat16 in hardware" if has_bfloat16(torch.device("cpu")) else "no bfloat16"
    load = f"load {os.getloadavg()[0]:.1f} before the run"
    return f"{model}, {os.cpu_count()} cores, {half}; torch {torch.__version__}, open_clip {open_clip.__version__}, {load}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def save_random_model(name: str, folder: Path) -> Any:
    config = open_clip.get_model_config(name)
    both = {"model_cfg": config, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(both))
    plain = {key: value for key, value in config.items() if key != "custom_text"}
    model = (open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP)(**plain).eval()
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return model


def best(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Shortest clock and processor seconds of each run, alternating; the first round is warm-up."""
    found = dict.fromkeys(runs, (float("inf"), float("inf")))
    for turn in range(rounds + 1):
        for name, run in runs.items():
            clock, cpu = time.perf_counter(), time.process_time()
            run()
            clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
            if turn:
                found[name] = (min(found[name][0], clock), min(found[name][1], cpu))
    return found


def print_rates(title: str, peer: str, count: int, found: dict[str, tuple[float, float]]) -> None:
    print(f"\n{title}")
    for name, (clock, cpu) in found.items():
        ratio_clock, ratio_cpu = found[peer][0] / clock, found[peer][1] / cpu
        print(f"  {name:34s} {count / clock:8.1f}/s  x{ratio_clock:4.2f}   {count / cpu:8.1f} per CPU-second  x{ratio_cpu:4.2f}")


def measure_frames(model: Any, encoders: dict[str, TorchEncoder], rounds: int) -> None:
    framing = encoders["float32"].preprocessing.framing
    frames = np.random.default_rng(0).integers(0, 256, (BATCH, framing.height, framing.width, 3), dtype=np.uint8)
    pixels = encoders["float32"].preprocess(torch.from_numpy(frames)).contiguous()

    @torch.inference_mode()
    def peer() -> object:
        return torch.nn.functional.normalize(model.encode_image(pixels), dim=-1)

    for threads in (1, os.cpu_count() or 1):
        torch.set_num_threads(threads)
        runs: dict[str, Callable[[], object]] = {"open_clip encode_image, float32": peer}
        for precision, encoder in encoders.items():
            runs[f"vlm encode_frames, {precision}"] = lambda encoder=encoder: encoder.encode_frames(frames)
        print_rates(f"frames, batch {BATCH}, one call with {threads} intra-op threads", next(iter(runs)), BATCH, best(runs, rounds))
    torch.set_num_threads(1)
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        runs = {"open_clip encode_image, float32": lambda: list(pool.map(lambda _: peer(), range(cores)))}
        for precision, encoder in encoders.items():
            runs[f"vlm encode_frames, {precision}"] = lambda encoder=encoder: list(pool.map(encoder.encode_frames, [frames] * cores))
        title = f"frames, batch {BATCH}, {cores} calls at once with one intra-op thread each (as vlm add runs)"
        print_rates(title, next(iter(runs)), BATCH * cores, best(runs, rounds))
    if "bfloat16" in encoders:
        cosine = np.sum(encoders["float32"].encode_frames(frames) * encoders["bfloat16"].encode_frames(frames), axis=1)
        print(f"\nbfloat16 against float32 on random weights: cosine at least {cosine.min():.6f}")


def measure_texts(model: Any, encoder: TorchEncoder, rounds: int) -> None:
    torch.set_num_threads(os.cpu_count() or 1)
    for count in (1, len(CAPTIONS)):
        texts = CAPTIONS[:count]
        tokens = encoder.tokenize(texts)

        @torch.inference_mode()
        def full(tokens: torch.Tensor = tokens) -> object:
            return torch.nn.functional.normalize(model.encode_text(tokens), dim=-1)

        @torch.inference_mode()
        def cut(tokens: torch.Tensor = tokens) -> object:
            return torch.nn.functional.normalize(encoder.forward_text(tokens)[0], dim=-1)

        worst = float((full() - cut()).abs().max())
        runs = {
            "open_clip encode_text, all tokens": full,
            "vlm forward_text, cut": cut,
            "vlm encode_text, with tokenizer": lambda texts=texts: encoder.encode_text(texts),
        }
        length = encoder.forward_text(tokens)[1].shape[1]
        title = f"texts, batch {count}, {length} of {tokens.shape[1]} tokens run; largest difference {worst:.1e}"
        print_rates(title, next(iter(runs)), count, best(runs, rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["ViT-B-32", "ViT-B-16"], help="architectures of open_clip")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(machine())
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            model = save_random_model(name, Path(folder))
            begin = time.perf_counter()
            encoder = load_encoder(f"openclip:local-dir:{folder}", device="cpu", precision="float32")
            seconds = time.perf_counter() - begin
            assert isinstance(encoder, TorchEncoder)
            print(f"\n== {name}: loaded and fingerprinted in {seconds:.2f} s, libraries already imported")
            encoders = {"float32": encoder}
            if has_bfloat16(torch.device("cpu")):
                half = load_encoder(f"openclip:local-dir:{folder}", device="cpu", precision="bfloat16")
                assert isinstance(half, TorchEncoder)
                encoders["bfloat16"] = half
            measure_frames(model, encoders, options.rounds)
            measure_texts(model, encoder, options.rounds)


if __name__ == "__main__":
    main()
