from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.vlm.ssm.mixers import CONFIGS, WIDTH, build, tokens
from vlm.errors import InputError
from vlm.ssm.attention import Attention
from vlm.ssm.blocks import DBM, Mamba, ViM
from vlm.ssm.stack import Layer, MixerConfig, Stack, StackConfig


class Twice(nn.Module):
    """A mixer whose result is known: twice its input."""

    def forward(self, x: Tensor, mask: Tensor | None = None, *, cu_seqlens: Tensor | None = None) -> Tensor:
        return 2 * x


@pytest.mark.parametrize(("name", "kind"), [("mamba", Mamba), ("vim", ViM), ("dbm", DBM), ("attention", Attention)])
def test_one_word_chooses_the_mixer(name: str, kind: type[nn.Module]):
    assert type(MixerConfig(name, WIDTH).build()) is kind  # type: ignore[arg-type]


@pytest.mark.parametrize(("word", "near"), [("manba", "'mamba'"), ("dmb", "'dbm'"), ("attn", "'attention'")])
def test_an_unknown_word_names_the_nearest(word: str, near: str):
    with pytest.raises(InputError, match=f"got '{word}'; did you mean {near}"):
        MixerConfig(word, WIDTH)  # type: ignore[arg-type]


def test_what_is_like_no_word_is_refused_with_the_list():
    with pytest.raises(InputError, match=r"'mamba', 'vim', 'dbm', 'attention', got 'xyz'$"):
        MixerConfig("xyz", WIDTH)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "inner"), [("mamba", 24), ("vim", 24), ("dbm", 12)])
def test_without_a_width_all_have_about_equal_weights(name: str, inner: int):
    mixer = MixerConfig(name, WIDTH).build()  # type: ignore[arg-type]
    assert not isinstance(mixer, Attention)
    assert mixer.sizes.d_inner == inner


def test_every_number_of_a_config_reaches_its_mixer():
    mixer = MixerConfig("vim", 8, d_state=3, d_conv=2, expand=3, combine="mean", backend="reference").build()
    assert isinstance(mixer, ViM)
    assert (mixer.sizes.d_state, mixer.sizes.d_conv, mixer.sizes.d_inner, mixer.combine, mixer.backend) == (3, 2, 24, "mean", "reference")
    attention = MixerConfig("attention", 8, num_heads=2, causal=True, window=5).build()
    assert isinstance(attention, Attention)
    assert (attention.num_heads, attention.causal, attention.window) == (2, True, 5)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_a_layer_adds_its_mixer_to_the_stream(norm: str):
    layer, h = Layer(WIDTH, Twice(), norm=norm), tokens(2, 3, torch.float32)  # type: ignore[arg-type]
    centred = h - h.mean(-1, keepdim=True) if norm == "layer" else h
    truth = h + 2 * centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(layer(h), truth)


def test_a_feed_forward_follows_where_it_is_asked_for():
    layer, h = Layer(WIDTH, Twice(), ffn_expand=2.5), tokens(2, 3, torch.float32)
    middle = h + 2 * nn.functional.layer_norm(h, (WIDTH,))
    assert layer.ffn is not None
    torch.testing.assert_close(layer(h), middle + layer.ffn(nn.functional.layer_norm(middle, (WIDTH,))))
    assert next(layer.ffn.parameters()).shape == (30, WIDTH)


def test_the_stream_stays_in_float32_for_bfloat16_tokens():
    stack = StackConfig(CONFIGS["dbm"], 3).build()
    streams: list[torch.dtype] = []
    for layer in stack.layers:
        layer.register_forward_hook(lambda _module, _given, h: streams.append(h.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        stack(tokens(1, 4, torch.bfloat16))
    assert streams == [torch.float32] * 3


def test_dropped_paths_leave_whole_items_as_they_were_and_keep_the_mean():
    layer, h = Layer(WIDTH, Twice(), drop_path=0.25).train(), tokens(1, 1, torch.float32).expand(4000, 3, WIDTH)
    torch.manual_seed(0)
    added = layer(h) - h
    is_dropped = (added == 0).all(dim=2)
    assert torch.equal(is_dropped.any(dim=1), is_dropped.all(dim=1))
    assert is_dropped[:, 0].float().mean().item() == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(added.mean(0), (layer.eval()(h) - h)[0], rtol=0.05, atol=0.01)


def test_packed_items_are_dropped_as_wholes():
    layer, h = Layer(WIDTH, Twice(), drop_path=0.5).train(), tokens(1, 400, torch.float32)
    torch.manual_seed(0)
    is_kept = ((layer(h, cu_seqlens=torch.arange(0, 401, 4)) - h) != 0).any(dim=2).view(100, 4)
    assert torch.equal(is_kept.any(dim=1), is_kept.all(dim=1))
    assert 25 < is_kept[:, 0].sum() < 75


def test_nothing_is_dropped_outside_training():
    stack, x = StackConfig(CONFIGS["vim"], 2, dropout=0.5, drop_path=0.5).build().eval(), tokens(2, 5, torch.float32)
    assert torch.equal(stack(x), stack(x))


def test_drop_path_rises_from_layer_to_layer():
    layers = StackConfig(CONFIGS["dbm"], 3, drop_path=0.2).build().layers
    assert [layer.drop_path for layer in layers] == pytest.approx([0, 0.1, 0.2])


def test_names_of_a_stack_are_those_of_mamba_ssm():
    names = set(build("stack of vim").state_dict())
    assert {"layers.0.mixer.A_b_log", "layers.1.norm.weight", "norm_f.weight"} <= names
    assert {name.split(".")[0] for name in names} == {"layers", "norm_f"}


def test_rates_and_norms_of_a_stack_take_no_weight_decay():
    stack = StackConfig(MixerConfig("dbm", 8), 1, ffn_expand=2).build()
    norms = {f"{name}.{kind}" for name in ("layers.0.norm", "layers.0.ffn_norm", "norm_f") for kind in ("weight", "bias")}
    assert stack.no_weight_decay() == norms | {"layers.0.mixer.A_log", "layers.0.mixer.D", "layers.0.mixer.dt_proj.bias"}


def test_a_stack_without_layers_is_its_norm():
    x = tokens(2, 3, torch.float32)
    torch.testing.assert_close(Stack(WIDTH, [])(x), nn.functional.layer_norm(x, (WIDTH,)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "lay"}, "'layer'"),
        ({"num_layers": -1}, "got -1"),
        ({"dropout": 1.0}, "dropout must be in .*got 1"),
        ({"drop_path": -0.1}, "drop_path must be in .*got -0.1"),
    ],
)
def test_a_config_that_breaks_a_rule_is_refused(changes: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        StackConfig(**({"mixer": CONFIGS["dbm"], "num_layers": 2} | changes)).build()  # type: ignore[arg-type]
