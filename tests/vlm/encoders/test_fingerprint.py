"""Equal models have equal fingerprints wherever they lie; whatever changes a vector changes the fingerprint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.small_models import save_hf, save_open_clip
from tests.vlm.encoders.conftest import loaded
from vlm.encoders.towers import TorchEncoder


@pytest.fixture
def copied(open_clip_folder: Callable[..., Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(open_clip_folder("clip"), tmp_path / "copied"))


def edit_config(folder: Path, part: str, change: dict[str, Any]) -> None:
    path = folder / "open_clip_config.json"
    held = json.loads(path.read_text())
    held[part] |= change
    path.write_text(json.dumps(held))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    path = folder / "open_clip_model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    path.unlink()
    save_file(change(tensors), path)


def test_the_same_model_elsewhere_has_the_same_fingerprint(copied: Path, open_clip_encoder: Callable[..., TorchEncoder]) -> None:
    moved = loaded(f"openclip:local-dir:{copied}")
    assert moved.fingerprint == open_clip_encoder("clip").fingerprint
    assert moved.name != open_clip_encoder("clip").name


def test_safetensors_and_a_torch_file_of_the_same_tensors_agree(copied: Path, open_clip_encoder: Callable[..., TorchEncoder]) -> None:
    tensors = load_file(copied / "open_clip_model.safetensors")
    torch.save({"state_dict": {name: tensor.clone() for name, tensor in reversed(tensors.items())}}, copied / "open_clip_pytorch_model.bin")
    (copied / "open_clip_model.safetensors").unlink()
    assert loaded(f"openclip:local-dir:{copied}").fingerprint == open_clip_encoder("clip").fingerprint


def test_defaults_written_out_do_not_change_the_fingerprint(copied: Path, open_clip_encoder: Callable[..., TorchEncoder]) -> None:
    held = json.loads((copied / "open_clip_config.json").read_text())
    edit_config(copied, "model_cfg", {"quick_gelu": False, "vision_cfg": held["model_cfg"]["vision_cfg"] | {"mlp_ratio": 4.0}})
    assert loaded(f"openclip:local-dir:{copied}").fingerprint == open_clip_encoder("clip").fingerprint


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("model_cfg", {"quick_gelu": True}),
        ("preprocess_cfg", {"mean": [0.5, 0.5, 0.5]}),
        ("preprocess_cfg", {"resize_mode": "squash"}),
        ("preprocess_cfg", {"interpolation": "bilinear"}),
    ],
)
def test_activation_and_preprocessing_change_the_fingerprint(
    part: str, change: dict[str, Any], copied: Path, open_clip_encoder: Callable[..., TorchEncoder]
) -> None:
    edit_config(copied, part, change)
    assert loaded(f"openclip:local-dir:{copied}").fingerprint != open_clip_encoder("clip").fingerprint


def test_one_changed_weight_changes_the_fingerprint(copied: Path, open_clip_encoder: Callable[..., TorchEncoder]) -> None:
    def nudge(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors["visual.proj"][0, 0] += 1e-6
        return tensors

    edit_weights(copied, nudge)
    assert loaded(f"openclip:local-dir:{copied}").fingerprint != open_clip_encoder("clip").fingerprint


def test_two_tensors_that_change_places_change_the_fingerprint(copied: Path, open_clip_encoder: Callable[..., TorchEncoder]) -> None:
    def swap(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        first, second = (f"visual.transformer.resblocks.{block}.mlp.c_fc.weight" for block in (0, 1))
        tensors[first], tensors[second] = tensors[second], tensors[first]
        return tensors

    edit_weights(copied, swap)
    assert loaded(f"openclip:local-dir:{copied}").fingerprint != open_clip_encoder("clip").fingerprint


def test_another_tokenizer_changes_the_fingerprint(hf_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(hf_folder("clip"), tmp_path / "copied"))
    before = loaded(f"hf:{folder}").fingerprint
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["dog"], vocabulary["it"] = vocabulary["it"], vocabulary["dog"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert loaded(f"hf:{folder}").fingerprint != before


def test_transformers_fingerprint_ignores_who_wrote_the_file_and_sees_the_activation(
    tmp_path: Path, hf_folder: Callable[..., Path]
) -> None:
    folder = Path(shutil.copytree(hf_folder("clip"), tmp_path / "copied"))
    before = loaded(f"hf:{folder}").fingerprint
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_version": "4.51.0", "_name_or_path": "elsewhere"}))
    assert loaded(f"hf:{folder}").fingerprint == before
    config["vision_config"]["hidden_act"] = "quick_gelu"
    (folder / "config.json").write_text(json.dumps(config))
    assert loaded(f"hf:{folder}").fingerprint != before


def test_another_seed_is_another_model(
    tmp_path: Path, hf_encoder: Callable[..., TorchEncoder], open_clip_encoder: Callable[..., TorchEncoder]
) -> None:
    assert loaded(f"hf:{save_hf(tmp_path / 'hf', seed=1)}").fingerprint != hf_encoder("clip").fingerprint
    other = loaded(f"openclip:local-dir:{save_open_clip(tmp_path / 'open_clip', seed=1)}")
    assert other.fingerprint != open_clip_encoder("clip").fingerprint


def test_device_and_precision_do_not_change_the_fingerprint(open_clip_folder: Callable[..., Path]) -> None:
    spec = f"openclip:local-dir:{open_clip_folder('clip')}"
    assert loaded(spec, precision="auto").fingerprint == loaded(spec, precision="float32").fingerprint
