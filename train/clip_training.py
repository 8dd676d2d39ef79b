"""Training a dual encoder on clips and captions, end to end from pixels: of video files, ``python -m vlm.train clip-finetune --data FILE``,
or of Toybox, whose clips are drawn, ``python -m vlm.train suite-mir``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from rich.console import Console
from torch import Tensor, nn

from vlm.data.toybox.vocabulary import VERSION
from vlm.encoders.base import Encoder, Window
from vlm.errors import InputError
from vlm.models.clip_model import ClipModel, VideoTowerConfig, numbered_blocks
from vlm.models.finetune import FinetuneConfig
from vlm.models.suite.vim_weights import load_vim
from vlm.models.tower_adapter import TowerAdapterConfig
from vlm.ssm.stack import MixerName, check_word
from vlm.train.clips_source import Clip, ClipBatch, ClipsConfig, ClipSource, batch_of_clips, drawn_clips, read_clips
from vlm.train.loop import LoopConfig, run
from vlm.train.losses.contrastive import info_nce
from vlm.train.losses.margin import max_margin
from vlm.train.ranks import gathered, is_first
from vlm.train.recipe import read_recipe
from vlm.train.recompute import recomputing
from vlm.types import Framing

FIRST_SCALE, MOST_SCALE = 1 / 0.07, 100.0  # as CLIP
# Clips that are compared at a time: a batch of 8192 then needs 32 MiB of similarities, not 256.
CHUNK = 1024
# Clips that are decoded and encoded at a time when validating.
AT_ONCE = 16


LossName = Literal["info_nce", "max_margin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipLossConfig:
    """What brings clips and captions together.

    Attributes:
        name: ``info_nce`` as CLIP learns; ``max_margin`` as multi-instance retrieval is fine-tuned: a clip's own caption must be nearer to
            it than any other by ``margin``, as a cosine.
    """

    name: LossName = "info_nce"
    margin: float = 0.2

    def __post_init__(self) -> None:
        check_word("name", self.name, get_args(LossName))
        if not 0 < self.margin <= 2:
            raise InputError(f"margin must be above 0 and at most 2, as cosines are, got {self.margin:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowConfig:
    """How a trained model reads videos: windows of so many seconds, one every ``stride`` seconds; about as long as its clips."""

    seconds: float = 8.0
    stride: float = 4.0

    def of(self, frames: int) -> Window:
        """The windows, with so many pictures each."""
        return Window(frames, self.seconds, self.stride)

    def __post_init__(self) -> None:
        self.of(1)


SECTIONS: dict[str, type[Any]] = {
    "adapter": TowerAdapterConfig,
    "finetune": FinetuneConfig,
    "tower": VideoTowerConfig,
    "window": WindowConfig,
    "loss": ClipLossConfig,
    "data": ClipsConfig,
    "loop": LoopConfig,
}


class ClipTraining(nn.Module):
    """A loss between the clips and the captions of the batch of all ranks."""

    def __init__(self, model: ClipModel, loss: ClipLossConfig = ClipLossConfig()) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        # A margin is of cosines and needs no temperature.
        self.log_scale = nn.Parameter(torch.tensor(FIRST_SCALE).log()) if loss.name == "info_nce" else None

    @contextmanager
    def recomputing(self) -> Iterator[None]:
        """While it lasts, the blocks of both towers are computed again in the backward pass."""
        model = self.model
        with ExitStack() as stack:
            text = numbered_blocks(model.access.text)
            if model.vivim is not None:
                stack.enter_context(recomputing([*model.vivim.stack.layers, *text]))
            elif model.adapter is None:
                stack.enter_context(recomputing([*model.access.vision_blocks, *text]))
            else:
                stack.enter_context(recomputing(model.access.vision_blocks, model.adapter.again))
                stack.enter_context(recomputing(text))
                if model.adapter.config.residual == "vanilla":  # then adapters stand before the blocks, else inside
                    stack.enter_context(recomputing(model.adapter.layers))
            yield

    def forward(self, batch: ClipBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the share of captions (of the whole batch) that are nearest to a clip that they may be true of."""
        videos = gathered(self.model.encode_video(batch.pixels))
        texts = gathered(self.model.encode_text(batch.captions))
        excluded, figures = batch.excluded.to(videos.device), {}
        with torch.autocast(videos.device.type, enabled=False):
            if self.log_scale is None:
                loss = max_margin(videos @ texts.T, margin=self.loss.margin, excluded=excluded)
            else:
                scale = self.log_scale.exp().clamp(max=MOST_SCALE)
                loss = info_nce(videos, texts, scale, excluded=excluded, chunk=CHUNK if len(videos) > CHUNK else None)
                figures["scale"] = scale.detach()
        nearest = (texts.detach() @ videos.detach().T).argmax(dim=1)
        right = excluded[nearest, torch.arange(len(texts), device=texts.device)]
        return loss, {"right": right.float().mean(), **figures}


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
    data: Path | None = None,
    videos: Path | None = None,
    resume: bool = False,
    workers: int = 1,
    steps: int | None = None,
    seed: int | None = None,
    mixer: MixerName | None = None,
) -> ClipModel:
    """Fine-tune ``encoder`` by a recipe of the task ``clip`` on the captions of ``data``, and write the model to ``out/model``.

    The towers of ``encoder`` are changed in place: load it anew for anything else.

    Args:
        data: captions of clips, or with ``videos``, their folder, narrations of EPIC-KITCHENS-100; None draws clips of Toybox.
        workers: processes that decode or draw. steps, seed, mixer (of adapters or a ViViM): instead of the recipe's.

    Raises:
        InputError: the recipe or the data break a rule. VideoError: a file cannot be decoded. Others as vlm.train.loop.run.
    """
    made = read_recipe(recipe, SECTIONS)
    loop: LoopConfig = made["loop"]
    loop = replace(loop, steps=steps or loop.steps, seed=loop.seed if seed is None else seed)
    if mixer is not None:
        made |= {name: replace(made[name], mixer=mixer) for name in ("adapter", "tower")}
    config: ClipsConfig = made["data"]
    torch.manual_seed(loop.seed)
    tower: VideoTowerConfig = made["tower"]
    model = ClipModel(encoder, made["adapter"], made["finetune"], tower=tower, window=made["window"].of(config.frames))
    if model.vivim is not None and tower.weights:
        load_vim(model.vivim, tower.weights)
    clips = drawn_clips(config) if data is None else read_clips(data, videos)
    source = ClipSource(clips, config, model.framing)
    validate = None
    if config.validation and data is not None:
        validate = Recall(read_clips(data.parent / config.validation, videos), model.framing, config.frames)
    if is_first():
        Console(stderr=True).print(model.told_parameters(), highlight=False, markup=False, soft_wrap=True)
    content = VERSION if data is None else hashlib.sha256(data.read_bytes()).hexdigest()
    identity = json.dumps([encoder.fingerprint, content, *(asdict(made[name]) for name in SECTIONS if name != "loop")])
    module = ClipTraining(model, made["loss"]).train()
    average = run(module, source, loop, out, resume=resume, identity=identity, workers=workers, validate=validate)
    module.load_state_dict(average.values)
    if is_first():
        model.eval().save(out / "model")
    return model
