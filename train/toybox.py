"""Recipes that learn from Toybox on a frozen encoder: moments, questions, order, each alone or all in one model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vlm.data.toybox.dice import Dice
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.vocabulary import VERSION
from vlm.data.toybox.world import World
from vlm.encoders.base import Encoder, text_codec
from vlm.errors import InputError
from vlm.models.adapter import AdapterConfig
from vlm.models.decoder import DecoderConfig
from vlm.models.interaction import InteractionConfig
from vlm.models.model import VideoTextConfig, VideoTextModel, build
from vlm.train.batches import ExampleSource
from vlm.train.checkpoint import begin_from
from vlm.train.curriculum import Curriculum, GlimpseSource, LookupSource, SceneSource
from vlm.train.examples import Example, FeatureSource, Sight, Witness, texts_of
from vlm.train.features import open_features
from vlm.train.held_out import BATCHES, held_out_loss
from vlm.train.loop import LoopConfig, SharedSource, Source, run
from vlm.train.ranks import rank_and_ranks
from vlm.train.recipe import read_recipe
from vlm.train.retrieval import RATE, RetrievalSource, RetrievalTraining, TwinsConfig, stretches_of, texts_of_stretches, twins
from vlm.train.toybox_examples import ANSWERS, QUESTION_KINDS, KindsConfig, WorldWitness, world_examples
from vlm.train.video_text import HEADS, CrossingTraining, LossConfig, MixedTraining
from vlm.train.words import TextBank

# What a window of a video is shown for: texts that it may hold all of.
WINDOW_KINDS = ("thing", "event", "absent", "direction", "order", *QUESTION_KINDS.values())
FEWEST_HELD_OUT = 16  # worlds of the split val: so few may still hold every kind of example


# Of what learns, the parts that are begun with; all of them where none is named.
_CROSSING = "parts.crossing.crossing."
_BEFORE = ("from_text", "from_video", "kind", "time", "place", "text_stack", "tracks", "acts", "before")
BEGUN: dict[str, tuple[str, ...]] = {
    "all": (),
    "heads": (f"{_CROSSING}interaction.", f"{_CROSSING}grounding."),
    "answers": (),
    "crossing": (*(f"{_CROSSING}interaction.{part}" for part in _BEFORE), "parts.crossing.told.", "parts.crossing.track_told."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamplesConfig:
    """Which examples.

    Attributes:
        seed, worlds: how many worlds of the training split, and from which seed.
        batch, per_video: examples a batch, and of each of its videos. sight: how much of a video is shown; see Sight.
        latest_clock: seconds that a batch's clock may be late by. thin_share: of batches that show every second row.
        glimpses, glimpse_batch: how many of the first batches are single frames, and of how many texts each; see Curriculum.
        scenes, scene_batch, scene_seconds: how many batches after them are windows that nothing is said about, of how many videos and how
            long each. lookups: how many after those learn only to find what texts mention, in windows.
        window_share, window_seconds, window_batch: of the other batches, how many show windows (of shortest, longest seconds) instead of
            whole videos, and how many texts each has.
        unseen_share: of questions whose video is withheld, so that the model can tell what a question suggests by itself.
        quiet_share: of the words of answers that the words after them are not told; see AnswerDecoder.
        retrieval_share: of batches that are twins and stretches for the adapters; 0 trains no adapters.
        learns: ``all``; ``heads``, only what reads a pass, or ``answers``, of that the closed list and the decoder: the rest is what is
            begun with (see CrossingTraining); or ``crossing``: what comes before words and frames go through the stack is begun with and
            learns on, the stack and the heads are new.
    """

    seed: int = 11
    worlds: int = 800
    batch: int = 24
    per_video: int = 1
    latest_clock: float = 0.0
    thin_share: float = 0.0
    glimpses: int = 0
    glimpse_batch: int = 512
    scenes: int = 0
    scene_batch: int = 32
    scene_seconds: float = 16.0
    lookups: int = 0
    window_share: float = 0.0
    window_seconds: tuple[float, float] = (8.0, 24.0)
    window_batch: int = 96
    sight: str = "all"
    unseen_share: float = 0.1
    quiet_share: float = 0.2
    retrieval_share: float = 0.0
    learns: str = "all"

    def __post_init__(self) -> None:
        Sight(self.sight)
        if self.learns not in BEGUN:
            raise InputError(f"learns must be one of {', '.join(map(repr, BEGUN))}, got {self.learns!r}")
        for name in ("worlds", "batch", "per_video"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("retrieval_share", "unseen_share", "quiet_share", "window_share", "thin_share"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must be in [0, 1), got {getattr(self, name)}")


SECTIONS: dict[str, type[Any]] = {
    "adapter": AdapterConfig,
    "interaction": InteractionConfig,
    "data": ExamplesConfig,
    "kinds": KindsConfig,
    "twins": TwinsConfig,
    "losses": LossConfig,
    "loop": LoopConfig,
}


@dataclass(frozen=True, slots=True)
class MixedSource:
    """Batches of several sources, each ``(name, batch)``; which one's turn it is depends on the number of the batch alone."""

    sources: dict[str, Source]
    shares: dict[str, float]
    seed: int

    def name(self, index: int) -> str:
        """Whose turn batch ``index`` is."""
        names = [name for name in self.sources if self.shares[name] > 0]
        place = Dice("mix", self.seed, index).uniform() * sum(self.shares[name] for name in names)
        for name in names:
            place -= self.shares[name]
            if place < 0:
                return name
        return names[-1]

    def batch(self, index: int) -> tuple[str, Any]:
        """The batch of its source with the same number."""
        name = self.name(index)
        return name, self.sources[name].batch(index)

    def part(self, index: int, rank: int, ranks: int) -> tuple[str, Any]:
        """A rank's part of the batch; InputError where its source cannot be shared."""
        name = self.name(index)
        source = self.sources[name]
        if not isinstance(source, SharedSource):
            raise InputError(f"{name!r} ({type(source).__name__}) cannot be shared by {ranks} ranks: run it without torchrun")
        return name, source.part(index, rank, ranks)

    def describe_batch(self, index: int) -> str:
        """The source and what it says of the batch."""
        name = self.name(index)
        return f"{name}: {self.sources[name].describe_batch(index)}"


def worlds_of(seed: int, count: int, *, split: str) -> list[World]:
    """The first worlds of a seed."""
    return [make_world(seed, index, split=split) for index in range(count)]


@lru_cache(maxsize=2)
def _asked(seed: int, count: int, split: str) -> tuple[list[World], list[Example]]:
    """Worlds and all that is asked about them: minutes for thousands, and the same for every row of a table."""
    worlds = worlds_of(seed, count, split=split)
    return worlds, [example for video, world in enumerate(worlds) for example in world_examples(world, video)]


def example_source(
    examples: Sequence[Example],
    features: FeatureSource,
    encoder: Encoder,
    config: ExamplesConfig,
    kinds: KindsConfig,
    *,
    seed: int,
    cache: Path | None = None,
    witness: Witness | None = None,
) -> ExampleSource:
    """Batches of examples of Toybox, their texts read, and kept in ``cache``."""
    asked = [example for example in examples if kinds.shares()[example.kind] > 0]
    return ExampleSource(
        asked,
        features,
        TextBank(encoder, texts_of(asked, ANSWERS), cache),
        config.batch,
        kinds.shares(),
        seed=seed,
        answers=ANSWERS,
        is_even=True,
        codec=text_codec(encoder),
        sight=Sight(config.sight),
        unseen_share=config.unseen_share,
        quiet_share=config.quiet_share,
        per_video=config.per_video,
        latest_clock=config.latest_clock,
        thin_share=config.thin_share,
        witness=witness,
    )


def model_config(encoder: Encoder, adapter: AdapterConfig, interaction: InteractionConfig, kinds: KindsConfig) -> VideoTextConfig:
    """A model with the heads that the kinds of examples train.

    Raises:
        InputError: open questions are asked, and the encoder has no tokenizer to answer with.
    """
    closed = kinds.how_many + kinds.colour + kinds.before_after + kinds.yes_no
    decoder = None
    if kinds.open:
        codec = text_codec(encoder)
        if codec is None:
            raise InputError(f"the encoder {encoder.name!r} has no tokenizer for answers in words: set open = 0 in [kinds]")
        decoder = DecoderConfig(
            width=interaction.width,
            summary_size=interaction.summary_size,
            vocabulary_size=codec.vocabulary_size,
            start=codec.start,
            end=codec.end,
            tracks=interaction.tracks if interaction.slots else 0,
            thing_size=interaction.thing_size,
            slots=interaction.slots,
            acts=interaction.acts,
            d_state=interaction.d_state,
        )
    return VideoTextConfig(
        encoder=encoder.name,
        fingerprint=encoder.fingerprint,
        adapter=adapter,
        interaction=interaction,
        answers=ANSWERS if closed else (),
        decoder=decoder,
    )


@dataclass(frozen=True, slots=True)
class _Sources:
    """Makes batches of any split."""

    encoder: Encoder
    kinds: KindsConfig
    seed: int
    cache: Path
    workers: int

    def of(self, data: ExamplesConfig, pairs: TwinsConfig, *, split: str) -> MixedSource:
        """Examples of a split, and its twins and stretches where adapters are trained."""
        worlds, examples = _asked(data.seed, data.worlds, split)
        features = self._features(worlds)
        witness = WorldWitness(worlds, RATE)
        crossing: SharedSource = self._crossing(examples, features, data, witness)
        sources: dict[str, Source] = {"crossing": crossing}
        if data.retrieval_share:
            shown = twins(pairs.seed, pairs.pairs, split=split, phrasings=pairs.phrasings)
            stretches = stretches_of(worlds, frames_per_second=RATE)
            said = [text for some in shown.texts for text in some]
            bank = TextBank(self.encoder, [*said, *texts_of_stretches(stretches)], self.cache)
            sources["retrieval"] = RetrievalSource(pairs, self._features(shown.worlds), shown.texts, bank, stretches, features)
        shares = {"crossing": 1 - data.retrieval_share, "retrieval": data.retrieval_share}
        return MixedSource(sources, shares, self.seed)

    def _crossing(self, examples: Sequence[Example], features: FeatureSource, data: ExamplesConfig, witness: Witness) -> SharedSource:
        whole = example_source(examples, features, self.encoder, data, self.kinds, seed=self.seed, cache=self.cache, witness=witness)
        if data.sight != "all" or not (data.scenes or data.glimpses or data.lookups or data.window_share):
            return whole
        about_one = [one for one in examples if one.is_true and len(one.things) == 1 and one.text in whole.bank]
        glimpses = GlimpseSource(about_one, features, whole.bank, witness, data.glimpse_batch, self.seed, data.latest_clock)
        shares = {kind: share for kind, share in whole.shares.items() if kind in WINDOW_KINDS and share > 0}
        windows = replace(whole, shares=shares, batch_size=data.window_batch, windows=data.window_seconds, _cells={}, _seconds={})
        scenes = SceneSource(features, witness, data.scene_batch, data.scene_seconds, self.seed, data.latest_clock, data.thin_share)
        return Curriculum(
            glimpses, scenes, LookupSource(windows), windows, whole, data.glimpses, data.scenes, data.lookups, data.window_share, self.seed
        )

    def _features(self, worlds: Sequence[World]) -> FeatureSource:
        return open_features(worlds, self.encoder, self.cache, frames_per_second=RATE, workers=self.workers)


def train_toybox(
    recipe: Path,
    out: Path,
    encoder: Encoder,
    *,
    cache: Path,
    resume: bool = False,
    workers: int = 1,
    begin_with: Path | None = None,
    **instead: Any,
) -> VideoTextModel:
    """Train by a recipe of the task ``toybox``, and write the model to ``out/model``; averaged weights. Early stop looks at the split val.

    Args:
        cache: where features are kept. workers: processes that render.
        begin_with: folder of another training of a model of the same parts, whose averaged weights are begun with.
        instead: ``mixer`` (of interaction and adapters), ``seed``, ``steps``, ``sight``, and fields of ``interaction``, instead of the
            recipe's.

    Raises:
        InputError: the recipe breaks a rule, its width is not the encoder's, or ``begin_with`` holds no training of such a model.
    """
    made = read_recipe(recipe, SECTIONS)
    loop: LoopConfig = made["loop"]
    loop = replace(loop, seed=instead.get("seed", loop.seed), steps=instead.get("steps") or loop.steps)
    mixer = {"mixer": instead["mixer"]} if instead.get("mixer") else {}
    adapter = replace(made["adapter"], **mixer)
    interaction = replace(made["interaction"], **mixer, **instead.get("interaction", {}))
    data: ExamplesConfig = replace(made["data"], sight=instead.get("sight") or made["data"].sight)
    kinds: KindsConfig = made["kinds"]
    pairs: TwinsConfig = made["twins"]
    torch.manual_seed(loop.seed)
    model = build(encoder, config=model_config(encoder, adapter, interaction, kinds))
    make = _Sources(encoder, kinds, loop.seed, cache, workers)
    source, validate = make.of(data, pairs, split="train"), None
    if loop.patience:
        few = replace(data, worlds=max(FEWEST_HELD_OUT, data.worlds // 8))
        validate = held_out_loss(make.of(few, replace(pairs, pairs=pairs.batch_pairs * BATCHES), split="val"))
    if data.learns != "all" and begin_with is None:
        raise InputError(f"learns = {data.learns!r} learns a part: begin with a training of the rest (--begin-with FOLDER)")
    crossing = CrossingTraining(
        model,
        made["losses"],
        WorldWitness.num_acts,
        WorldWitness.num_tracks,
        only={"heads": HEADS, "answers": ("closed", "decoder")}.get(data.learns, ()),
    )
    parts: dict[str, nn.Module] = {"crossing": crossing}
    if data.retrieval_share:
        parts["retrieval"] = RetrievalTraining(model, pairs.first_scale)
    identity = json.dumps([VERSION, encoder.fingerprint, asdict(model.config), asdict(data), asdict(kinds), asdict(pairs)])
    module = MixedTraining(parts)
    if begin_with is not None:
        begin_from(begin_with, module, only=BEGUN[data.learns])
    average = run(module, source, loop, out, resume=resume, identity=identity, validate=validate)
    module.load_state_dict(average.values)
    model.cpu().eval()
    if rank_and_ranks()[0] == 0:
        model.save_pretrained(out / "model")
    return model
