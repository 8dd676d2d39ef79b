"""Mixers for tests, and what they must compute: the papers' formulas for one item, step by step with real flips, in numpy."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vlm.ssm.attention import Attention
from vlm.ssm.blocks import DBM, Mamba, ViM
from vlm.ssm.stack import MixerConfig, StackConfig

Array = NDArray[np.float64]
WIDTH = 12
# Largest |found - truth|: outputs and gradients of these mixers are of the order of one.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}

CONFIGS = {
    "mamba": MixerConfig("mamba", WIDTH, d_state=4),
    "vim": MixerConfig("vim", WIDTH, d_state=4),
    "vim mean": MixerConfig("vim", WIDTH, d_state=3, d_conv=3, combine="mean"),
    "dbm": MixerConfig("dbm", WIDTH, d_state=4),
    "dbm wide": MixerConfig("dbm", WIDTH, d_state=4, d_conv=1, expand=1.5),
    "attention": MixerConfig("attention", WIDTH, num_heads=3),
    "attention causal": MixerConfig("attention", WIDTH, num_heads=2, causal=True),
    "attention window": MixerConfig("attention", WIDTH, num_heads=2, window=2),
    "attention causal window": MixerConfig("attention", WIDTH, num_heads=1, causal=True, window=1),
}
STACKS = {
    "stack of vim": StackConfig(CONFIGS["vim"], 2, norm="rms"),
    "stack of attention": StackConfig(CONFIGS["attention"], 2, ffn_expand=2),
}


def build(name: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    """The mixer or stack of that name with weights that depend on the seed alone; no bias or skip is left at a special value."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = (CONFIGS | STACKS)[name].build()
        for parameter in module.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return module.to(dtype).eval()


def tokens(b: int, t: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> torch.Tensor:
    return torch.randn(b, t, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def naive(module: nn.Module, item: Array) -> Array:
    """What ``module`` makes of one item (t, d_model) without pads."""
    weights = {name: value.detach().double().numpy() for name, value in module.state_dict().items()}
    if isinstance(module, Attention):
        return naive_attention(module, weights, item)
    projected = item @ weights["in_proj.weight"].T
    if isinstance(module, Mamba):
        x, z = np.split(projected, 2, axis=1)
        return naive_branch(x, z, weights) @ weights["out_proj.weight"].T
    if isinstance(module, ViM):
        x, z = np.split(projected, 2, axis=1)
        backward = {name.replace("_b", ""): value for name, value in weights.items() if "_b" in name}
        backward["A_log"] = weights["A_b_log"]
        y = naive_branch(x, z, weights) + naive_branch(x[::-1], z[::-1], backward)[::-1]
        return (y / 2 if module.combine == "mean" else y) @ weights["out_proj.weight"].T
    assert isinstance(module, DBM)
    x, z, x_b, z_b = np.split(projected, 4, axis=1)
    y = np.concatenate([naive_branch(x, z, weights), naive_branch(x_b[::-1], z_b[::-1], weights)[::-1]], axis=1)
    return y @ weights["out_proj.weight"].T


def naive_branch(x: Array, z: Array, theta: dict[str, Array]) -> Array:
    """BR(x, z; theta) for (t, d) inputs and gates."""
    kernel, A = theta["conv1d.weight"][:, 0], -np.exp(theta["A_log"])
    n, rank, K = A.shape[1], theta["dt_proj.weight"].shape[1], kernel.shape[1]
    h, outputs = np.zeros_like(A), []
    for i in range(len(x)):
        window = [x[i - back] if i >= back else np.zeros_like(x[0]) for back in reversed(range(K))]
        u = silu(sum(kernel[:, k] * window[k] for k in range(K)) + theta["conv1d.bias"])
        low, B, C = np.split(theta["x_proj.weight"] @ u, [rank, rank + n])
        delta = np.log1p(np.exp(theta["dt_proj.weight"] @ low + theta["dt_proj.bias"]))
        h = np.exp(delta[:, None] * A) * h + delta[:, None] * B * u[:, None]
        outputs.append((h @ C + theta["D"] * u) * silu(z[i]))
    return np.array(outputs).reshape(x.shape)


def naive_attention(module: Attention, weights: dict[str, Array], item: Array) -> Array:
    """Softmax over the keys that each query may see, head by head."""
    q, k, v = np.split(item @ weights["in_proj.weight"].T, 3, axis=1)
    width, out = item.shape[1] // module.num_heads, np.zeros_like(item)
    for head in range(module.num_heads):
        part = slice(head * width, (head + 1) * width)
        for i in range(len(item)):
            seen = [j for j in range(len(item)) if (not module.causal or j <= i) and (module.window is None or abs(i - j) <= module.window)]
            scores = np.exp(k[seen, part] @ q[i, part] / np.sqrt(width))
            out[i, part] = scores @ v[seen, part] / scores.sum()
    return out @ weights["out_proj.weight"].T


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))
