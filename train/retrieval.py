"""Learning to find videos by what happens in which order: the temporal adapter and the text adapter before order twins of Toybox.

Twins are two videos of the same two events in either order, each with the text of its own: the hardest negatives there are, and what no
mean of frames can tell apart. Stretches of other videos bring more of them at no cost: a stretch in which one thing happens, then another,
has the text that says so and one that says it the other way round.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vlm.data.toybox.dice import Dice
from vlm.data.toybox.facts import Facts
from vlm.data.toybox.language import event_caption
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.queries import queries
from vlm.data.toybox.vocabulary import VERSION
from vlm.data.toybox.world import World
from vlm.encoders.base import Encoder
from vlm.errors import InputError
from vlm.eval.pocket_tasks import order_pairs
from vlm.models.adapter import AdapterConfig
from vlm.models.model import VideoTextConfig, VideoTextModel, build
from vlm.models.reader import batch_of
from vlm.train.examples import FeatureSource
from vlm.train.features import open_features
from vlm.train.held_out import BATCHES, held_out_loss
from vlm.train.loop import LoopConfig, run
from vlm.train.losses.contrastive import info_nce
from vlm.train.ranks import gathered, rank_and_ranks, share
from vlm.train.recipe import read_recipe
from vlm.train.words import TextBank, Words
from vlm.types import Span

MOST_SCALE = 200.0
RATE = 2.0  # frames a second of every Toybox row
# Seconds that a stretch may begin before what happens in it, and end after it; and of one with two events, from the one to the other.
MOST_AROUND, MOST_SECONDS = 2.0, 24.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinsConfig:
    """Which twins: ``pairs`` of the training split from ``seed``, ``batch_pairs`` a batch (0: none), ``phrasings`` of each text; and how
    many stretches of other videos a batch holds beside them, of ``stretch_worlds`` worlds from ``stretch_seed`` where no other training
    brings its own."""

    seed: int = 1
    pairs: int = 2000
    batch_pairs: int = 24
    batch_stretches: int = 0
    stretch_seed: int = 11
    stretch_worlds: int = 0
    phrasings: int = 4
    first_scale: float = 30.0

    def __post_init__(self) -> None:
        for name, least in (("pairs", 1), ("phrasings", 1), ("batch_pairs", 0), ("batch_stretches", 0), ("stretch_worlds", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not self.batch_pairs and not self.batch_stretches:
            raise InputError("a batch needs pairs or stretches, got batch_pairs 0 and batch_stretches 0")
        if self.batch_pairs > self.pairs:
            raise InputError(f"batch_pairs {self.batch_pairs} is more than pairs {self.pairs}")


SECTIONS: dict[str, type[Any]] = {"adapter": AdapterConfig, "data": TwinsConfig, "loop": LoopConfig}


@dataclass(frozen=True, slots=True)
class Twins:
    """Pairs of videos, and the texts of each video: video 2i and 2i + 1 are twins; ``texts[v]`` are its phrasings."""

    worlds: tuple[World, ...]
    texts: tuple[tuple[str, ...], ...]


def twins(seed: int, pairs: int, *, split: str, phrasings: int = 1) -> Twins:
    """Order twins of a split, each text in several phrasings; both texts of a phrasing use the same two clauses."""
    said = [list(order_pairs(seed, pairs, split=split, phrasing=phrasing)) for phrasing in range(phrasings)]
    clips = [[clip for pair in one for clip in pair] for one in said]
    return Twins(tuple(clip.world for clip in clips[0]), tuple(tuple(clip.text for clip in same) for same in zip(*clips, strict=True)))


@dataclass(frozen=True, slots=True)
class RetrievalBatch:
    """Videos (b, t, d) with times and mask, and one text each; the first ``num_twins`` are twins, in pairs. ``excluded`` (b, b) bool are
    pairs that may be true without being row i's own; None is none. ``negatives`` are texts that belong to none of the videos, one for each
    of those behind the twins; ``is_reversed`` (n,) bool, which of them say the opposite of that video's own. Either both or none."""

    frames: Tensor
    times: Tensor
    mask: Tensor
    words: Words
    num_twins: int = 0
    excluded: Tensor | None = None
    negatives: Words | None = None
    is_reversed: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows ``[first, last)`` of a video in which something happens, texts that say it, and one that says the opposite, where there is
    one."""

    video: int
    first: int
    last: int
    texts: tuple[str, ...]
    reversed: str | None = None


def stretches_of(worlds: Sequence[World], *, frames_per_second: float) -> list[Stretch]:
    """One stretch around each event of each world, with captions of it; and around what is said to happen in an order, or in a direction,
    with the text that says the opposite, where it is no longer than MOST_SECONDS."""
    found = []
    for video, world in enumerate(worlds):
        for event in world.events:
            dice = Dice(VERSION, "stretch", world.name, event.id)
            rows = _around(world, event.span, dice, frames_per_second)
            texts = tuple(dict.fromkeys(event_caption(event, dice, detail=detail, article="a") for detail in ("short", "full", "full")))
            found.append(Stretch(video, *rows, texts))
        for query in queries(Facts(world)):
            for span in query.spans[:1] if query.kind in ("order", "direction") and query.twin else ():
                if span.seconds <= MOST_SECONDS:
                    rows = _around(world, span, Dice(VERSION, "stretch", query.id), frames_per_second)
                    found.append(Stretch(video, *rows, (query.text,), query.twin))
    return found


def _around(world: World, span: Span, dice: Dice, frames_per_second: float) -> tuple[int, int]:
    """The rows from a little before to a little after a span, at least one."""
    rows = len(range(int(-(-world.seconds * frames_per_second // 1))))
    start = max(0.0, span.start - MOST_AROUND * dice.uniform())
    end = min(world.seconds, span.end + MOST_AROUND * dice.uniform())
    first = min(int(start * frames_per_second), rows - 1)
    return first, max(first + 1, min(rows, int(end * frames_per_second)))


@dataclass(frozen=True, slots=True)
class RetrievalSource:
    """Batches of twins, each pair once an epoch, in one phrasing; and with them ``batch_stretches`` stretches of other videos."""

    config: TwinsConfig
    features: FeatureSource | None
    texts: tuple[tuple[str, ...], ...]
    bank: TextBank
    stretches: Sequence[Stretch] = ()
    stretch_features: FeatureSource | None = None

    def pairs(self, index: int) -> np.ndarray:
        """The pairs of batch ``index``."""
        size = self.config.batch_pairs
        if not size:
            return np.zeros(0, np.int64)
        epoch, number = divmod(index, self.config.pairs // size)
        return np.random.default_rng([self.config.seed, epoch]).permutation(self.config.pairs)[number * size : (number + 1) * size]

    def batch(self, index: int) -> RetrievalBatch:
        """Both videos of every pair, one after the other, with their texts; then the stretches."""
        return self.part(index, 0, 1)

    def part(self, index: int, rank: int, ranks: int) -> RetrievalBatch:
        """As the batch, of a rank's share of the pairs and of the stretches; twins stay together."""
        pairs = self.pairs(index)[share(self.config.batch_pairs, rank, ranks)]
        videos = np.stack([2 * pairs, 2 * pairs + 1], axis=1).ravel().tolist()
        phrasing = Dice("phrasing", self.config.seed, index).below(self.config.phrasings)
        assert self.features is not None or not videos
        shown = [] if self.features is None else [self.features[video] for video in videos]
        said = [self.texts[video][phrasing] for video in videos]
        negatives = is_reversed = None
        if self.stretches and self.config.batch_stretches:
            assert self.stretch_features is not None
            dice = Dice("stretches", self.config.seed, index)
            chosen = [dice.choose(self.stretches) for _ in range(self.config.batch_stretches)]
            texts = [dice.choose(stretch.texts) for stretch in chosen]
            own = share(self.config.batch_stretches, rank, ranks)
            shown += [self.stretch_features[one.video].part(one.first, one.last) for one in chosen[own]]
            said += texts[own]
            others = [one.reversed or dice.choose(dice.choose(self.stretches).texts) for one in chosen]
            negatives = self.bank.words(others[own])
            is_reversed = torch.tensor([one.reversed is not None for one in chosen[own]])
        frames, times, mask, _ = batch_of(shown)
        return RetrievalBatch(frames, times, mask, self.bank.words(said), len(videos), negatives=negatives, is_reversed=is_reversed)

    def describe_batch(self, index: int) -> str:
        """The pairs of the batch."""
        return f"batch {index} with twins {self.pairs(index).tolist()}"


class RetrievalTraining(nn.Module):
    """A model's adapters, before videos and texts that know all others of the batch for wrong, but for those that are excluded."""

    def __init__(self, model: VideoTextModel, first_scale: float) -> None:
        super().__init__()
        self.adapter, self.text_adapter = model.adapter, model.text_adapter
        self.log_scale = nn.Parameter(torch.tensor(first_scale).log())

    def forward(self, batch: RetrievalBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """InfoNCE, and of twins how often a video is nearer to its own text than to its twin's."""
        device = self.log_scale.device
        videos = self.adapter(batch.frames.to(device), batch.times.to(device), batch.mask.to(device)).pooled.float()
        words = batch.words.to(device)
        texts = self.text_adapter(words.pooled, words.tokens, words.mask).float()
        scale = self.log_scale.exp().clamp(max=MOST_SCALE)
        excluded = None if batch.excluded is None else batch.excluded.to(device)
        figures, against = {"scale": scale.detach()}, None
        if batch.negatives is not None and batch.is_reversed is not None:
            words = batch.negatives.to(device)
            against = self.text_adapter(words.pooled, words.tokens, words.mask).float()
            own, other = ((videos[batch.num_twins :] * some).sum(dim=-1) for some in (texts[batch.num_twins :], against))
            if bool(batch.is_reversed.any()):
                figures = {"reversed": (own > other)[batch.is_reversed.to(device)].float().mean().detach()} | figures
            against = gathered(against)
        loss = info_nce(gathered(videos), gathered(texts), scale, excluded=excluded, negatives=against)
        if batch.num_twins:
            videos, texts = videos[: batch.num_twins], texts[: batch.num_twins]
            own, other = (videos * texts).sum(dim=-1), (videos * texts.view(-1, 2, texts.shape[1]).flip(1).flatten(0, 1)).sum(dim=-1)
            figures = {"order": (own > other).float().mean().detach()} | figures
        return loss, figures


def encode_words(model: VideoTextModel, words: Words, device: torch.device | str) -> Tensor:
    """Unit vectors (n, d) of texts."""
    words = words.to(device)
    return model.encode_text(words.pooled, words.tokens, words.mask)


def train_retrieval(
    recipe: Path, out: Path, encoder: Encoder, *, cache: Path, resume: bool = False, workers: int = 1, **instead: Any
) -> VideoTextModel:
    """Train adapters by a recipe, and write the model to ``out/model``; averaged weights. Early stop looks at twins of the split val.

    Args:
        cache: where features are kept. workers: processes that render them.
        instead: ``mixer``, ``seed``, ``steps``, and fields of ``adapter``, instead of the recipe's.

    Raises:
        InputError: the recipe breaks a rule, or its width is not the encoder's.
    """
    made = read_recipe(recipe, SECTIONS)
    loop: LoopConfig = made["loop"]
    loop = replace(loop, seed=instead.get("seed", loop.seed), steps=instead.get("steps") or loop.steps)
    fields = {"mixer": instead.get("mixer") or made["adapter"].mixer, **instead.get("adapter", {})}
    adapter: AdapterConfig = replace(made["adapter"], **fields)
    torch.manual_seed(loop.seed)
    config = VideoTextConfig(encoder=encoder.name, fingerprint=encoder.fingerprint, adapter=adapter)
    model = build(encoder, config=config)
    data: TwinsConfig = made["data"]
    source = _source(data, encoder, cache, workers, split="train")
    validate = None
    if loop.patience:
        held_out = replace(data, pairs=data.batch_pairs * BATCHES)
        validate = held_out_loss(_source(held_out, encoder, cache, workers, split="val"))
    module = RetrievalTraining(model, data.first_scale)
    identity = json.dumps([VERSION, encoder.fingerprint, asdict(adapter), asdict(data)])
    average = run(module, source, loop, out, resume=resume, identity=identity, validate=validate)
    module.load_state_dict(average.values)
    model.cpu().eval()
    if rank_and_ranks()[0] == 0:
        model.save_pretrained(out / "model")
    return model


def _source(data: TwinsConfig, encoder: Encoder, cache: Path, workers: int, *, split: str) -> RetrievalSource:
    shown = twins(data.seed, data.pairs if data.batch_pairs else 0, split=split, phrasings=data.phrasings)
    worlds = [make_world(data.stretch_seed, index, split=split) for index in range(data.stretch_worlds if data.batch_stretches else 0)]
    if data.batch_stretches and not worlds:
        raise InputError(f"batch_stretches {data.batch_stretches} needs worlds to take stretches of: set stretch_worlds")
    stretches = stretches_of(worlds, frames_per_second=RATE)
    bank = TextBank(encoder, [*(text for texts in shown.texts for text in texts), *texts_of_stretches(stretches)], cache)
    features, others = (
        open_features(some, encoder, cache, frames_per_second=RATE, workers=workers) if some else None for some in (shown.worlds, worlds)
    )
    return RetrievalSource(data, features, shown.texts, bank, stretches, others)


def texts_of_stretches(stretches: Sequence[Stretch]) -> list[str]:
    """Every text that batches of the stretches need."""
    return [text for one in stretches for text in (*one.texts, one.reversed) if text is not None]


@torch.inference_mode()
def vectors_of(
    model: VideoTextModel, features: FeatureSource, bank: TextBank, texts: Sequence[str], *, at_once: int = 64
) -> tuple[Tensor, Tensor]:
    """Unit vectors of all videos (v, d) and of ``texts`` (n, d), which the bank holds."""
    videos = []
    for first in range(0, len(features), at_once):
        frames, times, mask, _ = batch_of([features[number] for number in range(first, min(first + at_once, len(features)))])
        videos.append(model.encode_video(frames, times, mask).pooled)
    parts = [bank.words(texts[first : first + at_once]) for first in range(0, len(texts), at_once)]
    return torch.cat(videos), torch.cat([encode_words(model, part, "cpu") for part in parts])
