"""What two ranks learn from twins, stretches and examples is what one rank learns from the same batches."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.train.sharing import BATCHES, learn, mixed, training
from tests.train.test_examples import EXAMPLES, RECIPE, Speaking, source
from tests.train.tiny import Line
from vlm.errors import InputError
from vlm.models.model import VideoTextModel
from vlm.train.log import read_log
from vlm.train.ranks import weights_of_means
from vlm.train.toybox import MixedSource, train_toybox
from vlm.train.video_text import HEADS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(
        RECIPE.replace("batch_pairs = 1", "batch_pairs = 2").replace("width = 8", "width = 8\ndropout = 0.0")
        + "validate_every = 2\npatience = 5\n"
    )
    return path


@pytest.fixture(scope="module")
def shared(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks left; see sharing.main."""
    folder = tmp_path_factory.mktemp("shared")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "-m", "tests.train.sharing", str(folder), str(recipe)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_losses_figures_and_gradients_are_those_of_the_whole_batch(shared: Path, tmp_path: Path) -> None:
    two = torch.load(shared / "found.pt", weights_only=True)
    one = learn(training(), mixed(tmp_path), 0, 1)
    names = {mixed(tmp_path).name(index) for index in BATCHES}
    assert names == {"crossing", "scenes", "retrieval"}
    for (figures, gradients), (other_figures, other_gradients) in zip(one, two, strict=True):
        assert figures.keys() == other_figures.keys()
        for name, value in (figures | gradients).items():
            torch.testing.assert_close((other_figures | other_gradients)[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_a_recipe_on_two_ranks_is_logged_once_and_ends_in_one_model(shared: Path, recipe: Path, tmp_path: Path) -> None:
    train_toybox(recipe, tmp_path / "one", Speaking(), cache=shared / "frames", mixer="vim")  # type: ignore[arg-type]
    one, two = read_log(tmp_path / "one"), read_log(shared / "two")
    assert [line.keys() for line in one] == [line.keys() for line in two]
    assert one[0] == pytest.approx(two[0], rel=1e-4, abs=1e-5)
    assert one[-1]["loss"] == pytest.approx(two[-1]["loss"], rel=1e-2)
    assert one[1]["validation"] == pytest.approx(two[1]["validation"], rel=1e-3)
    VideoTextModel.from_pretrained(shared / "two" / "model")


def test_options_of_a_choice_stay_together() -> None:
    index = next(index for index in range(8) if (source().batch(index).group >= 0).any())
    whole, parts = source().batch(index), [source().part(index, rank, 3) for rank in range(3)]
    assert sum(len(part.video) for part in parts) == len(whole.video)
    for part in parts:
        asked = part.group >= 0
        assert int(part.is_right.sum()) == len(part.group[asked].unique())
        assert all(int((part.group == group).sum()) == 4 for group in part.group[asked].unique())


def test_twins_stay_together(tmp_path: Path) -> None:
    twins = mixed(tmp_path).sources["retrieval"]
    whole, parts = twins.batch(0), [twins.part(0, rank, 2) for rank in range(2)]  # type: ignore[attr-defined]
    assert [part.num_twins for part in parts] == [2, 2]
    together = torch.cat([part.words.pooled[: part.num_twins] for part in parts] + [part.words.pooled[part.num_twins :] for part in parts])
    assert torch.equal(together, whole.words.pooled)


def test_a_mixed_source_names_the_part_that_cannot_be_shared() -> None:
    with pytest.raises(InputError, match=r"'line' \(Line\) cannot be shared by 2 ranks"):
        MixedSource({"line": Line()}, {"line": 1.0}, 0).part(0, 0, 2)


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    with pytest.raises(InputError, match="batch of 6 cannot be shared evenly by 4 ranks"):
        source().part(0, 0, 4)


def test_alone_every_mean_weighs_one_and_what_is_not_counted_nothing() -> None:
    assert weights_of_means({"spans": 7, "match": 0}, torch.device("cpu")) == {"spans": 1.0}


def test_a_batch_of_which_nothing_is_known_has_no_gradient_but_can_be_learnt_from() -> None:
    known = source([replace(EXAMPLES[0], spans=(), levels={}, has_moments=False, is_true=None), *EXAMPLES[1:]])
    crossing = training().parts["crossing"]
    loss, figures = crossing(known.batch_of([known.examples[0]]))
    loss.backward()
    assert (float(loss.detach()), figures) == (0.0, {})


def test_heads_alone_learn_from_what_the_interaction_finds_and_leave_it_as_it_is() -> None:
    whole, heads = training().parts["crossing"], training(HEADS).parts["crossing"]
    batch = source().batch_of(EXAMPLES)
    _, expected = whole(batch)
    loss, figures = heads(batch)
    assert set(figures) == {*HEADS, *(f"{name} right" for name in HEADS if name != "decoder")}
    assert {name: float(value) for name, value in figures.items()} == pytest.approx({name: float(expected[name]) for name in figures})
    loss.backward()
    moved = {name.split(".")[1] for name, parameter in heads.named_parameters() if parameter.grad is not None}
    assert moved == {*HEADS, "summary"}
    alone = training(["decoder"]).parts["crossing"]
    loss, figures = alone(batch)
    assert set(figures) == {"decoder"}
    loss.backward()
    assert {name.split(".")[1] for name, parameter in alone.named_parameters() if parameter.grad is not None} == {"decoder"}
