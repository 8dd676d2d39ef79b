"""Retrieval and examples on several ranks, as a program: ``torchrun --nproc-per-node 2 -m tests.train.sharing FOLDER RECIPE``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch import distributed as dist

from tests.train.test_examples import EXAMPLES, Codec, Speaking
from tests.train.test_examples import source as examples
from tests.train.test_retrieval import Encoder
from vlm.models.adapter import AdapterConfig
from vlm.models.decoder import DecoderConfig
from vlm.models.interaction import InteractionConfig
from vlm.models.model import VideoTextConfig, VideoTextModel
from vlm.train.curriculum import SceneSource
from vlm.train.features import open_features
from vlm.train.loop import SharedSource
from vlm.train.retrieval import RetrievalSource, RetrievalTraining, Stretch, TwinsConfig, twins
from vlm.train.toybox import MixedSource, train_toybox
from vlm.train.toybox_examples import WorldWitness
from vlm.train.video_text import CrossingTraining, LossConfig, MixedTraining
from vlm.train.words import TextBank

BATCHES = range(6)
Found = list[tuple[dict[str, Tensor], dict[str, Tensor]]]


def training(only: Sequence[str] = ()) -> MixedTraining:
    """A small model with every part, its gates open so that every part learns."""
    torch.manual_seed(0)
    interaction = InteractionConfig(
        text_dim=3, video_dim=3, width=8, num_layers=1, tracks=8, track_width=4, track_layers=1, d_state=2, dropout=0.0
    )
    decoder = DecoderConfig(
        width=8,
        summary_size=interaction.summary_size,
        vocabulary_size=Codec.vocabulary_size,
        start=Codec.start,
        end=Codec.end,
        tracks=8,
        thing_size=interaction.thing_size,
        slots=interaction.slots,
        d_state=2,
    )
    config = VideoTextConfig(
        encoder="mean",
        fingerprint="f",
        adapter=AdapterConfig(dim=3, num_layers=1, text_layers=1, d_state=2),
        interaction=interaction,
        answers=("yes", "no", "red"),
        decoder=decoder,
    )
    model = VideoTextModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(0.5)
    crossing = CrossingTraining(model, LossConfig(), WorldWitness.num_acts, WorldWitness.num_tracks, only=only)
    return MixedTraining({"crossing": crossing, "scenes": crossing, "retrieval": RetrievalTraining(model, 30.0)})


def mixed(cache: Path) -> MixedSource:
    """Batches of examples, of scenes, and of twins with stretches."""
    config, encoder = TwinsConfig(pairs=4, batch_pairs=2, phrasings=1, batch_stretches=2), Encoder()
    shown = twins(config.seed, config.pairs, split="train")
    features = open_features(shown.worlds, encoder, cache)  # type: ignore[arg-type]
    bank = TextBank(encoder, [*(said[0] for said in shown.texts), "a far thing"])  # type: ignore[arg-type]
    stretches = [Stretch(3, 2, 6, ("a far thing",)), Stretch(1, 0, 5, ("a far thing",))]
    sources: dict[str, SharedSource] = {
        "crossing": examples(EXAMPLES),
        "scenes": SceneSource(features, WorldWitness(shown.worlds, 2.0), 4, 6.0),
        "retrieval": RetrievalSource(config, features, shown.texts, bank, stretches, features),
    }
    return MixedSource(dict(sources), {"crossing": 0.4, "scenes": 0.3, "retrieval": 0.3}, 0)


def learn(module: nn.Module, source: SharedSource, rank: int, ranks: int) -> Found:
    """Figures and gradients of each batch: means over ranks."""
    found: Found = []
    for index in BATCHES:
        module.zero_grad(set_to_none=False)
        loss, figures = module(source.part(index, rank, ranks))
        loss.backward()
        gradients = {
            name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
            for name, parameter in module.named_parameters()
        }
        figures = {name: value.double() for name, value in figures.items()}
        if ranks > 1:
            for value in [*gradients.values(), *(figures[name] for name in sorted(figures))]:
                dist.all_reduce(value)
                value /= ranks
        found.append((figures, gradients))
    return found


def main(folder: Path, recipe: Path) -> None:
    train_toybox(recipe, folder / "two", Speaking(), cache=folder / "frames", mixer="vim")  # type: ignore[arg-type]
    rank, ranks = dist.get_rank(), dist.get_world_size()
    found = learn(training(), mixed(folder / "frames"), rank, ranks)
    if rank == 0:
        torch.save(found, folder / "found.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    dist.destroy_process_group()
