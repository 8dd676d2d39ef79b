from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.suite_toys import CLASSES, TOYS, ToyEncoder, toy_deeds, toy_rows, toy_videos
from vlm.errors import CheckpointUnusable, InputError
from vlm.eval.anticipation import top_k_accuracy
from vlm.eval.localization import THUMOS, Action, localization_figures
from vlm.eval.segmentation import segmentation_figures
from vlm.models.adapter import AdapterConfig
from vlm.models.interaction import InteractionConfig
from vlm.models.model import VideoTextConfig, VideoTextModel
from vlm.models.suite.actions import find_actions
from vlm.models.suite.anticipation import Anticipator
from vlm.models.suite.labels import row_probabilities
from vlm.models.suite.localization import ActionMamba
from vlm.models.suite.outlook import chances_at
from vlm.models.suite.rows import Rows
from vlm.models.suite.segmentation import ASMamba
from vlm.train import suite
from vlm.train.log import read_log
from vlm.train.recipe import SUITE_TASKS, read_recipe, recipe_path, task_of
from vlm.train.suite import SuiteSource, batch_of_videos, train_suite
from vlm.train.suite_command import task_named
from vlm.train.suite_data import SuiteDataConfig
from vlm.train.suite_localization import TASK as LOCALIZATION
from vlm.train.suite_segmentation import TASK as SEGMENTATION


def recipe(folder: Path, name: str, *, steps: int = 60, more: str = "") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(
        f'task = "{name}"\n[model]\n{TOYS[name].section()}\n[data]\nbatch = 4\nlongest = 32\n'
        f"[loop]\nsteps = {steps}\npeak_rate = 0.003\nmatrix_rate = 10.0\nwarmup_steps = 5\nsave_every = 10\n"
        f"average_decay = 0.9\nlog_every = 1000\n{more}"
    )
    return path


def train(name: str, out: Path, **changes: Any) -> Any:
    made = recipe(out.parent, name, steps=changes.pop("steps", 60), more=changes.pop("more", ""))
    return train_suite(task_named(name), made, out, ToyEncoder(), cache=out.parent, videos=TOYS[name].videos(12), **changes)  # type: ignore[arg-type]


def test_rows_pass_the_tracks_of_the_model_that_comes_with_the_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    encoder = ToyEncoder()
    interaction = InteractionConfig(text_dim=encoder.dim, video_dim=encoder.dim, width=8, num_layers=1, tracks=2, track_width=6, d_state=2)
    adapter = AdapterConfig(dim=encoder.dim, num_layers=0, text_layers=0)
    config = VideoTextConfig(encoder=encoder.name, fingerprint=encoder.fingerprint, adapter=adapter, interaction=interaction)
    torch.manual_seed(1)
    shipped = VideoTextModel(config)
    folder = shipped.save_pretrained(tmp_path / "shipped")
    monkeypatch.setattr(suite, "shipped_with", lambda fingerprint: folder if fingerprint == encoder.fingerprint else None)
    model = train("segmentation", tmp_path / "run", steps=5, front="shipped")
    opened = ASMamba.from_pretrained(tmp_path / "run" / "model")
    assert opened.config.seen_dim == len(opened.standardise.mean) == 12
    for one in (model, opened):
        tracks, own = one.front.tracks.state_dict(), shipped.cross().interaction.tracks.state_dict()  # type: ignore[union-attr]
        assert all(torch.equal(value, own[name]) for name, value in tracks.items())
    rows = model.front(Rows.side_by_side([torch.from_numpy(toy_rows(12).features[n].vectors) for n in range(12)]))
    torch.testing.assert_close(model.standardise(rows.values).std(dim=0), torch.ones(12), rtol=0.05, atol=0.05)
    monkeypatch.setattr(suite, "shipped_with", lambda fingerprint: None)
    assert train("segmentation", tmp_path / "plain", steps=5, front="shipped").front is None
    with pytest.raises(InputError, match="front"):
        train("segmentation", tmp_path / "none", steps=5, front="tail")


@pytest.mark.parametrize("mixer", ["mamba", "vim", "dbm", "attention"])
def test_a_localizer_learns_and_its_folder_gives_what_it_gave(tmp_path: Path, mixer: str, one_torch_thread: None):
    model = train("localization", tmp_path / "run", mixer=mixer)
    held_out = toy_videos(8, seed=9)
    truth = [Action(i, one.label, one.span) for i, some in zip(held_out.ids, held_out.actions, strict=True) for one in some]
    figures = []
    for reader in (model, ActionMamba.from_pretrained(tmp_path / "run" / "model")):
        found = [(i, one) for n, i in enumerate(held_out.ids) for one in find_actions(reader, held_out.features[n])]
        figures.append(
            localization_figures(truth, [Action(i, one.label, one.span, one.score) for i, one in found], overlaps=THUMOS).average
        )
    assert figures[0] == figures[1] > 0.3  # an untrained one has 0.0
    losses = [line["loss"] for line in read_log(tmp_path / "run")]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


@pytest.mark.parametrize(("mixer", "num_decoders"), [("mamba", 0), ("vim", 0), ("dbm", 0), ("attention", 0), ("dbm", 1)])
def test_a_segmenter_learns_and_its_folder_gives_what_it_gave(tmp_path: Path, mixer: str, num_decoders: int, one_torch_thread: None):
    model = train("segmentation", tmp_path / "run", mixer=mixer, num_decoders=num_decoders)
    held_out = toy_rows(8, seed=9)
    truth = [[CLASSES[label] for label in labels] for labels in held_out.labels]
    figures = []
    for reader in (model, ASMamba.from_pretrained(tmp_path / "run" / "model")):
        found = [row_probabilities(reader, held_out.features[n]).argmax(axis=1) for n in range(8)]
        figures.append(segmentation_figures(truth, [[CLASSES[label] for label in one] for one in found], background=("nothing",)))
    assert figures[0] == figures[1]
    assert figures[0].accuracy > 0.8  # the commonest label has 0.6
    assert figures[0].f1[0.5] > 0.5


@pytest.mark.parametrize("mixer", ["mamba", "vim", "dbm", "attention"])
def test_an_anticipator_learns_what_follows_and_its_folder_gives_what_it_gave(tmp_path: Path, mixer: str, one_torch_thread: None):
    model = train("anticipation", tmp_path / "run", mixer=mixer, steps=120)
    held_out, figures = toy_deeds(8, seed=9), []
    truth = [model.config.classes.index(onset.action) for onsets in held_out.onsets for onset in onsets]
    for reader in (model, Anticipator.from_pretrained(tmp_path / "run" / "model")):
        found = [
            chances_at(reader, held_out.features[number], [onset.cut for onset in onsets]).actions[:, 0]
            for number, onsets in enumerate(held_out.onsets)
        ]
        figures.append(top_k_accuracy(np.concatenate(found), truth))
    assert figures[0] == figures[1] > 0.8  # four of the eight actions follow upon another: chance is 0.25


@pytest.mark.parametrize("name", TOYS)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    tmp_path: Path, name: str, one_torch_thread: None, monkeypatch: pytest.MonkeyPatch
):
    whole = train(name, tmp_path / "whole", steps=12)
    import vlm.train.suite as trainer

    real = trainer.run
    monkeypatch.setattr(trainer, "run", lambda *given, **options: real(*given, stop_after=5, **options))
    train(name, tmp_path / "parts", steps=12)
    monkeypatch.undo()
    resumed = train(name, tmp_path / "parts", steps=12, resume=True)
    assert read_log(tmp_path / "parts") == read_log(tmp_path / "whole")
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("name", TOYS)
def test_a_checkpoint_of_another_mixer_is_refused(tmp_path: Path, name: str):
    train(name, tmp_path / "run", steps=2)
    with pytest.raises(InputError, match="holds a checkpoint of step 2"):
        train(name, tmp_path / "run", steps=2)
    with pytest.raises(CheckpointUnusable):
        train(name, tmp_path / "run", steps=2, mixer="attention", resume=True)


def test_what_a_recipe_does_not_have_cannot_be_replaced(tmp_path: Path):
    with pytest.raises(InputError, match="a recipe of segmentation has no 'sight' to be replaced"):
        train("segmentation", tmp_path / "run", sight="all")


@pytest.mark.parametrize("name", TOYS)
def test_the_shipped_recipe_is_complete(name: str):
    path = recipe_path(f"suite-{name}")
    assert task_of(path) == name
    task = task_named(name)
    made = read_recipe(path, task.sections)
    data = made["data"]
    model = task.build(made["model"], task.classes(data), ToyEncoder(), data)  # type: ignore[arg-type]
    assert {one.name: getattr(model.config, one.name) for one in fields(made["model"])} == asdict(made["model"])


def test_every_task_of_a_recipe_is_tested_here():
    assert tuple(TOYS) == SUITE_TASKS
    assert all(task_named(name).name == name for name in TOYS)


def source(batch: int = 3, longest: int = 16) -> SuiteSource[Any]:
    videos, config = toy_videos(8), SuiteDataConfig(batch=batch, longest=longest)
    model = LOCALIZATION.build(LOCALIZATION.section(width=16, d_state=4), videos.classes, ToyEncoder(), config)  # type: ignore[arg-type]
    return LOCALIZATION.source(videos, config, model, seed=0)


def test_every_video_comes_once_an_epoch_and_batches_are_the_same_whenever_asked_for():
    made = source(batch=4)
    assert sorted(made.numbers(0) + made.numbers(1)) == list(range(8))
    assert made.numbers(2) != made.numbers(0)
    one, other = made.batch(5), made.batch(5)
    torch.testing.assert_close(one.frames, other.frames)
    torch.testing.assert_close(one.truth.targets.bounds, other.truth.targets.bounds)
    assert int(one.lengths.max()) <= 16


def test_ranks_share_a_batch():
    made = source(batch=4)
    whole, parts = made.batch(1), [made.part(1, rank, 2) for rank in range(2)]
    assert torch.cat([part.times for part in parts]).tolist() == whole.times.tolist()
    with pytest.raises(InputError, match="a batch of 4 cannot be shared evenly by 3 ranks"):
        made.part(1, 0, 3)


def test_an_action_that_is_cut_counts_where_half_of_it_is_left():
    videos, config = toy_videos(1), SuiteDataConfig(batch=1)
    model = LOCALIZATION.build(LOCALIZATION.section(width=16, d_state=4), videos.classes, ToyEncoder(), config)  # type: ignore[arg-type]
    cut = LOCALIZATION.source(videos, config, model, seed=0).cut
    action, whole = videos.actions[0][0], videos.features[0]
    first, last = (int(2 * second) for second in (action.span.start, action.span.end))
    spans, labels = cut(0, first, last, whole)
    assert spans[0].tolist() == [0.0, action.span.seconds]
    assert videos.classes[int(labels[0])] == action.label
    half = -(-(last - first) // 2)
    assert cut(0, first + (last - first) - half, len(whole.times), whole)[0][0].tolist() == [0.0, half / 2]
    assert len(cut(0, first + half + 1, last, whole)[0]) == 0


def test_a_batch_larger_than_the_videos_is_refused():
    with pytest.raises(InputError, match="batch 9 is more than the 8 videos there are"):
        source(batch=9)


def test_labels_of_a_cut_video_are_those_of_its_rows():
    videos, config = toy_rows(4), SuiteDataConfig(batch=2, longest=10)
    model = SEGMENTATION.build(SEGMENTATION.section(width=16, d_state=4), videos.classes, ToyEncoder(), config)  # type: ignore[arg-type]
    made = SEGMENTATION.source(videos, config, model, seed=0).batch(0)
    assert len(made.truth) == int(made.mask.sum()) == 20
    nearest = made.frames[made.mask][:, :3].argmax(dim=1)  # what the vectors show
    assert (nearest == made.truth).float().mean() > 0.8


def test_a_batch_of_videos_of_several_lengths_is_padded():
    videos = toy_rows(2)
    made = batch_of_videos([videos.features[0], videos.features[1]], None)
    assert made.lengths.tolist() == [len(labels) for labels in videos.labels]
    assert len(made.times) == int(made.mask.sum())


@pytest.mark.parametrize(("name", "value"), [("worlds", 0), ("batch", 0), ("longest", 0), ("frames_per_second", 0.0), ("labels", "way")])
def test_data_that_breaks_a_rule_is_refused(name: str, value: Any):
    with pytest.raises(InputError, match=name):
        SuiteDataConfig(**{name: value})
