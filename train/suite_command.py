"""``python -m vlm.train suite-…``: a task of the suite by its words, on Toybox or on one's own videos."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from vlm.encoders.base import Encoder
from vlm.errors import InputError
from vlm.train.recipe import read_recipe
from vlm.train.suite import OwnFiles, Task, train_suite
from vlm.train.suite_data import SuiteDataConfig


def task_named(name: str) -> Task:
    """The task of a recipe, one of ``recipe.SUITE_TASKS``: what the module ``vlm.train.suite_NAME`` calls TASK."""
    task: Task = import_module(f"vlm.train.suite_{name}").TASK
    return task


def train_from_words(name: str, given: argparse.Namespace, recipe: Path, cache: Path, threads: int) -> Path:
    """Train as the command line says; the folder of the model.

    Raises:
        InputError: options that do not belong together, or a recipe that breaks a rule.
    """
    from vlm.encoders.registry import load_encoder

    task = task_named(name)
    data: SuiteDataConfig = read_recipe(recipe, task.sections)["data"]
    encoder = load_encoder(given.encoder)
    videos = own_videos(task, given, encoder, cache, data)
    asked = {"mixer": given.mixer, "steps": given.steps, "seed": given.seed}
    train_suite(task, recipe, given.out, encoder, cache=cache, videos=videos, resume=given.resume, workers=threads, **asked)
    folder: Path = given.out / "model"
    return folder


def own_videos(task: Task, given: argparse.Namespace, encoder: Encoder, cache: Path, data: SuiteDataConfig) -> Any:
    """The videos that ``--data`` and ``--videos`` name; None where there are neither."""
    if given.data is None and given.videos is None:
        return None
    if given.data is None or given.videos is None:
        raise InputError("your own videos need both --data (their annotations) and --videos (the folder of the files)")
    return task.files(OwnFiles(given.data, given.videos, given.subset, given.label_rate, data), encoder, cache)
