"""Dual encoders of transformers: CLIP, SigLIP, SigLIP 2 and others with one fixed input size.

Models are loaded from a folder (a hub snapshot is one), with safetensors or pure tensors, and never with code of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging

from vlm.encoders.base import Preprocessing
from vlm.encoders.codec import hub_codec
from vlm.encoders.fingerprint import fingerprint, stable_config
from vlm.encoders.hub import HubModel, transformers_folder
from vlm.encoders.towers import TorchEncoder, Towers
from vlm.encoders.weights import digest_of_tensors, read_json, read_tensors, sharded_files
from vlm.errors import EncoderError, WeightsUnavailable
from vlm.types import Framing, Interpolation

SMALL_FILES = ("*.json", "*.txt", "*.model")
# Text towers in which a token sees only what stands before it.
CAUSAL = frozenset({"clip", "metaclip_2"})
MULTILINGUAL_VOCABULARY = 120_000
# SigLIP 2 was trained on lower case; its published tokenizer files do not say so.
GEMMA_VOCABULARY = 256_000
RESAMPLE: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}


def load_transformers(spec: str, *, device: str = "auto", precision: str = "auto", offline: bool = False) -> TorchEncoder:
    """The encoder that ``hf:ORG/NAME`` or ``hf:FOLDER`` names.

    Raises:
        WeightsUnavailable: its files are not to be had, damaged, or unsafe.
        EncoderError: it is no dual encoder, or its preprocessing cannot be done while decoding.
    """
    folder, name = transformers_folder(HubModel(spec, spec.removeprefix("hf:")), SMALL_FILES, offline=offline)
    config_json = read_json(folder / "config.json")
    preprocessing = read_preprocessing(folder, spec)
    weights = digest_of_tensors(read_tensors(path) for path in sharded_files(folder))
    model = _load(folder, spec)
    text_config = getattr(model.config, "text_config", model.config)
    tokenizer = _Tokenizer(folder, text_config, spec)
    vision, text = _Vision(model), _Text(model, tokenizer.pad_id)
    dim = _checked_width(model, vision, text, tokenizer(["a"]), preprocessing.framing, spec)
    return TorchEncoder(
        Towers(vision, _blocks(model), text, tokenizer, tokenizer.count, tokenizer.context, tokenizer.codec),
        name=name,
        fingerprint=fingerprint(weights=weights, architecture=stable_config(config_json), preprocessing=preprocessing, tokenize=tokenizer),
        dim=dim,
        preprocessing=preprocessing,
        languages=("*",) if text_config.vocab_size >= MULTILINGUAL_VOCABULARY else ("en",),
        device=device,
        precision=precision,
    )


# Files


def _load(folder: Path, spec: str) -> Any:
    with _no_progress_bar():
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            model, found = AutoModel.from_pretrained(
                folder, config=config, trust_remote_code=False, local_files_only=True, weights_only=True, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise EncoderError(f"transformers cannot load {spec!r} from {str(folder)!r}: {error}") from error
    if not all(hasattr(model, part) for part in ("get_image_features", "get_text_features", "vision_model", "text_model")):
        raise EncoderError(f"encoder {spec!r} is a {type(model).__name__}, which does not put pictures and texts in one space")
    # transformers fills these with random numbers and goes on.
    absent = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})
    if absent:
        raise WeightsUnavailable(f"the weights of {spec!r} in {str(folder)!r} lack {len(absent)} tensors, {absent[0]!r} among them")
    return model.float().eval()


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


# Preprocessing


def read_preprocessing(folder: Path, spec: str) -> Preprocessing:
    """The image processor of ``folder`` as framing and normalisation.

    Raises:
        EncoderError: it does what cannot be done while decoding.
    """
    given = _processor(folder)
    kind = str(given.get("image_processor_type") or given.get("feature_extractor_type") or "")
    squash_by_default = "siglip" in kind.lower()
    size, crop = given.get("size", 224), given.get("crop_size")

    def refuse(reason: str) -> EncoderError:
        return EncoderError(f"encoder {spec!r}: its image processor {kind or 'without a name'} {reason}; use one with a fixed input size")

    if "max_num_patches" in given or given.get("do_resize") is False or given.get("do_pad"):
        raise refuse("keeps the size of each picture (max_num_patches, no do_resize, or do_pad)")
    if given.get("do_rescale") is False or abs(float(given.get("rescale_factor", 1 / 255)) * 255 - 1) > 1e-3:
        raise refuse("does not rescale pixels by 1/255")
    resample = int(given.get("resample", 3))
    if resample not in RESAMPLE:
        raise refuse(f"resamples with PIL filter {resample}, which is neither bilinear (2) nor bicubic (3)")
    cropped = _height_width(crop) if given.get("do_center_crop", not squash_by_default) and crop is not None else None
    if isinstance(size, int):
        size = {"height": size, "width": size} if squash_by_default else {"shortest_edge": size}
    if "shortest_edge" in size and cropped == (size["shortest_edge"],) * 2:
        framing = Framing(height=cropped[0], width=cropped[1], resize="shortest", interpolation=RESAMPLE[resample])
    elif "height" in size and "width" in size and cropped in (None, _height_width(size)):
        framing = Framing(height=size["height"], width=size["width"], resize="squash", interpolation=RESAMPLE[resample])
    else:
        raise refuse(f"resizes to {size} and crops to {crop}")
    if given.get("do_normalize") is False:
        return Preprocessing(framing)
    if "image_mean" not in given or "image_std" not in given:
        raise refuse("names no image_mean and image_std")
    return Preprocessing(framing, tuple(map(float, given["image_mean"])), tuple(map(float, given["image_std"])))  # type: ignore[arg-type]


def _processor(folder: Path) -> dict[str, Any]:
    """The image processor's settings; newer versions of transformers nest them in the processor's file."""
    if (folder / "preprocessor_config.json").is_file():
        return read_json(folder / "preprocessor_config.json")
    nested = read_json(folder / "processor_config.json").get("image_processor")
    if not isinstance(nested, dict):
        raise WeightsUnavailable(
            f"folder {str(folder)!r} has no preprocessor_config.json, nor image_processor in its processor_config.json"
        )
    return nested


def _height_width(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    if isinstance(size, dict) and {"height", "width"} <= size.keys():
        return int(size["height"]), int(size["width"])
    return None


# Towers


class _Tokenizer:
    """Texts to token ids (n, context), padded as the model was trained."""

    def __init__(self, folder: Path, text_config: Any, spec: str) -> None:
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
            raise WeightsUnavailable(f"the tokenizer of {spec!r} in {str(folder)!r} cannot be loaded: {error}") from error
        self.context = int(text_config.max_position_embeddings)
        self.pad_id = int(self._tokenizer.pad_token_id or 0)
        self.codec = hub_codec(self._tokenizer)
        self._lower = text_config.vocab_size == GEMMA_VOCABULARY

    def __call__(self, texts: Sequence[str]) -> Tensor:
        ids = self._tokenizer(
            self.cleaned(texts), padding="max_length", truncation=True, max_length=self.context, padding_side="right", return_tensors="pt"
        ).input_ids
        return cast(Tensor, ids)

    def count(self, text: str) -> int:
        """Tokens of ``text`` before it is cut, special ones included."""
        return len(self._tokenizer(self.cleaned([text])[0], verbose=False).input_ids)

    def cleaned(self, texts: Sequence[str]) -> list[str]:
        """``texts`` as the tokenizer is given them."""
        return [text.lower() for text in texts] if self._lower else list(texts)


class _Vision(nn.Module):
    """Pixels (n, 3, h, w) to projected vectors (n, d)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision_model = model.vision_model
        self.visual_projection = getattr(model, "visual_projection", None)

    def forward(self, pixels: Tensor) -> Tensor:
        pooled: Tensor = self.vision_model(pixel_values=pixels).pooler_output
        return pooled if self.visual_projection is None else cast(Tensor, self.visual_projection(pooled))


class _Text(nn.Module):
    """Token ids (n, q) to pooled (n, d), per token (n, q, d), mask (n, q). A causal tower runs only up to the last end-of-text token
    of the batch: what follows cannot be seen by what is pooled."""

    def __init__(self, model: Any, pad_id: int) -> None:
        super().__init__()
        self.text_model = model.text_model
        self.text_projection = getattr(model, "text_projection", None)
        self._causal = model.config.model_type in CAUSAL
        self._pad_id = pad_id
        self._end_id: int | None = getattr(getattr(model.config, "text_config", None), "eos_token_id", None)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self._causal:
            ends = self._ends(tokens)
            tokens = tokens[:, : int(ends.max()) + 1]
            mask = torch.arange(tokens.shape[1], device=tokens.device) <= ends[:, None]
        else:
            mask = tokens != self._pad_id
            mask[:, 0] = True
        states = self.text_model(input_ids=tokens)
        return self._project(states.pooler_output), self._per_token(states.last_hidden_state), mask

    def _ends(self, tokens: Tensor) -> Tensor:
        """Positions (n,) of the pooled token. 2 is what old CLIP files wrongly say; the highest id is meant."""
        if self._end_id in (None, 2):
            return tokens.argmax(dim=1)
        return (tokens == self._end_id).int().argmax(dim=1)

    def _project(self, pooled: Tensor) -> Tensor:
        return pooled if self.text_projection is None else cast(Tensor, self.text_projection(pooled))

    def _per_token(self, states: Tensor) -> Tensor:
        head: nn.Module = getattr(self.text_model, "head", nn.Identity())  # SigLIP projects inside its text model
        return self._project(head(states))


@torch.inference_mode()
def _checked_width(model: Any, vision: nn.Module, text: nn.Module, tokens: Tensor, framing: Framing, spec: str) -> int:
    """Width d of the shared space, once both towers have given the vectors that the model itself gives.

    Raises:
        EncoderError: they do not: the architecture puts its parts together in another way.
    """
    pixels = torch.linspace(-1, 1, 3 * framing.height * framing.width).view(1, 3, framing.height, framing.width)
    theirs = model.get_image_features(pixel_values=pixels), model.get_text_features(input_ids=tokens)
    image, sentence = (output if isinstance(output, Tensor) else output.pooler_output for output in theirs)  # a tensor before version 5
    try:
        same = torch.allclose(vision(pixels), image, rtol=1e-3, atol=1e-4) and torch.allclose(
            text(tokens)[0], sentence, rtol=1e-3, atol=1e-4
        )
    except (RuntimeError, TypeError):
        same = False
    if not same:
        raise EncoderError(
            f"encoder {spec!r} is a {type(model).__name__}, which projects its vectors otherwise than CLIP and SigLIP do: "
            "wrap it as a plug-in (docs/encoders.md)"
        )
    return int(image.shape[1])


def _blocks(model: Any) -> tuple[nn.Module, ...]:
    layers: Any = getattr(getattr(model.vision_model, "encoder", None), "layers", ())
    return tuple(layers)
