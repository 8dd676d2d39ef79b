"""Whole state-space blocks against the time of their own matrix products: how near they are to what no block can beat.

    python -m benchmarks.ssm_blocks [--width 512] [--time 2048] [--threads 2]

The products are those of the block, at its shapes, one after the other: in_proj, and for each direction x_proj and dt_proj, and out_proj.
Products and block take turns in one process; each figure is the best of the rounds. Bars of issue 4: forward at most 1.5, forward and
backward at most 2 times the products.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vlm.ssm.blocks import DBM, Mamba, ViM
from vlm.ssm.branch import theta_of
from vlm.ssm.stack import MixerConfig

NAMES = ("mamba", "dbm", "vim")


@dataclass(frozen=True)
class BlockTimes:
    """Best milliseconds of one block and of its matrix products, and the median ratio of rounds in which both ran side by side."""

    name: str
    forward: float
    products_forward: float
    forward_ratio: float
    both: float
    products_both: float
    both_ratio: float


def block_times(name: str, *, width: int = 512, length: int = 2048, rounds: int = 9) -> BlockTimes:
    """The times of the mixer called ``name`` on (1, length, width) float32, with as many threads as torch is set to."""
    torch.manual_seed(0)
    block = MixerConfig(name, width).build()
    x = torch.randn(1, length, width, requires_grad=True)
    upstream = torch.randn(1, length, width)
    weights = product_weights(block)
    inputs = [torch.randn(1, length, weight.shape[1], requires_grad=True) for weight in weights]
    grads = [torch.randn(1, length, weight.shape[0]) for weight in weights]

    def products() -> None:
        with torch.no_grad():
            for given, weight in zip(inputs, weights, strict=True):
                functional.linear(given, weight)

    def products_both() -> None:
        for given, weight, grad in zip(inputs, weights, grads, strict=True):
            torch.autograd.grad(functional.linear(given, weight), (given, weight), grad)

    def forward() -> None:
        with torch.no_grad():
            block(x)

    def both() -> None:
        torch.autograd.grad(block(x), (x, *block.parameters()), upstream)

    forward_time, products_time, forward_ratio = in_turns(forward, products, rounds)
    both_time, products_both_time, both_ratio = in_turns(both, products_both, rounds)
    return BlockTimes(name, forward_time, products_time, forward_ratio, both_time, products_both_time, both_ratio)


def product_weights(block: Mamba | DBM | ViM) -> list[Tensor]:
    """The weight of every matrix product of one forward pass."""
    thetas = {"Mamba": [""], "DBM": ["", ""], "ViM": ["", "_b"]}[type(block).__name__]
    inner = [weight for suffix in thetas for theta in [theta_of(block, suffix)] for weight in (theta.x_proj.weight, theta.dt_proj.weight)]
    return [block.in_proj.weight, *inner, block.out_proj.weight]


def in_turns(block: Callable[[], None], products: Callable[[], None], rounds: int) -> tuple[float, float, float]:
    """Best milliseconds of both, and the median over the rounds of their ratio: other work on the machine hits both alike."""
    block()
    products()
    pairs = [(milliseconds(block), milliseconds(products)) for _ in range(rounds)]
    ratios = sorted(one / other for one, other in pairs)
    return min(one for one, _ in pairs), min(other for _, other in pairs), ratios[len(ratios) // 2]


def milliseconds(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--time", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print(f"{platform.machine()}, torch {torch.__version__}, {chosen.threads} threads; (1, {chosen.time}, {chosen.width}) float32")
    print("| block | forward ms | products ms | best ratio, median | both ms | products ms | best ratio, median |")
    print("|---|---|---|---|---|---|---|")
    for name in NAMES:
        times = block_times(name, width=chosen.width, length=chosen.time, rounds=chosen.rounds)
        print(
            f"| {name} | {times.forward:.1f} | {times.products_forward:.1f} | {times.forward / times.products_forward:.2f}, "
            f"{times.forward_ratio:.2f} | {times.both:.1f} | {times.products_both:.1f} | {times.both / times.products_both:.2f}, "
            f"{times.both_ratio:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
