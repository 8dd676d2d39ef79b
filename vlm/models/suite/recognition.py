"""A recogniser of clips: ViViM before the pictures themselves, and a linear map to classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from vlm.models.suite.checks import check_classes
from vlm.models.suite.clip_classes import ClipReading, class_groups
from vlm.models.suite.folder import SavedModel
from vlm.models.suite.vivim import ViViM, ViViMConfig, num_tokens


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

    def __init__(self, config: RecognitionConfig) -> None:
        super().__init__(config)
        self.tower = ViViM(config)
        self.head = nn.Linear(config.width, len(config.classes))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what it tells apart."""
        return self.config.classes

    @property
    def reading(self) -> ClipReading:
        """How it reads clips."""
        return self.config.reading

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (b, classes) of clips (b, t, h, w, 3) uint8.

        Raises:
            InputError: another type, or not of the config's number and size.
        """
        logits: Tensor = self.head(self.tower(self.tower.normalised(pixels)))
        return logits

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
