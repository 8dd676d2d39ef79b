"""One graph of a whole block: what torch.compile(fullgraph=True) asks for. The graph is run by eager kernels: no C++ compiler is needed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from tests.vlm.ssm.mixers import TOLERANCE, build, tokens
from vlm.ssm.blocks import Mamba


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def results(module: nn.Module, called: nn.Module, x: torch.Tensor, **arguments: torch.Tensor) -> list[torch.Tensor]:
    """Output and gradients of a call of ``called``, which is ``module`` or made of it."""
    x = x.clone().requires_grad_()
    out = called(x, **arguments)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), [x, *module.parameters()])]


def assert_one_graph_gives_the_same(module: nn.Module, x: torch.Tensor, **arguments: torch.Tensor) -> None:
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    found = results(module, compiled, x, **arguments)  # type: ignore[arg-type]
    for one, other in zip(found, results(module, module, x, **arguments), strict=True):
        torch.testing.assert_close(one, other, atol=TOLERANCE[x.dtype], rtol=TOLERANCE[x.dtype])


@pytest.mark.parametrize("name", ["mamba", "vim", "dbm", "attention", "stack of vim"])
def test_a_mixer_is_one_graph(name: str):
    assert_one_graph_gives_the_same(build(name, torch.float32), tokens(2, 9, torch.float32))


def test_a_mixer_in_float64_is_one_graph():
    assert_one_graph_gives_the_same(build("dbm"), tokens(2, 9))


@pytest.mark.parametrize("name", ["mamba", "vim", "dbm"])
def test_a_mixer_of_packed_items_is_one_graph(name: str):
    bounds = torch.tensor([0, 4, 4, 9], dtype=torch.int32)
    assert_one_graph_gives_the_same(build(name, torch.float32), tokens(1, 9, torch.float32), cu_seqlens=bounds)


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_a_backend_that_is_named_is_one_graph(backend: str):
    torch.manual_seed(0)
    module = Mamba(12, 4, backend=backend)
    assert_one_graph_gives_the_same(module, tokens(2, 5, torch.float32))
