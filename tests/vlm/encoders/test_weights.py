"""Files that are missing, damaged, or more than tensors: refused by name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlm.encoders.registry import load_encoder
from vlm.encoders.weights import read_tensors
from vlm.errors import EncoderError, WeightsUnavailable

Folder = Callable[..., Path]


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harm-was-done",)


@pytest.fixture
def model(open_clip_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(open_clip_folder("clip"), tmp_path / "model"))


@pytest.fixture
def hf_model(hf_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(hf_folder("clip"), tmp_path / "model"))


def test_a_pickle_with_code_is_refused_and_not_run(model: Path) -> None:
    (model / "open_clip_model.safetensors").unlink()
    torch.save({"state_dict": Harmful()}, model / "open_clip_pytorch_model.bin")
    with pytest.raises(WeightsUnavailable, match=r"open_clip_pytorch_model\.bin.*could run code"):
        load_encoder(f"openclip:local-dir:{model}")
    assert not Path("harm-was-done").exists()


def test_a_pickle_with_code_in_a_transformers_folder_is_refused_and_not_run(hf_model: Path) -> None:
    (hf_model / "model.safetensors").unlink()
    torch.save({"weight": Harmful()}, hf_model / "pytorch_model.bin")
    with pytest.raises(WeightsUnavailable, match=r"pytorch_model\.bin.*could run code"):
        load_encoder(f"hf:{hf_model}")
    assert not Path("harm-was-done").exists()


def test_code_beside_a_model_is_not_run(hf_model: Path) -> None:
    (hf_model / "modeling_own.py").write_text("import os\nos.mkdir('harm-was-done')\nclass Own: pass\n")
    config = json.loads((hf_model / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "modeling_own.Own", "AutoModel": "modeling_own.Own"}}
    (hf_model / "config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match="cannot load"):
        load_encoder(f"hf:{hf_model}")
    assert not Path("harm-was-done").exists()


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5])
@pytest.mark.parametrize("kind", ["openclip", "hf"])
def test_half_a_safetensors_file_is_named(kind: str, keep: float, open_clip_folder: Folder, hf_folder: Folder, tmp_path: Path) -> None:
    source, name = (
        (open_clip_folder("clip"), "open_clip_model.safetensors") if kind == "openclip" else (hf_folder("clip"), "model.safetensors")
    )
    folder = Path(shutil.copytree(source, tmp_path / "model"))
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(keep * len(whole)) if keep < 1 and keep else int(keep)])
    with pytest.raises(WeightsUnavailable, match=name):
        load_encoder(f"hf:{folder}" if kind == "hf" else f"openclip:local-dir:{folder}")


def test_half_a_torch_file_is_named(model: Path) -> None:
    tensors = load_file(model / "open_clip_model.safetensors")
    file = model / "open_clip_pytorch_model.bin"
    torch.save(tensors, file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(WeightsUnavailable, match=r"open_clip_pytorch_model\.bin"):
        read_tensors(file)


def test_weights_of_another_architecture_are_refused(model: Path) -> None:
    tensors = dict(load_file(model / "open_clip_model.safetensors"))
    del tensors["visual.proj"]
    save_file(tensors, model / "open_clip_model.safetensors")
    with pytest.raises(WeightsUnavailable, match=r"do not fit.*visual\.proj"):
        load_encoder(f"openclip:local-dir:{model}")


def test_the_copy_for_transformers_in_a_repository_is_passed_over(model: Path) -> None:
    before = load_encoder(f"openclip:local-dir:{model}").fingerprint
    torch.save(dict(load_file(model / "open_clip_model.safetensors")), model / "open_clip_pytorch_model.bin")
    (model / "open_clip_model.safetensors").unlink()
    save_file({"text_model.embeddings.weight": torch.zeros(2)}, model / "model.safetensors")
    assert load_encoder(f"openclip:local-dir:{model}").fingerprint == before


def test_a_missing_tensor_is_not_filled_with_random_numbers(hf_model: Path) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(hf_model / "model.safetensors").items()}
    del tensors["text_projection.weight"]
    save_file(tensors, hf_model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsUnavailable, match=r"text_projection\.weight"):
        load_encoder(f"hf:{hf_model}")


def test_a_model_without_a_text_side_is_refused(hf_model: Path) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    vision = CLIPVisionModel(
        CLIPVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=32)
    )
    vision.save_pretrained(hf_model)
    with pytest.raises(EncoderError, match="one space"):
        load_encoder(f"hf:{hf_model}")


def test_a_dual_encoder_that_pools_in_another_way_is_refused(hf_model: Path) -> None:
    from transformers import ChineseCLIPConfig, ChineseCLIPModel

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = sizes | {"vocab_size": 64, "max_position_embeddings": 16}
    config = ChineseCLIPConfig(text_config=text, vision_config=sizes | {"image_size": 32, "patch_size": 8}, projection_dim=16)
    ChineseCLIPModel(config).save_pretrained(hf_model)
    with pytest.raises(EncoderError, match=r"ChineseCLIPModel.*plug-in"):
        load_encoder(f"hf:{hf_model}")


@pytest.mark.parametrize("spec", ["openclip:local-dir:/no/such/folder", "hf:/no/such/folder", "hf:./nothing"])
def test_a_folder_that_is_not_there_is_named(spec: str) -> None:
    with pytest.raises(WeightsUnavailable, match=spec.rpartition(":")[2].removeprefix("./")):
        load_encoder(spec)


def test_a_folder_without_weights_or_with_a_broken_config_says_what_it_needs(model: Path) -> None:
    (model / "open_clip_model.safetensors").unlink()
    with pytest.raises(WeightsUnavailable, match=r"open_clip_model\.safetensors"):
        load_encoder(f"openclip:local-dir:{model}")
    (model / "open_clip_config.json").write_text("{")
    with pytest.raises(WeightsUnavailable, match=r"open_clip_config\.json.*no JSON"):
        load_encoder(f"openclip:local-dir:{model}")
    (model / "open_clip_config.json").write_text("{}")
    with pytest.raises(WeightsUnavailable, match="model_cfg"):
        load_encoder(f"openclip:local-dir:{model}")


def test_a_folder_spec_is_remembered_absolutely(model: Path, hf_folder: Folder) -> None:
    assert load_encoder("openclip:local-dir:model").name == f"openclip:local-dir:{model}"
    shutil.copytree(hf_folder("clip"), "dual")
    assert load_encoder("hf:dual").name == f"hf:{Path('dual').absolute()}"
