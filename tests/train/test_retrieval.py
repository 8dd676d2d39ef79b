"""Adapters trained on order twins: the right pairs, the right texts, and a run that ends in a model that can be opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.train.test_features import MeanEncoder
from vlm.data.toybox.facts import Facts
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.queries import queries
from vlm.encoders.base import TextTokens
from vlm.errors import InputError
from vlm.models.adapter import AdapterConfig
from vlm.models.model import VideoTextConfig, VideoTextModel
from vlm.train.features import open_features
from vlm.train.log import read_log
from vlm.train.recipe import recipe_path, task_of
from vlm.train.retrieval import (
    RetrievalBatch,
    RetrievalSource,
    RetrievalTraining,
    Stretch,
    TwinsConfig,
    encode_words,
    stretches_of,
    texts_of_stretches,
    train_retrieval,
    twins,
    vectors_of,
)
from vlm.train.words import TextBank, Words

RECIPE = """
task = "retrieval"
[adapter]
dim = 3
mixer = "mamba"
num_layers = 1
d_state = 2
[data]
pairs = 4
batch_pairs = 2
phrasings = 2
[loop]
steps = 3
warmup_steps = 1
"""


class Encoder(MeanEncoder):
    """A frame is its mean colour; a word is the number of its letters."""

    name = "mean"

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.array([[len(text), text.count("a") + 1, text.count("then") + 1] for text in texts], np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def encode_text_tokens(self, texts: Sequence[str]) -> TextTokens:
        words = [text.split() for text in texts]
        mask = np.arange(max(map(len, words))) < np.array([len(one) for one in words])[:, None]
        vectors = np.zeros((*mask.shape, 3), np.float32)
        for number, one in enumerate(words):
            vectors[number, : len(one)] = [[len(word), word.count("e"), 1.0] for word in one]
        return TextTokens(vectors=vectors, mask=mask)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


def test_twins_say_the_same_clauses_in_either_order() -> None:
    shown = twins(7, 3, split="train", phrasings=3)
    assert len(shown.worlds) == len(shown.texts) == 6
    for video in range(0, 6, 2):
        for one, other in zip(shown.texts[video], shown.texts[video + 1], strict=True):
            first, second = one.split(", then ")
            assert other == f"{second}, then {first}"
        assert len(set(shown.texts[video])) > 1


def test_a_batch_holds_both_twins_with_their_own_texts(tmp_path: Path) -> None:
    config = TwinsConfig(pairs=4, batch_pairs=2, phrasings=2)
    shown = twins(config.seed, 4, split="train", phrasings=2)
    encoder = Encoder()
    features = open_features(shown.worlds, encoder, tmp_path)  # type: ignore[arg-type]
    texts = [text for said in shown.texts for text in said]
    bank = TextBank(encoder, texts)  # type: ignore[arg-type]
    source = RetrievalSource(config, features, shown.texts, bank)
    seen = []
    for index in (0, 1):
        batch = source.batch(index)
        for place, pair in enumerate(source.pairs(index)):
            for twin in (0, 1):
                row, video = 2 * place + twin, 2 * int(pair) + twin
                seen.append(video)
                rows = int(batch.mask[row].sum())
                np.testing.assert_allclose(batch.frames[row, :rows].numpy(), features[video].vectors)
                assert any(torch.equal(batch.words.pooled[row], own) for own in bank.words(shown.texts[video]).pooled)
    assert sorted(seen) == list(range(8))


def test_a_batch_holds_stretches_of_other_videos_behind_the_twins(tmp_path: Path) -> None:
    config, encoder = TwinsConfig(pairs=2, batch_pairs=1, phrasings=1, batch_stretches=3), Encoder()
    shown = twins(config.seed, 2, split="train")
    features = open_features(shown.worlds, encoder, tmp_path)  # type: ignore[arg-type]
    bank = TextBank(encoder, [*(said[0] for said in shown.texts), "a far thing"])  # type: ignore[arg-type]
    stretches = [Stretch(3, 2, 6, ("a far thing",))]
    batch = RetrievalSource(config, features, shown.texts, bank, stretches, features).batch(0)
    assert (len(batch.frames), batch.num_twins) == (5, 2)
    for row in (2, 3, 4):
        assert int(batch.mask[row].sum()) == 4
        np.testing.assert_allclose(batch.frames[row, :4].numpy(), features[3].vectors[2:6])
        np.testing.assert_allclose(batch.times[row, :4].numpy(), features[3].times[2:6] - features[3].times[2])
        assert torch.equal(batch.words.pooled[row], bank.words(["a far thing"]).pooled[0])


def test_a_stretch_holds_its_event_and_the_order_that_it_is_said_to_show() -> None:
    worlds = [make_world(3, index, split="train") for index in range(12)]
    found = stretches_of(worlds, frames_per_second=2.0)
    events = [(video, event) for video, world in enumerate(worlds) for event in world.events]
    alone, reversible = ([one for one in found if (one.reversed is None) == is_alone] for is_alone in (True, False))
    assert len(alone) == len(events)
    for stretch, (video, event) in zip(sorted(alone, key=lambda one: one.video), events, strict=True):
        assert stretch.video == video
        assert stretch.first / 2 <= event.span.start + 0.5
        assert stretch.last / 2 >= min(event.span.end, worlds[stretch.video].seconds) - 0.5
        assert stretch.texts
    asked = {query.text: (video, query) for video, world in enumerate(worlds) for query in queries(Facts(world)) if query.twin}
    assert {asked[one.texts[0]][1].kind for one in reversible} == {"order", "direction"}
    for stretch in reversible:
        video, query = asked[stretch.texts[0]]
        assert (stretch.video, stretch.reversed) == (video, query.twin)
        assert stretch.first / 2 <= query.spans[0].start + 0.5
        assert stretch.last / 2 >= min(query.spans[0].end, worlds[video].seconds) - 0.5
        assert (stretch.last - stretch.first) / 2 <= 24 + 2 * 2 + 0.5


def test_what_says_the_opposite_stands_among_the_texts_alone(tmp_path: Path) -> None:
    encoder = Encoder()
    worlds = [make_world(3, index, split="train") for index in range(2)]
    features = open_features(worlds, encoder, tmp_path)  # type: ignore[arg-type]
    stretches = [Stretch(0, 2, 6, ("a b",), "b a"), Stretch(1, 0, 5, ("c",))]
    bank = TextBank(encoder, texts_of_stretches(stretches))  # type: ignore[arg-type]
    assert set(texts_of_stretches(stretches)) == {"a b", "b a", "c"}
    config = TwinsConfig(batch_pairs=0, batch_stretches=8)
    source = RetrievalSource(config, None, (), bank, stretches, features)
    batch = source.batch(3)
    assert batch.negatives is not None
    assert batch.is_reversed is not None
    assert (len(batch.frames), batch.num_twins, len(batch.negatives.pooled)) == (8, 0, 8)
    own, opposite = bank.words(["a b", "c"]).pooled, bank.words(["b a"]).pooled[0]
    for row in range(8):
        is_first = torch.equal(batch.words.pooled[row], own[0])
        assert bool(batch.is_reversed[row]) == is_first
        if is_first:
            assert torch.equal(batch.negatives.pooled[row], opposite)
    assert 0 < int(batch.is_reversed.sum()) < 8
    halves = [source.part(3, rank, 2) for rank in range(2)]
    assert torch.equal(torch.cat([half.negatives.pooled for half in halves]), batch.negatives.pooled)  # type: ignore[union-attr]
    torch.manual_seed(0)
    model = VideoTextModel(VideoTextConfig(encoder="mean", fingerprint="f", adapter=AdapterConfig(dim=3, d_state=2, first_gate=0.4)))
    training = RetrievalTraining(model, 10.0).eval()
    loss, figures = training(batch)
    videos = model.encode_video(batch.frames, batch.times, batch.mask).pooled
    texts, against = (encode_words(model, words, "cpu") for words in (batch.words, batch.negatives))
    similarity = 10.0 * videos @ torch.cat([texts, against]).T
    rows, columns = (-part.detach().log_softmax(dim=1).diagonal().mean() for part in (similarity, similarity[:, :8].T))
    assert float(loss.detach()) == pytest.approx(float((rows + columns) / 2), rel=1e-4)
    told = (similarity[:, :8].diagonal() > similarity[:, 8:].diagonal())[batch.is_reversed]
    assert float(figures["reversed"]) == pytest.approx(float(told.float().mean()))


def test_stretches_need_worlds(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(recipe.read_text().replace("[data]\n", "[data]\nbatch_stretches = 2\n"))
    with pytest.raises(InputError, match="batch_stretches 2 needs worlds"):
        train_retrieval(recipe, tmp_path / "out", Encoder(), cache=tmp_path)  # type: ignore[arg-type]


def test_a_training_ends_in_a_model_that_can_be_opened_and_gone_on_with(recipe: Path, tmp_path: Path) -> None:
    encoder = Encoder()
    train_retrieval(recipe, tmp_path / "out", encoder, cache=tmp_path / "cache", mixer="dbm", seed=5)  # type: ignore[arg-type]
    model = VideoTextModel.from_pretrained(tmp_path / "out" / "model")
    assert (model.config.adapter.mixer, model.config.fingerprint) == ("dbm", encoder.fingerprint)
    lines = read_log(tmp_path / "out")
    assert len(lines) == 3
    assert all({"order", "scale"} <= line.keys() for line in lines)
    again = train_retrieval(
        recipe,
        tmp_path / "out",
        encoder,
        cache=tmp_path / "cache",
        resume=True,
        mixer="dbm",
        seed=5,  # type: ignore[arg-type]
    )
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    shown = twins(9, 2, split="test")
    videos, texts = vectors_of(
        model,
        open_features(shown.worlds, encoder, tmp_path),
        TextBank(encoder, [said[0] for said in shown.texts]),  # type: ignore[arg-type]
        [said[0] for said in shown.texts],
    )
    assert videos.shape == texts.shape == (4, 3)
    torch.testing.assert_close(videos.norm(dim=1), torch.ones(4))


def test_the_figure_order_is_how_often_the_own_text_is_nearer_than_the_twins() -> None:
    model = VideoTextModel(VideoTextConfig(encoder="e", fingerprint="f", adapter=AdapterConfig(dim=4, num_layers=0, text_layers=0)))
    axes = torch.eye(4)
    texts = torch.stack([axes[0], axes[1], axes[3], axes[2]])  # the second pair has each other's texts
    words = Words(texts, texts[:, None], torch.ones(4, 1, dtype=torch.bool))
    batch = RetrievalBatch(axes[:, None], torch.zeros(4, 1), torch.ones(4, 1, dtype=torch.bool), words, 4)
    _, figures = RetrievalTraining(model, 30.0)(batch)
    assert float(figures["order"]) == 0.5


def test_the_shipped_recipe_names_its_task() -> None:
    assert task_of(recipe_path("toybox-retrieval")) == "retrieval"
    assert task_of(recipe_path("pocket")) == "pocket"


def test_a_recipe_without_a_task_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    path.write_text("[loop]\nsteps = 3\n")
    with pytest.raises(InputError, match=r"none\.toml.*one of pocket, retrieval"):
        task_of(path)


def test_a_width_that_is_not_the_encoders_is_refused(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(RECIPE.replace("dim = 3", "dim = 4"))
    with pytest.raises(InputError, match="encoder's width 3, got 4"):
        train_retrieval(recipe, tmp_path / "out", Encoder(), cache=tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"pairs": 0}, {"batch_pairs": 3000}, {"batch_pairs": 0}, {"batch_stretches": -1}])
def test_twins_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=str(next(iter(wrong.values())))):
        TwinsConfig(**wrong)  # type: ignore[arg-type]
