"""What the recipe for one's own rows holds: how large the model is, and how rows are used."""

from __future__ import annotations

from dataclasses import dataclass

from vlm.encoders.base import Encoder
from vlm.errors import InputError
from vlm.models.adapter import AdapterConfig
from vlm.models.interaction import InteractionConfig
from vlm.models.model import VideoTextConfig
from vlm.ssm.stack import MixerName


@dataclass(frozen=True, slots=True, kw_only=True)
class SizesConfig:
    """How large the model is; its width d is the encoder's.

    Attributes:
        mixer, d_state: of adapters and interaction. adapter_layers, text_layers: of the adapters.
        width, layers, dropout: of the interaction.
    """

    mixer: MixerName = "dbm"
    adapter_layers: int = 1
    text_layers: int = 1
    width: int = 128
    layers: int = 2
    d_state: int = 16
    dropout: float = 0.2

    def config(self, encoder: Encoder, name: str, answers: tuple[str, ...]) -> VideoTextConfig:
        """The model for an encoder that the library knows by ``name``, with a closed list of answers."""
        dim = encoder.dim
        adapter = AdapterConfig(
            dim=dim, mixer=self.mixer, num_layers=self.adapter_layers, text_layers=self.text_layers, d_state=self.d_state
        )
        interaction = InteractionConfig(
            text_dim=dim,
            video_dim=dim,
            width=self.width,
            num_layers=self.layers,
            mixer=self.mixer,
            d_state=self.d_state,
            dropout=self.dropout,
        )
        return VideoTextConfig(encoder=name, fingerprint=encoder.fingerprint, adapter=adapter, interaction=interaction, answers=answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnConfig:
    """How rows are used.

    Attributes:
        epochs: how often each row is seen; ``loop.steps`` is the most that this may come to.
        batch_captions: captions with their stretches that the adapters see at once. batch_examples: what the heads see at once.
        unseen_share: of questions whose video is withheld, so that the model can tell what a question suggests by itself.
        retrieval_share: of batches that are for the adapters.
        negatives: sentences of other videos for each of a video. same_text: cosine from which on two sentences say the same, so that the
            one is not taken for untrue where the other is true.
        held_out: share of videos whose rows the model is judged by; 0 is none, and all that was trained is used. least_held_out: fewer
            rows of a kind are no ground to judge by.
        most_rows: longer videos are seen in part. first_scale: the inverse temperature at first.
    """

    epochs: int = 60
    batch_captions: int = 32
    batch_examples: int = 16
    unseen_share: float = 0.1
    retrieval_share: float = 0.5
    negatives: int = 4
    same_text: float = 0.95
    held_out: float = 0.2
    least_held_out: int = 10
    most_rows: int = 1024
    first_scale: float = 30.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_examples", "least_held_out", "most_rows"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_captions < 2 or self.negatives < 0 or not self.first_scale > 0:
            raise InputError(f"batch_captions must be at least 2, negatives at least 0 and first_scale above 0, got {self}")
        for name, low in (("held_out", 0.0), ("retrieval_share", 0.0), ("unseen_share", 0.0), ("same_text", -1.0)):
            if not low <= getattr(self, name) < 1:
                raise InputError(f"{name} must be in [{low:g}, 1), got {getattr(self, name)}")
