"""The model's own transform, as framing and normalisation: the pixels that reach the tower are the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoImageProcessor

from tests.small_models import PREPROCESS, save_open_clip
from tests.vlm.encoders.conftest import loaded
from vlm.encoders.towers import TorchEncoder
from vlm.encoders.transformers import read_preprocessing
from vlm.errors import EncoderError
from vlm.types import Framing

PICTURES = [(48, 96), (96, 64), (40, 40), (101, 57)]  # heights and widths


def picture(size: tuple[int, int]) -> Image.Image:
    rng = np.random.default_rng(size[0])
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)


def framed(image: Image.Image, framing: Framing) -> NDArray[np.uint8]:
    """What the video room does while it decodes, done with PIL."""
    method = Image.Resampling.BICUBIC if framing.interpolation == "bicubic" else Image.Resampling.BILINEAR
    width, height = framing.width, framing.height
    if framing.resize == "squash":
        return np.asarray(image.resize((width, height), method))
    ratios = (image.width / width, image.height / height)
    ratio = min(ratios) if framing.resize == "shortest" else max(ratios)
    # Both libraries cut the longer edge down when they scale by the shorter one, and round when by the longer.
    scale = int if framing.resize == "shortest" else round
    scaled = image.resize((max(scale(image.width / ratio), 1), max(scale(image.height / ratio), 1)), method)
    canvas = Image.new("RGB", (width, height), (framing.fill,) * 3)
    canvas.paste(scaled, (-round((scaled.width - width) / 2), -round((scaled.height - height) / 2)))
    if framing.resize == "longest":
        canvas = Image.new("RGB", (width, height), (framing.fill,) * 3)
        canvas.paste(scaled, ((width - scaled.width) // 2, (height - scaled.height) // 2))
    return np.asarray(canvas)


def pixels_of(encoder: TorchEncoder, images: list[Image.Image]) -> torch.Tensor:
    frames = np.stack([framed(image, encoder.preprocessing.framing) for image in images])
    return encoder.preprocess(torch.from_numpy(frames))


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_open_clip_preprocessing_is_the_models_own(resize_mode: str, interpolation: str, tmp_path: Path) -> None:
    cfg = {"resize_mode": resize_mode, "interpolation": interpolation, "fill_color": 77}
    encoder = loaded(f"openclip:local-dir:{save_open_clip(tmp_path, preprocess=cfg)}")
    transform = open_clip.image_transform(32, is_train=False, **(PREPROCESS | cfg))
    images = [picture(size) for size in PICTURES]
    theirs = torch.stack([transform(image) for image in images])
    torch.testing.assert_close(pixels_of(encoder, images), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_transformers_preprocessing_is_the_models_own(
    kind: str, hf_folder: Callable[..., Path], hf_encoder: Callable[..., TorchEncoder]
) -> None:
    processor = AutoImageProcessor.from_pretrained(hf_folder(kind), use_fast=False)
    images = [picture(size) for size in PICTURES]
    theirs = torch.cat([torch.as_tensor(np.asarray(processor(images=image).pixel_values)) for image in images])
    ours = pixels_of(hf_encoder(kind), images)
    # The odd picture may be cropped half a pixel aside: one grey level of 255 on average is allowed.
    assert float((ours - theirs).abs().mean()) * 255 * 0.26 < 1.0


def test_pixels_are_normalised_from_bytes_without_copying_the_layout(open_clip_encoder: Callable[..., TorchEncoder]) -> None:
    encoder = open_clip_encoder("clip")
    pixels = encoder.preprocess(torch.full((2, 32, 32, 3), 255, dtype=torch.uint8))
    assert pixels.shape == (2, 3, 32, 32)
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    expected = [(1 - m) / s for m, s in zip(PREPROCESS["mean"], PREPROCESS["std"], strict=True)]
    torch.testing.assert_close(pixels[0, :, 0, 0], torch.tensor(expected))


CLIP: dict[str, Any] = {
    "image_processor_type": "CLIPImageProcessor",
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
}
SIGLIP = CLIP | {"image_processor_type": "SiglipImageProcessorFast", "size": {"height": 256, "width": 192}, "crop_size": None}


def mapped(folder: Path, settings: dict[str, Any], *, nested: bool = False) -> Framing:
    name = "processor_config.json" if nested else "preprocessor_config.json"
    (folder / name).write_text(json.dumps({"image_processor": settings} if nested else settings))
    return read_preprocessing(folder, "hf:small").framing


@pytest.mark.parametrize(
    ("settings", "framing"),
    [
        (CLIP, Framing(height=224, width=224, resize="shortest", interpolation="bicubic")),
        (CLIP | {"size": 224, "crop_size": 224}, Framing(height=224, width=224, resize="shortest", interpolation="bicubic")),
        (CLIP | {"resample": 2}, Framing(height=224, width=224, resize="shortest", interpolation="bilinear")),
        (SIGLIP, Framing(height=256, width=192, resize="squash", interpolation="bicubic")),
        (SIGLIP | {"size": 384, "resample": 2}, Framing(height=384, width=384, resize="squash", interpolation="bilinear")),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_image_processors_are_mapped(settings: dict[str, Any], framing: Framing, nested: bool, tmp_path: Path) -> None:
    assert mapped(tmp_path, settings, nested=nested) == framing


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"max_num_patches": 256}, "max_num_patches"),
        ({"do_resize": False}, "no do_resize"),
        ({"size": {"shortest_edge": 256}}, "resizes to"),
        ({"do_center_crop": False}, "resizes to"),
        ({"size": {"longest_edge": 224}}, "longest_edge"),
        ({"resample": 0}, "PIL filter 0"),
        ({"rescale_factor": 1 / 127.5}, "1/255"),
        ({"image_mean": None}, "image_mean"),
    ],
)
def test_what_cannot_be_done_while_decoding_is_refused(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    settings = {key: value for key, value in (CLIP | change).items() if value is not None}
    with pytest.raises(EncoderError, match=named):
        mapped(tmp_path, settings)


def test_open_clip_preprocessing_that_no_decoder_does_is_refused(tmp_path: Path) -> None:
    folder = save_open_clip(tmp_path, preprocess={"interpolation": "lanczos"})
    with pytest.raises(EncoderError, match="lanczos"):
        loaded(f"openclip:local-dir:{folder}")
