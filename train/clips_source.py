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

from vlm.data.formats import epic100
from vlm.data.toybox.export import action_of
from vlm.data.toybox.plan import event_clip
from vlm.data.toybox.render import render
from vlm.errors import InputError
from vlm.eval.instances import relevancies
from vlm.eval.suite_clips import narration
from vlm.train.ranks import share
from vlm.types import Frames, Framing, Span

# Frames that are decoded for each one that is chosen: the nearest to its moment is then not far.
CHOICE = 2


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch of a video file and the sentence that describes it; ``span`` None is the whole file. ``action`` is what the sentence says
    in classes, where that is known."""

    path: Path
    caption: str
    span: Span | None = None
    action: epic100.Action | None = None

    def __str__(self) -> str:
        return f"{str(self.path)!r}" + ("" if self.span is None else f" {self.span}")

    def pixels(self, framing: Framing, count: int) -> NDArray[np.uint8]:
        """See ``clip_frames``."""
        return clip_frames(self, framing, count)


@dataclass(frozen=True, slots=True)
class DrawnClip:
    """A clip of one event of Toybox, drawn when it is asked for; ``path`` is the name of its world."""

    path: Path
    caption: str
    action: epic100.Action
    seed: int
    number: int
    split: str
    span: None = None

    def pixels(self, framing: Framing, count: int) -> NDArray[np.uint8]:
        """``count`` pictures (count, h, w, 3), in the middles of equal parts."""
        world = event_clip(self.seed, self.number, split=self.split)
        if framing.height != framing.width:
            raise InputError(f"clips of Toybox are squares, and the model reads {framing.height} x {framing.width}")
        return render(world, (np.arange(count) + 0.5) * world.seconds / count, size=framing.height)


AnyClip = Clip | DrawnClip


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipsConfig:
    """Which clips.

    Attributes:
        batch: clips a batch, of all ranks together. frames: pictures of each clip, in the middles of as many equal parts of it.
        seed: of their order; and of the clips of Toybox.
        worlds: how many clips of Toybox there are, where no captions are given.
        validation: a further file of captions, beside the first one, by which early stop measures (R@1 of clips by caption); "" is none.
    """

    batch: int = 32
    frames: int = 8
    seed: int = 0
    worlds: int = 0
    validation: str = ""

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("frames", 1), ("worlds", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, got {getattr(self, name)}")


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

    clips: tuple[AnyClip, ...]
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


def batch_of_clips(clips: Sequence[AnyClip], framing: Framing, frames: int, *, among: Sequence[AnyClip]) -> ClipBatch:
    """``clips`` decoded or drawn; ``among`` are all of the batch that they are of."""
    pixels = np.stack([clip.pixels(framing, frames) for clip in clips])
    return ClipBatch(torch.from_numpy(pixels), tuple(clip.caption for clip in clips), torch.from_numpy(may_be_true(among)))


def may_be_true(clips: Sequence[AnyClip]) -> NDArray[np.bool_]:
    """Which captions (n, n) may be true of which clips: the same words, overlapping stretches of one file, or the same verb and nouns by
    their classes. A clip's own are."""
    said = np.array([" ".join(clip.caption.casefold().split()) for clip in clips])
    files = np.array([os.fspath(clip.path) for clip in clips])
    starts = np.array([0.0 if clip.span is None else clip.span.start for clip in clips])
    ends = np.array([np.inf if clip.span is None else clip.span.end for clip in clips])
    overlaps = (starts[:, None] < ends[None, :]) & (starts[None, :] < ends[:, None])
    found: NDArray[np.bool_] = (said[:, None] == said[None, :]) | ((files[:, None] == files[None, :]) & overlaps)
    actions = [clip.action for clip in clips if clip.action is not None]
    if len(actions) == len(clips):
        found |= relevancies(actions, actions) == 1
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


def drawn_clips(config: ClipsConfig, *, split: str = "train") -> tuple[DrawnClip, ...]:
    """Clips of Toybox with the shortest of their captions.

    Raises:
        InputError: the config has none.
    """
    if not config.worlds:
        raise InputError("this recipe draws no clips (worlds in [data]): it needs --data FILE with captions of your own")
    clips = []
    for number in range(config.worlds):
        world = event_clip(config.seed, number, split=split)
        (event,) = world.events
        caption = narration(world, event)
        clips.append(DrawnClip(Path(world.name), caption, action_of(event, caption), config.seed, number, split))
    return tuple(clips)


def read_narrated(file: Path, videos: Path) -> tuple[Clip, ...]:
    """The clips of narrations of EPIC-KITCHENS-100; ``videos`` is the folder of the files, named by the ids of the videos.

    Raises:
        InputError: the file breaks its format, holds no narration with its action, or a video is missing.
    """
    from vlm.train.suite_files import files_of

    rows = [(row, row.action) for row in epic100.read_narrations(file).rows if row.action is not None]
    if not rows:
        raise InputError(f"{str(file)!r} holds no narration with its action: the test split of EPIC-KITCHENS has none")
    paths = dict(zip(ids := sorted({row.video_id for row, _ in rows}), files_of(videos, ids), strict=True))
    return tuple(Clip(paths[row.video_id], action.narration, row.window.span, action) for row, action in rows)


def read_clips(file: Path, videos: Path | None = None) -> tuple[Clip, ...]:
    """The clips of a ``.csv`` or ``.jsonl`` file of captions (vlm.data.formats.own), whose paths are relative to its folder; or with
    ``videos`` those of ``read_narrated``.

    Raises:
        InputError: the file breaks a rule, names a video that is not there, or holds nothing.
    """
    from vlm.data.formats.own import read_captions

    if videos is not None:
        return read_narrated(file, videos)

    clips = tuple(Clip(file.parent / row.path, row.caption, row.span) for row in read_captions(file))
    missing = sorted({str(clip.path) for clip in clips if not clip.path.is_file()})
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(f"{str(file)!r} names {missing[0]!r}{more}, which is not there: paths are relative to the folder of that file")
    if not clips:
        raise InputError(f"{str(file)!r} holds no captions: give it rows of path, start, end, caption")
    return clips
