from __future__ import annotations

import copy
import math
import re

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.vlm.ssm.mixers import CONFIGS, TOLERANCE, WIDTH, build, naive, tokens
from vlm.errors import BackendUnavailable, InputError
from vlm.ssm.blocks import DBM, Mamba, ViM
from vlm.ssm.stack import MixerConfig, count_parameters

NAMES = {
    "in_proj.weight", "conv1d.weight", "conv1d.bias", "x_proj.weight", "dt_proj.weight", "dt_proj.bias", "A_log", "D", "out_proj.weight",
}  # fmt: skip
NAMES_B = {"conv1d_b.weight", "conv1d_b.bias", "x_proj_b.weight", "dt_proj_b.weight", "dt_proj_b.bias", "A_b_log", "D_b"}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("t", [1, 2, 9])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_mixer_computes_its_papers_formulas(name: str, t: int, dtype: torch.dtype):
    mixer, x = build(name, dtype), tokens(2, t, dtype)
    truth = np.stack([naive(mixer, item) for item in x.double().numpy()])
    assert np.abs(mixer(x).detach().double().numpy() - truth).max() < TOLERANCE[dtype]


@pytest.mark.parametrize(("kind", "names"), [(Mamba, NAMES), (ViM, NAMES | NAMES_B), (DBM, NAMES)])
def test_parameters_are_named_as_in_the_released_code(kind: type[Mamba | ViM | DBM], names: set[str]):
    assert set(kind(16).state_dict()) == names


@pytest.mark.parametrize("kind", [Mamba, ViM])
def test_shapes_are_those_of_the_released_code(kind: type[Mamba | ViM]):
    shapes = {name: tuple(value.shape) for name, value in kind(32, d_state=8, d_conv=3).state_dict().items()}
    assert shapes["in_proj.weight"] == (128, 32)
    assert shapes["conv1d.weight"] == (64, 1, 3)
    assert shapes["x_proj.weight"] == (2 + 16, 64)
    assert shapes["dt_proj.weight"] == (64, 2)
    assert shapes["A_log"] == (64, 8)
    assert shapes["out_proj.weight"] == (32, 64)


def test_the_decomposed_mixer_joins_both_directions_before_its_output_product():
    shapes = {name: tuple(value.shape) for name, value in DBM(32).state_dict().items()}
    assert shapes["in_proj.weight"] == (128, 32)
    assert shapes["out_proj.weight"] == (32, 64)


@pytest.mark.parametrize("suffix", ["", "_b"])
def test_step_sizes_start_small_in_both_directions(suffix: str):
    torch.manual_seed(0)
    bias = ViM(1024).get_submodule(f"dt_proj{suffix}").bias
    delta = functional.softplus(bias)
    # The mean of a variable that is even in its logarithm; a bias of plain nn.Linear gives 0.693.
    assert delta.mean().item() == pytest.approx((0.1 - 0.001) / math.log(100), rel=0.08)
    assert delta.min().item() >= 0.001 * 0.999
    assert delta.max().item() <= 0.1 * 1.001


@pytest.mark.parametrize("suffix", ["", "_b"])
def test_the_weights_of_step_sizes_keep_the_variance_of_their_inputs(suffix: str):
    weight = ViM(256).get_submodule(f"dt_proj{suffix}").weight
    assert weight.shape[1] == 16
    assert 0.9 * 0.25 < weight.abs().max().item() <= 0.25


@pytest.mark.parametrize("name", ["A_log", "A_b_log"])
def test_rates_start_at_one_to_n_in_every_channel(name: str):
    rates = ViM(8, d_state=3).get_parameter(name).exp()
    torch.testing.assert_close(rates, torch.tensor([1.0, 2.0, 3.0]).expand(16, 3))


def test_rates_and_skips_are_float32_whatever_the_default_type():
    torch.set_default_dtype(torch.bfloat16)
    try:
        mixer = ViM(8)
    finally:
        torch.set_default_dtype(torch.float32)
    assert mixer.in_proj.weight.dtype == torch.bfloat16
    assert {mixer.get_parameter(name).dtype for name in ("A_log", "A_b_log", "D", "D_b")} == {torch.float32}


def test_rates_skips_and_step_sizes_take_no_weight_decay():
    assert ViM(8).no_weight_decay() == {"A_log", "A_b_log", "D", "D_b", "dt_proj.bias", "dt_proj_b.bias"}
    assert copy.deepcopy(DBM(8)).no_weight_decay() == {"A_log", "D", "dt_proj.bias"}


@pytest.mark.parametrize("name", ["mamba", "attention causal"])
def test_future_tokens_do_not_change_past_ones(name: str):
    mixer, x = build(name), tokens(1, 10)
    changed = x.clone()
    changed[:, 6:] += 1
    before, after = mixer(x), mixer(changed)
    assert torch.equal(before[:, :6], after[:, :6])
    assert (before[:, 6:] != after[:, 6:]).all()


@pytest.mark.parametrize("name", ["vim", "dbm", "attention"])
@pytest.mark.parametrize("place", [0, 9])
def test_a_bidirectional_mixer_carries_every_token_everywhere(name: str, place: int):
    mixer, x = build(name), tokens(1, 10)
    changed = x.clone()
    changed[:, place] += 1
    assert (mixer(x) != mixer(changed)).any(dim=2).all()


@pytest.mark.parametrize("d_model", [32, 512])
def test_mamba_has_about_three_times_expand_times_width_squared_weights(d_model: int):
    d, n, rank, K = 2 * d_model, 16, d_model // 16, 4
    theta = d * (K + 1) + d * (rank + 2 * n) + d * (rank + 1) + d * n + d
    assert count_parameters(Mamba(d_model)) == 3 * d * d_model + theta
    assert count_parameters(ViM(d_model)) == 3 * d * d_model + 2 * theta
    assert count_parameters(DBM(d_model)) == 3 * d * d_model + theta // 2


@pytest.mark.parametrize("name", CONFIGS)
def test_bfloat16_autocast_stays_near_float32(name: str):
    mixer, x = build(name, torch.float32), tokens(2, 40, torch.float32)
    exact = mixer(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = mixer(x)
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).abs().max() < 0.05 * exact.abs().max()  # bfloat16 holds 8 bits, and three products follow each other


@pytest.mark.parametrize("name", CONFIGS)
def test_a_mixer_that_is_all_bfloat16_stays_near_float32(name: str):
    mixer, x = build(name, torch.float32), tokens(2, 40, torch.float32)
    exact, rounded = mixer(x), copy.deepcopy(mixer).bfloat16()(x.bfloat16())
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_under_autocast_come_in_the_parameters_type(name: str):
    mixer = build(name, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        mixer(tokens(1, 8, torch.float32)).float().sum().backward()
    assert {parameter.grad is not None and parameter.grad.dtype for parameter in mixer.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("shape", [(0, 5), (2, 0), (0, 0)])
def test_a_batch_of_nothing_gives_nothing(name: str, shape: tuple[int, int]):
    mixer, x = build(name), tokens(*shape).requires_grad_()
    mixed = mixer(x)
    mixed.sum().backward()
    assert mixed.shape == x.shape


@pytest.mark.parametrize("name", ["mamba", "vim", "dbm", "attention"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.zeros(2, 3, WIDTH + 1)}, f"(b, t, {WIDTH}), got (2, 3, {WIDTH + 1})"),
        ({"x": torch.zeros(2, WIDTH)}, f"got (2, {WIDTH})"),
        ({"x": torch.zeros(2, 3, WIDTH), "mask": torch.ones(2, 3)}, "got torch.float32 (2, 3)"),
        ({"x": torch.zeros(2, 3, WIDTH), "mask": torch.ones(3, 2, dtype=torch.bool)}, "got torch.bool (3, 2)"),
        ({"x": torch.zeros(2, 3, WIDTH), "cu_seqlens": torch.tensor([0, 3])}, f"(2,) and (2, 3, {WIDTH})"),
        ({"x": torch.zeros(1, 2, WIDTH), "cu_seqlens": torch.tensor([0, 2]), "mask": torch.ones(1, 2, dtype=torch.bool)}, "exclude each"),
    ],
)
def test_tokens_that_break_a_rule_are_refused(name: str, arguments: dict[str, torch.Tensor], message: str):
    with pytest.raises(InputError, match=re.escape(message)):
        build(name, torch.float32)(**arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expand": 0.3}, "0.3 * 12"),
        ({"expand": 0}, "0 * 12"),
        ({"d_state": 0}, "d_state must be at least 1, got 0"),
        ({"d_conv": 0}, "d_conv must be at least 1, got 0"),
        ({"backend": "tritonn"}, "did you mean 'triton'"),
    ],
)
@pytest.mark.parametrize("name", ["mamba", "vim", "dbm"])
def test_a_number_that_breaks_a_rule_is_refused(name: str, changes: dict[str, object], message: str):
    with pytest.raises(InputError, match=re.escape(message)):
        MixerConfig(**({"name": name, "d_model": WIDTH} | changes)).build()


def test_a_missing_backend_is_refused_when_the_block_is_built(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vlm.ssm.reference.missing", lambda: "it is broken")
    with pytest.raises(BackendUnavailable, match="'reference' is missing: it is broken"):
        Mamba(8, backend="reference")


def test_an_unknown_way_to_combine_is_refused():
    with pytest.raises(InputError, match="'product'"):
        ViM(8, combine="product")  # type: ignore[arg-type]
