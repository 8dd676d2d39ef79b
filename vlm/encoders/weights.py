"""Weight files on disk: only tensors are read from them, never code; and a digest of what they hold."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from vlm.errors import WeightsUnavailable

if TYPE_CHECKING:
    from torch import Tensor

PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name of a safetensors file or of a torch file that holds nothing but tensors; memory-mapped where possible.

    Raises:
        WeightsUnavailable: the file is missing, damaged, or holds more than tensors.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in PICKLES:
        return _read_pickle(path)
    raise WeightsUnavailable(f"weights {str(path)!r} are neither .safetensors nor one of {', '.join(PICKLES)}: convert them to safetensors")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsUnavailable(
            f"weights {str(path)!r} are damaged or only half downloaded ({error}): delete the file and fetch it again"
        ) from error
    except OSError as error:
        raise WeightsUnavailable(f"weights {str(path)!r} cannot be read: {error}") from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    import torch

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsUnavailable(
            f"weights {str(path)!r} are a pickle that holds more than tensors (it could run code) and are not opened: "
            "take the model's safetensors file, or convert it on a machine that may run it"
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise WeightsUnavailable(
            f"weights {str(path)!r} cannot be read ({_first_line(error)}): delete the file and fetch it again"
        ) from error
    if isinstance(held, dict) and isinstance(held.get("state_dict"), dict):
        held = held["state_dict"]
    if not isinstance(held, dict) or not all(isinstance(value, torch.Tensor) for value in held.values()):
        raise WeightsUnavailable(f"weights {str(path)!r} are no table of named tensors: take the model's safetensors file")
    return held


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


def digest_of_tensors(parts: Iterable[Mapping[str, Tensor]]) -> str:
    """A digest of all names, types, shapes and bytes, the same for any order and any file format."""
    import torch

    named = {name: tensor for part in parts for name, tensor in part.items()}
    digest = xxhash.xxh3_128()
    for name in sorted(named):
        tensor = named[name].detach().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """The table that a JSON file holds.

    Raises:
        WeightsUnavailable: it is missing, damaged, or holds something else.
    """
    try:
        held = json.loads(path.read_bytes())
    except OSError as error:
        raise WeightsUnavailable(f"{str(path)!r} cannot be read ({error.strerror or error}); a model folder needs it") from error
    except ValueError as error:
        raise WeightsUnavailable(f"{str(path)!r} is no JSON ({error}): it is damaged or only half downloaded") from error
    if not isinstance(held, dict):
        raise WeightsUnavailable(f"{str(path)!r} must hold a JSON table, got {type(held).__name__}")
    return held


def sharded_files(folder: Path) -> list[Path]:
    """The weight files of a folder in transformers' form: one, or the shards that an index lists.

    Raises:
        WeightsUnavailable: there is neither.
    """
    for single, index in (("model.safetensors", "model.safetensors.index.json"), ("pytorch_model.bin", "pytorch_model.bin.index.json")):
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index).is_file():
            shards: dict[str, str] = read_json(folder / index).get("weight_map", {})
            return [folder / name for name in sorted(set(shards.values()))]
    raise WeightsUnavailable(f"folder {str(folder)!r} holds no weights: it needs model.safetensors")


def has_all_weights(folder: Path) -> bool:
    """Whether every weight file of ``folder`` is there."""
    try:
        return all(path.is_file() for path in sharded_files(folder))
    except WeightsUnavailable:
        return False
