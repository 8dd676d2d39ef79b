"""Learning pocket: frames and captions of Toybox brought together, with hard negatives and linear heads."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlm.data.toybox import language, still_captions
from vlm.data.toybox.vocabulary import VERSION
from vlm.encoders.pocket import load_pocket, save_pocket
from vlm.encoders.pocket_model import PocketConfig, PocketText, PocketVision
from vlm.encoders.pocket_text import END, PocketTokenizer, build_vocabulary
from vlm.errors import InputError
from vlm.train.familiar import fit_familiar, frame_vectors
from vlm.train.log import read_log
from vlm.train.loop import LoopConfig, run
from vlm.train.losses.contrastive import info_nce
from vlm.train.pocket_heads import Heads, looking_loss
from vlm.train.recipe import read_recipe
from vlm.train.stills_source import StillsBatch, StillsConfig, StillsSource, open_cache

MOST_SCALE = 100.0
TEXTS_AT_ONCE = 64
# What the statistics of familiar frames are taken of: as many frames of training, and those of so many worlds of the split val.
FAMILIAR_FRAMES, HELD_OUT_WORLDS = 6000, 1000
# Not trained on here: queries and questions of later parts are made of these, and share the vocabulary.
QUESTION_WORDS = (
    *(
        "what",
        "which",
        "who",
        "where",
        "when",
        "why",
        "how",
        "many",
        "much",
        "often",
        "long",
        "does",
        "do",
        "did",
        "is",
        "are",
        "was",
        "were",
    ),
    *(
        "before",
        "after",
        "during",
        "while",
        "until",
        "since",
        "later",
        "earlier",
        "first",
        "second",
        "third",
        "last",
        "next",
        "then",
        "again",
    ),
    *(
        "yes",
        "no",
        "not",
        "never",
        "nothing",
        "anything",
        "something",
        "everything",
        "any",
        "some",
        "all",
        "every",
        "each",
        "other",
        "another",
    ),
    *(
        "happen",
        "happens",
        "happening",
        "begin",
        "begins",
        "start",
        "starts",
        "end",
        "ends",
        "stop",
        "stops",
        "time",
        "times",
        "video",
        "scene",
    ),
    *(
        "colour",
        "shape",
        "size",
        "texture",
        "number",
        "kind",
        "order",
        "same",
        "different",
        "only",
        "just",
        "but",
        "without",
        "or",
        "of",
        "to",
    ),
    *("it", "its", "they", "them", "their", "this", "these", "those", "by", "for", "at", "in", "into", "on", "off", "with", "than", "more"),
    *("most", "fewer", "least", "exactly", "be", "been", "has", "have", "will", "can", "seen", "shown", "appear", "appears", "disappears"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Weights of the parts of the loss; ``first_scale`` is where the learnt inverse temperature begins."""

    contrastive: float = 1.0
    heads: float = 1.0
    first_scale: float = 14.0

    def __post_init__(self) -> None:
        if not 1 <= self.first_scale <= MOST_SCALE:
            raise InputError(f"first_scale must be within 1..{MOST_SCALE:g}, got {self.first_scale}")


SECTIONS: dict[str, type[Any]] = {"model": PocketConfig, "data": StillsConfig, "loss": LossConfig, "loop": LoopConfig}


class PocketTraining(nn.Module):
    """The two towers, the heads and the temperature; gives the loss of a batch."""

    def __init__(self, config: PocketConfig, loss: LossConfig) -> None:
        super().__init__()
        self.vision, self.text, self.heads = (
            PocketVision(config),
            PocketText(config),
            Heads(config.dim, config.query_width, config.num_queries),
        )
        self.log_scale = nn.Parameter(torch.tensor(math.log(loss.first_scale)))
        self._weights = loss

    def forward(self, batch: StillsBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its parts."""
        device = self.log_scale.device
        pixels = normalised(batch.frames.to(device))
        vectors, found, looks = self.vision.look(pixels)
        image = F.normalize(vectors.float(), dim=-1)
        n = len(image)
        texts = F.normalize(self._pooled(torch.cat([batch.tokens, batch.negative_tokens]).to(device)).float(), dim=-1)
        scale = self.log_scale.exp().clamp(max=MOST_SCALE)
        contrastive = info_nce(image, texts[:n], scale, negatives=texts[n:], excluded=batch.excluded.to(device))
        parts = self.heads(image, batch.stills) | {
            "looking": looking_loss(looks, batch.stills),
            "queries": self.heads.of_queries(found, batch.stills),
        }
        loss = self._weights.contrastive * contrastive + self._weights.heads * torch.stack(list(parts.values())).sum()
        return loss, {"contrastive": contrastive.detach(), **{name: part.detach() for name, part in parts.items()}, "scale": scale.detach()}

    def _pooled(self, tokens: Tensor) -> Tensor:
        """Text vectors (n, d), run in groups of about the same length: short texts do not wait for the longest."""
        order = (tokens == END).int().argmax(dim=1).argsort(stable=True)
        pooled = torch.cat([self.text(tokens[group])[0] for group in torch.split(order, TEXTS_AT_ONCE)])
        return pooled[order.argsort()]


def normalised(frames: Tensor) -> Tensor:
    """Pixels (n, 3, h, w) about 0 of frames (n, h, w, 3) uint8: what the shipped preprocessing does too."""
    return ((frames.float() - 127.5) / 63.75).permute(0, 3, 1, 2)


class PocketTask:
    """The Task of loop.py."""

    def __init__(self, module: PocketTraining, source: StillsSource) -> None:
        self.module = module
        self._source = source

    def batch(self, index: int) -> StillsBatch:
        """Batch ``index`` of the source."""
        return self._source.batch(index)

    def describe_batch(self, index: int) -> str:
        """The frames of the batch."""
        return f"batch {index} with frames {self._source.rows(index).tolist()}"


def vocabulary() -> list[str]:
    """Pocket's vocabulary: every word that Toybox can say of frames and events, and the words of questions about them."""
    return build_vocabulary({*language.words(), *still_captions.words(), *QUESTION_WORDS})


def train_pocket(
    recipe: Path,
    out: Path,
    *,
    cache: Path,
    resume: bool = False,
    steps: int | None = None,
    seed: int | None = None,
    stop_after: int | None = None,
    workers: int = 1,
) -> Path:
    """Train by a recipe and write the encoder's folder ``out/pocket``, which ``load_encoder("pocket:FOLDER")`` opens.

    Args:
        cache: where rendered frames are kept.
        steps, seed: instead of the recipe's.
        stop_after: end early, see loop.run.
        workers: processes that render.

    Raises:
        InputError: the recipe breaks a rule, or ``out`` holds a training that is not to be resumed.
    """
    made = read_recipe(recipe, SECTIONS)
    loop: LoopConfig = made["loop"]
    loop = replace(loop, steps=steps or loop.steps, seed=loop.seed if seed is None else seed)
    words = vocabulary()
    config: PocketConfig = replace(made["model"], vocabulary_size=len(words))
    data: StillsConfig = made["data"]
    if data.image_size != config.image_size:
        raise InputError(f"data.image_size {data.image_size} and model.image_size {config.image_size} must be the same")
    frames = open_cache(data, cache, workers=workers)
    torch.manual_seed(loop.seed)
    module = PocketTraining(config, made["loss"])
    module.vision.to(memory_format=torch.channels_last)
    tokenizer = PocketTokenizer(words, context=config.context)
    task = PocketTask(module, StillsSource(data, frames, tokenizer))
    identity = json.dumps([VERSION, asdict(config), asdict(data), asdict(made["loss"]), words])
    average = run(task, loop, out, resume=resume, identity=identity, stop_after=stop_after)
    module.load_state_dict(average.values)
    last = read_log(out)[-1]
    trained = {"world": VERSION, "recipe": recipe.name, "seed": loop.seed, "steps": last["step"] + 1, "last_loss": last["loss"]}
    save = partial(save_pocket, out / "pocket", module.vision, module.text, config, words, trained=trained)
    encode = load_pocket(f"pocket:{save()}", precision="float32").encode_frames
    held_out = open_cache(replace(data, split="val", num_worlds=HELD_OUT_WORLDS), cache, workers=workers)
    of_training, of_others = (frame_vectors(encode, part.pixels[:FAMILIAR_FRAMES], seed=loop.seed) for part in (frames, held_out))
    return save(familiar=fit_familiar(of_training, of_others))
