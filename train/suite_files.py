"""Annotation files beside a folder of videos, read as the suite's tasks learn them; the videos are encoded once, into a cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from vlm.data.formats import action_seg, activitynet_detection
from vlm.encoders.base import Encoder
from vlm.errors import InputError
from vlm.index.footage import read_file
from vlm.index.scan import stamp_of
from vlm.train.suite_data import LabelledRows, LabelledVideos, TimedLabel
from vlm.types import Features
from vlm.video.sample import Sampling


@dataclass(frozen=True, slots=True)
class FileFeatures:
    """Features of video files, each read and encoded when it is first asked for, and kept in ``cache``."""

    paths: tuple[Path, ...]
    encoder: Encoder
    sampling: Sampling
    cache: Path

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Features:
        """The features of one video; raises VideoError where it cannot be used."""
        path = self.paths[number]
        key = f"{self.encoder.fingerprint} {self.sampling} {path.resolve()} {stamp_of(os.fsencode(path.resolve()))}"
        kept = self.cache / f"video-{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
        if not kept.exists():
            made = read_file(str(path), self.encoder, self.sampling).features
            self.cache.mkdir(parents=True, exist_ok=True)
            beside = kept.with_suffix(".part")
            with beside.open("wb") as file:
                np.savez(file, vectors=made.vectors.astype(np.float16), times=made.times, end=np.float64(made.end))
            beside.replace(kept)
        with np.load(kept) as held:
            return Features(held["vectors"].astype(np.float32), held["times"], float(held["end"]))


def files_of(folder: Path, ids: Sequence[str]) -> tuple[Path, ...]:
    """The file of each video: the one whose name without its ending is the id, with or without a leading ``v_``.

    Raises:
        InputError: the folder is none, or holds no file of an id, or several.
    """
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} must be a folder of videos")
    by_stem: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            by_stem.setdefault(path.stem.removeprefix("v_"), []).append(path)
    found = []
    for video_id in ids:
        paths = by_stem.get(video_id.removeprefix("v_"), [])
        if len(paths) != 1:
            raise InputError(
                f"{str(folder)!r} must hold one file named {video_id!r}, got {len(paths)}: {[path.name for path in paths[:3]]}"
            )
        found.append(paths[0])
    return tuple(found)


def read_actions(annotations: Path, videos: Path, encoder: Encoder, cache: Path, *, rate: float, subset: str | None) -> LabelledVideos:
    """Videos of a detection file of ActivityNet, HACS or THUMOS-14 (``vlm.data.formats.activitynet_detection``).

    Args:
        videos: the folder of the files. rate: frames a second. subset: only videos of it; None is all.

    Raises:
        InputError: the file breaks its format, no video is of the subset, or a file is missing.
    """
    held = activitynet_detection.read_truth(annotations)
    classes = tuple(sorted({action.label for video in held.rows for action in video.actions}))
    chosen = [video for video in held.rows if subset is None or video.subset == subset]
    if not chosen or not classes:
        subsets = sorted({str(video.subset) for video in held.rows})
        raise InputError(f"{str(annotations)!r} has no video with actions of the subset {subset!r}; it has {subsets}")
    ids = tuple(video.video_id for video in chosen)
    actions = tuple(
        tuple(
            TimedLabel(action.window.span, action.label)
            for action in video.actions
            if not any(action.window.faults("segment", video.duration_seconds))  # published files hold some; they are told by the reader
        )
        for video in chosen
    )
    return LabelledVideos(ids, FileFeatures(files_of(videos, ids), encoder, every(rate), cache), actions, classes)


def read_rows(folder: Path, bundle: str, videos: Path, encoder: Encoder, cache: Path, *, rate: float, label_rate: float) -> LabelledRows:
    """Videos of a folder as MS-TCN reads it: ``mapping.txt``, ``groundTruth`` and ``splits`` (``vlm.data.formats.action_seg``).

    Args:
        bundle: the name of a file in ``splits``. rate: frames a second of the rows. label_rate: of the labels.

    Raises:
        InputError: a file breaks its format, has a label that the mapping lacks, or is missing.
    """
    classes = action_seg.read_mapping(folder / "mapping.txt")
    ids = tuple(Path(name).stem for name in action_seg.read_bundle(folder / "splits" / bundle))
    features = FileFeatures(files_of(videos, ids), encoder, every(rate), cache)
    labels = []
    for number, video_id in enumerate(ids):
        path = folder / "groundTruth" / f"{video_id}.txt"
        names = action_seg.read_frames(path).labels
        unknown = sorted(set(names) - set(classes))
        if unknown:
            raise InputError(f"{str(path)!r} has the label {unknown[0]!r}, which mapping.txt lacks")
        at = np.minimum((features[number].times * label_rate + 1e-6).astype(int), len(names) - 1)
        labels.append(np.array([classes.index(names[place]) for place in at], dtype=np.int64))
    return LabelledRows(ids, features, tuple(labels), classes)


def every(rate: float) -> Sampling:
    """``rate`` frames a second."""
    return Sampling("every", (Fraction(repr(rate)),))
