"""From which length on a state-space mixer is quicker than attention on this machine: a table, and a plot of it.

    python -m benchmarks.ssm_crossing [--width 512] [--threads 2] [--plot docs/ssm_crossing.png]

Attention is the mixer of ``vlm.ssm.attention``: two projections around ``scaled_dot_product_attention``. All four have about equal weights.
At each length they take turns, and a time is the best of the rounds. The crossing lies where the lines between the measured lengths meet,
both axes logarithmic.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from vlm.ssm.native.library import instructions
from vlm.ssm.stack import MixerConfig

NAMES = ("attention", "mamba", "vim", "dbm")
LABELS = {"attention": "attention", "mamba": "Mamba (one direction)", "vim": "ViM", "dbm": "DBM"}
COLOURS = {"attention": "#222222", "mamba": "#0072b2", "vim": "#d55e00", "dbm": "#009e73"}
LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
PASSES = ("forward", "forward + backward")

# For each pass and mixer the milliseconds at each of LENGTHS.
Times = dict[str, dict[str, list[float]]]


def measure(width: int, *, rounds: int = 5) -> Times:
    torch.manual_seed(0)
    mixers = {name: MixerConfig(name, width).build() for name in NAMES}  # type: ignore[arg-type]
    times: Times = {which: {name: [] for name in NAMES} for which in PASSES}
    for t in LENGTHS:
        x, upstream = torch.randn(1, t, width, requires_grad=True), torch.randn(1, t, width)
        for which in PASSES:
            found: dict[str, list[float]] = {name: [] for name in NAMES}
            for _ in range(rounds + 1):  # the first warms up
                for name, mixer in mixers.items():
                    begin = time.perf_counter()
                    if which == "forward":
                        with torch.no_grad():
                            mixer(x)
                    else:
                        torch.autograd.grad(mixer(x), (x, *mixer.parameters()), upstream)
                    found[name].append(1e3 * (time.perf_counter() - begin))
            for name in NAMES:
                times[which][name].append(min(found[name][1:]))
    return times


def crossing(attention: list[float], other: list[float]) -> float | None:
    """The length from which on ``other`` is quicker: below LENGTHS[0] that length; None where it never is."""
    ahead = [math.log(one / two) for one, two in zip(attention, other, strict=True)]
    if ahead[-1] <= 0:
        return None
    last = max((i for i, by in enumerate(ahead) if by <= 0), default=None)
    if last is None:
        return LENGTHS[0]
    share = -ahead[last] / (ahead[last + 1] - ahead[last])
    return math.exp(math.log(LENGTHS[last]) + share * math.log(LENGTHS[last + 1] / LENGTHS[last]))


def told(times: Times, which: str, name: str) -> str:
    found = crossing(times[which]["attention"], times[which][name])
    if found is None:
        return f"never up to {LENGTHS[-1]:,}"
    return f"{found:,.0f}" if found > LENGTHS[0] else f"at most {LENGTHS[0]}"


def draw(times: Times, title: str, to: Path) -> None:
    """Two panels, one for each of PASSES."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 4.1), dpi=90, layout="constrained")
    for panel, which in zip(panels, PASSES, strict=True):
        draw_panel(panel, times[which], which)
    panels[0].set_ylabel("milliseconds")
    panels[0].legend(frameon=False)
    figure.suptitle(title, fontsize=10)
    figure.savefig(to)
    if to.suffix == ".png":  # few colours: a fifth of the size
        with Image.open(to) as picture:
            picture.convert("RGB").quantize(48).save(to, optimize=True)


def draw_panel(panel: Any, times: dict[str, list[float]], which: str) -> None:
    for name in NAMES:
        panel.loglog(LENGTHS, times[name], "o-", color=COLOURS[name], label=LABELS[name], markersize=3.5, linewidth=1.6)
        found = None if name == "attention" else crossing(times["attention"], times[name])
        if found is not None and found > LENGTHS[0]:
            panel.plot(found, between(found, times[name]), "o", markersize=10, markerfacecolor="none", color=COLOURS[name])
    panel.set_title(which, fontsize=10)
    panel.set_xlabel("tokens (rings: from here on quicker than attention)")
    panel.set_xticks(LENGTHS, [f"{t:,}" for t in LENGTHS])
    panel.minorticks_off()
    panel.grid(alpha=0.25)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def between(t: float, times: list[float]) -> float:
    """The time at length ``t`` on the line between its neighbours."""
    for (begin, end), (one, two) in zip(pairwise(LENGTHS), pairwise(times), strict=True):
        if begin <= t <= end:
            return one * (two / one) ** (math.log(t / begin) / math.log(end / begin))
    raise AssertionError(t)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plot", type=Path, help="where to draw, a .png or .svg")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    times = measure(chosen.width)
    machine = f"width {chosen.width}, float32, {chosen.threads} threads, {instructions()}, torch {torch.__version__}"
    print(f"{platform.machine()}, {os.cpu_count()} cores; (1, t, {chosen.width}), {machine}")
    print(
        "| ms | pass | "
        + " | ".join(f"t {t:,}" for t in LENGTHS)
        + " | quicker than attention from |\n|---|---|"
        + "---|" * (len(LENGTHS) + 1)
    )
    for which in PASSES:
        for name in NAMES:
            row = " | ".join(f"{value:.1f}" for value in times[which][name])
            print(f"| {LABELS[name]} | {which} | {row} | {'' if name == 'attention' else told(times, which, name)} |")
    if chosen.plot is not None:
        draw(times, f"One mixer on a CPU: {machine}", chosen.plot)


if __name__ == "__main__":
    main()
