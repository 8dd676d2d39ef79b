"""Learning rates, parameter groups and the average of the weights."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from vlm.train.optim import Average, learning_rate, optimisers, parameter_groups


def test_the_rate_warms_up_in_equal_steps_and_ends_at_the_floor() -> None:
    rates = [learning_rate(step, peak=1.0, warmup=4, total=14, floor=0.1) for step in range(15)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[9] == pytest.approx(0.55)  # half way down
    assert rates[14] == pytest.approx(0.1)
    assert all(one >= other for one, other in pairwise(rates[4:]))


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(2, 2), nn.LayerNorm(2)
        self.A_log, self.D = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2, 2))
        self.frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)


def test_only_matrices_are_decayed_and_frozen_parameters_are_left_out() -> None:
    module = Odd()
    decayed, plain = parameter_groups(module.named_parameters(), weight_decay=0.5)
    assert decayed == {"params": [module.linear.weight], "weight_decay": 0.5, "scale": 1.0}
    assert plain["weight_decay"] == 0.0
    assert {id(p) for p in plain["params"]} == {
        id(p) for p in (module.linear.bias, module.norm.weight, module.norm.bias, module.A_log, module.D)
    }


def test_gates_learn_at_a_rate_of_their_own() -> None:
    module = Odd()
    module.gate = nn.Parameter(torch.zeros(()))
    groups = parameter_groups(module.named_parameters(), weight_decay=0.5, gate_rate=10.0)
    assert groups[-1] == {"params": [module.gate], "weight_decay": 0.0, "scale": 10.0}
    assert sum(len(group["params"]) for group in groups) == 7


def test_muon_takes_the_maps_and_adamw_all_else() -> None:
    module = nn.ModuleDict({"embed": nn.Embedding(3, 2), "odd": Odd()})
    adamw, muon = optimisers(module.named_parameters(), rate=1e-3, weight_decay=0.5, betas=(0.9, 0.98), matrix_rate=10.0)
    assert isinstance(muon, torch.optim.Muon)
    assert [group["params"] for group in muon.param_groups] == [[module["odd"].linear.weight]]
    assert muon.param_groups[0]["scale"] == 10.0
    left = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert left == {id(p) for p in module.parameters() if p.requires_grad} - {id(module["odd"].linear.weight)}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_takes_a_kernel_for_the_matrix_of_its_inputs(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 4, 5).to(memory_format=layout)
    flat = nn.Parameter(convolution.weight.detach().clone().flatten(1))
    _, muon = optimisers(convolution.named_parameters(), rate=0.01, weight_decay=0.5, betas=(0.9, 0.98), matrix_rate=2.0)
    peer = torch.optim.Muon([flat], lr=0.01, weight_decay=0.5)
    images = torch.randn(2, 3, 8, 8)
    for _ in range(3):
        muon.zero_grad()
        assert convolution.weight.grad is None
        convolution(images).square().sum().backward()
        assert convolution.weight.grad is not None
        flat.grad = convolution.weight.grad.clone().flatten(1)
        muon.step()
        peer.step()
        # Muon multiplies in bfloat16, here with its sums in another order; a step moves a weight by about 1e-3.
        torch.testing.assert_close(convolution.weight.detach().flatten(1), flat.detach(), rtol=0, atol=1e-4)


def test_without_a_rate_for_matrices_adamw_takes_all() -> None:
    (only,) = optimisers(Odd().named_parameters(), rate=1e-3, weight_decay=0.5, betas=(0.9, 0.98))
    assert isinstance(only, torch.optim.AdamW)
    assert sum(len(group["params"]) for group in only.param_groups) == 6


def test_the_average_forgets_the_first_weights_and_then_follows_slowly() -> None:
    module = nn.Linear(1, 1, bias=False)
    average = Average(module, decay=0.5)
    value = float(module.weight.detach())
    for step, new in enumerate((4.0, 8.0, 16.0)):
        with torch.no_grad():
            module.weight.fill_(new)
        average.update(module, step)
        decay = min(0.5, (1 + step) / (10 + step))
        value = decay * value + (1 - decay) * new
    assert float(average.values["weight"]) == pytest.approx(value)
