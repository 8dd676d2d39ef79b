"""What the folder of a suite model says beside its weights: its kind, its numbers, its card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from torch import nn

from vlm.encoders.base import Encoder
from vlm.encoders.weights import read_json, read_tensors
from vlm.errors import EncoderMismatch, InputError, WeightsUnavailable
from vlm.models.folder import CONFIG, WEIGHTS, find_folder, known_fields, load_exactly, write_folder
from vlm.ssm.stack import count_parameters

FORMAT = 1

M = TypeVar("M", bound=nn.Module)
C = TypeVar("C")


class SavedModel(nn.Module):
    """A model of the suite with the encoder that it was made for, and its folder. Every task's model is one, and says what it is.

    Attributes:
        kind: the task, as recipes and folders name it. config_type: the dataclass of its numbers, with ``mixer``; and with ``encoder``,
            ``fingerprint`` and ``frames_per_second``, where it reads the vectors of an encoder (else it says itself what it ``reads``).
    """

    kind: ClassVar[str]
    config_type: ClassVar[type[Any]]

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def check_encoder(self, encoder: Encoder) -> None:
        """Raises EncoderMismatch, naming both, where the model was made for another encoder."""
        check_encoder(self.config.encoder, self.config.fingerprint, encoder)

    def num_parameters(self) -> dict[str, int]:
        """How many numbers each part learns."""
        parts = {name: count_parameters(part) for name, part in self.named_children()}
        own = {name: value.numel() for name, value in self.named_parameters(recurse=False)}
        return {name: count for name, count in (parts | own).items() if count}

    def knows(self) -> str:
        """A sentence for the card: what it tells apart."""
        return f"It knows {len(self.config.classes)} classes: {', '.join(self.config.classes)}."

    def title(self) -> str:
        """The heading of the card."""
        return f"A model of {self.kind} for `{self.config.encoder}`"

    def reads(self) -> str:
        """A sentence for the card: what goes into it."""
        config = self.config
        return (
            f"It reads frame vectors of the encoder `{config.encoder}` ({config.fingerprint}) at {config.frames_per_second:g} frames a "
            "second, and those of no other."
        )

    def save_pretrained(self, folder: Path | str, *, card: str = "") -> Path:
        """Write config.json, model.safetensors and README.md, which is ``card`` or says what was made; gives the folder.

        Raises:
            InputError, OSError: as ``folder.write_folder``.
        """
        held = {"format": FORMAT, "kind": self.kind, "model": asdict(self.config)}
        return write_folder(folder, self, held, card=card or model_card(self))

    @classmethod
    def from_pretrained(cls, folder: Path | str, *, offline: bool = False) -> Self:
        """The model in a folder or a repository of the hub; raises WeightsUnavailable as ``read_model``."""
        return read_model(folder, cls.kind, cls.config_type, cls, offline=offline)


def check_encoder(name: str, fingerprint: str, encoder: Encoder) -> None:
    """Raises EncoderMismatch, naming both, where a model made for ``name`` is given another encoder."""
    if encoder.fingerprint != fingerprint:
        same = " of other weights or preprocessing" if encoder.name == name else ""
        raise EncoderMismatch(
            f"this model was made for the encoder {name!r} ({fingerprint}) and cannot read the vectors of "
            f"{encoder.name!r}{same} ({encoder.fingerprint}): open that encoder, or train a model for this one (python -m vlm.train)"
        )


def kind_of(name: Path | str, *, offline: bool = False) -> str:
    """The kind of the model in a folder or a repository of the hub; raises WeightsUnavailable where there is none."""
    path = find_folder(name, offline=offline) / CONFIG
    return str(read_json(path).get("kind", ""))


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


def model_card(model: SavedModel, measured: str = "Nothing has been measured with these weights.") -> str:
    """The card of a model: what it reads, its parts, and what was ``measured``."""
    config, parts = model.config, model.num_parameters()
    table = "\n".join(f"| {name} | {count:,} |" for name, count in parts.items())
    return (
        "---\nlibrary_name: vlm-retrieval\n---\n\n"
        f"# {model.title()}\n\n{model.reads()} Mixer: `{config.mixer}`. {model.knows()}\n\n"
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
