"""A recogniser of clips: ViViM before the pictures themselves, and a linear map to classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vlm.errors import InputError
from vlm.models.suite.checks import check_classes
from vlm.models.suite.clip_classes import ClipReading, class_groups
from vlm.models.suite.folder import SavedModel
from vlm.models.suite.vivim import ViViM, ViViMConfig, num_tokens
from vlm.types import Framing

# Of the pictures of ImageNet, by which Vim's weights were trained.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognitionConfig(ViViMConfig):
    """A ViViM and what it tells apart.

    Attributes:
        classes: names of the actions; or of verbs and then of nouns, see ``clip_classes.class_groups``.
    """

    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        ViViMConfig.__post_init__(self)
        check_classes(self.classes, least=2)
        class_groups(self.classes)


class Recognizer(SavedModel):
    """Clips to logits of classes. It reads pixels, and needs no encoder."""

    kind: ClassVar[str] = "recognition"
    config_type = RecognitionConfig
    config: RecognitionConfig
    mean: Tensor
    std: Tensor

    def __init__(self, config: RecognitionConfig) -> None:
        super().__init__(config)
        self.tower = ViViM(config)
        self.head = nn.Linear(config.width, len(config.classes))
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, 255 * torch.tensor(values)[:, None, None], persistent=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what it tells apart."""
        return self.config.classes

    @property
    def reading(self) -> ClipReading:
        """How it reads clips."""
        return ClipReading(self.config.num_frames, Framing(height=self.config.image_size, width=self.config.image_size))

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (b, classes) of clips (b, t, h, w, 3) uint8.

        Raises:
            InputError: another type, or not of the config's number and size.
        """
        logits: Tensor = self.head(self.tower(self.normalised(pixels)))
        return logits

    def normalised(self, pixels: Tensor) -> Tensor:
        """What the tower reads (b, t, 3, h, w) of clips (b, t, h, w, 3) uint8; raises as ``forward``."""
        if pixels.dtype != torch.uint8 or pixels.ndim != 5 or pixels.shape[-1] != 3:
            raise InputError(f"clips must be uint8 (b, t, h, w, 3), got {pixels.dtype} {tuple(pixels.shape)}")
        planes = pixels.to(self.mean.device).permute(0, 1, 4, 2, 3).to(self.head.weight.dtype)
        return (planes - self.mean) / self.std

    def title(self) -> str:
        """The heading of its card."""
        return "A recogniser of clips: ViViM"

    def reads(self) -> str:
        """What goes into it."""
        size = self.config.image_size
        return (
            f"It reads {self.config.num_frames} pictures of {size} x {size}, spread evenly over a clip, as one sequence of "
            f"{num_tokens(self.config)} tokens."
        )
