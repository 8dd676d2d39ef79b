"""Batches of clips decoded from video files, with their captions: what towers are trained from end to end."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm.errors import InputError
from vlm.train.ranks import share
from vlm.types import Frames, Framing, Span

# Frames that are decoded for each one that is chosen: the nearest to its moment is then not far.
CHOICE = 2


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch of a video file and the sentence that describes it; ``span`` None is the whole file."""

    path: Path
    caption: str
    span: Span | None = None

    def __str__(self) -> str:
        return f"{str(self.path)!r}" + ("" if self.span is None else f" {self.span}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipsConfig:
    """Which clips.

    Attributes:
        batch: clips a batch, of all ranks together. frames: pictures of each clip, in the middles of as many equal parts of it.
        seed: of their order.
        validation: a further file of captions, beside the first one, by which early stop measures (R@1 of clips by caption); "" is none.
    """

    batch: int = 32
    frames: int = 8
    seed: int = 0
    validation: str = ""

    def __post_init__(self) -> None:
        for name in ("batch", "frames"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class ClipBatch:
    """Clips and their captions; the captions of the whole batch decide which pairs are no negatives.

    Shapes:
        pixels: (b, t, h, w, 3) uint8 RGB as the encoder's preprocessing frames them. captions: b texts.
        excluded: (n, n) bool over the n clips of the batch of all ranks: pairs that may be true without being a clip's own.
    """

    pixels: Tensor
    captions: tuple[str, ...]
    excluded: Tensor


@dataclass(frozen=True, slots=True)
class ClipSource:
    """Batches of ``clips``, each once an epoch in an order of its own; what is left of an epoch over whole batches is left out."""

    clips: tuple[Clip, ...]
    config: ClipsConfig
    framing: Framing

    def __post_init__(self) -> None:
        if self.config.batch > len(self.clips):
            raise InputError(f"batch = {self.config.batch} is more than the {len(self.clips)} clips that there are: lower it in [data]")

    def numbers(self, index: int) -> list[int]:
        """The clips of batch ``index``: the same whenever it is asked for."""
        size = self.config.batch
        epoch, place = divmod(index, len(self.clips) // size)
        order = np.random.default_rng([self.config.seed, epoch]).permutation(len(self.clips))
        return [int(number) for number in order[place * size : (place + 1) * size]]

    def batch(self, index: int) -> ClipBatch:
        """All clips of the batch."""
        return self.part(index, 0, 1)

    def part(self, index: int, rank: int, ranks: int) -> ClipBatch:
        """The clips of one rank."""
        chosen = [self.clips[number] for number in self.numbers(index)]
        return batch_of_clips(chosen[share(len(chosen), rank, ranks)], self.framing, self.config.frames, among=chosen)

    def describe_batch(self, index: int) -> str:
        """The clips of the batch."""
        return f"batch {index} with clips {self.numbers(index)}"


def batch_of_clips(clips: Sequence[Clip], framing: Framing, frames: int, *, among: Sequence[Clip]) -> ClipBatch:
    """``clips`` decoded; ``among`` are all of the batch that they are of."""
    pixels = np.stack([clip_frames(clip, framing, frames) for clip in clips])
    return ClipBatch(torch.from_numpy(pixels), tuple(clip.caption for clip in clips), torch.from_numpy(may_be_true(among)))


def may_be_true(clips: Sequence[Clip]) -> NDArray[np.bool_]:
    """Which captions (n, n) may be true of which clips: the same words, or overlapping stretches of one file. A clip's own are."""
    said = np.array([" ".join(clip.caption.casefold().split()) for clip in clips])
    files = np.array([os.fspath(clip.path) for clip in clips])
    starts = np.array([0.0 if clip.span is None else clip.span.start for clip in clips])
    ends = np.array([np.inf if clip.span is None else clip.span.end for clip in clips])
    overlaps = (starts[:, None] < ends[None, :]) & (starts[None, :] < ends[:, None])
    found: NDArray[np.bool_] = (said[:, None] == said[None, :]) | ((files[:, None] == files[None, :]) & overlaps)
    return found


def clip_frames(clip: Clip, framing: Framing, count: int) -> NDArray[np.uint8]:
    """``count`` pictures (count, h, w, 3) of a clip in order of time; some twice where it has fewer.

    Raises:
        VideoError: the file cannot be decoded. InputError: the span holds no frame.
    """
    from vlm.video.decode import decode
    from vlm.video.probe import probe
    from vlm.video.sample import Sampling

    span = clip.span
    if span is None:
        items = decode(clip.path, Sampling("uniform", (Fraction(count),)), framing, digest="")
        pixels = np.concatenate([item.pixels for item in items if isinstance(item, Frames)])
        return pixels[np.linspace(0, len(pixels) - 1, count).round().astype(np.int64)]
    clock = probe(clip.path, digest="").clock
    rate = max(1, math.ceil(CHOICE * count / span.seconds))
    before = clock.pts_at(Fraction(span.start)) - 1
    rows: list[NDArray[np.uint8]] = []
    times: list[float] = []
    sampling = Sampling("every", (Fraction(rate),))
    for item in decode(clip.path, sampling, framing, digest="", after_pts=before if before > 0 else None, batch_rows=8):
        if isinstance(item, Frames):
            seconds = clock.seconds(item.pts)
            inside = (seconds >= span.start) & (seconds < span.end)
            rows += list(item.pixels[inside])
            times += seconds[inside].tolist()
            if seconds[-1] >= span.end:
                break
    if not rows:
        raise InputError(f"clip {clip} holds no frame: give it a span inside the video")
    moments = span.start + (np.arange(count) + 0.5) * span.seconds / count
    nearest = np.abs(np.array(times)[None, :] - moments[:, None]).argmin(axis=1)
    return np.stack([rows[place] for place in nearest])


def read_clips(file: Path) -> tuple[Clip, ...]:
    """The clips of a ``.csv`` or ``.jsonl`` file of captions (vlm.data.formats.own); paths are relative to its folder.

    Raises:
        InputError: the file breaks a rule, names a video that is not there, or holds nothing.
    """
    from vlm.data.formats.own import read_captions

    clips = tuple(Clip(file.parent / row.path, row.caption, row.span) for row in read_captions(file))
    missing = sorted({str(clip.path) for clip in clips if not clip.path.is_file()})
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(f"{str(file)!r} names {missing[0]!r}{more}, which is not there: paths are relative to the folder of that file")
    if not clips:
        raise InputError(f"{str(file)!r} holds no captions: give it rows of path, start, end, caption")
    return clips
