"""The temporal adapter inside a vision tower: TimeMamba (Video Mamba Suite, arXiv 2403.09626, after TimeSformer and LaViLa).

Before the attention of each block, the patches of all frames at one place of the picture are mixed along time; the class token is not.
Every gate is zero at first: a tower with a new adapter gives, for each frame, exactly what it gave without.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from vlm.encoders.base import TowerAccess
from vlm.errors import InputError
from vlm.ssm.stack import MixerConfig, MixerName, check_word

Residual = Literal["frozen", "vanilla"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerAdapterConfig:
    """How time enters a tower.

    Attributes:
        mixer: see MixerConfig; expand 1 as in the paper.
        residual: ``vanilla``: the mixed patches go on through the block. ``frozen``: only the block's attention sees them, and the residual
            stream is the tower's own (the better of the two in the paper).
        class_tokens: how many tokens at the front of a frame are no patches: 1 for CLIP, 0 for SigLIP. Maps have none.
    """

    mixer: MixerName = "vim"
    residual: Residual = "frozen"
    expand: float = 1
    d_state: int = 16
    class_tokens: int = 1

    def __post_init__(self) -> None:
        check_word("mixer", self.mixer, get_args(MixerName))
        check_word("residual", self.residual, get_args(Residual))
        if self.class_tokens < 0:
            raise InputError(f"class_tokens must be 0 or more, got {self.class_tokens}")


class TowerAdapter(nn.Module):
    """A vision tower that sees several frames at once. Only what is added here is among its parameters; the tower stays the encoder's.

    Works on every tower whose blocks take tokens (n, tokens, width) first and begin with a LayerNorm, as those of open_clip and
    transformers do, or maps (n, width, h, w) with a LayerNorm of their channels, as those of pocket; nothing of the tower is changed but
    hooks, which ``remove`` takes away.

    Args:
        layers: what ``time_layers`` made for such a tower, to be put into this one; None makes new ones.

    Raises:
        InputError: the tower shows no blocks, or a block has no norm before its attention; or ``layers`` are not for as many blocks.
    """

    def __init__(self, tower: TowerAccess, config: TowerAdapterConfig, layers: nn.ModuleList | None = None) -> None:
        super().__init__()
        self.config = config
        self._tower = tower
        width, count = tower_sizes(tower)
        if layers is not None and len(layers) != count:
            raise InputError(f"layers are for {len(layers)} blocks, and the vision tower has {count}")
        blocks = tower.vision_blocks
        norms = [_first_norm(block, number) for number, block in enumerate(blocks)]
        self.layers = (time_layers(config, width, count) if layers is None else layers).to(tower.device)
        self._num_frames: int | None = None
        places = blocks if config.residual == "vanilla" else norms
        self._hooks = [place.register_forward_pre_hook(self._hook(layer)) for place, layer in zip(places, self.layers, strict=True)]

    def forward(self, pixels: Tensor) -> Tensor:
        """Vectors (b, d), the mean of the frames' projected outputs, not normalised, of normalised pixels (b, t, 3, h, w).

        Raises:
            InputError: another shape, or clips without frames.
        """
        if pixels.ndim != 5 or pixels.shape[1] < 1:
            raise InputError(f"pixels must be (b, t, 3, h, w) with at least one frame, got {tuple(pixels.shape)}")
        return self.frames(pixels).mean(dim=1)

    def frames(self, pixels: Tensor) -> Tensor:
        """As ``forward``, each frame's own vector (b, t, d)."""
        b, t = pixels.shape[:2]
        with self._seeing(t):
            return self._tower.forward_frames(pixels.flatten(0, 1)).reshape(b, t, -1)

    def again(self) -> AbstractContextManager[None]:
        """What a block that is computed again in the backward pass must stand in: the tower then sees as many frames as now."""
        return self._seeing(self._num_frames)

    def remove(self) -> None:
        """Take the hooks away: the tower is as it was."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    @contextmanager
    def _seeing(self, num_frames: int | None) -> Iterator[None]:
        before, self._num_frames = self._num_frames, num_frames
        try:
            yield
        finally:
            self._num_frames = before

    def _hook(self, layer: nn.Module) -> Any:
        def mix(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
            # Calls of the tower from elsewhere see single frames, which have no time.
            return None if self._num_frames is None else (layer(inputs[0], self._num_frames), *inputs[1:])

        return mix


def tower_sizes(tower: TowerAccess) -> tuple[int, int]:
    """The width of what goes into the blocks of a vision tower, and how many blocks there are; raises InputError as TowerAdapter."""
    blocks = tower.vision_blocks
    if not blocks:
        raise InputError("the vision tower shows no transformer blocks (TowerAccess.vision_blocks), so that none can be adapted")
    return int(_first_norm(blocks[0], 0).normalized_shape[0]), len(blocks)


def time_layers(config: TowerAdapterConfig, width: int, count: int) -> nn.ModuleList:
    """New layers for a tower of ``count`` blocks of ``width``."""
    return nn.ModuleList([_PatchTime(width, config) for _ in range(count)])


class _PatchTime(nn.Module):
    """``p + tanh(gate) * mixer(norm(p))`` along time, for each place of the picture by itself; class tokens pass."""

    def __init__(self, width: int, config: TowerAdapterConfig) -> None:
        super().__init__()
        self.class_tokens = config.class_tokens
        self.norm = nn.LayerNorm(width)
        self.mixer = MixerConfig(config.mixer, width, d_state=config.d_state, expand=config.expand).build()
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, tokens: Tensor, num_frames: int) -> Tensor:
        """Tokens (b * t, tokens, width), or maps (b * t, width, h, w)."""
        if tokens.ndim == 4:
            places = self._mixed(tokens.flatten(2).transpose(1, 2), num_frames)
            maps: Tensor = places.transpose(1, 2).reshape(tokens.shape).contiguous(memory_format=torch.channels_last)
            return maps
        first, patches = tokens[:, : self.class_tokens], tokens[:, self.class_tokens :]
        return torch.cat([first, self._mixed(patches, num_frames)], dim=1)

    def _mixed(self, patches: Tensor, num_frames: int) -> Tensor:
        """Patches (b * t, places, width)."""
        n, places, width = patches.shape
        b = n // num_frames
        over_time = patches.reshape(b, num_frames, places, width).transpose(1, 2).reshape(b * places, num_frames, width)
        mixed = self.mixer(self.norm(over_time)).reshape(b, places, num_frames, width).transpose(1, 2).reshape(n, places, width)
        seen: Tensor = patches + torch.tanh(self.gate) * mixed.to(patches.dtype)
        return seen


def _first_norm(block: nn.Module, number: int) -> nn.LayerNorm:
    """The norm before a block's attention: of open_clip ``ln_1``, of transformers ``layer_norm1``, the first LayerNorm in both."""
    for part in block.children():
        if isinstance(part, nn.LayerNorm):
            return part
    raise InputError(f"block {number} of the vision tower ({type(block).__name__}) has no LayerNorm of its own before its attention")
