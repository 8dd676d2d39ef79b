"""What each task of the suite is measured by in ``benchmarks.suite``: its columns, its figures, and what stands beside its models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from vlm.data.toybox.foresight import habits_of
from vlm.data.toybox.world import World
from vlm.eval import suite, suite_anticipation, suite_captions, suite_clips
from vlm.train.suite_clips import ClipDataConfig, toybox_classes
from vlm.train.suite_data import SuiteDataConfig, toybox_worlds
from vlm.train.suite_deeds import AnticipationDataConfig

Figures = dict[str, float]
LENGTHS = tuple(2**power for power in range(6, 17))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A task as it is measured.

    Attributes:
        columns: which figures are printed, and under which heads.
        figures: of a model, before videos of the split test, for the section [data].
        beside: figures of who does not look, and of who knows more (``oracle``), in the order of the table.
        shown: a video of so many rows, for the table of lengths: what the model is called with.
        whole: numbers of the model's config that make it look at all of such a video, of a length.
        lengths: of that table; none is no table.
        of_clips: whether it is measured on clips, without rows, instead of videos.
        recipe: whose recipe it is, where that is another's name. instead: what all rows change in it.
        others: rows beside those of the mixers, and what each changes in the recipe.
    """

    columns: Mapping[str, str]
    figures: Callable[[Any, Sequence[Any], Any], Figures]
    beside: Callable[[Sequence[Any], Any], dict[str, Figures]]
    shown: Callable[[Any, int], torch.Tensor] = lambda model, length: torch.randn(1, length, model.config.dim)
    whole: Callable[[int], Mapping[str, Any]] = lambda length: {}
    lengths: Sequence[int] = LENGTHS
    of_clips: bool = False
    recipe: str | None = None
    instead: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


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


def anticipator_figures(model: Any, videos: Sequence[suite.Video], data: AnticipationDataConfig) -> Figures:
    names = suite_anticipation.Names(data.labels, data.nouns)
    figures = suite_anticipation.anticipator_figures(videos, suite_anticipation.foreseen_by(model), names)
    return against(figures, beside_anticipators(videos, data)["oracle"])


def beside_anticipators(videos: Sequence[suite.Video], data: AnticipationDataConfig) -> dict[str, Figures]:
    names, train = suite_anticipation.Names(data.labels, data.nouns), toybox_worlds(replace(data, worlds=200), split="train")
    foresee = {
        "chance": suite_anticipation.by_habit(train, names),
        "oracle": suite_anticipation.by_rules(habits_of(train), names),
    }
    found = {name: suite_anticipation.anticipator_figures(videos, one, names) for name, one in foresee.items()}
    return {name: against(figures, found["oracle"]) for name, figures in found.items()}


def against(figures: Figures, oracle: Figures) -> Figures:
    """The figures, and the shares of the oracle's top-1 that they reach."""
    return figures | {f"{part}_of_oracle": figures[f"{part}_top1"] / oracle[f"{part}_top1"] for part in suite_anticipation.PARTS}


def recogniser_figures(model: Any, clips: Sequence[World], data: ClipDataConfig) -> Figures:
    figures = suite_clips.recogniser_figures(model, clips)
    return {f"{part}_{name}": getattr(one, name) for part, one in figures.items() for name in ("top1", "top5")}


def beside_recognisers(clips: Sequence[World], data: ClipDataConfig) -> dict[str, Figures]:
    share = 1 / len(toybox_classes(data))
    return {"chance": {"action_top1": share, "action_top5": 5 * share}}


def frames(model: Any, length: int) -> torch.Tensor:
    size = model.config.image_size
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, length, size, size, 3), dtype=np.uint8))


def dense_figures(model: Any, videos: Sequence[suite.Video], data: SuiteDataConfig) -> Figures:
    return suite_captions.dense_captioner_figures(videos, suite_captions.events_by(model))


def beside_dense(videos: Sequence[suite.Video], data: SuiteDataConfig) -> dict[str, Figures]:
    tell = {
        "always the same": suite_captions.usual_events(toybox_worlds(replace(data, worlds=200), split="train")),
        "oracle": suite_captions.another_telling,
    }
    return {name: suite_captions.dense_captioner_figures(videos, one) for name, one in tell.items()}


def paragraph_figures(model: Any, videos: Sequence[suite.Video], data: SuiteDataConfig) -> Figures:
    return suite_captions.paragraph_figures(videos, suite_captions.sentences_by(model))


def beside_paragraphs(videos: Sequence[suite.Video], data: SuiteDataConfig) -> dict[str, Figures]:
    tell = {
        "always the same": suite_captions.usual_sentences(toybox_worlds(replace(data, worlds=200), split="train")),
        "oracle": suite_captions.plain_telling,
    }
    return {name: suite_captions.paragraph_figures(videos, one) for name, one in tell.items()}


RECOGNISED = {"action_top1": "top-1", "action_top5": "top-5"}
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
    "anticipation": Measured(
        columns={
            "verb_top1": "verb top-1",
            "verb_recall5": "verb R@5",
            "noun_top1": "noun top-1",
            "noun_recall5": "noun R@5",
            "action_top1": "action top-1",
            "action_top5": "action top-5",
            "action_recall5": "action R@5",
            "caused_action_top1": "action top-1 by a rule",
            "verb_of_oracle": "verb of oracle",
            "action_of_oracle": "action of oracle",
        },
        figures=anticipator_figures,
        beside=beside_anticipators,
        whole=lambda length: {"memory_seconds": None},
    ),
    "recognition": Measured(
        columns=RECOGNISED,
        figures=recogniser_figures,
        beside=beside_recognisers,
        shown=frames,
        whole=lambda length: {"num_frames": length},
        lengths=(8, 16, 32, 64, 128, 256),
        of_clips=True,
    ),
    "timemamba": Measured(columns=RECOGNISED, figures=recogniser_figures, beside=beside_recognisers, lengths=(), of_clips=True),
    "captioning": Measured(
        columns={
            "cider": "CIDEr",
            "meteor": "METEOR",
            "bleu4": "BLEU4",
            "soda_c": "SODA_c",
            "recall": "recall",
            "precision": "precision",
        },
        figures=dense_figures,
        beside=beside_dense,
        others={"no video": {"sight": "none"}},
    ),
    "paragraphs": Measured(
        columns={"cider": "CIDEr", "meteor": "METEOR", "rouge_l": "ROUGE-L", "bleu4": "BLEU4"},
        figures=paragraph_figures,
        beside=beside_paragraphs,
        lengths=(),
        recipe="captioning",
        instead={"segments": "given", "longest": 192, "batch": 8},
        others={"no video": {"sight": "none"}},
    ),
}
