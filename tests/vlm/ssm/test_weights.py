from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.vlm.ssm.mixers import tokens
from vlm.errors import EncoderMismatch, WeightsUnavailable
from vlm.ssm.blocks import DBM, Mamba, ViM
from vlm.ssm.stack import MixerConfig, Stack, StackConfig
from vlm.ssm.weights import load_mixer, load_stack, read_state_dict

WIDTH = 12


def published(kind: str, d: int = WIDTH, n: int = 16, expand: int = 2, K: int = 4) -> dict[str, Tensor]:
    """A mixer's tensors under the names and in the shapes of the released code, written down by hand."""
    inner, rank = expand * d, 1
    made = {"in_proj.weight": torch.randn((4 if kind == "dbm" else 2) * inner, d)}
    for suffix in ("", "_b") if kind == "vim" else ("",):
        made |= {
            f"A{suffix}_log": torch.randn(inner, n),
            f"D{suffix}": torch.randn(inner),
            f"conv1d{suffix}.weight": torch.randn(inner, 1, K),
            f"conv1d{suffix}.bias": torch.randn(inner),
            f"x_proj{suffix}.weight": torch.randn(rank + 2 * n, inner),
            f"dt_proj{suffix}.weight": torch.randn(inner, rank),
            f"dt_proj{suffix}.bias": torch.randn(inner),
        }
    return made | {"out_proj.weight": torch.randn(d, (2 if kind == "dbm" else 1) * inner)}


def published_stack(kind: str, root: str, norm_bias: bool) -> dict[str, Tensor]:
    """Two layers, their norms, and things around them that no stack of layers has."""
    made = {
        f"{root}embedding.weight": torch.randn(5, WIDTH),
        "lm_head.weight": torch.randn(5, WIDTH),
        f"{root}norm_f.weight": torch.randn(WIDTH),
    }
    for layer in range(2):
        made |= {f"{root}layers.{layer}.mixer.{name}": value for name, value in published(kind).items()}
        made[f"{root}layers.{layer}.norm.weight"] = torch.randn(WIDTH)
        if norm_bias:
            made[f"{root}layers.{layer}.norm.bias"] = torch.randn(WIDTH)
    return made | ({f"{root}norm_f.bias": torch.randn(WIDTH)} if norm_bias else {})


def stack(kind: str, norm: str = "rms", layers: int = 2) -> Stack:
    return StackConfig(MixerConfig(kind, WIDTH, expand=2), layers, norm=norm).build()  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "mixer"), [("mamba", Mamba), ("vim", ViM), ("dbm", DBM)])
def test_a_published_mixer_loads_unchanged(kind: str, mixer: type[nn.Module]):
    weights, ours = published(kind), mixer(WIDTH, expand=2)
    load_mixer(ours, weights)  # type: ignore[arg-type]
    assert all(torch.equal(value, weights[name]) for name, value in ours.state_dict().items())


def test_a_mixer_is_found_under_its_prefix():
    weights, ours = published("vim"), ViM(WIDTH)
    load_mixer(
        ours,
        {f"visual.time_mamba.{name}": value for name, value in weights.items()} | {"head.weight": torch.zeros(1)},
        "visual.time_mamba.",
    )
    assert torch.equal(ours.in_proj.weight, weights["in_proj.weight"])


@pytest.mark.parametrize(
    ("kind", "root", "norm"),
    [("mamba", "backbone.", "rms"), ("mamba", "backbone.", "layer"), ("vim", "", "rms"), ("vim", "module.", "layer"), ("dbm", "", "layer")],
)
def test_a_published_stack_loads_whatever_stands_before_its_layers(kind: str, root: str, norm: str):
    weights, ours = published_stack(kind, root, norm == "layer"), stack(kind, norm)
    left = load_stack(ours, weights)
    assert all(torch.equal(value, weights[root + name]) for name, value in ours.state_dict().items())
    assert set(left) == {f"{root}embedding.weight", "lm_head.weight"}


def test_a_stack_loads_its_own_weights():
    first, second = stack("dbm"), stack("dbm")
    assert load_stack(second, first.state_dict()) == ()
    x = tokens(1, 4, torch.float32)
    assert torch.equal(first(x), second(x))


@pytest.mark.parametrize(
    ("kind", "changes", "messages"),
    [
        ("mamba", {"D": None, "dt_proj.bias": None}, ["do not fit Mamba", "missing: D, dt_proj.bias", "Build the mixer, norm"]),
        ("mamba", {"gate.weight": torch.zeros(1)}, ["extra: gate.weight"]),
        ("mamba", {"D": torch.zeros(7)}, ["D is (7,), must be (24,)", "sizes that they were made for"]),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_every_reason(kind: str, changes: dict[str, Tensor | None], messages: list[str]):
    weights = {name: value for name, value in (published(kind) | changes).items() if value is not None}
    ours = Mamba(WIDTH)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    with pytest.raises(EncoderMismatch) as caught:
        load_mixer(ours, weights)
    assert all(message in str(caught.value) for message in messages)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_two_directions_are_not_loaded_into_one():
    with pytest.raises(EncoderMismatch, match="two directions: build a 'vim'"):
        load_mixer(Mamba(WIDTH), published("vim"))


def test_one_direction_is_not_loaded_into_two():
    with pytest.raises(EncoderMismatch, match="one set of parameters: build a 'mamba' or a 'dbm'"):
        load_mixer(ViM(WIDTH), published("mamba"))


def test_a_decomposed_mixer_is_told_from_a_causal_one_by_its_rows():
    with pytest.raises(EncoderMismatch, match=re.escape("in_proj.weight is (96, 12), must be (48, 12)")):
        load_mixer(Mamba(WIDTH), published("dbm"))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"encoder.weight": torch.zeros(1)}, "those of 0: none; the first names are encoder.weight"),
        (published_stack("mamba", "a.", False) | published_stack("mamba", "b.", False), "those of 2: a., b."),
        ({"layers.0.mixer.D": torch.zeros(1)}, "the stack has 2 layers, the weights have 1"),
        (
            {name: value for name, value in published_stack("mamba", "", False).items() if name != "layers.1.norm.weight"},
            "layers.1.norm.weight",
        ),
    ],
)
def test_other_layers_than_the_stacks_are_refused(weights: dict[str, Tensor], message: str):
    with pytest.raises(EncoderMismatch, match=re.escape(message)):
        load_stack(stack("mamba"), weights)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt", "wrapped.pth"])
def test_tensors_are_read_from_files(tmp_path: Path, name: str):
    weights, path = published("mamba"), tmp_path / name
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save({"model": weights, "epoch": 3} if "wrapped" in name else weights, path)
    found = read_state_dict(path)
    assert found.keys() == weights.keys()
    assert torch.equal(found["D"], weights["D"])


class Touch:
    """Makes a file when it is read as a pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_file_with_code_is_refused_and_the_code_is_not_run(tmp_path: Path):
    torch.save({"model": Touch(tmp_path / "touched")}, tmp_path / "evil.pt")
    with pytest.raises(WeightsUnavailable, match=r"evil\.pt"):
        read_state_dict(tmp_path / "evil.pt")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("name", ["gone.pt", "gone.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, name: str):
    with pytest.raises(WeightsUnavailable, match=name):
        read_state_dict(tmp_path / name)


def test_a_file_without_tensors_is_refused(tmp_path: Path):
    torch.save({"epoch": 3}, tmp_path / "log.pt")
    with pytest.raises(WeightsUnavailable, match="no dictionary of tensors"):
        read_state_dict(tmp_path / "log.pt")
