"""Whether the CUDA kernels are right, against float64, and the peer of the times computes the same. Run by benchmarks/ssm_gpu.py."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed

import torch
from torch import Tensor

from benchmarks.ssm import scan_inputs
from benchmarks.ssm_gpu_peers import has_official, official_both, official_layout
from vlm.ssm.conv import causal_conv1d
from vlm.ssm.scan import selective_scan

# Largest difference over the largest true magnitude.
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2}


def leaves_of(shape: tuple[int, int, int], dtype: torch.dtype) -> list[Tensor]:
    """Inputs as a layer in training has them: A, D and delta_bias in float32."""
    wide = [tensor.cuda() for tensor in scan_inputs(*shape)]
    return [(tensor.to(dtype) if tensor.ndim == 3 else tensor).requires_grad_() for tensor in wide]


def scan(leaves: list[Tensor], *, reverse: bool = False, **options: object) -> Tensor:
    found: Tensor = selective_scan(*leaves, delta_softplus=True, reverse=reverse, backend="triton", **options)  # type: ignore[call-overload]
    return found


def far(leaves: list[Tensor], backend: str, **options: object) -> dict[str, float]:
    """How far the output and gradients are from those in float64, by name; infinitely if ours gives other bits on a second call."""
    names = ("out", "u", "delta", "A", "B", "C", "D", "z", "delta_bias")
    upstream = torch.randn(leaves[0].shape, generator=torch.Generator().manual_seed(1)).to(leaves[0])

    def with_gradients(given: list[Tensor], backend: str) -> list[Tensor]:
        given = [tensor.detach().requires_grad_() for tensor in given]
        out = selective_scan(*given, delta_softplus=True, backend=backend, **options)  # type: ignore[call-overload]
        return [out.detach(), *torch.autograd.grad(out, given, upstream.to(out.dtype))]

    truth = with_gradients([tensor.double() for tensor in leaves], "torch")
    found = with_gradients(leaves, backend)
    # The official backward pass adds atomically.
    if backend == "triton" and not all(torch.equal(*pair) for pair in zip(found, with_gradients(leaves, backend), strict=True)):
        return dict.fromkeys(names, float("inf"))
    return {name: relative(one, other) for name, one, other in zip(names, found, truth, strict=True)}


def relative(found: Tensor, truth: Tensor) -> float:
    return ((found.double() - truth.double()).abs().max() / truth.double().abs().max().clamp_min(1e-25)).item()


def check_scan(shape: tuple[int, int, int], dtype: torch.dtype, kind: str, reverse: bool, backend: str = "triton") -> dict[str, float]:
    options: dict[str, object] = {"reverse": reverse}
    if kind == "lengths":
        options["lengths"] = torch.tensor([shape[1], 0, 77]).cuda()
    if kind == "packed":
        options["cu_seqlens"] = torch.tensor([0, 5, 5, shape[1] // 2, shape[1]]).cuda()
    return far(leaves_of(shape, dtype), backend, **options)


def check_adapter(shape: tuple[int, int, int], dtype: torch.dtype, kind: str, reverse: bool) -> dict[str, float]:
    """The backend mamba_ssm."""
    return check_scan(shape, dtype, kind, reverse, "mamba_ssm")


def check_convolution(shape: tuple[int, int, int], dtype: torch.dtype, kind: str, reverse: bool) -> dict[str, float]:
    """Against float64, which takes plain torch."""
    bounds = torch.tensor([0, 3, 3, shape[1] // 2, shape[1]], device="cuda") if kind == "packed" else None
    given = torch.randn(shape).cuda().to(dtype), torch.randn(shape[2], 4).cuda(), torch.randn(shape[2]).cuda()
    results = []
    for wanted in (None, torch.float64):
        leaves = [tensor.to(wanted or tensor.dtype).detach().requires_grad_() for tensor in given]
        out = causal_conv1d(*leaves, cu_seqlens=bounds, reverse=reverse)
        results.append((out, *torch.autograd.grad(out.double().square().sum(), leaves)))
    return {name: relative(one, other) for name, one, other in zip(("out", "x", "weight", "bias"), *results, strict=True)}


def check_official(shape: tuple[int, int, int], dtype: torch.dtype, kind: str, reverse: bool) -> dict[str, float]:
    """The peer of the times computes the same."""
    leaves = leaves_of(shape, dtype)
    layout, upstream = official_layout(leaves), torch.randn(shape).cuda().to(dtype)
    mine = scan(leaves) + scan(leaves, reverse=True)
    other = official_both(layout)
    results = zip(torch.autograd.grad(mine, leaves, upstream), torch.autograd.grad(other, layout, upstream.transpose(1, 2)), strict=True)
    apart = {f"gradient {i}": relative(one, two.transpose(1, 2) if two.ndim == 3 else two) for i, (one, two) in enumerate(results)}
    return {"out": relative(mine, other.transpose(1, 2))} | apart


def check() -> int:
    """How many comparisons fail; each is printed. In processes side by side: most of the time goes into compiling kernels."""
    float32, bfloat16 = torch.float32, torch.bfloat16
    asked: list[tuple[Callable[..., dict[str, float]], tuple[int, int, int], torch.dtype, str]] = [
        (check_scan, (2, 63, 48), float32, ""),
        (check_scan, (1, 4097, 64), float32, ""),
        (check_scan, (2, 1, 32), float32, ""),
        (check_scan, (3, 1000, 132), float32, "lengths"),
        (check_scan, (1, 3000, 132), float32, "packed"),
        (check_scan, (2, 1000, 128), bfloat16, ""),
        (check_convolution, (2, 1000, 130), float32, ""),
        (check_convolution, (1, 1000, 130), float32, "packed"),
        (check_convolution, (2, 1000, 128), bfloat16, ""),
    ]
    if has_official():
        asked += [(check_adapter, (1, 1000, 64), float32, kind) for kind in ("", "packed")]
        asked += [(check_official, (2, 2048, 64), dtype, "") for dtype in (float32, bfloat16)]
    failures = 0
    with ProcessPoolExecutor(7, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = {
            pool.submit(
                what, shape, dtype, kind, reverse
            ): f"{what.__name__} {shape} {str(dtype)[6:]} {kind} {'reverse' if reverse else ''}"
            for reverse in (False, True)
            for what, shape, dtype, kind in asked
            if not (reverse and what is check_official)
        }
        for job in as_completed(jobs):
            tolerance = TOLERANCE[bfloat16 if "bfloat16" in jobs[job] else float32]
            try:
                found = job.result()
            except Exception as error:
                failures += 1
                print(f"{jobs[job]}: FAILED: {type(error).__name__}: {str(error)[:300]}", flush=True)
                continue
            wrong = {name: f"{value:.1e}" for name, value in found.items() if not value < tolerance}
            failures += len(wrong)
            print(f"{jobs[job]}: {'WRONG' if wrong else 'right'}, largest {max(found.values()):.1e} {wrong or ''}", flush=True)
    return failures
