"""Small models with random weights, saved to disk as open_clip and transformers save theirs, and tokenizers that need no network.

Weights are larger than at the start of a training: activations then leave the stretch where GELU and QuickGELU nearly agree, and
attention is far from uniform, so that a wrong activation, mask or crop shows in the vectors.
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import nn

OpenClipKind = Literal["clip", "clip-quickgelu", "custom-causal", "siglip", "coca", "timm", "borrowed-text"]
HFKind = Literal["clip", "clip-quickgelu", "siglip", "siglip2"]

WIDTH, DIM, IMAGE, PATCH = 32, 24, 32, 8
_SENTENCE = "a the dog cat runs jumps over red green blue car on street grass two people talk waves beach word it s"
WORDS = _SENTENCE.split()
_VISION = {"image_size": IMAGE, "patch_size": PATCH, "width": WIDTH, "head_width": 16, "layers": 3}
_TEXT = {"context_length": 77, "vocab_size": 49408, "width": WIDTH, "heads": 2, "layers": 3}
_WORD_TEXT = _TEXT | {"context_length": 16, "vocab_size": 64, "hf_tokenizer_name": "saved-beside"}

OPEN_CLIP_CONFIGS: dict[OpenClipKind, dict[str, Any]] = {
    "clip": {"vision_cfg": _VISION, "text_cfg": _TEXT},
    "clip-quickgelu": {"vision_cfg": _VISION, "text_cfg": _TEXT, "quick_gelu": True},
    "custom-causal": {"vision_cfg": _VISION, "text_cfg": _WORD_TEXT | {"pool_type": "eos", "eos_id": 3}, "custom_text": True},
    "siglip": {
        "vision_cfg": _VISION | {"pool_type": "avg"},
        "text_cfg": _WORD_TEXT | {"no_causal_mask": True, "pool_type": "last", "proj_bias": True},
        "custom_text": True,
        "init_logit_bias": -10,
    },
    "coca": {
        "vision_cfg": _VISION | {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 8, "output_tokens": True},
        "text_cfg": _TEXT | {"context_length": 76, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {"context_length": 76, "vocab_size": 49408, "width": WIDTH, "heads": 2, "layers": 1},
        "custom_text": True,
    },
    "timm": {
        "vision_cfg": {"image_size": IMAGE, "timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "linear"},
        "text_cfg": _TEXT,
        "custom_text": True,
    },
    "borrowed-text": {
        "vision_cfg": _VISION,
        "text_cfg": {"hf_model_name": "text", "hf_tokenizer_name": "text", "hf_pooler_type": "mean_pooler", "context_length": 16},
    },
}
PREPROCESS = {
    "mean": [0.48, 0.45, 0.40],
    "std": [0.26, 0.25, 0.27],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Random values in every parameter, twice as large as keeps the variance."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise if "embed" in name else noise * 2 / parameter.shape[-1] ** 0.5)
            else:
                is_scale = ("norm" in name.lower() or "ln_" in name) and name.endswith("weight")
                parameter.copy_(1 + 0.1 * noise if is_scale else 0.1 * noise)


def save_tokenizer(folder: Path, *, context: int, end_is_highest: bool = False) -> None:
    """A word tokenizer in transformers' files: <pad> 0, <unk> 1, <s> 2, </s> 3 (or the last id), then the words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<unk>", "<s>", *([] if end_is_highest else ["</s>"]), *WORDS, *(["</s>"] if end_is_highest else [])]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(name, vocabulary[name]) for name in ("<s>", "</s>")]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=context,
    ).save_pretrained(folder)


def save_open_clip(folder: Path, kind: OpenClipKind = "clip", *, seed: int = 0, preprocess: dict[str, Any] | None = None) -> Path:
    """A small open_clip model in ``folder``, as ``openclip:local-dir:`` reads it; gives ``folder``."""
    import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    config = {"embed_dim": DIM} | deepcopy(OPEN_CLIP_CONFIGS[kind])
    if "hf_tokenizer_name" in config["text_cfg"]:
        place = folder / "text" if kind == "borrowed-text" else folder
        save_tokenizer(place, context=config["text_cfg"]["context_length"])
    if kind == "borrowed-text":
        _save_borrowed_text(folder / "text")
    torch.manual_seed(seed)
    model = build_open_clip(open_clip, deepcopy(config), folder)
    randomise(model, seed)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    both = {"model_cfg": config, "preprocess_cfg": PREPROCESS | (preprocess or {})}
    (folder / "open_clip_config.json").write_text(json.dumps(both))
    return folder


def _save_borrowed_text(folder: Path) -> None:
    from transformers import XLMRobertaConfig

    XLMRobertaConfig(
        vocab_size=64,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    ).save_pretrained(folder)


def read_config(folder: Path) -> dict[str, Any]:
    """What ``save_open_clip`` wrote into open_clip_config.json."""
    config: dict[str, Any] = json.loads((folder / "open_clip_config.json").read_text())
    return config


def build_open_clip(open_clip: Any, config: dict[str, Any], folder: Path) -> nn.Module:
    """The model of ``config`` as open_clip's own factory builds it; ``folder`` holds a borrowed text model."""
    custom = config.pop("custom_text", False)
    if "hf_model_name" in config["text_cfg"]:
        custom = True
        config["text_cfg"] |= {"hf_model_name": str(folder / "text"), "hf_model_pretrained": False}
    kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP if custom else open_clip.CLIP
    model: nn.Module = kind(**config)
    return model


def save_hf(folder: Path, kind: HFKind = "clip", *, seed: int = 0) -> Path:
    """A small transformers model with its tokenizer and image processor in ``folder``, as ``hf:`` reads it; gives ``folder``."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, SiglipConfig, SiglipImageProcessor, SiglipModel

    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    vision = sizes | {"image_size": IMAGE, "patch_size": PATCH}
    torch.manual_seed(seed)
    if kind in ("siglip", "siglip2"):
        words = 256_000 if kind == "siglip2" else 64
        text = sizes | {"vocab_size": words, "max_position_embeddings": 16, "projection_size": WIDTH, "eos_token_id": 3, "pad_token_id": 0}
        model: Any = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
        SiglipImageProcessor(size={"height": IMAGE, "width": IMAGE}).save_pretrained(folder)
    else:
        activation = {"hidden_act": "quick_gelu" if kind == "clip-quickgelu" else "gelu"}
        text = (
            sizes | activation | {"vocab_size": 64, "max_position_embeddings": 16, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
        )
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision | activation, projection_dim=DIM))
        CLIPImageProcessor(size={"shortest_edge": IMAGE}, crop_size={"height": IMAGE, "width": IMAGE}).save_pretrained(folder)
    randomise(model, seed)
    model.save_pretrained(folder)
    save_tokenizer(folder, context=16)
    return folder
