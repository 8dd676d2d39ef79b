"""The folder of a trained model on disk, as on the Hugging Face hub: config.json, model.safetensors, and README.md, its card."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vlm.encoders.hub import HubModel
from vlm.errors import InputError, WeightsUnavailable

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"


def write_folder(folder: Path | str, model: nn.Module, held: Mapping[str, Any], *, card: str, dtype: torch.dtype = torch.float32) -> Path:
    """Write config.json (``held``), model.safetensors and README.md; gives the folder. Weights are stored as ``dtype``.

    All is written beside it first: where the disk is full, what was there before stays as it was.

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
        save_file({name: value.detach().cpu().to(dtype).contiguous() for name, value in model.state_dict().items()}, beside / WEIGHTS)
        (beside / CONFIG).write_text(json.dumps(held, indent=2) + "\n", "utf-8")
        (beside / CARD).write_text(card, "utf-8")
        _replace(beside, target)
    except (SafetensorError, OSError) as error:
        raise OSError(f"the model cannot be written to {str(target)!r} ({error}): free space there; what was there is unchanged") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target


def find_folder(name: Path | str, *, offline: bool = False) -> Path:
    """The folder of that name, or the files of a repository ``owner/name`` of the Hugging Face hub, fetched.

    Raises:
        WeightsUnavailable: there is neither.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    if str(name).count("/") != 1 or str(name).startswith((".", "/", "~")):
        raise WeightsUnavailable(f"there is no folder {str(name)!r}, and it is no owner/name of a model on the hub either")
    hub = HubModel(str(name), str(name))
    folder = hub.fetch_file([CONFIG], offline=offline).parent
    hub.fetch_file([WEIGHTS], offline=offline)
    return folder


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


def known_fields(kind: type[Any], held: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values of ``held`` as ``kind`` takes them.

    Raises:
        InputError: a key is none of its fields; the nearest one is named.
    """
    names = [field.name for field in fields(kind)]
    for key in held:
        if key not in names:
            near = get_close_matches(key, names, n=1)
            raise InputError(f"{where}.{key} is unknown" + (f"; did you mean {near[0]!r}?" if near else ""))
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
