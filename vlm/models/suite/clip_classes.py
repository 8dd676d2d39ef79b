"""What a recogniser says of a clip: classes with their probabilities, in one group, or in verbs and nouns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm.errors import InputError
from vlm.types import Framing

# What stands before the names of classes where clips are told by two, as EPIC-KITCHENS does: "verb:take", "noun:plate".
GROUPS = ("verb", "noun")


@dataclass(frozen=True, slots=True)
class ClipReading:
    """How a model reads a clip: how many pictures, in the middles of equal parts of it, and how each is framed."""

    num_frames: int
    framing: Framing


class Recognises(Protocol):
    """A model that tells the classes of clips."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""

    @property
    def reading(self) -> ClipReading:
        """How it reads them."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Logits (b, classes) of clips (b, t, h, w, 3) uint8."""


@dataclass(frozen=True, slots=True)
class Likely:
    """A class and how probable it is within its group; the group is empty where there is only one."""

    group: str
    label: str
    probability: float


def class_groups(classes: Sequence[str]) -> dict[str, slice]:
    """Which classes belong together: all of them under the name "", or first the verbs, then the nouns.

    Raises:
        InputError: some names are of verbs or nouns and some are not, or nouns stand before verbs.
    """
    groups = [name.partition(":")[0] if name.startswith(tuple(f"{group}:" for group in GROUPS)) else "" for name in classes]
    if set(groups) == {""}:
        return {"": slice(0, len(classes))}
    verbs = groups.count("verb")
    if groups != ["verb"] * verbs + ["noun"] * (len(groups) - verbs) or not 0 < verbs < len(groups):
        raise InputError("classes must all be names without a group, or verbs ('verb:take') followed by nouns ('noun:plate')")
    return {"verb": slice(0, verbs), "noun": slice(verbs, len(groups))}


def grouped_probabilities(logits: Tensor, classes: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """The probabilities (b, classes of the group) of each group, of logits (b, classes)."""
    wide = logits.detach().double().cpu()
    return {group: wide[:, part].softmax(dim=1).numpy() for group, part in class_groups(classes).items()}


@torch.inference_mode()
def recognise(model: Recognises, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """The probabilities of each group for clips (b, t, h, w, 3)."""
    return grouped_probabilities(model(torch.from_numpy(np.ascontiguousarray(pixels))), model.classes)


def likeliest(probabilities: dict[str, NDArray[np.float64]], classes: Sequence[str], *, most: int) -> list[Likely]:
    """Of one clip, whose probabilities (classes of the group) these are, the ``most`` likeliest classes of each group, best first."""
    found = []
    for group, part in class_groups(classes).items():
        names, values = classes[part], probabilities[group]
        best = np.argsort(-values, kind="stable")[:most]
        found += [Likely(group, names[place].removeprefix(f"{group}:") if group else names[place], float(values[place])) for place in best]
    return found
