"""Learning pocket: the image tower by what is in each frame, the text tower before it by captions, then what is familiar.

Four stages, each a run of the loop: ``image`` (the whole image tower), ``pack`` (its last step), ``text`` (the whole text tower),
``project`` (its last step).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from vlm.data.toybox import language, still_captions
from vlm.data.toybox.vocabulary import VERSION
from vlm.encoders.pocket import Familiar, load_pocket, open_towers, save_pocket
from vlm.encoders.pocket_model import Pack, PocketConfig, PocketText, PocketVision
from vlm.encoders.pocket_text import PocketTokenizer, build_vocabulary
from vlm.errors import InputError
from vlm.train.familiar import FamiliarConfig, fit_familiar, frame_styles
from vlm.train.loop import LoopConfig, Source, run, settings
from vlm.train.pocket_heads import as_tensors, claim_targets, targets
from vlm.train.pocket_modules import (
    MOST_SCALE,
    ImageBatch,
    ImageTraining,
    PackBatch,
    PackTraining,
    ProjectTraining,
    TextBatch,
    TextLoss,
    TextTraining,
    normalised,
    read_ends,
)
from vlm.train.recipe import read_recipe
from vlm.train.stills_source import StillsConfig, StillsSource, open_cache, relit

# Not trained on here: queries and questions of later parts are made of these, and share the vocabulary.
QUESTION_WORDS = (
    "what which who where when why how many much often long does do did is are was were be been has have will can",
    "before after during while until since later earlier first second third last next then again",
    "yes no not never nothing anything something everything any some all every each other another only just but without or of to",
    "happen happens happening begin begins start starts end ends stop stops time times video scene seen shown",
    "colour shape size texture number kind order same different most fewer least exactly more than",
    "it its they them their this these those by for at in into on off with appear appears disappears",
)
STAGES = ("image", "pack", "text", "project")
FRAMES_AT_ONCE = 128
# A batch of the pack stage is that many of the text stage: it holds no texts.
PACK_BATCHES = 8
VIEWS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDataConfig:
    """Batches of the stages after the first, over the same frames unturned.

    Attributes:
        batch_size: frames; negatives: hard negatives a caption.
        first_scale: where the learnt inverse temperature begins.
        read_batches: how many batches of texts are read for the last stage, which goes through them again and again.
    """

    batch_size: int = 64
    negatives: int = 3
    first_scale: float = 60.0
    read_batches: int = 1000

    def __post_init__(self) -> None:
        for name in ("batch_size", "negatives", "read_batches"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 1 <= self.first_scale <= MOST_SCALE:
            raise InputError(f"first_scale must be within 1..{MOST_SCALE:g}, got {self.first_scale}")


SECTIONS: dict[str, type[Any]] = {
    "model": PocketConfig,
    "data": StillsConfig,
    "image_loop": LoopConfig,
    "text_data": TextDataConfig,
    "pack_loop": LoopConfig,
    "text_loop": LoopConfig,
    "project_loop": LoopConfig,
    "familiar": FamiliarConfig,
}


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Batches of the image stage."""

    stills: StillsSource

    def batch(self, index: int) -> ImageBatch:
        """Frames and labels of batch ``index``."""
        made = self.stills.batch(index)
        return ImageBatch(made.frames, made.light_seed, as_tensors(targets(made.truth)))

    def describe_batch(self, index: int) -> str:
        """The frames of the batch."""
        return self.stills.describe_batch(index)


@dataclass(frozen=True, slots=True)
class PackSource:
    """Batches of the pack stage; every other batch is seen under other light."""

    stills: StillsSource

    def batch(self, index: int) -> PackBatch:
        """Labels of batch ``index``."""
        rows = self.stills.rows(index)
        return PackBatch(index % VIEWS, torch.from_numpy(rows), as_tensors(targets(self.stills.cache.stills[rows])))

    def describe_batch(self, index: int) -> str:
        """The frames of the batch."""
        return self.stills.describe_batch(index)


@dataclass(frozen=True, slots=True)
class TextSource:
    """Batches of the text stage; every other batch is seen under other light."""

    stills: StillsSource

    def batch(self, index: int) -> TextBatch:
        """Texts and what they claim, of batch ``index``."""
        made = self.stills.texts(index)
        tokens = torch.cat([made.tokens, made.negative_tokens])
        return TextBatch(index % VIEWS, torch.from_numpy(made.rows), tokens, made.excluded, as_tensors(claim_targets(made.claims)))

    def describe_batch(self, index: int) -> str:
        """The frames of the batch."""
        return self.stills.describe_batch(index)


@dataclass(frozen=True, slots=True)
class ReadSource:
    """Batches of the project stage: those of the text stage that have been read, in another order every time."""

    batches: tuple[TextBatch, ...]
    seed: int

    def batch(self, index: int) -> TextBatch:
        """The batch."""
        return self.batches[self._number(index)]

    def describe_batch(self, index: int) -> str:
        """Which batch of the text stage it is."""
        return f"batch {self._number(index)} of the text stage"

    def _number(self, index: int) -> int:
        epoch, place = divmod(index, len(self.batches))
        return int(np.random.default_rng([self.seed, epoch]).permutation(len(self.batches))[place])


def vocabulary() -> list[str]:
    """Pocket's vocabulary: every word that Toybox can say of frames and events, and the words of questions about them."""
    return build_vocabulary(language.words() | still_captions.words() | language.words_in(QUESTION_WORDS))


def train_pocket(
    recipe: Path,
    out: Path,
    *,
    cache: Path,
    resume: bool = False,
    steps: int | None = None,
    seed: int | None = None,
    workers: int = 1,
    begin_with: Path | None = None,
) -> Path:
    """Train by a recipe and write the encoder's folder ``out/pocket``, which ``load_encoder("pocket:FOLDER")`` opens.

    Args:
        cache: where rendered frames are kept.
        steps, seed: of all stages, instead of the recipe's.
        begin_with: folder of an encoder of the same architecture. The image stage is left out: its image tower is taken instead, and the
            text stage goes on from its text tower.
        workers: processes that render, and make batches where there is a GPU; a processor that trains has no time for them.

    Raises:
        InputError: the recipe breaks a rule, or ``out`` holds a training that is not to be resumed.
    """
    made = read_recipe(recipe, SECTIONS)
    for stage in STAGES:
        loop: LoopConfig = made[f"{stage}_loop"]
        made[f"{stage}_loop"] = replace(loop, steps=steps or loop.steps, seed=loop.seed if seed is None else seed)
    training = Training(recipe.name, made, out, cache, resume=resume, workers=workers)
    if begin_with is None:
        image, text = training.train_image(), training.new_text()
    else:
        image, text = training.open(begin_with)
    training.train_rest(image, text)
    return training.finish(image.vision, text)


class Training:
    """One training of pocket: its recipe, its frames, and the stages in order."""

    def __init__(self, name: str, made: dict[str, Any], out: Path, cache: Path, *, resume: bool, workers: int) -> None:
        self._made, self._out, self._resume = made, out, resume
        self._data: StillsConfig = made["data"]
        words = vocabulary()
        self.config: PocketConfig = replace(made["model"], vocabulary_size=len(words))
        if self._data.image_size != self.config.image_size:
            raise InputError(f"data.image_size {self._data.image_size} and model.image_size {self.config.image_size} must be the same")
        self._open_cache = partial(open_cache, folder=cache, workers=workers)
        self._workers = workers if torch.cuda.is_available() else 0
        self._frames = self._open_cache(self._data)
        self._tokenizer = PocketTokenizer(words, context=self.config.context)
        steps = {stage: made[f"{stage}_loop"].steps for stage in STAGES}
        self.trained: dict[str, Any] = {"world": VERSION, "recipe": name, "seed": made["image_loop"].seed, "steps": steps}
        self._identity = json.dumps([VERSION, asdict(self.config), asdict(self._data), words])

    def train_image(self) -> ImageTraining:
        """The image stage: the image tower and the heads, averaged weights."""
        torch.manual_seed(self._made["image_loop"].seed)
        module = ImageTraining(self.config)
        module.vision.to(memory_format=torch.channels_last)
        source = ImageSource(StillsSource(self._data, self._frames, self._tokenizer))
        self._run(module, source, "image", self._identity)
        return module

    def new_text(self) -> PocketText:
        """A text tower before its training."""
        torch.manual_seed(self._made["text_loop"].seed)
        return PocketText(self.config)

    def open(self, folder: Path) -> tuple[ImageTraining, PocketText]:
        """The image tower of an encoder, with new heads, and its text tower."""
        vision, text, held = open_towers(folder)
        if held["model"] != asdict(self.config):
            raise InputError(
                f"the encoder in {str(folder)!r} is of another architecture: {held['model']}, the recipe {asdict(self.config)}"
            )
        torch.manual_seed(self._made["text_loop"].seed)
        module = ImageTraining(self.config)
        module.vision.load_state_dict(vision.state_dict())
        module.vision.to(memory_format=torch.channels_last)
        self.trained |= {"steps": self.trained["steps"] | {"image": 0}, "begun_with": held["trained"]}
        self._identity = json.dumps([self._identity, held["sha256"]])
        return module, text

    def train_rest(self, image: ImageTraining, text: PocketText) -> None:
        """The stages after the first: the packing of the image tower, the text tower before it, and its projection; averaged weights."""
        text_data: TextDataConfig = self._made["text_data"]
        data = replace(self._data, batch_size=text_data.batch_size, negatives=text_data.negatives, turns=False, light=False)
        stills = StillsSource(data, self._frames, self._tokenizer)
        image.vision.to("cuda" if torch.cuda.is_available() else "cpu")
        seen = seen_frames(image.vision, self._frames.pixels, seed=self._data.seed)
        identity = json.dumps([self._identity, settings(self._made["image_loop"]), asdict(text_data)])
        wide = StillsSource(replace(data, batch_size=PACK_BATCHES * text_data.batch_size), self._frames, self._tokenizer)
        self._run(PackTraining(image.vision.pack, image.heads, seen), PackSource(wide), "pack", identity)
        loss = TextLoss(image.heads, packed_frames(image.vision.pack, seen), text_data.first_scale)
        del seen
        identity = json.dumps([identity, settings(self._made["pack_loop"])])
        source = TextSource(stills)
        self._run(TextTraining(text, loss), source, "text", identity)
        read = ReadSource(read_batches(text, source, text_data.read_batches), self._made["project_loop"].seed)
        identity = json.dumps([identity, settings(self._made["text_loop"])])
        self._run(ProjectTraining(text.project, loss), read, "project", identity, workers=0)

    def _run(self, module: nn.Module, source: Source, stage: str, identity: str, *, workers: int | None = None) -> None:
        """Train ``module``, and leave the averaged weights in it."""
        config: LoopConfig = self._made[f"{stage}_loop"]
        workers = self._workers if workers is None else workers
        average = run(module, source, config, self._out / stage, resume=self._resume, identity=identity, workers=workers)
        module.load_state_dict(average.values)

    def finish(self, vision: PocketVision, text: PocketText) -> Path:
        """The encoder's folder, with the statistics of what is familiar."""
        # Of the rounded weights, which are those that are shipped.
        style = load_pocket(f"pocket:{self._save(vision, text, None)}", device="cpu").styles
        known: FamiliarConfig = self._made["familiar"]
        held_out = self._open_cache(replace(self._data, split="val", num_worlds=known.held_out_worlds))
        parts = (self._frames.pixels[: known.frames], held_out.pixels[: known.frames])
        of_training, of_others = (frame_styles(style, pixels, seed=self._data.seed) for pixels in parts)
        return self._save(vision, text, fit_familiar(of_training, of_others, allowed=known.allowed))

    def _save(self, vision: PocketVision, text: PocketText, familiar: Familiar | None) -> Path:
        words = self._tokenizer.vocabulary
        return save_pocket(self._out / "pocket", vision, text, self.config, words, trained=self.trained, familiar=familiar)


@torch.inference_mode()
def seen_frames(vision: PocketVision, pixels: NDArray[np.uint8], *, seed: int) -> Tensor:
    """What the queries see, (VIEWS, n, queries, width) float16, in frames (n, h, w, 3) as they are and under other light."""
    device = vision.queries.device
    views = torch.empty(VIEWS, len(pixels), *vision.queries.shape, dtype=torch.float16, device=device)
    for first in range(0, len(pixels), FRAMES_AT_ONCE):
        frames = torch.from_numpy(np.array(pixels[first : first + FRAMES_AT_ONCE])).to(device)
        for view, shown in enumerate((frames, relit(frames, seed + first))):
            views[view, first : first + len(frames)] = vision.look(normalised(shown))[0].half()
    return views


@torch.inference_mode()
def packed_frames(pack: Pack, seen: Tensor) -> Tensor:
    """The unit vectors (VIEWS, n, d) float16 of what was seen in frames (VIEWS, n, queries, width)."""
    views = [[pack(part.float())[0] for part in view.split(FRAMES_AT_ONCE * 8)] for view in seen]
    return torch.stack([functional.normalize(torch.cat(parts), dim=-1).half() for parts in views]).clone()


@torch.no_grad()
def read_batches(text: PocketText, source: TextSource, count: int) -> tuple[TextBatch, ...]:
    """The first ``count`` batches of the text stage, read up to the projection, in bfloat16 as they were in training."""
    found = []
    for index in range(count):
        batch = source.batch(index)
        with torch.autocast(text.position.device.type, torch.bfloat16):
            read = read_ends(text, batch.tokens)
        found.append(replace(batch, tokens=batch.tokens[:, :0], read=read.half().cpu()))
    return tuple(found)
