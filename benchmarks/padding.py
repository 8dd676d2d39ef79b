"""How far pads move what a bidirectional mixer says of real tokens: three ways of published code, and ours.

    python -m benchmarks.padding [--items 64] [--layers 4] [--width 256]

The sequence is that of the cross-modal models of Video Mamba Suite, [text ; pads ; video], the text padded to the longest of its batch.
Each item is run alone, without pads, and then as in a batch whose longest text is longer. The figures are the norm of the difference over
the norm of what comes out alone: over all tokens of the video, and at the one that moves most; means over the items. Layers of 0 is one
mixer by itself, without norm and residual. Weights are as they are at the start of training.

    mask ignored   pads are tokens like others (the released cross-modal network)
    x zeroed       pads are set to zero before the mixer and again after its convolution
    delta zeroed   the same, and the state waits at pads: the step size is 0 there
    gathered       ours: Block(x, mask)
"""

from __future__ import annotations

import argparse
import platform

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlm.ssm.blocks import DBM, ViM
from vlm.ssm.branch import Theta, rates, step_inputs, theta_of
from vlm.ssm.conv import causal_conv1d
from vlm.ssm.scan import selective_scan
from vlm.ssm.stack import Layer, MixerConfig

WAYS = ("mask ignored", "x zeroed", "delta zeroed", "gathered")
TEXT, LONGEST_TEXT, VIDEO = (4, 20), 32, 75


def published_branch(x: Tensor, z: Tensor, theta: Theta, mask: Tensor, way: str, reverse: bool) -> Tensor:
    """One direction over a padded batch."""
    real = mask[:, :, None]
    u = causal_conv1d(x if way == "mask ignored" else x * real, theta.conv1d.weight[:, 0], theta.conv1d.bias, reverse=reverse)
    u = u if way == "mask ignored" else u * real
    delta, *weights = step_inputs(u, theta)
    if way == "delta zeroed":
        delta = delta.masked_fill(~real, -1e4)  # its softplus is 0
    return selective_scan(u, delta, rates(theta), *weights, theta.D, z, theta.dt_proj.bias, True, reverse=reverse)


def published(mixer: ViM | DBM, x: Tensor, mask: Tensor, way: str) -> Tensor:
    """What ``mixer`` makes of a padded batch in one of the published ways."""
    parts = functional.linear(x, mixer.in_proj.weight).chunk(4 if isinstance(mixer, DBM) else 2, dim=2)
    last = theta_of(mixer) if isinstance(mixer, DBM) else theta_of(mixer, "_b")
    y = published_branch(parts[0], parts[1], theta_of(mixer), mask, way, False)
    y_b = published_branch(parts[-2], parts[-1], last, mask, way, True)
    return mixer.out_proj(torch.cat([y, y_b], dim=2) if isinstance(mixer, DBM) else y + y_b)


class Padded(nn.Module):
    """A mixer that treats pads in one of WAYS; the mask is set before each call."""

    def __init__(self, mixer: ViM | DBM) -> None:
        super().__init__()
        self.mixer, self.way, self.mask = mixer, WAYS[-1], torch.empty(0)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, cu_seqlens: Tensor | None = None) -> Tensor:
        return self.mixer(x, self.mask) if self.way == "gathered" else published(self.mixer, x, self.mask, self.way)


def video_of(parts: list[Layer | Padded], x: Tensor, mask: Tensor, way: str) -> Tensor:
    for part in parts:
        padded = part.mixer if isinstance(part, Layer) else part
        padded.way, padded.mask = way, mask
        x = part(x)
    return x[0, -VIDEO:]


def movements(name: str, width: int, num_layers: int, num_items: int) -> dict[str, tuple[float, float]]:
    """For each of WAYS the mean movement of the video, and of the token of it that moves most, in percent."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    mixers = [Padded(MixerConfig(name, width).build()) for _ in range(max(1, num_layers))]
    parts = [Layer(width, mixer) for mixer in mixers] if num_layers else mixers
    pad = torch.randn(width, generator=generator)
    moved = {way: torch.zeros(2) for way in WAYS}
    with torch.no_grad():
        for _ in range(num_items):
            length = int(torch.randint(*TEXT, (1,), generator=generator))
            text, video = torch.randn(1, length, width, generator=generator), torch.randn(1, VIDEO, width, generator=generator)
            whole = torch.cat([text, video], dim=1)
            padded = torch.cat([text, pad.expand(1, LONGEST_TEXT - length, width), video], dim=1)
            mask = torch.ones(1, LONGEST_TEXT + VIDEO, dtype=torch.bool)
            mask[:, length:LONGEST_TEXT] = False
            alone = video_of(parts, whole, torch.ones(whole.shape[:2], dtype=torch.bool), "gathered")
            for way in WAYS:
                change = video_of(parts, padded, mask, way) - alone
                moved[way] += torch.stack([change.norm() / alone.norm(), (change.norm(dim=1) / alone.norm(dim=1)).max()]) * 100 / num_items
    return {way: (float(both[0]), float(both[1])) for way, both in moved.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    chosen = parser.parse_args()
    print(f"{platform.machine()}, torch {torch.__version__}; {chosen.items} items, width {chosen.width}, float32")
    print("| mixer | layers | " + " | ".join(f"{way}: video, worst token" for way in WAYS) + " |")
    print("|---|---|" + "---|" * len(WAYS))
    for name in ("vim", "dbm"):
        for num_layers in sorted({0, chosen.layers}):
            moved = movements(name, chosen.width, num_layers, chosen.items)
            print(f"| {name} | {num_layers} | " + " | ".join(f"{moved[way][0]:.2g} %, {moved[way][1]:.2g} %" for way in WAYS) + " |")


if __name__ == "__main__":
    main()
