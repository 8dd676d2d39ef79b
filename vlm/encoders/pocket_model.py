"""Pocket's two towers: a convolutional image tower that pools with learned queries, and a causal text transformer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.encoders.pocket_text import END
from vlm.errors import InputError

# Pixels along a side after the stem, and cells along a side of the grid.
STEM_SIDE, GRID_SIDE = 32, 16
# Channels at full resolution, where the textures of small things are told apart.
FINE_WIDTH = 16
# Words that a text layer mixes before attention: its own and those before it.
NEAR = 5
HEAD_WIDTH = 32
# The last numbers of a frame's vector are 0. A text puts there what its length lacks: were it to lie at the sum of what it claims, one that
# contradicts itself would be shorter than the rest, and being of unit length bring it nearer to every frame.
SPARE = 1
# Of a channel of the grid, for a logarithm: black frames have no deviation at all.
LEAST_DEVIATION = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class PocketConfig:
    """The architecture.

    Attributes:
        dim: width d of the shared space.
        image_size: height and width of the input in pixels, a multiple of STEM_SIDE.
        stem_width: channels of the stem, which brings any size to STEM_SIDE squared; grid_width: of the blocks, at half of that.
        num_blocks: residual blocks on the grid.
        num_queries, query_width: how many learnt queries read the grid, and how wide what they find is.
        vocabulary_size, context, text_width, text_layers: of the text tower.
    """

    dim: int = 384
    image_size: int = 64
    stem_width: int = 32
    grid_width: int = 96
    num_blocks: int = 3
    num_queries: int = 12
    query_width: int = 128
    vocabulary_size: int = 512
    context: int = 64
    text_width: int = 192
    text_layers: int = 3

    def __post_init__(self) -> None:
        if self.image_size < STEM_SIDE or self.image_size % STEM_SIDE:
            raise InputError(f"image_size must be a multiple of {STEM_SIDE}, got {self.image_size}")
        if self.num_queries < 1:
            raise InputError(f"num_queries must be at least 1, got {self.num_queries}")
        if self.text_width % HEAD_WIDTH:
            raise InputError(f"text_width must be a multiple of {HEAD_WIDTH}, got {self.text_width}")


class PocketVision(nn.Module):
    """Normalised pixels (n, 3, h, w) to (n, d), projected and not normalised.

    Each of ``num_queries`` learnt queries finds its own place on the grid, the first eight one colour each, which training tells them; what
    they find is concatenated and projected, so that the vector keeps every thing's place and turn apart. Averaging the grid instead would
    lose which thing is where.
    """

    def __init__(self, config: PocketConfig) -> None:
        super().__init__()
        stem, grid, width = config.stem_width, config.grid_width, config.query_width
        stride = config.image_size // STEM_SIDE
        self.coarse = nn.Conv2d(3, stem, 2 * stride + 1, stride=stride, padding=stride)
        self.fine = nn.Sequential(
            nn.Conv2d(3, FINE_WIDTH, 3, padding=1), nn.ReLU(), nn.Conv2d(FINE_WIDTH, stem, stride + 2, stride=stride, padding=1)
        )
        self.stem = ConvBlock(stem)
        self.down = nn.Conv2d(stem, grid, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList([ConvBlock(grid) for _ in range(config.num_blocks)])
        self.norm = nn.LayerNorm(grid)
        self.position = nn.Parameter(torch.zeros(1, GRID_SIDE**2, width))
        self.queries = nn.Parameter(torch.zeros(config.num_queries, width))
        self.nowhere = nn.Parameter(torch.zeros(1, config.num_queries, 1))
        self.to_key, self.to_value = nn.Linear(grid, width), nn.Linear(grid, width)
        self.found = nn.Parameter(torch.zeros(1, config.num_queries, width))
        self.pack = Pack(config)
        nn.init.normal_(self.position, std=0.3)
        nn.init.normal_(self.queries, std=width**-0.5)
        nn.init.normal_(self.found, std=0.1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Vectors (n, d)."""
        vectors: Tensor = self.pack(self.look(pixels)[0])[0]
        return vectors

    def grid(self, pixels: Tensor) -> Tensor:
        """What is at each cell, before anything looks for things: (n, c, GRID_SIDE, GRID_SIDE)."""
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        x: Tensor = self.down(self.stem(self.coarse(pixels) + self.fine(pixels)))
        for block in self.blocks:
            x = block(x)
        return x

    def style(self, pixels: Tensor) -> Tensor:
        """Mean and logarithm of the deviation of each channel over the grid, (n, 2 c): what the picture is made of, wherever things are
        (Gatys et al. 2016 tell the style of a picture by such statistics)."""
        cells = self.grid(pixels).flatten(2).float()
        return torch.cat([cells.mean(dim=-1), (cells.std(dim=-1) + LEAST_DEVIATION).log()], dim=-1)

    def look(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """What each query saw (n, queries, width), to be packed; and where it looked: logits (n, queries, cells + 1), rows of cells from
        the top left, nowhere last."""
        tokens = self.norm(self.grid(pixels).flatten(2).transpose(1, 2))  # (n, cells, c)
        logits = self.queries @ self.to_key(tokens).transpose(1, 2)  # (n, queries, cells)
        logits = torch.cat([logits, self.nowhere.to(logits.dtype).expand(len(logits), -1, -1)], dim=-1)
        weights = logits.softmax(dim=-1)[..., :-1].to(tokens.dtype)
        return weights @ (self.to_value(tokens) + self.position).to(tokens.dtype) + self.found, logits


class Pack(nn.Module):
    """What the queries saw (n, queries, width) to vectors (n, d), and to what each query found (n, queries, width) on the way there."""

    def __init__(self, config: PocketConfig) -> None:
        super().__init__()
        width = config.query_width
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
        self.project = nn.Sequential(nn.LayerNorm(config.num_queries * width), nn.Linear(config.num_queries * width, config.dim - SPARE))

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors, found."""
        found = seen + self.mlp(seen)
        return F.pad(self.project(found.flatten(1)), (0, SPARE)), found


class ConvBlock(nn.Module):
    """A pre-norm residual block of two 3 x 3 convolutions; the second starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width)
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape (n, c, h, w)."""
        out: Tensor = x + self.conv2(F.relu(self.conv1(self.norm(x))))
        return out


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (n, c, h, w), which lie last in memory: no statistics of a batch to carry."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PocketText(nn.Module):
    """Token ids (n, q) to pooled (n, d), per token (n, q', d) and mask (n, q'); pooled is the token ``[end]``.

    Causal, so that it runs only up to the longest text of the batch, and a text's vector does not depend on its neighbours.
    """

    def __init__(self, config: PocketConfig) -> None:
        super().__init__()
        width = config.text_width
        self.embed = nn.Embedding(config.vocabulary_size, width)
        self.position = nn.Parameter(torch.zeros(config.context, width))
        self.layers = nn.ModuleList([TextLayer(width) for _ in range(config.text_layers)])
        self.norm = nn.LayerNorm(width)
        # Not one matrix: the space tells more attributes apart than a word is wide, and no straight map widens it.
        self.project = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, 6 * width), nn.GELU(), nn.Linear(6 * width, config.dim))
        nn.init.normal_(self.embed.weight, std=0.5)
        nn.init.normal_(self.position, std=0.1)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pooled, per token, mask."""
        x, ends = self.read(tokens)
        per_token = self.project(x)  # (n, q', d)
        place = torch.arange(x.shape[1], device=x.device)
        pooled = per_token[torch.arange(len(x), device=x.device), ends]
        return pooled, per_token, place <= ends[:, None]

    def read(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Words before they are projected (n, q', 2 width), each beside the mean of all words up to it; and where each text ends (n,).

        The mean spares attention the copying of everything that was said into the last word.
        """
        ends = (tokens == END).int().argmax(dim=1)
        tokens = tokens[:, : int(ends.max()) + 1]
        x = self.embed(tokens) + self.position[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        number = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=torch.float32)
        so_far = x.float().cumsum(dim=1) / number[:, None]
        return torch.cat([x, so_far.to(x.dtype)], dim=-1), ends


class TextLayer(nn.Module):
    """Causal self-attention over words that have seen those just before them, and an MLP; pre-norm.

    The short convolution (as before the state space of Mamba: Gu and Dao 2023) binds ``small red`` to ``circle`` from the first step on.
    With attention alone that takes most of a training: learnt positions do not say what is next to what.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.near = nn.Parameter(torch.zeros(NEAR, width))
        self.to_qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        nn.init.normal_(self.near, std=0.3)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape (n, q, width)."""
        words = self.norm_attention(x)
        mixed = words * self.near[0]
        for back in range(1, NEAR):
            mixed = mixed + F.pad(words, (0, 0, back, 0))[:, : words.shape[1]] * self.near[back]
        query, key, value = self.to_qkv(mixed).chunk(3, dim=-1)
        x = x + self.out(attend(query, key, value, is_causal=True))
        out: Tensor = x + self.mlp(self.norm_mlp(x))
        return out


def attend(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool = False) -> Tensor:
    """Multi-head attention of (n, q, c) over (n, s, c), heads of HEAD_WIDTH.

    Written out for processors, where torch's fused kernel takes most of a training step at lengths as short as these.
    """
    n, q, c = query.shape
    query, key, value = (x.view(n, -1, c // HEAD_WIDTH, HEAD_WIDTH).transpose(1, 2) for x in (query, key, value))  # (n, head, ., width)
    if query.is_cuda:
        fused = F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
        return fused.transpose(1, 2).reshape(n, q, c)
    scores = (query * HEAD_WIDTH**-0.5) @ key.transpose(-1, -2)
    if is_causal:
        later = torch.ones(q, q, dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    mixed: Tensor = scores.softmax(dim=-1).to(value.dtype) @ value
    return mixed.transpose(1, 2).reshape(n, q, c)
