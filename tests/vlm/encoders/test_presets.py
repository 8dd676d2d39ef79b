"""What the table of presets says is what the libraries' own configurations say."""

from __future__ import annotations

import open_clip
import pytest
import torch
from transformers import SiglipConfig, SiglipModel, XLMRobertaConfig, XLMRobertaModel

from tests.vlm.encoders.hub_server import point_hub_at
from vlm.encoders.openclip import tagged_repository
from vlm.encoders.presets import PRESETS, Preset, download_plan, find_preset
from vlm.encoders.registry import DEFAULT_ENCODER
from vlm.errors import UnknownEncoder


def of_open_clip(with_text: bool) -> list[Preset]:
    found = [preset for preset in PRESETS if preset.spec.startswith("openclip:")]
    return [preset for preset in found if (preset.text_repository is None) == with_text]


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("preset", of_open_clip(with_text=True), ids=lambda preset: preset.spec)
def test_widths_parameters_and_repository_are_open_clips_own(preset: Preset) -> None:
    config = open_clip.get_model_config(preset.spec.removeprefix("openclip:").partition("/")[0])
    kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    with torch.device("meta"):
        model = kind(**config)
    assert (preset.dim, preset.parameters) == (config["embed_dim"], count(model))
    assert preset.repository == tagged_repository(preset.spec)


@pytest.mark.parametrize("preset", of_open_clip(with_text=False), ids=lambda preset: preset.spec)
def test_the_multilingual_preset_is_counted_with_its_text_model(preset: Preset) -> None:
    config = open_clip.get_model_config(preset.spec.removeprefix("openclip:").partition("/")[0])
    assert preset.text_repository == config["text_cfg"]["hf_model_name"] == "xlm-roberta-base"
    with torch.device("meta"):
        visual = open_clip.CLIP(**open_clip.get_model_config("ViT-B-32")).visual
        text = XLMRobertaModel(XLMRobertaConfig(vocab_size=250002, max_position_embeddings=514, type_vocab_size=1), add_pooling_layer=False)
    between = (768 + 512) // 2  # open_clip's projection: two layers, the mean of both widths between them
    assert preset.parameters == count(visual) + count(text) + 768 * between + between * 512 + 1
    assert (preset.dim, preset.repository) == (config["embed_dim"], tagged_repository(preset.spec))


def test_the_siglip_2_preset_is_counted_on_its_architecture() -> None:
    preset = find_preset("hf:google/siglip2-base-patch16-224")
    assert preset is not None
    text = {"vocab_size": 256000, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    with torch.device("meta"):
        model = SiglipModel(SiglipConfig(text_config=text))
    assert (preset.dim, preset.parameters) == (model.config.vision_config.hidden_size, count(model))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.spec)
def test_a_preset_is_whole(preset: Preset) -> None:
    assert preset.licence in ("MIT", "Apache-2.0")
    assert preset.good_for
    assert 4.0 * preset.parameters <= preset.download_bytes * 1.01 <= 4.6 * preset.parameters  # float32, and a tokenizer
    assert all(measured.frames_per_second > 0 and measured.machine for measured in preset.measured)
    assert find_preset(preset.spec) is preset


def test_there_is_a_multilingual_preset_for_cpu() -> None:
    assert any(preset.languages == ("*",) and "CPU" in preset.good_for for preset in PRESETS)


def test_the_plan_of_the_default_names_size_licence_and_place(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    point_hub_at("http://127.0.0.1:1", monkeypatch, tmp_path)  # type: ignore[arg-type]
    plan = download_plan(DEFAULT_ENCODER)
    assert plan is not None
    assert (plan.cached, plan.num_bytes, plan.dim, plan.licence) == (False, 605_000_000, 512, "MIT")
    assert plan.folder == tmp_path


def test_nothing_is_planned_for_what_is_never_downloaded(tmp_path: object) -> None:
    for spec in ("python:x.py:y", f"openclip:local-dir:{tmp_path}", f"hf:{tmp_path}", "pocket"):
        assert download_plan(spec) is None


def test_a_spec_outside_the_table_is_planned_without_a_size() -> None:
    plan = download_plan("openclip:ViT-H-14-quickgelu/dfn5b")
    assert plan is not None
    assert (plan.repository, plan.num_bytes, plan.dim) == ("apple/DFN5B-CLIP-ViT-H-14", 0, None)


def test_planning_an_unknown_tag_is_refused() -> None:
    with pytest.raises(UnknownEncoder, match="nonsense"):
        download_plan("openclip:ViT-B-32/nonsense")
