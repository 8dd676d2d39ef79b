"""ViViM: a clip of frames as one sequence of patches that is scanned in space and time together.

After Vision Mamba (Zhu et al. 2024, arXiv 2401.09417) and ViViM of Video Mamba Suite (arXiv 2403.09626). In every frame a class token
stands in the middle of the patches; frames follow each other in time; what comes out is the mean of the class tokens. With ``mixer =
"attention"`` the same model is a ViViT of joint space-time attention (Arnab et al. 2021, arXiv 2103.15691, their model 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from vlm.errors import InputError
from vlm.models.suite.checks import check_at_least, check_positive
from vlm.models.suite.clip_classes import ClipReading
from vlm.ssm.stack import MixerConfig, MixerName, StackConfig, check_word
from vlm.types import Framing

# Of the pictures of ImageNet, by which Vim's weights were trained.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# How far apart positions are at first, as Vim's.
FIRST_SPREAD = 0.02
# How many times larger the change against the clip's mean picture comes in than the picture: most of a picture stands still.
CHANGE = 2.0
Size = Literal["tiny", "small"]
Pool = Literal["class", "mean"]
# Width; and what makes attention, at half the layers, as many numbers as ViM (within 3 %).
SIZES: dict[Size, tuple[int, float]] = {"tiny": (192, 5.6), "small": (384, 5.0)}
NUM_LAYERS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class ViViMConfig:
    """The numbers of a ViViM.

    Attributes:
        image_size: height and width of a frame in pixels. patch: side of a patch, which divides it.
        num_frames: of a clip. tubelet: frames that one patch covers, which divides it; 1 in the paper.
        change: whether patches also see how the picture differs from the mean picture of the clip.
        pool: what comes out is the mean of the ``class`` tokens, as in the paper, or of all tokens.
        first_spread: how far apart positions are at first.
        width: of the tokens. mixer: what carries information through the sequence.
        d_state, expand: of mamba, vim and dbm. num_heads, ffn_expand: of attention, which has a feed-forward of that width.
        drop_path: share of items whose last layer is left out in training; it rises evenly from 0 at the first.
        weights: a file of Vim's weights with which training begins; "" is none.
    """

    image_size: int = 224
    patch: int = 16
    num_frames: int = 8
    tubelet: int = 1
    change: bool = False
    pool: Pool = "class"
    first_spread: float = FIRST_SPREAD
    width: int = 192
    num_layers: int = NUM_LAYERS
    mixer: MixerName = "vim"
    d_state: int = 16
    expand: float | None = None
    num_heads: int | None = None
    ffn_expand: float = 4.0
    drop_path: float = 0.0
    weights: str = ""

    def __post_init__(self) -> None:
        check_word("mixer", self.mixer, get_args(MixerName))
        check_word("pool", self.pool, get_args(Pool))
        check_positive(self, "first_spread")
        check_at_least(self, 1, "image_size", "patch", "num_frames", "tubelet", "width", "num_layers")
        for whole, part in (("image_size", "patch"), ("num_frames", "tubelet")):
            if getattr(self, whole) % getattr(self, part):
                raise InputError(f"{whole} must be a multiple of {part}, got {getattr(self, whole)} and {getattr(self, part)}")

    @property
    def reading(self) -> ClipReading:
        """How it reads clips."""
        return ClipReading(self.num_frames, Framing(height=self.image_size, width=self.image_size))

    @property
    def side(self) -> int:
        """Patches along a side of a frame."""
        return self.image_size // self.patch

    @property
    def num_steps(self) -> int:
        """Class tokens of a clip, one for each tubelet."""
        return self.num_frames // self.tubelet

    def stack(self) -> StackConfig:
        """Its layers."""
        is_attention = self.mixer == "attention"
        mixer = MixerConfig(
            self.mixer,
            self.width,
            d_state=self.d_state,
            expand=self.expand,
            combine="mean",
            num_heads=self.num_heads if is_attention else None,
        )
        ffn_expand = self.ffn_expand if is_attention else None
        return StackConfig(mixer, self.num_layers, norm="rms", drop_path=self.drop_path, ffn_expand=ffn_expand)


def sized(size: Size, *, mixer: MixerName = "vim", **changes: Any) -> ViViMConfig:
    """The published sizes: ``tiny`` of about 7 million numbers, ``small`` of about 26; attention has half the layers and as many numbers.

    Args:
        changes: of any other field.

    Raises:
        InputError: the size is unknown, or a number breaks its rule.
    """
    check_word("size", size, get_args(Size))
    width, ffn_expand = SIZES[size]
    num_layers = NUM_LAYERS // 2 if mixer == "attention" else NUM_LAYERS
    return ViViMConfig(**{"width": width, "mixer": mixer, "num_layers": num_layers, "ffn_expand": ffn_expand} | changes)


class ViViM(nn.Module):
    """Clips to vectors of ``width`` numbers, not normalised."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ViViMConfig) -> None:
        super().__init__()
        self.config = config
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, 255 * torch.tensor(values)[:, None, None], persistent=False)
        kernel = (config.tubelet, config.patch, config.patch)
        self.patch_embed = nn.Conv3d(6 if config.change else 3, config.width, kernel, stride=kernel)
        self.class_token = nn.Parameter(torch.empty(config.width))
        self.position = nn.Parameter(torch.empty(config.side**2 + 1, config.width))
        # At zero a clip is first read as pictures in a row, which is what weights of pictures know.
        self.frame_position = nn.Parameter(torch.zeros(config.num_steps, config.width))
        self.stack = config.stack().build()
        for parameter in (self.class_token, self.position):
            nn.init.trunc_normal_(parameter, std=config.first_spread)

    def forward(self, pixels: Tensor) -> Tensor:
        """Vectors (b, width) of normalised pixels (b, t, 3, h, w).

        Raises:
            InputError: they are not of the config's number and size.
        """
        if self.config.pool == "class":
            return self.steps(pixels).mean(dim=1)
        return self.mixed(pixels).mean(dim=(1, 2))

    def steps(self, pixels: Tensor) -> Tensor:
        """The class token (b, s, width) of each of the s tubelets; raises as ``forward``."""
        return self.mixed(pixels)[:, :, self.config.side**2 // 2]

    def mixed(self, pixels: Tensor) -> Tensor:
        """All tokens (b, s, places, width) after the layers, the class token in the middle of the patches; raises as ``forward``."""
        size = self.config.image_size
        wanted = (self.config.num_frames, 3, size, size)
        if pixels.ndim != 5 or tuple(pixels.shape[1:]) != wanted:
            raise InputError(f"pixels must be (b, {', '.join(map(str, wanted))}), got {tuple(pixels.shape)}")
        tokens = self.tokens(pixels)
        b, s, places, width = tokens.shape
        mixed: Tensor = self.stack(tokens.reshape(b, s * places, width)).reshape(b, s, places, width)
        return mixed

    def normalised(self, pixels: Tensor) -> Tensor:
        """What ``forward`` reads (b, t, 3, h, w) of clips (b, t, h, w, 3) uint8, on the device of the model.

        Raises:
            InputError: another type or shape.
        """
        if pixels.dtype != torch.uint8 or pixels.ndim != 5 or pixels.shape[-1] != 3:
            raise InputError(f"clips must be uint8 (b, t, h, w, 3), got {pixels.dtype} {tuple(pixels.shape)}")
        return (pixels.to(self.mean.device).permute(0, 1, 4, 2, 3).to(self.mean.dtype) - self.mean) / self.std

    def tokens(self, pixels: Tensor) -> Tensor:
        """What goes into the layers (b, s, places, width): patches row by row, the class token in their middle, positions added."""
        if self.config.change:
            pixels = torch.cat([pixels, CHANGE * (pixels - pixels.mean(dim=1, keepdim=True))], dim=2)
        patches = self.patch_embed(pixels.transpose(1, 2)).flatten(3).permute(0, 2, 3, 1)  # (b, s, patches, width)
        middle = patches.shape[2] // 2
        class_token = self.class_token.expand(*patches.shape[:2], 1, -1)
        tokens = torch.cat([patches[:, :, :middle], class_token, patches[:, :, middle:]], dim=2)
        return tokens + self.position + self.frame_position[:, None]


def num_tokens(config: ViViMConfig) -> int:
    """How long the sequence of a clip is."""
    return config.num_steps * (config.side**2 + 1)


def inflated(kernel: Tensor, tubelet: int) -> Tensor:
    """A kernel of pictures (width, 3, p, p) as one of clips (width, 3, tubelet, p, p): a still clip gives what its picture gave.

    Carreira and Zisserman 2017 (arXiv 1705.07750).
    """
    return kernel[:, :, None].expand(-1, -1, tubelet, -1, -1) / tubelet


def resized_positions(positions: Tensor, side: int) -> Tensor:
    """Positions (n * n + 1, width), the class token's in their middle, for a grid of ``side`` patches a side, by bicubic interpolation."""
    count, width = positions.shape
    old = round((count - 1) ** 0.5)
    if old * old != count - 1:
        raise InputError(f"positions must be those of a square and one class token, got {count}")
    if old == side:
        return positions
    middle, new_middle = old * old // 2, side * side // 2
    grid = torch.cat([positions[:middle], positions[middle + 1 :]]).reshape(1, old, old, width).permute(0, 3, 1, 2).float()
    resized = nn.functional.interpolate(grid, size=(side, side), mode="bicubic", antialias=side < old)
    flat = resized.permute(0, 2, 3, 1).reshape(side * side, width).to(positions)
    return torch.cat([flat[:new_middle], positions[middle, None], flat[new_middle:]])
