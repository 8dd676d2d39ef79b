"""Learning rates, parameter groups and the average of the weights."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from vlm.train.optim import Average, Muon, learning_rate, optimisers, orthogonal, parameter_groups


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
    assert isinstance(muon, Muon)
    assert [group["params"] for group in muon.param_groups] == [[module["odd"].linear.weight]]
    assert muon.param_groups[0]["scale"] == 10.0
    left = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert left == {id(p) for p in module.parameters() if p.requires_grad} - {id(module["odd"].linear.weight)}


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(5, 3, bias=False), nn.Conv1d(3, 4, 5), nn.Conv2d(3, 4, 5), nn.Conv2d(3, 4, 5).to(memory_format=torch.channels_last)],
    ids=["matrix", "kernel of a row", "kernel of an image", "channels last"],
)
def test_muon_steps_as_torchs_own_on_the_matrix_of_a_map(layer: nn.Module) -> None:
    torch.manual_seed(0)
    flat = nn.Parameter(layer.weight.detach().clone().flatten(1))
    muon = optimisers(layer.named_parameters(), rate=0.01, weight_decay=0.5, betas=(0.9, 0.98), matrix_rate=2.0)[-1]
    peer = torch.optim.Muon([flat], lr=0.01, weight_decay=0.5)
    for _ in range(3):
        layer.weight.grad = torch.randn_like(layer.weight)
        flat.grad = layer.weight.grad.clone().flatten(1)
        muon.step()
        peer.step()
        # torch's multiplies in bfloat16; a step moves a weight by about 1e-3.
        torch.testing.assert_close(layer.weight.detach().flatten(1), flat.detach(), rtol=0, atol=2e-4)


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_a_matrix_is_made_nearly_orthogonal(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    made = orthogonal(matrix)
    assert ((torch.linalg.svdvals(made) > 0.6) & (torch.linalg.svdvals(made) < 1.3)).all()
    # The directions stay: between the singular vectors of the matrix it is diagonal.
    between = left.mT @ made @ right.mT
    torch.testing.assert_close(between, between.diagonal().diag(), rtol=0, atol=1e-9)


def test_kernels_that_take_each_channel_by_itself_are_no_maps() -> None:
    (only,) = optimisers(
        nn.Conv1d(4, 4, 3, groups=4, bias=False).named_parameters(), rate=1e-3, weight_decay=0.5, betas=(0.9, 0.98), matrix_rate=2.0
    )
    assert isinstance(only, torch.optim.AdamW)


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
