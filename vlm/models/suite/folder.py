"""What the folder of a suite model says beside its weights: its kind, its numbers, its card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from vlm.encoders.base import Encoder
from vlm.encoders.weights import read_json, read_tensors
from vlm.errors import EncoderMismatch, InputError, WeightsUnavailable
from vlm.models.folder import CONFIG, WEIGHTS, find_folder, known_fields, load_exactly, write_folder

FORMAT = 1

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
    """Write the folder of a model, weights in float32; gives it. Raises as ``folder.write_folder``.

    Args:
        config: a dataclass with ``encoder`` and ``fingerprint``. card: for README.md; empty is one that says what was made.
        parts: how many numbers each part learns.
    """
    held = {"format": FORMAT, "kind": kind, "model": asdict(config)}
    return write_folder(folder, model, held, card=card or model_card(kind, config, parts))


def read_model(name: Path | str, kind: str, config: type[C], build: Callable[[C], M], *, offline: bool = False) -> M:
    """The model of a kind in a folder, or of a repository ``owner/name`` of the Hugging Face hub; float32, on the CPU, for use.

    Args:
        config: the dataclass of its numbers. build: makes the model from it.

    Raises:
        WeightsUnavailable: there is none, it is damaged, of a later format or another kind, or its tensors are not those of its config.
    """
    folder = find_folder(name, offline=offline)
    path = folder / CONFIG
    given = _checked(read_json(path), kind, path)
    try:
        model = build(config(**known_fields(config, given, "model")))
    except (InputError, TypeError) as error:
        raise WeightsUnavailable(f"{str(path)!r} is damaged: {error}") from error
    load_exactly(model, read_tensors(folder / WEIGHTS), folder / WEIGHTS)
    return model.eval()


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
