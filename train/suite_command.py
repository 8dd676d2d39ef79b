"""``python -m vlm.train suite-…``: a task of the suite by its words, on Toybox or on one's own videos."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vlm.encoders.base import Encoder
from vlm.errors import InputError
from vlm.models.suite import localization, segmentation
from vlm.train.recipe import read_recipe
from vlm.train.suite import SECTIONS, Task, train_suite
from vlm.train.suite_data import SuiteDataConfig
from vlm.train.suite_localization import Localization
from vlm.train.suite_segmentation import Segmentation


def task_named(name: str) -> Task:
    """The task of a recipe."""
    tasks: dict[str, Task] = {localization.KIND: Localization(), segmentation.KIND: Segmentation()}
    return tasks[name]


def train_from_words(name: str, given: argparse.Namespace, recipe: Path, cache: Path, threads: int) -> Path:
    """Train as the command line says; the folder of the model.

    Raises:
        InputError: options that do not belong together, or a recipe that breaks a rule.
    """
    from vlm.encoders.registry import load_encoder

    task = task_named(name)
    data: SuiteDataConfig = read_recipe(recipe, {"model": task.model, **SECTIONS})["data"]
    encoder = load_encoder(given.encoder)
    videos = own_videos(name, given, encoder, cache, data.frames_per_second)
    asked = {"mixer": given.mixer, "steps": given.steps, "seed": given.seed}
    train_suite(task, recipe, given.out, encoder, cache=cache, videos=videos, resume=given.resume, workers=threads, **asked)
    folder: Path = given.out / "model"
    return folder


def own_videos(name: str, given: argparse.Namespace, encoder: Encoder, cache: Path, rate: float) -> Any:
    """The videos that ``--data`` and ``--videos`` name; None where there are neither."""
    from vlm.train.suite_files import read_actions, read_rows

    if given.data is None and given.videos is None:
        return None
    if given.data is None or given.videos is None:
        raise InputError("your own videos need both --data (their annotations) and --videos (the folder of the files)")
    if name == localization.KIND:
        return read_actions(given.data, given.videos, encoder, cache, rate=rate, subset=given.subset)
    if given.subset is None or given.label_rate is None:
        raise InputError("a folder of frame labels needs --subset (a file of its folder splits) and --label-rate (labels a second)")
    return read_rows(given.data, given.subset, given.videos, encoder, cache, rate=rate, label_rate=given.label_rate)
