"""Fine-tuning a dual encoder on clips and captions, end to end from video files: ``python -m vlm.train clip-finetune --data FILE``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from vlm.encoders.base import Encoder
from vlm.models.tower_adapter import TowerAdapterConfig
from vlm.train.clip_model import ClipModel
from vlm.train.clips_source import Clip, ClipBatch, ClipsConfig, ClipSource, batch_of_clips, read_clips
from vlm.train.finetune import FinetuneConfig
from vlm.train.loop import LoopConfig, run
from vlm.train.losses.contrastive import info_nce
from vlm.train.ranks import gathered, is_first
from vlm.train.recipe import read_recipe
from vlm.types import Framing

SECTIONS: dict[str, type[Any]] = {"adapter": TowerAdapterConfig, "finetune": FinetuneConfig, "data": ClipsConfig, "loop": LoopConfig}
FIRST_SCALE, MOST_SCALE = 1 / 0.07, 100.0  # as CLIP
# Clips that are compared at a time: a batch of 8192 then needs 32 MiB of similarities, not 256.
CHUNK = 1024
# Clips that are decoded and encoded at a time when validating.
AT_ONCE = 16


class ClipTraining(nn.Module):
    """InfoNCE between the clips and the captions of the batch of all ranks."""

    def __init__(self, model: ClipModel) -> None:
        super().__init__()
        self.model = model
        self.log_scale = nn.Parameter(torch.tensor(FIRST_SCALE).log())

    def recomputing(self) -> AbstractContextManager[None]:
        """See ClipModel."""
        return self.model.recomputing()

    def forward(self, batch: ClipBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the share of captions (of the whole batch) that are nearest to a clip that they may be true of."""
        videos = gathered(self.model.encode_video(batch.pixels))
        texts = gathered(self.model.encode_text(batch.captions))
        scale, excluded = self.log_scale.exp().clamp(max=MOST_SCALE), batch.excluded.to(videos.device)
        with torch.autocast(videos.device.type, enabled=False):
            loss = info_nce(videos, texts, scale, excluded=excluded, chunk=CHUNK if len(videos) > CHUNK else None)
        nearest = (texts.detach() @ videos.detach().T).argmax(dim=1)
        right = excluded[nearest, torch.arange(len(texts), device=texts.device)]
        return loss, {"right": right.float().mean(), "scale": scale.detach()}


class Recall:
    """How often a caption finds a clip that it may be true of among all ``clips``: R@1, for early stop."""

    def __init__(self, clips: Sequence[Clip], framing: Framing, frames: int) -> None:
        self._parts = [clips[first : first + AT_ONCE] for first in range(0, len(clips), AT_ONCE)]
        self._all, self._framing, self._frames = clips, framing, frames

    def __call__(self, module: nn.Module) -> float:
        """R@1 of a ClipTraining."""
        model: Any = module.model
        videos, texts = [], []
        for part in self._parts:
            batch = batch_of_clips(part, self._framing, self._frames, among=self._all)
            videos.append(model.encode_video(batch.pixels))
            texts.append(model.encode_text(batch.captions))
        nearest = (torch.cat(texts) @ torch.cat(videos).T).argmax(dim=1).cpu()
        return float(batch.excluded[nearest, torch.arange(len(nearest))].float().mean())


def train_clips(
    recipe: Path,
    out: Path,
    encoder: Encoder,
    *,
    data: Path,
    resume: bool = False,
    workers: int = 1,
    steps: int | None = None,
    seed: int | None = None,
) -> ClipModel:
    """Fine-tune ``encoder`` by a recipe of the task ``clip`` on the captions of ``data``, and write the model to ``out/model``.

    The towers of ``encoder`` are changed in place: load it anew for anything else.

    Args:
        workers: processes that decode. steps, seed: instead of the recipe's.

    Raises:
        InputError: the recipe or the data break a rule. VideoError: a file cannot be decoded. Others as vlm.train.loop.run.
    """
    made = read_recipe(recipe, SECTIONS)
    loop: LoopConfig = made["loop"]
    loop = replace(loop, steps=steps or loop.steps, seed=loop.seed if seed is None else seed)
    config: ClipsConfig = made["data"]
    framing = encoder.preprocessing.framing
    source = ClipSource(read_clips(data), config, framing)
    validate = Recall(read_clips(data.parent / config.validation), framing, config.frames) if config.validation else None
    torch.manual_seed(loop.seed)
    model = ClipModel(encoder, made["adapter"], made["finetune"])
    if is_first():
        Console(stderr=True).print(model.told_parameters(), highlight=False, markup=False, soft_wrap=True)
    content = hashlib.sha256(data.read_bytes()).hexdigest()
    identity = json.dumps([encoder.fingerprint, content, *(asdict(made[name]) for name in ("adapter", "finetune", "data"))])
    module = ClipTraining(model).train()
    average = run(module, source, loop, out, resume=resume, identity=identity, workers=workers, validate=validate)
    module.load_state_dict(average.values)
    if is_first():
        model.eval().save(out / "model")
    return model
