"""A recogniser of clips on an encoder's frozen vision tower: TimeMamba inside, a linear map to classes behind.

What it holds is what was learnt; the tower is the encoder's, which must be opened beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor, nn

from vlm.encoders.base import Encoder, TowerAccess
from vlm.errors import InputError
from vlm.models.suite.checks import check_at_least, check_classes
from vlm.models.suite.clip_classes import ClipReading, class_groups
from vlm.models.suite.folder import SavedModel
from vlm.models.tower_adapter import Residual, TowerAdapter, TowerAdapterConfig, time_layers
from vlm.ssm.stack import MixerName, check_word


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeMambaConfig:
    """What is put into a tower, and what it tells apart.

    Attributes:
        encoder, fingerprint, dim: of the encoder, whose tower it needs; no other's can be used.
        classes: names of the actions; or of verbs and then of nouns, see ``clip_classes.class_groups``.
        blocks, tower_width: of its vision tower: how many, and of how wide tokens.
        num_frames: pictures of a clip.
        mixer, residual, expand, d_state, class_tokens: see TowerAdapterConfig.
    """

    encoder: str
    fingerprint: str
    dim: int
    classes: tuple[str, ...]
    blocks: int
    tower_width: int
    num_frames: int = 8
    mixer: MixerName = "vim"
    residual: Residual = "frozen"
    expand: float = 1
    d_state: int = 16
    class_tokens: int = 1

    def __post_init__(self) -> None:
        check_classes(self.classes, least=2)
        class_groups(self.classes)
        check_word("residual", self.residual, get_args(Residual))
        check_at_least(self, 1, "dim", "blocks", "tower_width", "num_frames")
        self.adapter  # noqa: B018  # its own rules

    @property
    def adapter(self) -> TowerAdapterConfig:
        """What is put into the tower."""
        return TowerAdapterConfig(
            mixer=self.mixer, residual=self.residual, expand=self.expand, d_state=self.d_state, class_tokens=self.class_tokens
        )


class TimeMamba(SavedModel):
    """Clips to logits of classes, once a tower has been put beneath (``open``)."""

    kind: ClassVar[str] = "timemamba"
    config_type = TimeMambaConfig
    config: TimeMambaConfig

    def __init__(self, config: TimeMambaConfig) -> None:
        super().__init__(config)
        self.layers = time_layers(config.adapter, config.tower_width, config.blocks)
        self.norm = nn.LayerNorm(config.dim)
        self.head = nn.Linear(config.dim, len(config.classes))
        # Not among the parts: the tower is the encoder's, and in no file of this model.
        self._tower: tuple[TowerAdapter, TowerAccess, ClipReading] | None = None

    def open(self, encoder: Encoder) -> TimeMamba:
        """Put the mixers into the encoder's vision tower, where they stay, and take its device; gives the model.

        Raises:
            EncoderMismatch: it is another encoder. InputError: it shows no tower, or one of other sizes.
        """
        self.check_encoder(encoder)
        if not isinstance(encoder, TowerAccess):
            raise InputError(f"encoder {encoder.name!r} shows no towers (TowerAccess), so that nothing can be put into them")
        encoder.vision.requires_grad_(False)
        adapter = TowerAdapter(encoder, self.config.adapter, self.layers)
        object.__setattr__(self, "_tower", (adapter, encoder, ClipReading(self.config.num_frames, encoder.preprocessing.framing)))
        return self.to(encoder.device)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what it tells apart."""
        return self.config.classes

    @property
    def reading(self) -> ClipReading:
        """How it reads clips; raises InputError as ``forward``."""
        return self._opened()[2]

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (b, classes) of clips (b, t, h, w, 3) uint8, framed as the encoder's preprocessing says.

        Raises:
            InputError: no encoder was opened beneath, or another number of frames.
        """
        adapter, access, _ = self._opened()
        if pixels.ndim != 5 or pixels.shape[1] != self.config.num_frames or pixels.dtype != torch.uint8:
            raise InputError(f"clips must be uint8 (b, {self.config.num_frames}, h, w, 3), got {pixels.dtype} {tuple(pixels.shape)}")
        normalised = access.preprocess(pixels.flatten(0, 1))
        vectors = adapter(normalised.reshape(*pixels.shape[:2], *normalised.shape[1:]))
        logits: Tensor = self.head(self.norm(vectors.to(self.norm.weight.dtype)))
        return logits

    def title(self) -> str:
        """The heading of its card."""
        return f"A recogniser of clips: TimeMamba in `{self.config.encoder}`"

    def reads(self) -> str:
        """What goes into it."""
        config = self.config
        return (
            f"It reads {config.num_frames} pictures, spread evenly over a clip, by the vision tower of the encoder `{config.encoder}` "
            f"({config.fingerprint}), which it needs beside it and which is not in this folder."
        )

    def _opened(self) -> tuple[TowerAdapter, TowerAccess, ClipReading]:
        if self._tower is None:
            raise InputError(f"this model needs the vision tower of {self.config.encoder!r}: open(encoder) it first")
        return self._tower
