"""A model from a user's own rows: each row finds its video, what is wrong is named, and what is learnt is used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import BLOCKS, Demo
from tests.media import scene_video
from vlm import Library
from vlm.app.demo import worlds
from vlm.data.toybox.export import export
from vlm.data.toybox.files import file_name
from vlm.errors import InputError
from vlm.models.model import VideoTextModel
from vlm.models.reader import TrainedReader
from vlm.train.log import read_log
from vlm.train.loop import LoopConfig
from vlm.train.own import STRENGTHS, foreign_texts, held_out_videos, steps_for, train_own
from vlm.train.own_config import OwnConfig
from vlm.train.own_rows import Views, count_rows, gather, open_answers, positives, read_labels, stored_features
from vlm.train.own_stretches import Stretch, excluded_pairs
from vlm.train.recipe import read_recipe, recipe_path, task_of
from vlm.types import Span

RECIPE = """
task = "own"
[model]
mixer = "mamba"
width = 16
layers = 1
d_state = 4
[data]
batch_captions = 6
batch_examples = 4
held_out = 0
[loop]
steps = 6
accumulation = 2
warmup_steps = 2
save_every = 3
"""
ROWS = [
    {"path": "videos/red.mp4", "caption": "a red wall"},
    {"path": "videos/green.mkv", "caption": "a green wall"},
    {"path": "videos/blue then white.mp4", "start": 0, "end": 8, "caption": "blue"},
    {"path": "videos/blue then white.mp4", "start": 8, "end": 16.05, "caption": "white"},
    {"path": "videos/red.mp4", "question": "which colour?", "options": ["red", "cyan"], "answer": "red"},
    {"path": "videos/green.mkv", "question": "what is it?", "answer": "a wall"},
    {"path": "videos/red.mp4", "question": "what moves?", "answer": "a square"},
    {"path": "videos/red.mp4", "question": "who is there?"},
]


@pytest.fixture(scope="module")
def home(colour_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with videos and a library of them, ``lib``; nobody changes it."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(colour_videos, folder / "videos")
    with Library.open(folder / "lib", encoder=BLOCKS) as library:
        library.add(folder / "videos")
    return folder


@pytest.fixture
def library(home: Path):
    with Library.open(home / "lib", encoder=BLOCKS, read_only=True) as library:
        yield library


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


def write(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


# Rows


def test_a_path_is_looked_for_beside_its_file_and_from_here(library: Library, home: Path, tmp_path: Path, monkeypatch):
    red = library.resolve(str(home / "videos/red.mp4"))
    beside = write(home / "beside.jsonl", {"path": "videos/red.mp4", "caption": "x"})
    away = write(tmp_path / "away.jsonl", {"path": "red.mp4", "caption": "x"}, {"path": str(red), "caption": "x"})
    monkeypatch.chdir(home / "videos")
    assert [label.video_id for label in read_labels(library, [beside, away])] == [red, red, red]


def test_every_row_that_fits_no_video_is_named_with_its_line_and_the_way_out(library: Library, home: Path):
    rows = [{"path": f"no{number}.mp4", "caption": "x"} for number in range(12)]
    path = write(home / "wrong.jsonl", ROWS[0], *rows)
    with pytest.raises(InputError, match=r"wrong\.jsonl:2: path 'no0\.mp4'.*vlm add") as caught:
        read_labels(library, [path])
    assert "wrong.jsonl:11: path 'no9.mp4'" in str(caught.value)
    assert "and 2 more rows" in str(caught.value)


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ({"start": 15, "end": 16.2, "caption": "x"}, (":1:", "[15, 16.2)", "16.000 s", "start and end")),
        ({"start": 20, "end": 21, "question": "x?", "answer": "y"}, (":1:", "[20, 21)", "16.000 s")),
    ],
)
def test_a_span_outside_its_video_is_refused(library: Library, home: Path, row: dict[str, object], parts: tuple[str, ...]):
    path = write(home / "late.jsonl", {"path": "videos/blue then white.mp4"} | row)
    with pytest.raises(InputError) as caught:
        read_labels(library, [path])
    assert all(part in str(caught.value) for part in parts)


def test_a_span_where_nothing_was_decoded_is_refused(tmp_path: Path):
    scene_video(tmp_path / "long.mkv", [("red", 20), ("green", 20)], size=(240, 320))
    data = (tmp_path / "long.mkv").read_bytes()
    (tmp_path / "long.mkv").write_bytes(data[: len(data) * 6 // 10])
    with Library.open(tmp_path / "lib", encoder=BLOCKS) as library:
        library.add(tmp_path / "long.mkv")
        path = write(tmp_path / "mine.jsonl", {"path": "long.mkv", "start": 38, "end": 39, "caption": "green"})
        with pytest.raises(InputError, match=r":1: span \[38, 39\).*could be decoded.*whole copy"):
            read_labels(library, [path])


@pytest.mark.parametrize("rows", [[], [{"path": "videos/red.mp4", "question": "who?"}]])
def test_rows_from_which_nothing_can_be_learnt_are_refused(library: Library, home: Path, rows: list[dict[str, object]]):
    with pytest.raises(InputError, match=rf"nothing\.jsonl: nothing can be learnt from {len(rows)} rows"):
        read_labels(library, [write(home / "nothing.jsonl", *rows)])


def test_open_questions_of_one_answer_are_refused(library: Library, home: Path):
    labels = read_labels(library, [write(home / "one.jsonl", {"path": "videos/red.mp4", "question": "what?", "answer": "it"})])
    with pytest.raises(InputError, match="all 1 questions without options have the answer 'it'"):
        open_answers(gather(labels, {labels[0].video_id: 0}))


def test_all_rows_are_counted_and_only_those_without_an_answer_are_left_out(library: Library, home: Path):
    counts = count_rows(read_labels(library, [write(home / "mine.jsonl", *ROWS)]))
    assert (counts.videos, counts.span_captions, counts.whole_captions) == (3, 2, 2)
    assert (counts.choices, counts.open_questions, counts.unanswered) == (1, 2, 1)


def test_a_caption_that_stands_twice_is_true_in_both_spans(library: Library, home: Path):
    row = {"path": "videos/blue then white.mp4", "caption": "a square"}
    path = write(home / "twice.jsonl", row | {"start": 1, "end": 2}, row | {"start": 5, "end": 7})
    labels = read_labels(library, [path])
    (one,) = gather(labels, {labels[0].video_id: 0})
    assert one.spans == (Span(1, 2), Span(5, 7))
    whole = read_labels(library, [path, write(home / "whole.jsonl", row)])
    assert gather(whole, {labels[0].video_id: 0})[0].spans == ()


# Features


def test_features_are_those_that_are_stored(library: Library):
    ids = [video.video_id for video in library.videos()]
    features = stored_features(library, ids)
    for number, video_id in enumerate(ids):
        np.testing.assert_array_equal(features[number].vectors, library.features(video_id).vectors)
        np.testing.assert_array_equal(features[number].times, library.features(video_id).times)


def test_a_long_video_is_seen_around_its_span_and_thinned_as_a_whole(library: Library, home: Path):
    long = library.resolve(str(home / "videos/blue then white.mp4"))  # 16 rows
    full = library.features(long)
    views = Views(stored_features(library, [long]), most_rows=5)
    whole = views[views.whole(0)]
    np.testing.assert_array_equal(whole.times, [0, 4, 8, 12])
    assert whole.end == 16
    number, begin = views.around(0, Span(9.5, 11))
    assert begin == 7
    np.testing.assert_array_equal(views[number].vectors, full.vectors[7:12])
    np.testing.assert_array_equal(views[number].times, range(5))
    stretch = views[views.stretch(0, Span(9.5, 11))]
    np.testing.assert_array_equal(stretch.vectors, full.vectors[9:11])
    assert views.around(0, Span(0, 9))[0] == views.whole(0)

    labels = read_labels(
        library, [write(home / "long.jsonl", {"path": "videos/blue then white.mp4", "start": 9.5, "end": 11, "caption": "white"})]
    )
    (example,) = positives(gather(labels, {long: 0}), views, ())
    assert (example.video, example.spans, example.has_moments, example.is_true) == (number, (Span(2.5, 4),), True, True)
    assert set(example.levels) == {2, 3}


# Examples


def test_untrue_sentences_are_those_of_other_videos_that_no_own_one_repeats(library: Library):
    texts = {0: ["red", "a red wall"], 1: ["red", "green"], 2: ["blue"], 3: []}
    found = foreign_texts(library.load_encoder(), texts, OwnConfig(negatives=4), seed=0)
    assert all(text not in texts[video] for video, text in found)
    assert {text for video, text in found if video == 0} == {"green", "blue"}
    assert {text for video, text in found if video == 2} == {"red", "green", "a red wall"}
    assert 3 not in {video for video, _ in found}


def test_pairs_that_may_be_true_are_no_negatives():
    stretches = [
        Stretch(0, "a", 0, Span(0, 4)),
        Stretch(1, "b", 0, Span(3, 6)),
        Stretch(2, "c", 0, Span(6, 8)),
        Stretch(3, "d", 1, None),
        Stretch(4, "e", 2, Span(0, 9)),
    ]
    texts = torch.eye(5)
    texts[4] = texts[0]  # says the same
    expected = torch.eye(5, dtype=torch.bool)
    expected[0, 1] = expected[1, 0] = expected[0, 4] = expected[4, 0] = True
    assert torch.equal(excluded_pairs(stretches, texts, 0.95), expected)


def test_few_rows_make_few_steps():
    config, loop = OwnConfig(epochs=10, batch_captions=30, batch_examples=10, retrieval_share=0.5), LoopConfig(steps=500, accumulation=2)
    assert steps_for(20, config, loop) == 5
    assert steps_for(10**6, config, loop) == 500


# Training


def test_a_training_ends_in_a_model_that_the_library_takes(home: Path, tmp_path: Path, recipe: Path):
    shutil.copytree(home / "lib", tmp_path / "lib")
    data = write(home / "all.jsonl", *ROWS)
    with Library.open(tmp_path / "lib", encoder=BLOCKS) as library:
        report = train_own(library, [data], recipe, tmp_path / "out", seed=3)
        assert report.steps == len(read_log(tmp_path / "out")) == 6
        model = VideoTextModel.from_pretrained(report.folder)
        assert model.config.answers == ("a wall", "a square")
        library.attach(report.folder)
        reader = library.reader()
        assert isinstance(reader, TrainedReader)
        features = library.features(library.resolve(str(home / "videos/red.mp4")))
        assert reader.ground(["a red wall"], features)[0].presence is not None
        assert reader.answer("what moves?", features).text in model.config.answers
        assert "2 of whole videos, 1 choices and 2 open questions about 3 videos" in (report.folder / "README.md").read_text()
        assert len(library.search("white", top_k=5)) == 3


def test_a_training_that_was_stopped_goes_on_to_the_same_model(library: Library, home: Path, tmp_path: Path, recipe: Path):
    data = write(home / "again.jsonl", *ROWS)
    train_own(library, [data], recipe, tmp_path / "out", seed=3)
    (tmp_path / "out/checkpoint.pt").unlink()  # the one before is of step 3
    again = train_own(library, [data], recipe, tmp_path / "out", seed=3, resume=True)
    first = VideoTextModel.from_pretrained(again.folder)
    straight = VideoTextModel.from_pretrained(train_own(library, [data], recipe, tmp_path / "straight", seed=3).folder)
    assert all(torch.equal(value, straight.state_dict()[name]) for name, value in first.state_dict().items())
    with pytest.raises(InputError, match="holds a checkpoint of step 6"):
        train_own(library, [data], recipe, tmp_path / "out", seed=3)


def test_other_rows_are_no_training_to_go_on_with(library: Library, home: Path, tmp_path: Path, recipe: Path):
    train_own(library, [write(home / "some.jsonl", *ROWS[:4])], recipe, tmp_path / "out", steps=3)
    with pytest.raises(Exception, match="made by another recipe"):
        train_own(library, [write(home / "others.jsonl", *ROWS[1:5])], recipe, tmp_path / "out", steps=3, resume=True)


def test_adapters_that_find_held_out_captions_no_better_get_no_strength(tmp_path: Path, recipe: Path):
    """The captions to learn from name the wrong colours, the held-out ones the right ones."""
    wrong = {"red": "green", "green": "blue", "blue": "white", "white": "black", "black": "red"}
    colours = ["red", "green", "blue", "white", "black", "red", "green", "blue", "white"]
    held_out = np.random.default_rng([3, 1]).permutation(9)[:3].tolist()
    rows = []
    for number, colour in enumerate(colours):
        scene_video(tmp_path / f"{number}.mp4", [(colour, 3)], seed=number)
        rows.append({"path": f"{number}.mp4", "caption": colour if number in held_out else wrong[colour]})
    recipe.write_text(
        'task = "own"\n[model]\nmixer = "mamba"\nwidth = 16\nlayers = 1\nd_state = 4\n'
        "[data]\nepochs = 1000\nbatch_captions = 9\nbatch_examples = 4\nleast_held_out = 3\nheld_out = 0.3\nretrieval_share = 0.8\n"
        "[loop]\nsteps = 40\npeak_rate = 0.03\nwarmup_steps = 2\naverage_decay = 0.5\n"
    )
    with Library.open(tmp_path / "lib", encoder=BLOCKS) as library:
        for row in rows:  # one after the other, so that ids are in the order of names
            library.add(tmp_path / row["path"])
        report = train_own(library, [write(tmp_path / "lies.jsonl", *rows)], recipe, tmp_path / "out", seed=3)
        (search,) = report.judged
        assert (search.ability, search.rows, search.trained, report.strength) == ("search", 3, search.plain, 0.0)
        before = {hit.video_id: hit.score for hit in library.search("red", top_k=9)}
        library.attach(report.folder)
        assert {hit.video_id: hit.score for hit in library.search("red", top_k=9)} == pytest.approx(before, abs=2e-3)


def test_captions_alone_and_questions_alone_can_be_learnt_from(library: Library, home: Path, tmp_path: Path, recipe: Path):
    captions = train_own(library, [write(home / "captions.jsonl", *ROWS[:2])], recipe, tmp_path / "captions", steps=2)
    assert (captions.strength, captions.skills) == (1.0, ())
    assert any("nothing was held out" in note for note in captions.notes)
    questions = train_own(library, [write(home / "questions.jsonl", *ROWS[4:7])], recipe, tmp_path / "questions", steps=2)
    assert (questions.strength, questions.skills) == (0.0, ("choose", "answer"))


def test_what_too_few_rows_are_held_out_to_judge_is_left_to_the_encoder(library: Library, home: Path, tmp_path: Path, recipe: Path):
    recipe.write_text(RECIPE.replace("held_out = 0\n", "held_out = 0.3\n"))
    report = train_own(library, [write(home / "few.jsonl", *ROWS)], recipe, tmp_path / "out", steps=2)
    assert (report.judged, report.strength, report.skills) == ((), 0.0, ())
    assert any("search is left to the encoder alone" in note and "10 are needed" in note for note in report.notes)


def test_held_out_videos_leave_one_to_learn_from(library: Library, home: Path):
    labels = read_labels(library, [write(home / "rows.jsonl", *ROWS)])
    said = gather(labels, {video_id: number for number, video_id in enumerate(sorted({label.video_id for label in labels}))})
    assert [len(held_out_videos(said, OwnConfig(held_out=share), 0)) for share in (0.0, 0.3, 0.99)] == [0, 1, 2]


def test_the_shipped_recipe_is_whole(library: Library):
    from vlm.train.own import SECTIONS

    assert task_of(recipe_path("own")) == "own"
    made = read_recipe(recipe_path("own"), SECTIONS)
    assert made["data"] == OwnConfig()


def test_a_rendered_world_is_learnt_from_captions_and_questions_in_our_own_format(demo: Demo, tmp_path: Path, recipe: Path):
    made = worlds()
    paths = {world.name: str(demo.folder / "clips/videos" / f"{file_name(world)}.mp4") for world in made}
    export(tmp_path / "export", made, video_paths=paths)
    data = sorted((tmp_path / "export").rglob("own/*.jsonl"))
    assert [path.name for path in data] == ["captions_test.jsonl", "questions_test.jsonl"]
    recipe.write_text(RECIPE.replace("held_out = 0\n", ""))
    with Library.open(demo.library, read_only=True) as library:
        report = train_own(library, data, recipe, tmp_path / "out", steps=4)
        assert report.rows.videos == len(library.videos())
    assert report.rows.span_captions > 100
    assert report.rows.choices == 20
    judged = {one.ability: one for one in report.judged}
    assert {"search", "ground"} <= set(judged)
    assert all(0 < one.plain < 1 for one in judged.values())
    assert report.strength in STRENGTHS
    assert judged["search"].trained >= judged["search"].plain
    assert set(report.skills) == {name for name in judged.keys() - {"search"} if judged[name].trained > judged[name].plain}
