from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vlm.ssm.conv import causal_conv1d
from vlm.ssm.native import conv as native
from vlm.ssm.native.library import INSTRUCTION_SETS, INSTRUCTIONS_VARIABLE, load

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2}


@pytest.fixture(params=["native", "torch"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test twice: with the C++ kernels, and without."""
    if request.param == "torch":
        monkeypatch.setattr(native, "can_take", lambda *_: False)
    elif not native.can_take(torch.zeros(1, 1, 1), torch.zeros(1, 1)):
        pytest.skip(f"no C++ kernels: {native.missing()}")
    return str(request.param)


def problem(b: int, t: int, d: int, K: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(t)
    x, weight, bias = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((b, t, d), (d, K), (d,)))
    low = torch.float32 if dtype == torch.bfloat16 else dtype
    return x.to(dtype), weight.to(low), bias.to(low)


def through_torch(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
    """torch's own convolution, on a flipped copy for the other direction."""
    turned = x.double().flip(1) if reverse else x.double()
    padded = functional.pad(turned.transpose(1, 2), (weight.shape[1] - 1, 0))
    out = functional.silu(functional.conv1d(padded, weight.double()[:, None], bias.double(), groups=x.shape[2])).transpose(1, 2)
    return out.flip(1) if reverse else out


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("b", "t", "d", "K"), [(2, 9, 5, 4), (1, 1, 3, 4), (3, 2, 16, 4), (1, 40, 33, 1), (2, 7, 130, 3), (2, 300, 17, 2)])
def test_it_is_torchs_convolution_with_silu(b: int, t: int, d: int, K: int, reverse: bool, dtype: torch.dtype):
    x, weight, bias = problem(b, t, d, K, dtype)
    found = causal_conv1d(x, weight, bias, reverse=reverse)
    assert found.dtype == dtype
    assert (found.double() - through_torch(x, weight, bias, reverse)).abs().max() < TOLERANCE[dtype] * 8


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("bounds", [None, [0, 20], [0, 3, 3, 4, 13, 20]])
def test_gradients_are_torchs(bounds: list[int] | None, reverse: bool, dtype: torch.dtype):
    x, weight, bias = problem(2 if bounds is None else 1, 20, 37, 4, dtype)
    pieces = [(0, 20)] if bounds is None else list(pairwise(bounds))
    scale = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def gradients(ours: bool) -> tuple[Tensor, ...]:
        leaves = [tensor.detach().requires_grad_() for tensor in (x, weight, bias)]
        if ours:
            out = causal_conv1d(*leaves, cu_seqlens=None if bounds is None else torch.tensor(bounds), reverse=reverse)
        else:
            out = torch.cat([through_torch(leaves[0][:, a:b], leaves[1], leaves[2], reverse) for a, b in pieces if a < b], dim=1)
        return out.detach(), *torch.autograd.grad((out * scale).sum(), leaves)

    for found, truth in zip(gradients(ours=True), gradients(ours=False), strict=True):
        assert found.dtype == dtype
        assert (found - truth).abs().max() < TOLERANCE[dtype] * 20  # weights sum over forty steps


# opcheck looks at the gradients of copies that are no leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_the_operator_is_one_that_compilers_can_trace():
    x, weight, bias = (tensor.requires_grad_() for tensor in problem(1, 6, 4, 4, torch.float32))
    torch.library.opcheck(torch.ops.vlm.causal_conv1d.default, (x, weight, bias, torch.tensor([0, 2, 6]), True))


def test_inputs_need_not_be_contiguous():
    x, weight, bias = problem(2, 9, 6, 4, torch.float32)
    wide = torch.zeros(2, 9, 12)
    wide[:, :, 6:] = x
    turned = x.transpose(1, 2).contiguous().transpose(1, 2)
    for other in (wide[:, :, 6:], turned):
        torch.testing.assert_close(
            causal_conv1d(other, weight, bias), causal_conv1d(x, weight, bias), rtol=0, atol=TOLERANCE[torch.float32]
        )


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3)])
def test_nothing_gives_nothing(shape: tuple[int, int, int]):
    x = torch.zeros(shape, requires_grad=True)
    out = causal_conv1d(x, torch.ones(3, 4), torch.ones(3))
    out.sum().backward()
    assert out.shape == shape


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_every_processors_kernels_agree(instructions: str, way: str, monkeypatch: pytest.MonkeyPatch):
    if way == "torch":
        return  # nothing compiled is run
    if not load().can_run(instructions):
        pytest.skip("not on this processor")
    monkeypatch.setenv(INSTRUCTIONS_VARIABLE, instructions)
    x, weight, bias = problem(2, 70, 37, 4, torch.float32)
    truth = through_torch(x, weight, bias, False)
    assert (causal_conv1d(x, weight, bias) - truth).abs().max() < 8 * TOLERANCE[torch.float32]


@pytest.mark.parametrize("reverse", [False, True])
def test_it_gives_the_same_bits_whatever_the_number_of_threads(reverse: bool):
    x, weight, bias = problem(2, 130, 70, 4, torch.float32)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            leaves = [tensor.detach().requires_grad_() for tensor in (x, weight, bias)]
            out = causal_conv1d(*leaves, reverse=reverse)
            found.append((out.detach(), *torch.autograd.grad(out.square().sum(), leaves)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
