"""The selective scan and the blocks on it against their peers: one table, every ratio from one process and one run.

    python -m benchmarks.ssm                                  # all of it: two minutes on two cores
    python -m benchmarks.ssm scan memory                      # some of: scan memory growth blocks mixer
    VLM_SCAN_INSTRUCTIONS=avx2 python -m benchmarks.ssm scan  # as on a processor without AVX-512

Bars are those of issue 4, for two threads and float32. Peer and ours take turns; a time is the best of the rounds. The peer of the scan
is a loop over time in torch whose inputs are unbound before it, so that it does nothing but the recurrence. "Alone" is the recurrence of
both without softplus, skip and gate. The crossing with attention: python -m benchmarks.ssm_crossing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.ssm_blocks import block_times, product_weights
from vlm.ssm.native.library import instructions
from vlm.ssm.scan import selective_scan
from vlm.ssm.stack import MixerConfig

STATES = 16


@dataclass(frozen=True)
class Row:
    """One line: ours and the peer in milliseconds (or as said), their ratio, and the bar that the ratio has to keep."""

    what: str
    ours: str
    peer: str
    ratio: float
    bar: float | None = None
    at_least: bool = True

    def __str__(self) -> str:
        if self.bar is None:
            return f"| {self.what} | {self.ours} | {self.peer} | {self.ratio:.2f} | | |"
        kept = self.ratio >= self.bar if self.at_least else self.ratio <= self.bar
        bar = f"{'>=' if self.at_least else '<='} {self.bar:g}"
        return f"| {self.what} | {self.ours} | {self.peer} | {self.ratio:.2f} | {bar} | {'yes' if kept else 'NO'} |"


def scan_inputs(b: int, t: int, d: int) -> list[Tensor]:
    """u, delta, A, B, C, D, z, delta_bias of a layer at the start of training."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    A = -torch.arange(1, STATES + 1).float().repeat(d, 1)
    return [normal(b, t, d), normal(b, t, d), A, normal(b, t, STATES), normal(b, t, STATES), normal(d), normal(b, t, d), normal(d) - 4]


def loop_over_time(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor) -> Tensor:
    """The peer: softplus, skip and gate for all steps at once, and a loop of five operations a step."""
    return (loop_alone(u, functional.softplus(delta + delta_bias), A, B, C) + D * u) * functional.silu(z)


def loop_alone(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The same without softplus, skip and gate."""
    state = torch.zeros(u.shape[0], *A.shape)
    outputs = []
    for step, inflow, weights, readout in zip(delta.unbind(1), (delta * u).unbind(1), B.unbind(1), C.unbind(1), strict=True):
        state = torch.exp(step[..., None] * A) * state + inflow[..., None] * weights[:, None]
        outputs.append((state @ readout[..., None])[..., 0])
    return torch.stack(outputs, dim=1)


def ours_alone(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    return selective_scan(u, delta, A, B, C, backend="native")


def ours(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor) -> Tensor:
    return selective_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus=True, backend="native")


def milliseconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - begin)


def in_turns(one: Callable[[], object], other: Callable[[], object], *, rounds: int, repeats: int = 1) -> tuple[float, float]:
    """Best milliseconds of both; ``one`` runs ``repeats`` times a round."""
    one()
    pairs = [(min(milliseconds(one) for _ in range(repeats)), milliseconds(other)) for _ in range(rounds)]
    return min(first for first, _ in pairs), min(second for _, second in pairs)


def scan_rows() -> Iterator[Row]:
    u, delta, A, B, C, D, z, delta_bias = scan_inputs(1, 1024, 1536)
    alone = [u, functional.softplus(delta + delta_bias), A, B, C]
    forward_bar = 30 if instructions() == "avx512" else 15
    threads = torch.get_num_threads()
    for used in dict.fromkeys((threads, 1)):
        torch.set_num_threads(used)
        bars = (forward_bar, 25) if used > 1 else (None, None)
        label = f"(1, 1024, 1536, 16), {used} thread{'s' * (used > 1)}, against a loop over time, ms"
        for name, mine, peer, inputs in (
            ("scan", ours, loop_over_time, [u, delta, A, B, C, D, z, delta_bias]),
            ("scan alone", ours_alone, loop_alone, alone),
        ):
            one, other = in_turns(forward(mine, inputs), forward(peer, inputs), rounds=15, repeats=6)
            yield Row(f"{name} forward {label}", f"{one:.2f}", f"{other:.0f}", other / one, bars[0])
            one, other = in_turns(both(mine, inputs), both(peer, inputs), rounds=5, repeats=6)
            yield Row(f"{name} forward + backward {label}", f"{one:.2f}", f"{other:.0f}", other / one, bars[1])
    torch.set_num_threads(threads)


def forward(scan: Callable[..., Tensor], inputs: list[Tensor]) -> Callable[[], object]:
    def run() -> None:
        with torch.no_grad():
            scan(*inputs)

    return run


def both(scan: Callable[..., Tensor], inputs: list[Tensor]) -> Callable[[], object]:
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    upstream = torch.ones_like(inputs[0])
    return lambda: torch.autograd.grad(scan(*leaves), leaves, upstream)


def resident_bytes(field: str) -> int:
    """VmRSS or VmHWM of this process, as Linux counts it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def peak_of_both(num_threads: int) -> tuple[int, int]:
    """Bytes of inputs and output at (1, 8192, 1536, 16), and the peak of the process over its state before there were any."""
    torch.set_num_threads(num_threads)
    small = [tensor.requires_grad_() for tensor in scan_inputs(1, 64, 64)]
    ours(*small).sum().backward()
    before = resident_bytes("VmRSS")
    inputs = [tensor.requires_grad_() for tensor in scan_inputs(1, 8192, 1536)]
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    output = ours(*inputs)
    output.backward(torch.ones_like(output))
    return sum(tensor.nbytes for tensor in (*inputs, output)), resident_bytes("VmHWM") - before


def memory_rows() -> Iterator[Row]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        counted, peak = pool.apply(peak_of_both, (torch.get_num_threads(),))
    what = "peak memory of scan forward + backward (1, 8192, 1536, 16), against inputs and output, MB"
    yield Row(what, f"{peak / 1e6:.0f}", f"{counted / 1e6:.0f}", peak / counted, 3, at_least=False)


def growth_rows() -> Iterator[Row]:
    block = MixerConfig("dbm", 512).build()

    def run_block(t: int) -> Callable[[], object]:
        x = torch.randn(1, t, 512)
        return lambda: block(x)

    def run_scan(t: int) -> Callable[[], object]:
        inputs = scan_inputs(1, t, 512)
        return lambda: ours(*inputs)

    for name, made in (("scan (1, t, 512, 16)", run_scan), ("DBM block (1, t, 512)", run_block)):
        with torch.no_grad():
            long, short = in_turns(made(100_000), made(4_096), rounds=6)
        yield Row(f"{name}: forward at t 100,000 against 100,000 / 4,096 times t 4,096, ms", f"{long:.0f}", f"{short:.1f}",
                  long / short / (100_000 / 4_096), 1.2, at_least=False)  # fmt: skip


def block_rows() -> Iterator[Row]:
    for name in ("dbm", "mamba", "vim"):
        times = block_times(name)
        bars = (None, None) if name == "vim" else (1.5, 2.0)
        what = f"{name} block (1, 2048, 512), against its own matrix products, ms"
        ratio = times.forward / times.products_forward
        yield Row(f"forward of a {what}", f"{times.forward:.1f}", f"{times.products_forward:.1f}", ratio, bars[0], at_least=False)
        ratio = times.both / times.products_both
        yield Row(f"forward + backward of a {what}", f"{times.both:.1f}", f"{times.products_both:.1f}", ratio, bars[1], at_least=False)


def mixer_rows() -> Iterator[Row]:
    """Against the mixer of transformers without its CUDA packages, which is what a CPU gets."""
    from transformers import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = MambaMixer(MambaConfig(hidden_size=512, state_size=STATES, conv_kernel=4, expand=2), layer_idx=0)
    block, x = MixerConfig("mamba", 512).build(), torch.randn(1, 512, 512)
    given = [(torch.randn(1, 512, weight.shape[1]), weight) for weight in product_weights(block)]
    with torch.no_grad():
        mine, other = in_turns(lambda: block(x), lambda: peer(x), rounds=15, repeats=5)
        products = min(milliseconds(lambda: [functional.linear(*pair) for pair in given]) for _ in range(20))
    yield Row("Mamba block forward (1, 512, 512), against MambaMixer of transformers, ms", f"{mine:.2f}", f"{other:.0f}", other / mine, 15)
    yield Row("its matrix products, which both do, against the same: no float32 block can be quicker", f"{products:.2f}", f"{other:.0f}",
              other / products)  # fmt: skip
    once = milliseconds(lambda: torch.autograd.grad(peer(x).sum(), list(peer.parameters())))
    mine = min(milliseconds(lambda: torch.autograd.grad(block(x).sum(), list(block.parameters()))) for _ in range(5))
    yield Row("the same forward + backward, its fallback run once: a fact, no bar", f"{mine:.1f}", f"{once:.0f}", once / mine)


SECTIONS: dict[str, Callable[[], Iterator[Row]]] = {
    "scan": scan_rows,
    "memory": memory_rows,
    "growth": growth_rows,
    "blocks": block_rows,
    "mixer": mixer_rows,
}


def processor() -> str:
    """The processor's name as Linux tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=f"some of {', '.join(SECTIONS)}; all of them where none is named")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    if unknown := set(chosen.sections) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    print(f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start; ", end="")
    print(f"torch {torch.__version__}, {chosen.threads} threads, {instructions()}")
    print("| what | ours | peer | ratio | bar | kept |\n|---|---|---|---|---|---|")
    for section in chosen.sections or SECTIONS:
        for row in SECTIONS[section]():
            print(row, flush=True)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}: with other processes on the cores, two-thread figures are worth little")


if __name__ == "__main__":
    main()
