"""Learning pocket: the image tower by what is in each frame, the text tower before it by captions, then what is familiar."""

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

from vlm.data.toybox import language, still_captions
from vlm.data.toybox.vocabulary import VERSION
from vlm.encoders.pocket import Familiar, load_pocket, open_towers, save_pocket
from vlm.encoders.pocket_model import PocketConfig, PocketText, PocketVision
from vlm.encoders.pocket_text import PocketTokenizer, build_vocabulary
from vlm.errors import InputError
from vlm.train.familiar import FamiliarConfig, fit_familiar, frame_styles
from vlm.train.loop import LoopConfig, Source, run
from vlm.train.pocket_heads import as_tensors, claim_targets, targets
from vlm.train.pocket_modules import MOST_SCALE, ImageBatch, ImageTraining, TextBatch, TextTraining, normalised
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
FRAMES_AT_ONCE = 128
VIEWS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDataConfig:
    """Batches of the text stage, over the same frames unturned: ``batch_size`` frames, ``negatives`` hard negatives a caption;
    ``first_scale`` is where the learnt inverse temperature begins."""

    batch_size: int = 96
    negatives: int = 3
    first_scale: float = 20.0

    def __post_init__(self) -> None:
        for name in ("batch_size", "negatives"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 1 <= self.first_scale <= MOST_SCALE:
            raise InputError(f"first_scale must be within 1..{MOST_SCALE:g}, got {self.first_scale}")


SECTIONS: dict[str, type[Any]] = {
    "model": PocketConfig,
    "data": StillsConfig,
    "image_loop": LoopConfig,
    "text_data": TextDataConfig,
    "text_loop": LoopConfig,
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
        return f"batch {index} with frames {self.stills.rows(index).tolist()}"


@dataclass(frozen=True, slots=True)
class TextSource:
    """Batches of the text stage."""

    stills: StillsSource

    def batch(self, index: int) -> TextBatch:
        """Texts and labels of batch ``index``; every other batch is seen under other light."""
        made = self.stills.texts(index)
        return TextBatch(
            view=index % VIEWS,
            rows=torch.from_numpy(made.rows),
            tokens=torch.cat([made.tokens, made.negative_tokens]),
            excluded=made.excluded,
            target=as_tensors(targets(made.truth)),
            claimed=as_tensors(claim_targets(made.claims)),
        )

    def describe_batch(self, index: int) -> str:
        """The frames of the batch."""
        return f"batch {index} with frames {self.stills.rows(index).tolist()}"


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
        steps, seed: of both stages, instead of the recipe's.
        begin_with: folder of an encoder of the same architecture. The image stage is left out: its image tower is taken as it is, and the
            text stage goes on from its text tower.
        workers: processes that render, and make batches where there is a GPU; a processor that trains has no time for them.

    Raises:
        InputError: the recipe breaks a rule, or ``out`` holds a training that is not to be resumed.
    """
    made = read_recipe(recipe, SECTIONS)
    for stage in ("image_loop", "text_loop"):
        made[stage] = replace(made[stage], steps=steps or made[stage].steps, seed=made[stage].seed if seed is None else seed)
    training = Training(recipe.name, made, out, cache, resume=resume, workers=workers)
    if begin_with is None:
        image, text = training.train_image(), training.new_text()
    else:
        image, text = training.open(begin_with)
    training.train_text(image, text)
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
        steps = [made[stage].steps for stage in ("image_loop", "text_loop")]
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
        self.trained |= {"begun_with": held["trained"]}
        self._identity = json.dumps([self._identity, held["sha256"]])
        return module, text

    def train_text(self, image: ImageTraining, text: PocketText) -> None:
        """The text stage: texts before what the image tower sees; averaged weights. The image tower's packing moves with it."""
        text_data: TextDataConfig = self._made["text_data"]
        data = replace(self._data, batch_size=text_data.batch_size, negatives=text_data.negatives, turns=False, light=False)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        image.vision.to(device)
        seen = seen_frames(image.vision, self._frames.pixels, seed=self._data.seed)
        module = TextTraining(text, image.vision.pack, image.heads, text_data.first_scale, seen)
        identity = json.dumps([self._identity, asdict(self._made["image_loop"]), asdict(text_data)])
        self._run(module, TextSource(StillsSource(data, self._frames, self._tokenizer)), "text", identity)

    def _run(self, module: nn.Module, source: Source, stage: str, identity: str) -> None:
        """Train ``module``, and leave the averaged weights in it."""
        config: LoopConfig = self._made[f"{stage}_loop"]
        average = run(module, source, config, self._out / stage, resume=self._resume, identity=identity, workers=self._workers)
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
