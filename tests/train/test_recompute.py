"""Layers that are computed again give the same numbers, and keep less."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from vlm.models.adapter import AdapterConfig, TemporalAdapter
from vlm.ssm.stack import MixerConfig, StackConfig
from vlm.train.recompute import recomputing_module, stacked_layers

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def stack() -> nn.Module:
    torch.manual_seed(0)
    return StackConfig(MixerConfig("dbm", 8), num_layers=3, dropout=0.2, ffn_expand=2).build()


def adapter() -> nn.Module:
    torch.manual_seed(0)
    made = TemporalAdapter(AdapterConfig(dim=8, mixer="attention", num_layers=2))
    for layer in made.layers:
        nn.init.constant_(layer.gate, 0.5)
    return made


def result(module: nn.Module, x: Tensor) -> Tensor:
    if isinstance(module, TemporalAdapter):
        return module(x, torch.arange(x.shape[1]).expand(x.shape[:2]).double()).pooled.square().sum() + x.sum()
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    mask[0, 3:] = False
    found: Tensor = module(x, mask).square().sum()
    return found


@pytest.mark.parametrize("make", [stack, adapter])
def test_values_gradients_and_random_numbers_are_the_same(make: object) -> None:
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
    found = []
    for is_recomputed in (False, True):
        module = make().train()  # type: ignore[operator]
        torch.manual_seed(7)
        with recomputing_module(module) if is_recomputed else nullcontext():
            loss = result(module, x)
            loss.backward()
        grads = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        found.append((loss.detach(), grads, torch.rand(1)))
    (loss, grads, drawn), (other_loss, other_grads, other_drawn) = found
    assert torch.equal(drawn, other_drawn)
    torch.testing.assert_close(loss, other_loss, rtol=0, atol=1e-6)
    assert grads.keys() == other_grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, other_grads[name], rtol=0, atol=1e-6, msg=name)


def kept_bytes(module: nn.Module, x: Tensor) -> int:
    kept: dict[int, int] = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.update({t.data_ptr(): t.nbytes}) or t, lambda t: t):
        result(module, x)
    return sum(kept.values())


def test_less_is_kept_for_the_backward_pass() -> None:
    x = torch.randn(2, 64, 8)
    module = stack()
    plain = kept_bytes(module, x)
    with recomputing_module(module):
        assert kept_bytes(module, x) < plain / 2
    assert kept_bytes(module, x) == plain


def test_afterwards_layers_are_as_they_were() -> None:
    module = stack()
    with recomputing_module(module):
        assert all("forward" in vars(layer) for layer in stacked_layers(module))
    assert not any("forward" in vars(layer) for layer in stacked_layers(module))
    assert len(stacked_layers(module)) == 3
