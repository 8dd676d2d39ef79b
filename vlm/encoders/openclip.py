"""Encoders of open_clip: named models, hub repositories and local folders. The only file that imports open_clip.

open_clip describes and runs the architecture; finding, checking and mapping the weights, the preprocessing and the shortened run of
causal text towers are done here.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import open_clip
from open_clip.tokenizer import HFTokenizer
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from vlm.encoders.base import Preprocessing, TextCodec
from vlm.encoders.codec import BytePairCodec, hub_codec
from vlm.encoders.fingerprint import fingerprint, stable_config
from vlm.encoders.hub import OPENCLIP_WEIGHTS, HubModel
from vlm.encoders.openclip_text import text_tower
from vlm.encoders.towers import TorchEncoder, Towers
from vlm.encoders.weights import PICKLES, digest_of_tensors, read_json, read_tensors
from vlm.errors import EncoderError, UnknownEncoder, WeightsUnavailable
from vlm.types import Framing, Interpolation, Resize

CONFIG = "open_clip_config.json"
TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model", "config.json")
# Vocabularies of one language have up to about 50,000 tokens, of many from 200,000 on.
MULTILINGUAL_VOCABULARY = 120_000


def load_openclip(spec: str, *, device: str = "auto", precision: str = "auto", offline: bool = False) -> TorchEncoder:
    """The encoder that ``spec`` names: ``openclip:MODEL/TAG``, ``openclip:hf-hub:ORG/NAME`` or ``openclip:local-dir:FOLDER``.

    Raises:
        UnknownEncoder: open_clip knows no such model or tag. WeightsUnavailable: its files are not to be had, damaged, or unsafe.
        EncoderError: its preprocessing cannot be done while decoding.
    """
    source = _find(spec, offline=offline)
    preprocessing = _preprocessing(source.preprocess, source.config["vision_cfg"], spec)
    weights = digest_of_tensors([read_tensors(source.weights)])
    model = _load(source)
    tokenizer = _tokenizer(source)
    tokenize = functools.partial(_tokenize, tokenizer)
    text = text_tower(model, getattr(getattr(tokenizer, "tokenizer", None), "pad_token_id", 0))
    vision = _FirstOutput(model.visual) if getattr(model.visual, "output_tokens", False) else model.visual
    context = int(tokenizer.context_length)
    return TorchEncoder(
        Towers(vision, _blocks(model.visual), text, tokenize, _token_counter(tokenizer), context, _codec(tokenizer)),
        name=source.name,
        fingerprint=fingerprint(weights=weights, architecture=_architecture(source), preprocessing=preprocessing, tokenize=tokenize),
        dim=int(source.config["embed_dim"]),
        preprocessing=preprocessing,
        languages=("*",) if _vocabulary(source) >= MULTILINGUAL_VOCABULARY else ("en",),
        device=device,
        precision=precision,
    )


def tagged_repository(spec: str) -> str:
    """The hub repository with the weights of ``openclip:MODEL/TAG``.

    Raises:
        UnknownEncoder: open_clip knows no such model or tag.
    """
    return str(_tag(spec)["hf_hub"]).rpartition("/")[0]


# Where a model comes from


@dataclass(frozen=True, slots=True)
class _Source:
    """All that is needed to build a model: open_clip's configuration (activation included), its preprocessing, and files on disk."""

    name: str
    config: dict[str, Any]
    preprocess: dict[str, Any]
    weights: Path
    tokenizer_folder: Path | None
    text_model_folder: Path | None


def _find(spec: str, *, offline: bool) -> _Source:
    kind, _, rest = spec.removeprefix("openclip:").partition(":")
    name, folder, own_files = spec, None, None
    if kind == "local-dir":
        folder = Path(rest).expanduser().absolute()
        if not folder.is_dir():
            raise WeightsUnavailable(f"folder {str(folder)!r} of encoder {spec!r} does not exist")
        name = f"openclip:local-dir:{folder}"
        config, preprocess = _folder_config(folder / CONFIG)
        weights = _weights_in(folder)
    elif kind == "hf-hub":
        hub = HubModel(spec, rest)
        own_files = hub
        config, preprocess = _folder_config(hub.fetch_file([CONFIG], offline=offline))
        weights = hub.fetch_file(OPENCLIP_WEIGHTS, offline=offline)
    else:
        tag = _tag(spec)
        repository, _, file = str(tag["hf_hub"]).rpartition("/")
        names = [f"{file.rpartition('.')[0]}.safetensors", file] if file else OPENCLIP_WEIGHTS
        config = open_clip.get_model_config(kind.partition("/")[0])
        # The tag knows which activation its weights were trained with; the model of the same name may say another (open_clip#771).
        config["quick_gelu"] = bool(tag.get("quick_gelu", False))
        preprocess = tag
        weights = HubModel(spec, repository).fetch_file(names, offline=offline)
    text = config["text_cfg"]
    return _Source(
        name=name,
        config=config,
        preprocess=preprocess,
        weights=weights,
        tokenizer_folder=_text_files(spec, text.get("hf_tokenizer_name"), folder, own_files, offline=offline),
        text_model_folder=_text_files(spec, text.get("hf_model_name"), folder, None, offline=offline),
    )


def _tag(spec: str) -> dict[str, Any]:
    """open_clip's entry for ``openclip:MODEL/TAG``."""
    model, slash, tag = spec.removeprefix("openclip:").partition("/")
    entry: dict[str, Any] = open_clip.get_pretrained_cfg(model, tag) if slash else {}
    if not entry:
        known = [f"openclip:{name}/{its_tag}" for name, its_tag in open_clip.list_pretrained()]
        near = get_close_matches(spec, known, n=3, cutoff=0.5)
        raise UnknownEncoder(
            f"open_clip has no weights {spec!r}; the nearest are {', '.join(near) or 'none'}. "
            "Forms: openclip:MODEL/TAG, openclip:hf-hub:ORG/NAME, openclip:local-dir:FOLDER"
        )
    if not entry.get("hf_hub"):
        raise WeightsUnavailable(
            f"open_clip offers {spec!r} only as {entry.get('url')!r}, a file that may run code when opened: take another tag, "
            "or convert it to safetensors and load the folder with openclip:local-dir:FOLDER"
        )
    return entry


def _folder_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    held = read_json(path)
    config, preprocess = held.get("model_cfg"), held.get("preprocess_cfg", {})
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys() or not isinstance(preprocess, dict):
        raise WeightsUnavailable(f"{str(path)!r} needs a 'model_cfg' with embed_dim, vision_cfg and text_cfg, as open_clip saves it")
    return config, preprocess


def _weights_in(folder: Path) -> Path:
    found = [folder / name for name in OPENCLIP_WEIGHTS if (folder / name).is_file()]
    found += sorted(folder.glob("*.safetensors")) + [path for path in sorted(folder.iterdir()) if path.suffix in PICKLES]
    if not found:
        raise WeightsUnavailable(f"folder {str(folder)!r} holds no weights: it needs {OPENCLIP_WEIGHTS[0]} beside {CONFIG}")
    return found[0]


def _text_files(spec: str, name: str | None, folder: Path | None, own_files: HubModel | None, *, offline: bool) -> Path | None:
    """The folder with the files of a text model or tokenizer of transformers that ``spec`` refers to by ``name``."""
    if not name:
        return None
    if folder is not None:
        for place in (folder / name, folder):
            if (place / "config.json").is_file() or (place / "tokenizer_config.json").is_file():
                return place
    hub = own_files or HubModel(spec, name)
    cached = hub.cached_folder()
    if cached is not None and any(cached.glob("tokenizer*")):
        return cached
    return hub.fetch_folder(TOKENIZER_FILES, offline=offline)


# Building


def _load(source: _Source) -> Any:
    config = deepcopy(source.config)
    custom_text = config.pop("custom_text", False) or source.text_model_folder is not None
    config["vision_cfg"]["timm_model_pretrained"] = False
    if source.text_model_folder is not None:
        config["text_cfg"] |= {"hf_model_name": str(source.text_model_folder), "hf_model_pretrained": False}
    kind = open_clip.CLIP
    if custom_text:
        kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    try:
        with _parameters_without_memory():
            model = kind(**deepcopy(config))
    except RuntimeError:  # a few towers (ViTamin) run themselves while they are built, which takes real numbers
        model = kind(**config)
    # The file's own memory becomes the parameters': nothing is copied, and the tower that is not used is never read in.
    model.load_state_dict = functools.partial(model.load_state_dict, assign=True)
    try:
        open_clip.load_checkpoint(model, str(source.weights))
    except (RuntimeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:500]
        raise WeightsUnavailable(f"weights {str(source.weights)!r} do not fit the architecture of {source.name!r}: {reason}") from error
    finally:
        del model.load_state_dict
    return model.float().eval()


_build_lock = threading.Lock()


@contextmanager
def _parameters_without_memory() -> Iterator[None]:
    """Parameters that this thread registers get no memory and no random numbers; buffers stay real."""
    builder = threading.get_ident()

    def to_meta(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or threading.get_ident() != builder:
            return None
        return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    with _build_lock:
        handle = register_module_parameter_registration_hook(to_meta)  # type: ignore[arg-type]  # may return a parameter: its docstring
        try:
            yield
        finally:
            handle.remove()


def _architecture(source: _Source) -> dict[str, Any]:
    """The configuration without defaults (open_clip adds new ones) and without what only says where files lie."""
    config = {key: value for key, value in source.config.items() if key not in ("vision_cfg", "text_cfg", "custom_text") and value}
    towers = {"vision": (open_clip.CLIPVisionCfg, source.config["vision_cfg"]), "text": (open_clip.CLIPTextCfg, source.config["text_cfg"])}
    places = {"timm_model_pretrained", "hf_model_pretrained", "hf_model_name", "hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode"}
    for tower, (schema, given) in towers.items():
        defaults = asdict(schema())
        config[tower] = {key: value for key, value in given.items() if key not in places and value != defaults.get(key)}
    if source.text_model_folder is not None:
        config["text_model"] = stable_config(read_json(source.text_model_folder / "config.json"))
    return config


def _vocabulary(source: _Source) -> int:
    if source.text_model_folder is not None:
        return int(read_json(source.text_model_folder / "config.json").get("vocab_size", 0))
    return int(source.config["text_cfg"].get("vocab_size", 0))


def _preprocessing(cfg: dict[str, Any], vision: dict[str, Any], spec: str) -> Preprocessing:
    """open_clip's evaluation transform as framing and normalisation."""
    defaults = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    size = vision.get("image_size", 224)
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    resize: Resize = cfg.get("resize_mode") or "shortest"
    interpolation: Interpolation | Literal["random"] = cfg.get("interpolation") or "bicubic"
    if interpolation == "random" or (resize == "shortest" and height != width):
        interpolation = "bicubic"  # what open_clip itself does in these two cases
    if resize not in ("shortest", "longest", "squash") or interpolation not in ("bilinear", "bicubic"):
        raise EncoderError(f"encoder {spec!r} wants resize_mode={resize!r}, interpolation={interpolation!r}, which decoding cannot do")
    mean, std = (_triple(cfg.get(key) or value) for key, value in defaults.items())
    framing = Framing(
        height=int(height), width=int(width), resize=resize, interpolation=interpolation, fill=int(cfg.get("fill_color") or 0)
    )
    return Preprocessing(framing, mean, std)


def _triple(values: float | Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values if isinstance(values, (list, tuple)) else (values,) * 3
    return float(red), float(green), float(blue)


def _blocks(visual: nn.Module) -> tuple[nn.Module, ...]:
    for path in ("transformer.resblocks", "trunk.blocks", "trunk.stages"):
        try:
            return tuple(visual.get_submodule(path).children())
        except AttributeError:
            continue
    return tuple(visual.get_submodule(name) for name in ("layer1", "layer2", "layer3", "layer4") if hasattr(visual, name))


# Texts


def _tokenizer(source: _Source) -> Any:
    text = source.config["text_cfg"]
    options = dict(text.get("tokenizer_kwargs") or {})
    context = text.get("context_length", 77)
    if source.tokenizer_folder is None:
        return open_clip.SimpleTokenizer(context_length=context, **options)
    try:
        return HFTokenizer(str(source.tokenizer_folder), context_length=context, tokenizer_mode=text.get("tokenizer_mode"), **options)
    except (OSError, ValueError) as error:
        raise WeightsUnavailable(
            f"the tokenizer of {source.name!r} in {str(source.tokenizer_folder)!r} cannot be loaded: {error}"
        ) from error


def _tokenize(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    tokens: Tensor = tokenizer(list(texts))
    return tokens


def _token_counter(tokenizer: Any) -> Callable[[str], int]:
    def count(text: str) -> int:
        if isinstance(tokenizer, HFTokenizer):
            return len(tokenizer.tokenizer(tokenizer.clean_fn(text), verbose=False).input_ids)
        return len(tokenizer.encode(text)) + 2

    return count


def _codec(tokenizer: Any) -> TextCodec | None:
    return hub_codec(tokenizer.tokenizer) if isinstance(tokenizer, HFTokenizer) else BytePairCodec(tokenizer)


class _FirstOutput(nn.Module):
    """A vision tower that also gives patch tokens, reduced to its pooled vector."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Tensor) -> Tensor:
        pooled: Tensor = self.tower(pixels)[0]
        return pooled
