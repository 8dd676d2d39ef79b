"""The vectors are the library's own: same weights, same pixels, same texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from tests.small_models import HFKind, OpenClipKind, build_open_clip, read_config
from tests.vlm.encoders.conftest import TEXTS, loaded
from vlm.encoders.towers import TorchEncoder

OPEN_CLIP_KINDS = get_args(OpenClipKind)
HF_KINDS = get_args(HFKind)
ATOL = 1e-5  # float32, sums in another order


def reference_open_clip(folder: Path) -> Any:
    """The model as open_clip builds it, the saved weights in it."""
    model = build_open_clip(open_clip, read_config(folder)["model_cfg"], folder)
    model.load_state_dict(load_file(folder / "open_clip_model.safetensors"))
    return model.eval()


def unit(vectors: torch.Tensor) -> NDArray[np.float32]:
    return torch.nn.functional.normalize(vectors.float(), dim=-1).numpy()


def apart(vectors: NDArray[np.float32]) -> float:
    """The largest cosine between two different rows: a comparison of vectors that are all alike proves nothing."""
    return float(np.max((vectors @ vectors.T)[~np.eye(len(vectors), dtype=bool)]))


@pytest.mark.parametrize("kind", OPEN_CLIP_KINDS)
@torch.no_grad()
def test_open_clip_frames_equal_encode_image(
    kind: OpenClipKind, open_clip_folder: Callable[..., Path], open_clip_encoder: Callable[..., TorchEncoder], frames: NDArray[np.uint8]
) -> None:
    model = reference_open_clip(open_clip_folder(kind))
    transform = open_clip.image_transform(
        32, is_train=False, **{k: read_config(open_clip_folder(kind))["preprocess_cfg"][k] for k in ("mean", "std")}
    )
    theirs = model.encode_image(torch.stack([transform(Image.fromarray(frame)) for frame in frames]))
    ours = open_clip_encoder(kind).encode_frames(frames)
    assert ours.dtype == np.float32
    assert apart(ours) < 0.99
    np.testing.assert_allclose(ours, unit(theirs), atol=ATOL)


@pytest.mark.parametrize("kind", OPEN_CLIP_KINDS)
@torch.no_grad()
def test_open_clip_texts_equal_encode_text(
    kind: OpenClipKind, open_clip_folder: Callable[..., Path], open_clip_encoder: Callable[..., TorchEncoder]
) -> None:
    folder = open_clip_folder(kind)
    model = reference_open_clip(folder)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}") if kind != "borrowed-text" else open_clip_encoder(kind).tokenize
    theirs = model.encode_text(tokenizer(TEXTS))
    ours = open_clip_encoder(kind).encode_text(TEXTS)
    assert apart(ours) < 0.999
    np.testing.assert_allclose(ours, unit(theirs), atol=ATOL)


@pytest.mark.parametrize("kind", HF_KINDS)
@torch.no_grad()
def test_transformers_frames_equal_get_image_features(
    kind: HFKind, hf_folder: Callable[..., Path], hf_encoder: Callable[..., TorchEncoder], frames: NDArray[np.uint8]
) -> None:
    model = AutoModel.from_pretrained(hf_folder(kind)).eval()
    processor = AutoImageProcessor.from_pretrained(hf_folder(kind))
    pixels = processor(images=[Image.fromarray(frame) for frame in frames], return_tensors="pt").pixel_values
    ours = hf_encoder(kind).encode_frames(frames)
    assert apart(ours) < 0.99
    np.testing.assert_allclose(ours, unit(pooled(model.get_image_features(pixel_values=pixels))), atol=ATOL)


@pytest.mark.parametrize("kind", HF_KINDS)
@torch.no_grad()
def test_transformers_texts_equal_get_text_features(
    kind: HFKind, hf_folder: Callable[..., Path], hf_encoder: Callable[..., TorchEncoder]
) -> None:
    model = AutoModel.from_pretrained(hf_folder(kind)).eval()
    tokenizer = AutoTokenizer.from_pretrained(hf_folder(kind))
    tokens = tokenizer(TEXTS, padding="max_length", max_length=16, truncation=True, return_tensors="pt").input_ids
    ours = hf_encoder(kind).encode_text(TEXTS)
    assert apart(ours) < 0.999
    np.testing.assert_allclose(ours, unit(pooled(model.get_text_features(input_ids=tokens))), atol=ATOL)


def pooled(output: Any) -> torch.Tensor:
    """transformers gave the tensor itself up to version 4."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def test_activations_are_told_apart_by_these_models(open_clip_encoder: Callable[..., TorchEncoder], frames: NDArray[np.uint8]) -> None:
    """The two are alike: what these tests would miss is a hundredth of their difference."""
    gelu, quick = (open_clip_encoder(kind).encode_frames(frames) for kind in ("clip", "clip-quickgelu"))
    assert np.max(np.abs(gelu - quick)) > 100 * ATOL


def test_a_tower_that_runs_itself_while_it_is_built_is_loaded(
    open_clip_folder: Callable[..., Path],
    open_clip_encoder: Callable[..., TorchEncoder],
    monkeypatch: pytest.MonkeyPatch,
    frames: NDArray[np.uint8],
) -> None:
    class Probing(open_clip.CLIP):  # type: ignore[misc]
        def __init__(self, **config: Any) -> None:
            super().__init__(**config)
            self.width = self.visual(torch.zeros(1, 3, 32, 32)).shape[1]

    monkeypatch.setattr(open_clip, "CLIP", Probing)
    encoder = loaded(f"openclip:local-dir:{open_clip_folder('clip')}")
    np.testing.assert_array_equal(encoder.encode_frames(frames), open_clip_encoder("clip").encode_frames(frames))


def test_half_precision_weights_are_run_in_float32(
    open_clip_folder: Callable[..., Path], tmp_path: Path, frames: NDArray[np.uint8]
) -> None:
    folder = open_clip_folder("clip")
    halves = {name: tensor.half() for name, tensor in load_file(folder / "open_clip_model.safetensors").items()}
    from safetensors.torch import save_file

    save_file(halves, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_bytes((folder / "open_clip_config.json").read_bytes())
    encoder = loaded(f"openclip:local-dir:{tmp_path}")
    full = loaded(f"openclip:local-dir:{folder}")
    assert next(encoder.text.parameters()).dtype == torch.float32
    np.testing.assert_allclose(np.sum(encoder.encode_frames(frames) * full.encode_frames(frames), axis=1), 1, atol=1e-4)


def test_no_frames_and_no_texts_give_no_vectors(open_clip_encoder: Callable[..., TorchEncoder]) -> None:
    encoder = open_clip_encoder("clip")
    assert encoder.encode_frames(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0, encoder.dim)
    assert encoder.encode_text([]).shape == (0, encoder.dim)
    assert encoder.encode_text_tokens([]).vectors.shape == (0, 0, encoder.dim)


def test_many_rows_give_the_vectors_of_single_rows(open_clip_encoder: Callable[..., TorchEncoder], frames: NDArray[np.uint8]) -> None:
    encoder = open_clip_encoder("clip")
    many = np.tile(frames, (6, 1, 1, 1))
    singly = np.concatenate([encoder.encode_frames(frame[None]) for frame in frames])
    np.testing.assert_allclose(encoder.encode_frames(many), np.tile(singly, (6, 1)), atol=ATOL)
    texts = TEXTS * 40
    np.testing.assert_allclose(encoder.encode_text(texts), np.tile(encoder.encode_text(TEXTS), (40, 1)), atol=ATOL)
