"""What a trained model of words and frames sees along time, as rows of a task.

The paper's tasks learn from vectors of video backbones, which know of motion. Vectors of single pictures do not; but the tracks of a
video-text model (vlm.models.interaction.Tracks) do, and they depend on the video alone. A front is a frozen copy of them, and is saved
with its task's model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn

from vlm.errors import InputError
from vlm.models.interaction import InteractionConfig, Tracks
from vlm.models.model import VideoTextConfig, VideoTextModel
from vlm.models.suite.rows import Rows
from vlm.ssm.stack import MixerName


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontConfig:
    """The numbers of the tracks that are copied; see InteractionConfig."""

    tracks: int
    track_width: int
    track_layers: int
    mixer: MixerName
    d_state: int = 16
    expand: float | None = None

    @classmethod
    def of(cls, model: VideoTextConfig) -> Self:
        """The tracks of a model; raises InputError where it has none."""
        held = model.interaction
        if held is None or not held.slots:
            raise InputError("the model has no tracks to be a front: train one with slots, or set front = 'none'")
        mixer = held.first_mixer or held.mixer
        return cls(
            tracks=held.tracks,
            track_width=held.track_width,
            track_layers=held.track_layers,
            mixer=mixer,
            d_state=held.d_state,
            expand=held.expand,
        )

    @classmethod
    def read(cls, held: Mapping[str, Any] | Self | None) -> Self | None:
        """Of a file; itself, where it was read before."""
        return cls(**held) if isinstance(held, Mapping) else held

    @property
    def dim(self) -> int:
        """Numbers of a row that comes out."""
        return self.tracks * self.track_width


class Front(nn.Module):
    """The tracks of every row, side by side. Nothing of it is learnt here."""

    def __init__(self, config: FrontConfig, dim: int) -> None:
        super().__init__()
        held = InteractionConfig(
            text_dim=dim,
            video_dim=dim,
            tracks=config.tracks,
            track_width=config.track_width,
            track_layers=config.track_layers,
            mixer=config.mixer,
            d_state=config.d_state,
            expand=config.expand,
            dropout=0.0,
        )
        self.tracks = Tracks(held)
        self.requires_grad_(False)

    def take(self, model: VideoTextModel) -> None:
        """Copy the tracks of a trained model."""
        tracks = model.cross().interaction.tracks
        assert tracks is not None, "FrontConfig.of has seen to it"
        self.tracks.load_state_dict(tracks.state_dict())

    @torch.no_grad()
    def forward(self, rows: Rows) -> Rows:
        """Rows (m, FrontConfig.dim) of frame vectors (m, dim)."""
        return rows.having(self.tracks.of_rows(rows.values, rows.bounds).flatten(1))


def fronted(front: Front | None, rows: Rows) -> Rows:
    """The rows behind the front, where there is one."""
    seen: Rows = rows if front is None else front(rows)
    return seen
