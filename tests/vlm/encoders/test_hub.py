"""Weights from a hub: downloaded once, kept, and missed with a clear error within seconds. The hub is a server of this test."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import open_clip
import pytest

from tests.small_models import PREPROCESS, read_config
from tests.vlm.encoders.conftest import loaded
from tests.vlm.encoders.hub_server import hub_of, point_hub_at
from vlm.encoders.presets import download_plan
from vlm.encoders.registry import DEFAULT_ENCODER, load_encoder
from vlm.encoders.towers import TorchEncoder
from vlm.errors import UnknownEncoder, WeightsUnavailable

Folder = Callable[..., Path]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def add_tag(monkeypatch: pytest.MonkeyPatch, folder: Path, **extra: Any) -> None:
    """Tells open_clip of the model "small" with the tag "somewhere", whose weights lie in the repository lab/small."""
    entry = {"url": "", "hf_hub": "lab/small/"} | {k: v for k, v in PREPROCESS.items() if k != "fill_color"} | extra
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small", read_config(folder)["model_cfg"])
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "small", {"somewhere": entry})


def test_a_hub_repository_of_open_clip_is_downloaded_once(
    open_clip_folder: Folder, open_clip_encoder: Callable[..., TorchEncoder], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    spec = "openclip:hf-hub:lab/small"
    with hub_of({"lab/small": open_clip_folder("clip")}, monkeypatch, cache) as requested:
        plan = download_plan(spec)
        assert plan is not None
        assert (plan.cached, plan.folder, plan.repository) == (False, cache, "lab/small")
        encoder = loaded(spec)
        assert requested
    assert encoder.fingerprint == open_clip_encoder("clip").fingerprint
    assert encoder.name == spec
    again = download_plan(spec)
    assert again is not None
    assert again.cached
    assert loaded(spec).fingerprint == encoder.fingerprint  # the server is gone


@pytest.mark.parametrize("kind", ["custom-causal", "siglip"])
def test_a_tokenizer_of_the_repository_comes_along(
    kind: str, open_clip_folder: Folder, open_clip_encoder: Callable[..., TorchEncoder], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    with hub_of({"lab/small": open_clip_folder(kind)}, monkeypatch, cache):
        assert loaded("openclip:hf-hub:lab/small").fingerprint == open_clip_encoder(kind).fingerprint


def test_a_borrowed_text_model_comes_from_its_own_repository(
    open_clip_folder: Folder, open_clip_encoder: Callable[..., TorchEncoder], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    folder = open_clip_folder("borrowed-text")
    add_tag(monkeypatch, folder)
    text = open_clip.factory._MODEL_CONFIGS["small"]["text_cfg"]
    monkeypatch.setitem(text, "hf_model_name", "lab/text")
    monkeypatch.setitem(text, "hf_tokenizer_name", "lab/text")
    with hub_of({"lab/small": folder, "lab/text": folder / "text"}, monkeypatch, cache):
        encoder = loaded("openclip:small/somewhere")
    assert encoder.fingerprint == open_clip_encoder("borrowed-text").fingerprint
    assert loaded("openclip:small/somewhere").fingerprint == encoder.fingerprint  # from the cache alone


@pytest.mark.parametrize("quick_gelu", [True, False])
@pytest.mark.parametrize("model_says", ["clip", "clip-quickgelu"])
def test_the_tag_decides_the_activation_not_the_model_name(
    model_says: str,
    quick_gelu: bool,
    open_clip_folder: Folder,
    open_clip_encoder: Callable[..., TorchEncoder],
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
) -> None:
    """open_clip#771: weights trained with QuickGELU and run with GELU give poor vectors without a word."""
    folder = open_clip_folder(model_says)
    add_tag(monkeypatch, folder, quick_gelu=quick_gelu)
    with hub_of({"lab/small": folder}, monkeypatch, cache):
        encoder = loaded("openclip:small/somewhere")
    frames = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    same = open_clip_encoder("clip-quickgelu" if quick_gelu else "clip")
    assert encoder.fingerprint == same.fingerprint
    np.testing.assert_allclose(encoder.encode_frames(frames), same.encode_frames(frames), atol=1e-5)


def test_a_transformers_repository_is_downloaded_once(
    hf_folder: Folder, hf_encoder: Callable[..., TorchEncoder], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    with hub_of({"lab/dual": hf_folder("siglip")}, monkeypatch, cache):
        encoder = loaded("hf:lab/dual")
    assert encoder.fingerprint == hf_encoder("siglip").fingerprint
    assert loaded("hf:lab/dual").name == "hf:lab/dual"


def test_no_connection_is_told_within_seconds_with_every_way_out(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    point_hub_at("http://127.0.0.1:1", monkeypatch, cache)
    begin = time.monotonic()
    with pytest.raises(WeightsUnavailable) as caught:
        load_encoder(DEFAULT_ENCODER)
    assert time.monotonic() - begin < 15
    for named in (
        DEFAULT_ENCODER,
        str(cache),
        "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
        "no connection to 127.0.0.1",
        "HF_HOME",
        "openclip:local-dir:",
    ):
        assert named in str(caught.value)


@pytest.mark.parametrize(
    "spec", ["openclip:ViT-B-16/datacomp_xl_s13b_b90k", "hf:google/siglip2-base-patch16-224", "openclip:hf-hub:lab/small"]
)
def test_offline_asks_nobody(spec: str, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    with hub_of({}, monkeypatch, cache) as requested:
        with pytest.raises(WeightsUnavailable, match="asked to stay offline"):
            load_encoder(spec, offline=True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(WeightsUnavailable, match="HF_HUB_OFFLINE is set"):
            load_encoder(spec)
    assert requested == []


@pytest.mark.parametrize("spec", ["hf:lab/nothing", "openclip:hf-hub:lab/nothing"])
def test_a_repository_that_does_not_exist_is_named(spec: str, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    with hub_of({}, monkeypatch, cache), pytest.raises(WeightsUnavailable, match="'lab/nothing'"):
        load_encoder(spec)


def test_a_repository_without_weights_says_what_was_looked_for(
    open_clip_folder: Folder, monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "bare").mkdir()
    shutil.copy(open_clip_folder("clip") / "open_clip_config.json", tmp_path / "bare")
    with (
        hub_of({"lab/bare": tmp_path / "bare"}, monkeypatch, cache),
        pytest.raises(WeightsUnavailable, match=r"none of open_clip_model\.safetensors"),
    ):
        load_encoder("openclip:hf-hub:lab/bare")


def test_a_tag_that_is_only_a_program_is_refused(open_clip_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    add_tag(monkeypatch, open_clip_folder("clip"), hf_hub="", url="https://example.invalid/small.pt")
    with pytest.raises(WeightsUnavailable, match=r"example\.invalid"):
        load_encoder("openclip:small/somewhere")


@pytest.mark.parametrize("spec", ["openclip:ViT-B-32/datacomp", "openclip:ViT-B-32", "openclip:Vit-B-32/datacomp_xl_s13b_b90k"])
def test_an_unknown_tag_names_the_nearest(spec: str) -> None:
    with pytest.raises(UnknownEncoder, match="openclip:ViT-B-32/") as caught:
        load_encoder(spec)
    assert repr(spec) in str(caught.value)
