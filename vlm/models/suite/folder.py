"""The folder of a suite model on disk: config.json with its kind, model.safetensors, and README.md, its card."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from vlm.encoders.base import Encoder
from vlm.encoders.hub import HubModel
from vlm.encoders.weights import read_json, read_tensors
from vlm.errors import EncoderMismatch, InputError, WeightsUnavailable

FORMAT = 1
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"

M = TypeVar("M", bound=nn.Module)
C = TypeVar("C")


def check_encoder(name: str, fingerprint: str, encoder: Encoder) -> None:
    """Raises EncoderMismatch, naming both, where a model made for ``name`` is given another encoder."""
    if encoder.fingerprint != fingerprint:
        same = " of other weights or preprocessing" if encoder.name == name else ""
        raise EncoderMismatch(
            f"this model was made for the encoder {name!r} ({fingerprint}) and cannot read the vectors of "
            f"{encoder.name!r}{same} ({encoder.fingerprint}): open that encoder, or train a model for this one (python -m vlm.train)"
        )


def write_model(model: nn.Module, config: Any, kind: str, folder: Path | str, *, card: str, parts: Mapping[str, int]) -> Path:
    """Write config.json, model.safetensors and README.md; gives the folder. Weights are float32.

    All is written beside it first: where the disk is full, what was there before stays as it was.

    Args:
        config: a dataclass with ``encoder`` and ``fingerprint``. card: for README.md; empty is one that says what was made.
        parts: how many numbers each part learns.

    Raises:
        InputError: the folder holds something that is no model. OSError: it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    target = Path(folder)
    if target.exists() and not (target / CONFIG).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{str(target)!r} holds something other than a model: name a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        save_file({name: value.detach().cpu().float().contiguous() for name, value in model.state_dict().items()}, beside / WEIGHTS)
        held = {"format": FORMAT, "kind": kind, "model": asdict(config)}
        (beside / CONFIG).write_text(json.dumps(held, indent=2) + "\n", "utf-8")
        (beside / CARD).write_text(card or model_card(kind, config, parts), "utf-8")
        _replace(beside, target)
    except (SafetensorError, OSError) as error:
        raise OSError(f"the model cannot be written to {str(target)!r} ({error}): free space there; what was there is unchanged") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target


def read_model(name: Path | str, kind: str, config: type[C], build: Callable[[C], M], *, offline: bool = False) -> M:
    """The model of a kind in a folder, or of a repository ``owner/name`` of the Hugging Face hub; float32, on the CPU, for use.

    Args:
        config: the dataclass of its numbers. build: makes the model from it.

    Raises:
        WeightsUnavailable: there is none, it is damaged, of a later format or another kind, or its tensors are not those of its config.
    """
    folder = Path(name)
    if not folder.is_dir():
        if str(name).count("/") != 1 or str(name).startswith((".", "/", "~")):
            raise WeightsUnavailable(f"there is no folder {str(name)!r}, and it is no owner/name of a model on the hub either")
        hub = HubModel(str(name), str(name))
        folder = hub.fetch_file([CONFIG], offline=offline).parent
        hub.fetch_file([WEIGHTS], offline=offline)
    path = folder / CONFIG
    given = _checked(read_json(path), kind, path)
    try:
        model = build(config(**_known(config, given)))
    except (InputError, TypeError) as error:
        raise WeightsUnavailable(f"{str(path)!r} is damaged: {error}") from error
    load_exactly(model, read_tensors(folder / WEIGHTS), folder / WEIGHTS)
    return model.eval()


def load_exactly(model: nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Fill a model from the tensors of a file, which must be exactly its own.

    Raises:
        WeightsUnavailable: tensors are missing, too many, or of another shape; how many, and the first of each.
    """
    own = model.state_dict()
    missing, extra = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    shapes = sorted(key for key in own.keys() & tensors.keys() if own[key].shape != tensors[key].shape)
    if missing or extra or shapes:
        told = ", ".join(
            f"{len(names)} {what} ({names[0]}{', ...' if len(names) > 1 else ''})"
            for what, names in (("missing", missing), ("too many", extra), ("of another shape", shapes))
            if names
        )
        raise WeightsUnavailable(f"the tensors in {str(path)!r} are not those of its config: {told}")
    model.load_state_dict({key: value.to(own[key].dtype) for key, value in tensors.items()})


def model_card(kind: str, config: Any, parts: Mapping[str, int], measured: str = "Nothing has been measured with these weights.") -> str:
    """The card of a model: what it reads, its parts, and what was ``measured``."""
    table = "\n".join(f"| {name} | {count:,} |" for name, count in parts.items())
    return (
        "---\nlibrary_name: vlm-retrieval\n---\n\n"
        f"# A model of {kind} for `{config.encoder}`\n\n"
        f"It reads frame vectors of the encoder `{config.encoder}` ({config.fingerprint}) at {config.frames_per_second:g} frames a second, "
        f"and those of no other. Mixer: `{config.mixer}`. It knows {len(config.classes)} classes: {', '.join(config.classes)}.\n\n"
        f"| part | parameters |\n|---|---|\n{table}\n| together | {sum(parts.values()):,} |\n\n{measured}\n"
    )


def _checked(held: Mapping[str, Any], kind: str, path: Path) -> Mapping[str, Any]:
    given = held.get("model")
    if not isinstance(held.get("format"), int) or not isinstance(given, dict) or "kind" not in held:
        raise WeightsUnavailable(f"{str(path)!r} is no config of a suite model: it needs 'format', 'kind' and 'model'")
    if held["format"] > FORMAT:
        raise WeightsUnavailable(f"{str(path)!r} has format {held['format']}, this vlm reads up to {FORMAT}: install a newer one")
    if held["kind"] != kind:
        raise WeightsUnavailable(f"{str(path.parent)!r} holds a model of {held['kind']}, and one of {kind} is needed")
    return given


def _known(kind: type[Any], held: Mapping[str, Any]) -> dict[str, Any]:
    """The values of ``held`` as ``kind`` takes them; InputError, naming the nearest, where a key is none of its fields."""
    names = [field.name for field in fields(kind)]
    for key in held:
        if key not in names:
            near = get_close_matches(key, names, n=1)
            raise InputError(f"model.{key} is unknown" + (f"; did you mean {near[0]!r}?" if near else ""))
    return {key: tuple(value) if isinstance(value, list) else value for key, value in held.items()}


def _replace(beside: Path, target: Path) -> None:
    """Put a finished folder in the place of ``target``. A process that is killed between the two renames leaves the old one beside it."""
    if not target.exists():
        os.replace(beside, target)
        return
    old = beside.with_name(f"{beside.name}-old")
    os.replace(target, old)
    try:
        os.replace(beside, target)
    except OSError:
        os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)
