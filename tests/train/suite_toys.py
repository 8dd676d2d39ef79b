"""A small task of the suite: vectors that show what is done, by an encoder that is none."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vlm.data.action_names import action_name
from vlm.encoders.base import Preprocessing
from vlm.models.suite.clip_classes import ClipReading
from vlm.train.suite_data import LabelledRows, LabelledVideos, TimedLabel
from vlm.train.suite_deeds import Deed, DeedVideos, Onset
from vlm.train.suite_sentences import ToldStretch, ToldVideos, vocabulary_of
from vlm.train.suite_timemamba import SeenClips
from vlm.types import Features, Framing, Span

CLASSES = ("nothing", "run", "jump")
DIM = 8
TOWER = 12


class ToyBlock(nn.Module):
    """A block of a vision tower: what stands after its norm is what an adapter changes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.map = nn.LayerNorm(TOWER), nn.Linear(TOWER, TOWER)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + torch.tanh(self.map(self.norm(tokens)))


class ToyTower(nn.Module):
    """Pictures of 16 x 16 to vectors: four patches behind a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.project = nn.Conv2d(3, TOWER, 8, stride=8), nn.Linear(TOWER, DIM)
        self.blocks = nn.ModuleList([ToyBlock() for _ in range(2)])

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.patches(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([torch.zeros_like(tokens[:, :1]), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        projected: Tensor = self.project(tokens.mean(dim=1))
        return projected


class ToyEncoder:
    """An encoder whose vectors come from elsewhere; it has a vision tower for those that see by it, and no text tower."""

    name, fingerprint, dim, device = "toy", "abc", DIM, "cpu"
    preprocessing = Preprocessing(Framing(height=16, width=16))
    text = nn.Identity()

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.vision = ToyTower().eval()
        self.vision_blocks = tuple(self.vision.blocks)

    def preprocess(self, frames: Tensor) -> Tensor:
        return (frames.permute(0, 3, 1, 2).float() - 128) / 64

    def forward_frames(self, pixels: Tensor) -> Tensor:
        vectors: Tensor = self.vision(pixels)
        return vectors

    def tokenize(self, texts: Any) -> Tensor:
        raise NotImplementedError

    def forward_text(self, tokens: Tensor) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class ToyFeatures:
    """Videos of 20 to 60 rows at 2 a second: a vector for each class, and noise."""

    rows: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Features:
        labels = self.rows[number]
        noise = np.random.default_rng(number).normal(size=(len(labels), DIM)) * 0.3
        vectors = (np.eye(DIM)[labels] + noise).astype(np.float32)
        return Features(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.arange(len(labels)) / 2, len(labels) / 2)


def toy_labels(count: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        labels = np.zeros(int(random.integers(20, 60)), dtype=np.int64)
        for _ in range(int(random.integers(1, 4))):
            start = int(random.integers(0, len(labels) - 8))
            labels[start : start + int(random.integers(4, 8))] = int(random.integers(1, 3))
        found.append(labels)
    return tuple(found)


def toy_rows(count: int, seed: int = 0) -> LabelledRows:
    labels = toy_labels(count, seed)
    return LabelledRows(tuple(map(str, range(count))), ToyFeatures(labels), labels, CLASSES)


def toy_videos(count: int, seed: int = 0) -> LabelledVideos:
    labels, actions = toy_labels(count, seed), []
    for rows in labels:
        bounds = [0, *(np.flatnonzero(np.diff(rows)) + 1).tolist(), len(rows)]
        pairs = itertools.pairwise(bounds)
        actions.append(tuple(TimedLabel(Span(a / 2, b / 2), CLASSES[rows[a]]) for a, b in pairs if rows[a]))
    return LabelledVideos(tuple(map(str, range(count))), ToyFeatures(labels), tuple(actions), CLASSES[1:])


@dataclass(frozen=True)
class ToyDeedFeatures:
    """Rows (t) of what is done (0 nothing, 1 run, 2 jump) and by whom (0 nobody, 1 cat, 2 dog), as vectors with noise."""

    rows: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Features:
        verb, noun = self.rows[number].T
        noise = np.random.default_rng(number).normal(size=(len(verb), DIM)) * 0.1
        vectors = (np.eye(DIM)[verb] + np.eye(DIM)[3 + noun] + noise).astype(np.float32)
        return Features(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.arange(len(verb)) / 2, len(verb) / 2)


def toy_deeds(count: int, seed: int = 0) -> DeedVideos:
    """Whoever runs spins 2 s after the end, whoever jumps falls; nothing shows who spins or falls."""
    random = np.random.default_rng(seed)
    rows, deeds, onsets = [], [], []
    for _ in range(count):
        shown, done, begun = np.zeros((int(random.integers(40, 60)), 2), dtype=np.int64), [], []
        for start in range(int(random.integers(1, 5)), len(shown) - 12, 14):
            kind, who = int(random.integers(1, 3)), int(random.integers(1, 3))
            shown[start : start + 5] = kind, who
            noun, start_seconds = ("cat", "dog")[who - 1], start / 2
            done.append(Deed(Span(start_seconds, start_seconds + 2.5), ("run", "jump")[kind - 1], noun))
            follows = Deed(Span(start_seconds + 4.5, start_seconds + 5.5), ("spin", "fall")[kind - 1], noun)
            done.append(follows)
            begun.append(Onset(follows.span.start - 1.0, 1.0, action_name(follows.verb, noun)))
        rows.append(shown)
        deeds.append(tuple(done))
        onsets.append(tuple(begun))
    classes = tuple(action_name(verb, noun) for verb in ("run", "jump", "spin", "fall") for noun in ("cat", "dog"))
    return DeedVideos(tuple(map(str, range(count))), ToyDeedFeatures(tuple(rows)), tuple(deeds), tuple(onsets), classes)


@dataclass(frozen=True)
class ToyClips:
    """Clips that get brighter or darker, whatever they show and however bright they are."""

    labels: np.ndarray
    classes: tuple[str, ...] = ("brighter", "darker")

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(map(str, range(len(self.labels))))

    def pixels(self, number: int, reads: ClipReading, random: np.random.Generator | None) -> np.ndarray:
        own, size = np.random.default_rng(number + 1000 * len(self.labels)), reads.framing.height
        picture = own.normal(own.uniform(100, 150), 20, (size, size, 3))
        slope = (1 - 2 * int(self.labels[number, 0])) * own.uniform(20, 40)
        steps = np.linspace(-1, 1, reads.num_frames)[:, None, None, None]
        return (picture + slope * steps).clip(0, 255).astype(np.uint8)


def toy_clips(count: int, seed: int = 0) -> ToyClips:
    return ToyClips(np.random.default_rng(seed).integers(2, size=(count, 1)))


def toy_seen_clips(count: int, seed: int = 0) -> SeenClips:
    return SeenClips(toy_clips(count, seed), ToyEncoder())


SENTENCES = {"run": ("a boy runs", "someone is running fast"), "jump": ("a frog jumps", "something is jumping high")}


def toy_told(count: int, seed: int = 0) -> ToldVideos:
    videos = toy_videos(count, seed)
    events = tuple(
        tuple(ToldStretch(action.span, SENTENCES[action.label], f"then {SENTENCES[action.label][0]}") for action in of_video)
        for of_video in videos.actions
    )
    texts = [text for some in SENTENCES.values() for text in (*some, f"then {some[0]}")]
    return ToldVideos(videos.ids, videos.features, events, vocabulary_of(texts))


@dataclass(frozen=True)
class Toy:
    """A task in the small: its section [model], its videos, and what would draw other numbers on each rank set to 0."""

    model: Mapping[str, Any]
    videos: Callable[..., Any]
    steady: Mapping[str, float] = field(default_factory=dict)

    def section(self) -> str:
        return "\n".join(f"{name} = {value}" for name, value in self.model.items())


# Every task of the suite: what all must do is tested with each (test_suite, test_suite_sharing).
TOYS = {
    "localization": Toy(
        {"width": 16, "branch_layers": 2, "stem_layers": 1, "head_layers": 1, "d_state": 4, "num_heads": 2},
        toy_videos,
        {"drop_path": 0.0},
    ),
    "segmentation": Toy(
        {"width": 16, "num_layers": 3, "d_state": 4, "channel_dropout": 0.1},
        toy_rows,
        {"channel_dropout": 0.0},
    ),
    "recognition": Toy(
        {"image_size": 16, "patch": 8, "num_frames": 4, "tubelet": 2, "width": 16, "num_layers": 2, "d_state": 4},
        toy_clips,
    ),
    "anticipation": Toy(
        {"width": 16, "num_layers": 1, "d_state": 4, "num_heads": 2, "memory_seconds": 4.0, "dropout": 0.1},
        toy_deeds,
        {"dropout": 0.0},
    ),
    "timemamba": Toy({"num_frames": 4, "d_state": 4}, toy_seen_clips),
    "captioning": Toy(
        {"width": 16, "num_levels": 3, "encoder_layers": 1, "d_state": 4, "num_heads": 2, "num_points": 2, "caption_layers": 1},
        toy_told,
        {"shake": 0.0},
    ),
}
