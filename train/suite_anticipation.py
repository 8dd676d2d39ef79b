"""Learning to foresee: an Anticipator before videos in which it is known what begins when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vlm.encoders.base import Encoder
from vlm.models.suite.anticipation import AnticipationConfig, Anticipator
from vlm.models.suite.outlook import last_row
from vlm.models.suite.rows import packed
from vlm.train.losses.foresight import foresight_loss, present_loss
from vlm.train.suite import Batch, OwnFiles, SuiteSource, Task, some_videos
from vlm.train.suite_deeds import AnticipationDataConfig, Deed, DeedVideos, read_deeds, toybox_action_names, toybox_deeds
from vlm.types import Features

# What naming the present weighs beside foreseeing; TeSTra learns both too.
PRESENT = 2.0
# Of the median channel's spread.
LEAST_SPREAD = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class ForeseenTruth:
    """The moments of a batch, and what goes on in its rows.

    Shapes:
        item, last: (n) int64, whose each moment is, and the place of its last row. horizon, action: (n) int64, numbers of both.
        present: (m, verbs + 2 nouns) 0 or 1, of all rows: what goes on, by whom, to whom.
    """

    item: Tensor
    last: Tensor
    horizon: Tensor
    action: Tensor
    present: Tensor


class AnticipationTraining(nn.Module):
    """A model before batches of videos with their moments."""

    def __init__(self, model: Anticipator) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch[ForeseenTruth]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a scalar, and its parts."""
        model, device, truth = self.model, self.model.queries.device, batch.truth
        rows, _ = packed(batch.frames.to(device), batch.mask.to(device), model.config.dim)
        action, horizon = truth.action.to(device), truth.horizon.to(device)
        outlook, mixed, source = model.after(rows, truth.item.to(device), truth.last.to(device))
        found, parts = foresight_loss(outlook, horizon, (model.verb_of[action], model.noun_of[action], action))
        sizes = [head.out_features - 1 for head in model.present if isinstance(head, nn.Linear)]
        held = torch.split(truth.present.to(device)[source], sizes, dim=1)
        present = present_loss([head(mixed.values) for head in model.present], held)
        return found + PRESENT * present, parts | {"present": present.detach()}


@dataclass(frozen=True, slots=True)
class _Truth:
    """The deeds and onsets of videos, as numbers."""

    videos: DeedVideos
    config: AnticipationConfig
    actions: Mapping[str, int]

    def cut(self, number: int, first: int, last: int, whole: Features) -> tuple[list[tuple[int, int, int]], NDArray[np.float32]]:
        """Moments of a stretch (last row, horizon, action), and what goes on in its rows (last - first, verbs + 2 nouns)."""
        times = whole.times[first:last]
        moments = []
        for onset in self.videos.onsets[number]:
            if not whole.times[0] < onset.cut <= whole.end:
                continue  # nothing is seen before it, or it is narrated after the end
            row = last_row(whole, onset.cut)
            if first <= row < last and onset.action in self.actions:
                moments.append((row - first, self.config.horizons.index(onset.horizon), self.actions[onset.action]))
        return moments, present_of(self.videos.deeds[number], times, self.config)

    def collate(self, batch: Batch[Any]) -> Batch[ForeseenTruth]:
        """The batch with its moments as tensors."""
        flat = [(item, *moment) for item, (moments, _) in enumerate(batch.truth) for moment in moments]
        item, last, horizon, action = torch.tensor(flat, dtype=torch.int64).view(-1, 4).unbind(dim=1)
        present = torch.from_numpy(np.concatenate([present for _, present in batch.truth]))
        return replace(batch, truth=ForeseenTruth(item, last, horizon, action, present))


def present_of(deeds: tuple[Deed, ...], times: NDArray[np.float64], config: AnticipationConfig) -> NDArray[np.float32]:
    """What goes on at ``times`` (t): verbs, nouns of who does it, nouns of whom it is done to, (t, verbs + 2 nouns) of 0 and 1."""
    verbs, nouns = ({name: place for place, name in enumerate(names)} for names in (config.verbs, config.nouns))
    held = np.zeros((len(times), len(verbs) + 2 * len(nouns)), dtype=np.float32)
    for deed in deeds:
        now = (times >= deed.span.start) & (times < deed.span.end)
        held[now, verbs[deed.verb]] = 1.0
        held[now, len(verbs) + nouns[deed.noun]] = 1.0
        for noun in deed.others:
            if noun in nouns:  # no action is ever begun by some of them
                held[now, len(verbs) + len(nouns) + nouns[noun]] = 1.0
    return held


def source_of(videos: DeedVideos, data: AnticipationDataConfig, model: Anticipator, *, seed: int) -> SuiteSource[ForeseenTruth]:
    """Batches of videos with their moments."""
    truth = _Truth(videos, model.config, {name: number for number, name in enumerate(model.config.classes)})
    return SuiteSource(videos.features, truth.cut, truth.collate, data, seed)


def files_of_task(files: OwnFiles, encoder: Encoder, cache: Path) -> DeedVideos:
    """Videos of a file of narrations; raises as ``read_deeds``."""
    return read_deeds(files.annotations, files.videos, encoder, cache, rate=files.rate, horizons=files.data.horizons)


def learn_spreads(model: Anticipator, videos: DeedVideos) -> None:
    """Let a model learn how vectors are spread, and how they change from row to row."""
    shown = some_videos(model, videos.features)
    rows, changes = torch.cat(shown), torch.cat([one.diff(dim=0) for one in shown])
    for part, vectors in ((model.standardise, rows), (model.standardise_changes, changes)):
        part.learn(vectors)
        # A channel that hardly ever differs must not count most where it does.
        part.spread.clamp_(min=LEAST_SPREAD * float(part.spread.median()))


TASK = Task(
    model=Anticipator,
    training=AnticipationTraining,
    worlds=toybox_deeds,
    files=files_of_task,
    classes=toybox_action_names,
    source=source_of,
    given={"horizons": lambda encoder, classes, data: data.horizons},
    data=AnticipationDataConfig,
    prepare=learn_spreads,
)
