"""What each task of the suite is measured by in ``benchmarks.suite``: its columns, its figures, and what stands beside its models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from vlm.eval import suite
from vlm.train.suite_data import SuiteDataConfig, toybox_worlds

Figures = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A task as it is measured.

    Attributes:
        columns: which figures are printed, and under which heads.
        figures: of a model, before videos of the split test, for the section [data].
        beside: figures of who does not look, and of who knows more (``oracle``), in the order of the table.
        shown: a video of so many rows, for the table of lengths: what the model is called with.
    """

    columns: Mapping[str, str]
    figures: Callable[[Any, Sequence[suite.Video], Any], Figures]
    beside: Callable[[Sequence[suite.Video], Any], dict[str, Figures]]
    shown: Callable[[Any, int], torch.Tensor] = lambda model, length: torch.randn(1, length, model.config.dim)


def localizer_figures(model: Any, videos: Sequence[suite.Video], data: SuiteDataConfig) -> Figures:
    return suite.localizer_figures(videos, suite.found_by(model), labels=data.labels)


def beside_localizers(videos: Sequence[suite.Video], data: SuiteDataConfig) -> dict[str, Figures]:
    guess = suite.chance_actions(toybox_worlds(replace(data, worlds=200), split="train"), labels=data.labels)
    find: dict[str, Callable[[suite.Video], Any]] = {"chance": guess, "oracle": partial(suite.true_actions, labels=data.labels)}
    return {name: suite.localizer_figures(videos, one, labels=data.labels) for name, one in find.items()}


def segmenter_figures(model: Any, videos: Sequence[suite.Video], data: SuiteDataConfig) -> Figures:
    return suite.segmenter_figures(videos, suite.labelled_by(model), rate=data.frames_per_second, labels=data.labels)


def beside_segmenters(videos: Sequence[suite.Video], data: SuiteDataConfig) -> dict[str, Figures]:
    tell: dict[str, Callable[[suite.Video], Any]] = {
        "chance": suite.nothing_everywhere,
        "oracle": partial(suite.true_labels, labels=data.labels),
    }
    return {name: suite.segmenter_figures(videos, one, rate=data.frames_per_second, labels=data.labels) for name, one in tell.items()}


MEASURED = {
    "localization": Measured(
        columns={"map_thumos": "mAP@.3:.7", "map_activitynet": "mAP@.5:.95", "map_at_0.5": "mAP@.5"},
        figures=localizer_figures,
        beside=beside_localizers,
    ),
    "segmentation": Measured(
        columns={"accuracy": "Acc", "edit": "Edit", "f1_at_10": "F1@10", "f1_at_25": "F1@25", "f1_at_50": "F1@50"},
        figures=segmenter_figures,
        beside=beside_segmenters,
    ),
}
