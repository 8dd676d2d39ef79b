"""The scan on a GPU: is it right, how fast, how much memory. Run by benchmarks/gpu.sh; it has not been run, for want of a GPU.

python -m benchmarks.ssm_gpu --check   # forward and every gradient of each CUDA backend against the reference in float64
python -m benchmarks.ssm_gpu           # times, bytes moved against the bandwidth of a copy, peak memory, attention beside them
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.ssm import scan_inputs
from vlm.ssm.backends import BACKENDS
from vlm.ssm.scan import selective_scan
from vlm.ssm.stack import MixerConfig

# Largest difference over the largest true magnitude.
TOLERANCE = 2e-5
CHECKED_SHAPES = ((2, 1, 32), (2, 63, 48), (1, 1000, 32), (1, 4097, 16))
TIMED_SHAPES = ((8, 1024, 1024), (1, 8192, 1024), (4, 4096, 384))


def backends() -> list[str]:
    """Those for CUDA that this machine has."""
    return [backend.name for backend in BACKENDS if backend.name in ("triton", "mamba_ssm") and backend.missing() is None]


def with_gradients(inputs: list[Tensor], backend: str, *, reverse: bool = False) -> list[Tensor]:
    """Output and the gradient of its product with a fixed random tensor, for every input."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    output = selective_scan(*leaves, delta_softplus=True, reverse=reverse, backend=backend)
    generator = torch.Generator().manual_seed(1)
    upstream = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output)
    return [output.detach(), *torch.autograd.grad(output, leaves, upstream)]


def check() -> int:
    """How many comparisons fail; each is printed."""
    failures = 0
    names = ("out", "u", "delta", "A", "B", "C", "D", "z", "delta_bias")
    for backend in backends():
        for shape in CHECKED_SHAPES:
            for reverse in (False, True):
                inputs = scan_inputs(*shape)
                truth = with_gradients([tensor.double() for tensor in inputs], "torch", reverse=reverse)
                found = with_gradients([tensor.cuda() for tensor in inputs], backend, reverse=reverse)
                far = {
                    name: ((one.cpu().double() - other).abs().max() / other.abs().max().clamp_min(1e-25)).item()
                    for name, one, other in zip(names, found, truth, strict=True)
                }
                wrong = {name: value for name, value in far.items() if not value < TOLERANCE}
                failures += len(wrong)
                print(f"{backend} {shape} {'reverse' if reverse else 'forward'}: {wrong or 'right'}", flush=True)
    return failures


def cuda_milliseconds(work: Callable[[], object], *, rounds: int = 20) -> float:
    """Best of the rounds, after three to warm up."""
    times = []
    for _ in range(rounds + 3):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()  # type: ignore[no-untyped-call]
        work()
        end.record()  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return min(times[3:])


def copy_gigabytes_per_second() -> float:
    source = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / cuda_milliseconds(lambda: target.copy_(source)) / 1e6


def measure_scan(backend: str, shape: tuple[int, int, int], bandwidth: float) -> None:
    leaves = [tensor.cuda().requires_grad_() for tensor in scan_inputs(*shape)]
    moved = sum(tensor.nbytes for tensor in leaves) + leaves[0].nbytes

    def scan(given: list[Tensor], *, reverse: bool = False) -> Tensor:
        return selective_scan(*given, delta_softplus=True, reverse=reverse, backend=backend)

    def forward() -> None:
        with torch.no_grad():
            scan(leaves)

    def own() -> None:
        torch.autograd.grad((scan(leaves) + scan(leaves, reverse=True)).sum(), leaves)

    def flips() -> None:
        flipped = [tensor.flip(1) if tensor.ndim == 3 else tensor for tensor in leaves]
        torch.autograd.grad((scan(leaves) + scan(flipped).flip(1)).sum(), leaves)

    taken = cuda_milliseconds(forward)
    rate = moved / taken / 1e6
    print(f"| {backend} forward {shape}, GB/s against a copy's | {taken:.3f} | {rate:.0f} | {rate / bandwidth:.2f} |")
    torch.cuda.reset_peak_memory_stats()
    mine = cuda_milliseconds(own)
    peak = torch.cuda.max_memory_allocated() / moved
    other = cuda_milliseconds(flips)
    print(f"| {backend} both directions, forward + backward {shape}, against flips | {mine:.3f} | {other:.3f} | {other / mine:.2f} |")
    print(f"| {backend} both directions, peak memory over inputs and output {shape} | | | {peak:.2f} |", flush=True)


def measure_block(name: str) -> None:
    block, x = MixerConfig(name, 512).build().cuda(), torch.randn(4, 4096, 512, device="cuda")
    taken = cuda_milliseconds(lambda: block(x).sum().backward())
    print(f"| {name} block forward + backward (4, 4096, 512) | {taken:.3f} | | |", flush=True)


def measure() -> None:
    bandwidth = copy_gigabytes_per_second()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; a copy moves {bandwidth:.0f} GB/s")
    print("| what | ms | beside it | ratio |\n|---|---|---|---|")
    for backend in backends():
        for shape in TIMED_SHAPES:
            measure_scan(backend, shape, bandwidth)
    for name in ("dbm", "vim", "attention"):
        measure_block(name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        sys.exit(check())
    measure()
