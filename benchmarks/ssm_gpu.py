"""The scan on a GPU: is it right, how fast, how much memory. ``sh benchmarks/gpu.sh`` runs all of it.

python -m benchmarks.ssm_gpu --check            # forward and every gradient against the reference in float64
python -m benchmarks.ssm_gpu --compile          # fills Triton's cache for the sweep, from many processes
python -m benchmarks.ssm_gpu --sweep            # how the work is cut up: the candidates for vlm.ssm.triton_scan.TUNING
python -m benchmarks.ssm_gpu                    # times, bytes moved against the bandwidth of a copy, peak memory, attention beside them
python -m benchmarks.ssm_gpu --kernels          # what each kernel takes of it
python -m benchmarks.ssm_gpu --tuning tile=8    # another TUNING, for any of them

Bar of issue 4: both directions, forward and backward, at least 1.5 times as fast as the official kernel (package mamba_ssm) run twice with
flipped copies; where that is not installed, as our own kernel so run. The peers are in benchmarks/ssm_gpu_peers.py. Times are medians of
replays of a CUDA graph: the GPU's own time, without the launches by Python.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, fields, replace

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.ssm_gpu_check import check, leaves_of, scan
from benchmarks.ssm_gpu_peers import has_official, official_both, official_layout, suite_block
from vlm.ssm import triton_scan
from vlm.ssm.stack import MixerConfig
from vlm.ssm.triton_scan import Tuning

TIMED_SHAPES = ((8, 1024, 1024), (1, 8192, 1024), (4, 4096, 384), (4, 4096, 1024))
BLOCK_SHAPE = (4, 4096, 512)
BAR = 1.5
BASE = Tuning()
CANDIDATES = (
    BASE,
    replace(BASE, tile=16),
    replace(BASE, tile=32),
    replace(BASE, backward_part=4, backward_channels=128),
    replace(BASE, backward_part=4),
    replace(BASE, backward_channels=128),
    replace(BASE, forward_part=4),
    replace(BASE, forward_channels=128),
    replace(BASE, least_chunk=32, programs=4224),
    replace(BASE, least_chunk=128, programs=1056),
    replace(BASE, least_chunk=1 << 20),  # no chunks: one step after the other
)


def milliseconds(work: Callable[[], object], *, rounds: int = 15) -> float:
    """Median of the replays of a graph of ``work``."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return _median(graph.replay, rounds)


def eager_milliseconds(work: Callable[[], object], *, rounds: int = 15) -> float:
    """Median of calls as a user makes them, launches included."""
    for _ in range(3):
        work()
    return _median(work, rounds)


def _median(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def forward_alone(leaves: list[Tensor]) -> None:
    with torch.no_grad():
        scan(leaves)


def one_direction(leaves: list[Tensor], upstream: Tensor) -> None:
    torch.autograd.grad(scan(leaves), leaves, upstream)


def both(leaves: list[Tensor], upstream: Tensor) -> None:
    torch.autograd.grad(scan(leaves) + scan(leaves, reverse=True), leaves, upstream)


def both_by_flips(leaves: list[Tensor], upstream: Tensor) -> None:
    flipped = [tensor.flip(1) if tensor.ndim == 3 else tensor for tensor in leaves]
    torch.autograd.grad(scan(leaves) + scan(flipped).flip(1), leaves, upstream)


def copy_gigabytes_per_second() -> float:
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / milliseconds(lambda: target.copy_(source)) / 1e6


def peak_megabytes(work: Callable[[], object]) -> float:
    """Of what ``work`` allocates beyond what was there before."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def measure_scan(shape: tuple[int, int, int], dtype: torch.dtype, bandwidth: float) -> None:
    leaves = leaves_of(shape, dtype)
    upstream = torch.randn(shape, device="cuda").to(dtype)
    name = f"{shape} {str(dtype)[6:]}"
    inputs = sum(tensor.nbytes for tensor in leaves)
    taken = milliseconds(lambda: forward_alone(leaves))
    rate = (inputs + upstream.nbytes) / taken / 1e6
    print(f"| {name} forward; GB/s, of a copy's | {taken:.3f} | {rate:.0f} | {rate / bandwidth:.2f} | | |")
    taken = milliseconds(lambda: one_direction(leaves, upstream))
    # Forward reads the inputs and writes the output; backward reads them and the output's gradient, and writes a gradient for each.
    rate = (inputs + upstream.nbytes + 2 * inputs + upstream.nbytes) / taken / 1e6
    print(f"| {name} forward + backward; GB/s, of a copy's | {taken:.3f} | {rate:.0f} | {rate / bandwidth:.2f} | | |")
    mine = milliseconds(lambda: both(leaves, upstream))
    flips = milliseconds(lambda: both_by_flips(leaves, upstream))
    print(row(f"{name} both directions, against our own with flips", mine, flips, None if has_official() else BAR), flush=True)
    if has_official():
        layout = official_layout(leaves)
        turned = upstream.transpose(1, 2).contiguous()

        def official() -> None:
            torch.autograd.grad(official_both(layout), layout, turned)

        print(row(f"{name} both directions, against the official kernel with flips", mine, milliseconds(official), BAR), flush=True)
        peak, other = peak_megabytes(lambda: both(leaves, upstream)), peak_megabytes(official)
        print(
            f"| {name} both directions: MB of peak memory beyond the inputs, {inputs / 1e6:.0f} | {peak:.0f} | {other:.0f} | | | |",
            flush=True,
        )
    else:
        peak = peak_megabytes(lambda: both(leaves, upstream))
        print(f"| {name} both directions: MB of peak memory beyond the inputs, {inputs / 1e6:.0f} | {peak:.0f} | | | | |", flush=True)
    print(f"| {name} both directions, launched by Python | {eager_milliseconds(lambda: both(leaves, upstream)):.3f} | | | | |", flush=True)


def row(what: str, mine: float, peer: float, bar: float | None) -> str:
    """A line of the table: milliseconds of ours and of the peer, and how many times faster ours is."""
    kept = "" if bar is None else f">= {bar:g} | {'yes' if peer / mine >= bar else 'NO'}"
    return f"| {what} | {mine:.3f} | {peer:.3f} | {peer / mine:.2f} | {kept or ' |'} |"


def measure_attention(shape: tuple[int, int, int]) -> None:
    """Flash attention with heads of 64 in bfloat16: as wide as the scan, without its projections."""
    b, t, d = shape
    q, k, v = (torch.randn(b, d // 64, t, 64, device="cuda", dtype=torch.bfloat16).requires_grad_() for _ in range(3))
    upstream = torch.randn_like(q)

    def attend() -> None:
        torch.autograd.grad(functional.scaled_dot_product_attention(q, k, v), (q, k, v), upstream)

    print(f"| {shape} flash attention, bfloat16, forward + backward | {milliseconds(attend):.3f} | | | | |", flush=True)


def measure_block(name: str, *, low: bool) -> None:
    """A whole block in training, in bfloat16 by autocast or in float32 with tf32 products."""
    b, t, d = BLOCK_SHAPE
    block, x = MixerConfig(name, d).build().cuda(), torch.randn(b, t, d, device="cuda").requires_grad_()  # type: ignore[arg-type]
    upstream = torch.randn(b, t, d, device="cuda")
    weights = [x, *block.parameters()]

    def train(run: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        def work() -> None:
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=low, cache_enabled=False):
                out = run(x)
            torch.autograd.grad(out, weights, upstream.to(out.dtype))

        return work

    what = f"{name} block {BLOCK_SHAPE}, {'bfloat16 autocast' if low else 'float32, tf32 products'}, forward + backward"
    mine = milliseconds(train(block))
    if name == "attention" or not has_official():
        print(f"| {what} | {mine:.3f} | | | | |", flush=True)
        return
    peers = {way: milliseconds(train(suite_block(block, own_convolution=own))) for way, own in (("torch's", False), ("our", True))}
    for way, taken in peers.items():
        print(row(f"{what}, against the official kernel with flips and {way} convolution", mine, taken, BAR), flush=True)


def measure() -> None:
    bandwidth = copy_gigabytes_per_second()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; a copy moves {bandwidth:.0f} GB/s; {asdict(triton_scan.TUNING)}")
    print("| what | ours, ms | the other | ratio | bar | kept |\n|---|---|---|---|---|---|")
    torch.backends.cuda.matmul.allow_tf32 = True
    for dtype in (torch.float32, torch.bfloat16):
        for shape in TIMED_SHAPES:
            guarded(lambda shape=shape, dtype=dtype: measure_scan(shape, dtype, bandwidth))  # type: ignore[misc]
    for low in (True, False):
        for name in ("vim", "dbm", "attention"):
            guarded(lambda name=name, low=low: measure_block(name, low=low))  # type: ignore[misc]
    for shape in TIMED_SHAPES:
        guarded(lambda shape=shape: measure_attention(shape))  # type: ignore[misc]


def guarded(work: Callable[[], None]) -> None:
    """One part of a table that is worth having without it."""
    try:
        work()
    except Exception as error:
        print(f"| FAILED: {type(error).__name__}: {str(error)[:200]} | | | | | |", flush=True)


def sweep() -> None:
    """One line for each candidate; the last names the best."""
    best: tuple[float, Tuning] | None = None
    asked = [
        [(leaves_of(shape, dtype), torch.randn(shape, device="cuda").to(dtype)) for shape in TIMED_SHAPES[:3]]
        for dtype in (torch.float32, torch.bfloat16)
    ]
    print(f"shapes {TIMED_SHAPES[:3]}\n| forward f32 | fwd + bwd f32 | fwd + bwd bf16 | ms in all | tuning |\n|---|---|---|---|---|")
    for candidate in CANDIDATES:
        triton_scan.TUNING = candidate  # type: ignore[misc]
        try:
            forward = [milliseconds(lambda given=given: forward_alone(given), rounds=7) for given, _ in asked[0]]  # type: ignore[misc]
            trained = [
                [milliseconds(lambda given=given, up=up: one_direction(given, up), rounds=7) for given, up in of_dtype]  # type: ignore[misc]
                for of_dtype in asked
            ]
        except Exception as error:
            print(f"| FAILED | | | {type(error).__name__}: {str(error)[:150]} | {words(candidate)} |", flush=True)
            continue
        total = sum(trained[0]) + sum(trained[1])
        best = min(best, (total, candidate), key=lambda pair: pair[0]) if best else (total, candidate)
        cells = " | ".join(" ".join(f"{value:.3f}" for value in cell) for cell in (forward, *trained))
        print(f"| {cells} | {total:.3f} | {words(candidate)} |", flush=True)
    if best:
        print(f"best: {words(best[1])}")


def compile_all() -> None:
    """Fills Triton's cache from a process for each candidate: one alone would take minutes."""
    command = [sys.executable, "-m", "benchmarks.ssm_gpu", "--compile-one"]
    running = [subprocess.Popen([*command, f"--tuning={words(candidate)}"]) for candidate in CANDIDATES]
    for process in running:
        process.wait()


def compile_one() -> None:
    """Runs what the sweep runs, on little."""
    for dtype in (torch.float32, torch.bfloat16):
        leaves = leaves_of((1, 512, 128), dtype)
        one_direction(leaves, torch.ones_like(leaves[0]))
        forward_alone(leaves)


def words(tuning: Tuning) -> str:
    """What differs from the default, as --tuning takes it."""
    return ",".join(f"{name}={value}" for name, value in asdict(tuning).items() if value != getattr(BASE, name))


def parsed(text: str) -> Tuning:
    """The tuning that ``words`` made of."""
    names = {field.name for field in fields(Tuning)}
    given = dict(pair.split("=") for pair in text.split(",") if pair)
    if unknown := given.keys() - names:
        raise SystemExit(f"--tuning knows {', '.join(sorted(names))}, got {', '.join(unknown)}")
    return replace(BASE, **{name: int(value) for name, value in given.items()})


def kernels() -> None:
    """What each kernel takes, forward and backward, by torch's profiler."""
    for dtype in (torch.float32, torch.bfloat16):
        leaves = leaves_of(TIMED_SHAPES[1], dtype)
        upstream = torch.randn(TIMED_SHAPES[1], device="cuda").to(dtype)
        layout, turned = official_layout(leaves), upstream.transpose(1, 2).contiguous()
        for turn in range(2):  # the first compiles
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
                one_direction(leaves, upstream)
                if has_official():
                    torch.autograd.grad(official_both(layout), layout, turned)
            if turn:
                for event in sorted(profile.key_averages(), key=lambda event: -event.device_time_total)[:24]:
                    print(f"{event.device_time_total / 1e3:8.3f} ms {event.count:3d} x {event.key[:90]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--check", "--compile", "--compile-one", "--sweep", "--kernels"):
        parser.add_argument(option, action="store_true")
    parser.add_argument("--tuning", type=parsed, default=BASE)
    asked = parser.parse_args()
    triton_scan.TUNING = asked.tuning  # type: ignore[misc]
    if asked.check:
        sys.exit(check())
    others = ((asked.compile, compile_all), (asked.compile_one, compile_one), (asked.sweep, sweep), (asked.kernels, kernels))
    next((work for is_asked, work in others if is_asked), measure)()


if __name__ == "__main__":
    main()
