"""Learning pocket: frames and captions of Toybox brought together, then the text tower alone, then what is familiar."""

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
from vlm.encoders.pocket import load_pocket, save_pocket
from vlm.encoders.pocket_model import PocketConfig
from vlm.encoders.pocket_text import PocketTokenizer, build_vocabulary
from vlm.errors import InputError
from vlm.train.familiar import FamiliarConfig, fit_familiar, frame_vectors
from vlm.train.loop import LoopConfig, run
from vlm.train.pocket_modules import LossConfig, PocketTraining, TextTraining
from vlm.train.recipe import read_recipe
from vlm.train.stills_source import StillsBatch, StillsConfig, StillsSource, StillsTexts, open_cache

# Not trained on here: queries and questions of later parts are made of these, and share the vocabulary.
QUESTION_WORDS = (
    "what which who where when why how many much often long does do did is are was were be been has have will can",
    "before after during while until since later earlier first second third last next then again",
    "yes no not never nothing anything something everything any some all every each other another only just but without or of to",
    "happen happens happening begin begins start starts end ends stop stops time times video scene seen shown",
    "colour shape size texture number kind order same different most fewer least exactly more than",
    "it its they them their this these those by for at in into on off with appear appears disappears",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDataConfig:
    """Batches of the second stage, over the same frames unturned: batch_size frames, negatives hard negatives a caption."""

    batch_size: int = 128
    negatives: int = 4

    def __post_init__(self) -> None:
        for name in ("batch_size", "negatives"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")


SECTIONS: dict[str, type[Any]] = {
    "model": PocketConfig,
    "data": StillsConfig,
    "loss": LossConfig,
    "loop": LoopConfig,
    "text_data": TextDataConfig,
    "text_loop": LoopConfig,
    "familiar": FamiliarConfig,
}


class TowersTask:
    """The Task of the first stage: both towers and the heads."""

    def __init__(self, module: PocketTraining, source: StillsSource) -> None:
        self.module: nn.Module = module
        self._source = source

    def batch(self, index: int) -> StillsBatch:
        """Batch ``index`` of the source."""
        return self._source.batch(index)

    def describe_batch(self, index: int) -> str:
        """The frames of the batch."""
        return f"batch {index} with frames {self._source.rows(index).tolist()}"


class TextTask:
    """The Task of the second stage: the text tower before fixed vectors (frames, d) of the source's frames."""

    def __init__(self, module: TextTraining, source: StillsSource, vectors: NDArray[np.float32]) -> None:
        self.module: nn.Module = module
        self._source, self._vectors = source, torch.from_numpy(vectors)

    def batch(self, index: int) -> tuple[Tensor, StillsTexts]:
        """The vectors and texts of batch ``index`` of the source."""
        texts = self._source.texts(index)
        return self._vectors[torch.from_numpy(texts.rows)], texts

    def describe_batch(self, index: int) -> str:
        """The frames of the batch."""
        return f"batch {index} with frames {self._source.rows(index).tolist()}"


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
) -> Path:
    """Train by a recipe and write the encoder's folder ``out/pocket``, which ``load_encoder("pocket:FOLDER")`` opens.

    Args:
        cache: where rendered frames are kept.
        steps, seed: of both stages, instead of the recipe's.
        workers: processes that render.

    Raises:
        InputError: the recipe breaks a rule, or ``out`` holds a training that is not to be resumed.
    """
    made = read_recipe(recipe, SECTIONS)
    loops = [
        replace(loop, steps=steps or loop.steps, seed=loop.seed if seed is None else seed) for loop in (made["loop"], made["text_loop"])
    ]
    words = vocabulary()
    config: PocketConfig = replace(made["model"], vocabulary_size=len(words))
    data: StillsConfig = made["data"]
    if data.image_size != config.image_size:
        raise InputError(f"data.image_size {data.image_size} and model.image_size {config.image_size} must be the same")
    frames = open_cache(data, cache, workers=workers)
    torch.manual_seed(loops[0].seed)
    module = PocketTraining(config, made["loss"])
    module.vision.to(memory_format=torch.channels_last)
    tokenizer = PocketTokenizer(words, context=config.context)
    identity = json.dumps([VERSION, asdict(config), asdict(data), asdict(made["loss"]), words])
    average = run(TowersTask(module, StillsSource(data, frames, tokenizer)), loops[0], out / "towers", resume=resume, identity=identity)
    module.load_state_dict(average.values)

    trained = {"world": VERSION, "recipe": recipe.name, "seed": loops[0].seed, "steps": [loop.steps for loop in loops]}
    save = partial(save_pocket, out / "pocket", module.vision, module.text, config, words, trained=trained)
    # The vectors of the second stage are those of the rounded weights, which are what is shipped.
    encode = load_pocket(f"pocket:{save()}", precision="float32").encode_frames
    text_data: TextDataConfig = made["text_data"]
    quiet = replace(data, batch_size=text_data.batch_size, negatives=text_data.negatives, turns=False, light=False)
    text_module = TextTraining(module.text, float(module.log_scale.detach().exp()))
    task = TextTask(text_module, StillsSource(quiet, frames, tokenizer), encode(np.array(frames.pixels)))
    identity = json.dumps([identity, asdict(loops[0]), asdict(text_data)])
    average = run(task, loops[1], out / "text", resume=resume, identity=identity)
    text_module.load_state_dict(average.values)

    known: FamiliarConfig = made["familiar"]
    held_out = open_cache(replace(data, split="val", num_worlds=known.held_out_worlds), cache, workers=workers)
    of_training, of_others = (frame_vectors(encode, part.pixels[: known.frames], seed=data.seed) for part in (frames, held_out))
    return save(familiar=fit_familiar(of_training, of_others, allowed=known.allowed))
