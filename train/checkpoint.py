"""Checkpoints: written whole or not at all, the one before kept until the next is safe."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vlm.errors import CheckpointUnsaved, CheckpointUnusable, InputError

CURRENT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, texts, and lists and dictionaries of them) as the newest checkpoint of ``folder``.

    A kill at any moment leaves a whole checkpoint: the new one is complete on disk before it takes the name.

    Raises:
        CheckpointUnsaved: the disk is full or read-only; the checkpoints that were there remain.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{CURRENT}.unfinished"
    try:
        with unfinished.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch's writer wraps what the file system says
        unfinished.unlink(missing_ok=True)
        raise CheckpointUnsaved(
            f"the checkpoint of step {state.get('step')} cannot be written to {str(folder)!r} ({_reason(error)}): free space there and "
            "resume (--resume); the checkpoints that were there remain"
        ) from error
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if (folder / CURRENT).exists():
        os.replace(folder / CURRENT, folder / PREVIOUS)
    os.replace(unfinished, folder / CURRENT)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint of ``folder`` that can be read; None where there is none. Only tensors and plain values are read, never code.

    Raises:
        CheckpointUnusable: there are checkpoints, and none can be read.
    """
    reasons = []
    for name in (CURRENT, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            reasons.append(f"{name}: {_reason(error)}")
            continue
        return state
    if reasons:
        raise CheckpointUnusable(f"no checkpoint in {str(folder)!r} can be read ({'; '.join(reasons)}): delete them to begin again")
    return None


def begin_from(folder: Path, module: nn.Module, *, only: Sequence[str] = ()) -> None:
    """Put the averaged weights of a training of the same parts, in ``folder``, into ``module``; with ``only`` those whose names begin so.

    Raises:
        InputError: there is no checkpoint, or it is of other parts. CheckpointUnusable: it cannot be read.
    """
    state = load_checkpoint(folder)
    if state is None:
        raise InputError(f"{str(folder)!r} holds no checkpoint to begin with: name the folder (--out) of a training")
    own, held = module.state_dict(), state["average"]
    if only:
        own, held = ({name: values for name, values in each.items() if name.startswith(tuple(only))} for each in (own, held))
    wrong = [name for name in own.keys() | held.keys() if name not in own or name not in held or own[name].shape != held[name].shape]
    if wrong:
        raise InputError(
            f"the training in {str(folder)!r} is of a model of other parts, for example {min(wrong)!r}: begin with one of the same"
        )
    module.load_state_dict(held, strict=not only)


def _reason(error: BaseException) -> str:
    """The first line of what the system said; of its cause, where torch wrapped that."""
    cause = error.__context__ if isinstance(error.__context__, OSError) else error
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
