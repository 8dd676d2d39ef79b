"""``vlm anticipate`` on rendered video files, by a model that was trained on their narrations as EPIC-Kitchens-100 has them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.app.running import Vlm
from tests.train.test_suite import recipe
from vlm.app.exits import ExitCode
from vlm.data.formats import epic100
from vlm.data.toybox.export import export
from vlm.data.toybox.files import render_worlds
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.vocabulary import SHAPES
from vlm.encoders.registry import load_encoder
from vlm.index.footage import read_file
from vlm.models.suite.anticipation import Anticipator
from vlm.models.suite.outlook import Stream
from vlm.train.__main__ import main
from vlm.video.sample import Sampling

SECONDS = 12.0


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four short videos, their annotations, and a model that was trained on them for a few steps, as a user does it."""
    folder = tmp_path_factory.mktemp("anticipate") / "toys"
    worlds = [make_world(3, number, seconds=SECONDS, num_events=2) for number in range(4)]
    rendered = render_worlds(folder, worlds, size=96, frame_rate=4)
    export(folder, worlds, video_paths={video.world: video.path for video in rendered}, size=96)
    words = [recipe(folder, "anticipation", steps=10), "--out", folder / "run", "--videos", folder / "videos", "--cache", folder / "cache"]
    assert train(*words, "--data", folder / "annotations/epic100/EPIC_100_train.csv") == 0
    return folder


def train(*words: object) -> int:
    return main([*map(str, words), "--threads", str(torch.get_num_threads())])


def video(toys: Path, number: int) -> Path:
    return sorted((toys / "videos").rglob("*.mp4"))[number]


def test_the_likeliest_actions_come_first_with_when_they_begin(vlm: Vlm, toys: Path):
    rows = vlm("anticipate", video(toys, 0), "--model", toys / "run/model", "--at", 3, "--at", 7.5, "-k", 3, "--device", "cpu").rows()
    assert [row[:2] for row in rows] == [["3.000", "4.000"]] * 3 + [["7.500", "8.500"]] * 3
    for some in (rows[:3], rows[3:]):
        assert [float(row[2]) for row in some] == sorted((float(row[2]) for row in some), reverse=True)
    narrations = epic100.read_narrations(toys / "annotations/epic100/EPIC_100_train.csv").rows
    assert {row[3] for row in rows} <= {row.action.verb for row in narrations if row.action is not None}
    assert {row[4] for row in rows} <= set(SHAPES)


def test_json_says_what_the_table_says(vlm: Vlm, toys: Path):
    words = ["anticipate", video(toys, 1), "--model", toys / "run/model", "--every", 4, "-k", 2]
    document = json.loads(vlm(*words, "--json").out)
    assert (document["schema"], document["horizons"]) == ("vlm.anticipate/1", [1.0])
    assert [moment["at"] for moment in document["moments"]] == [4.0, 8.0, 12.0]
    told, rows = [one for moment in document["moments"] for one in moment["expected"]], vlm(*words).rows()
    assert [(one["verb"], one["noun"]) for one in told] == [(row[3], row[4]) for row in rows]
    assert [one["probability"] for one in told] == pytest.approx([float(row[2]) for row in rows], abs=1e-3)  # the file is read twice


def test_after_the_whole_video_it_tells_what_a_stream_of_its_frames_tells(vlm: Vlm, toys: Path):
    model = Anticipator.from_pretrained(toys / "run/model")
    stream = Stream(model)
    for vector in read_file(str(video(toys, 2)), load_encoder("pocket"), Sampling.parse("every:2")).features.vectors:
        chances = stream.step(vector)
    (row,) = vlm("anticipate", video(toys, 2), "--model", toys / "run/model", "-k", 1, "--device", "cpu").rows()
    assert row[:2] == ["12.000", "13.000"]
    assert float(row[2]) == pytest.approx(float(chances.actions.max()), abs=1e-3)
    assert f"{row[3]}, {row[4]}" == model.config.classes[int(chances.actions[0, 0].argmax())]


def test_a_moment_outside_the_video_is_refused(vlm: Vlm, toys: Path):
    words = ["anticipate", video(toys, 0), "--model", toys / "run/model"]
    assert "must be inside the video, which is 12 s long, got 90 s" in vlm(*words, "--at", 90, code=ExitCode.ERROR).err
    assert "must have a frame before it" in vlm(*words, "--at", 0, code=ExitCode.ERROR).err
    assert "give one of them" in vlm(*words, "--at", 1, "--every", 1, code=ExitCode.USAGE).err


def test_narrations_without_classes_or_without_actions_are_refused(toys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = [recipe(tmp_path, "anticipation"), "--out", tmp_path / "out", "--videos", toys / "videos", "--cache", toys / "cache"]
    source = toys / "annotations/epic100"
    alone = shutil.copy(source / "EPIC_100_train.csv", tmp_path / "EPIC_100_train.csv")
    assert train(*words, "--data", alone) == 1
    assert "EPIC_100_verb_classes.csv' is missing" in capsys.readouterr().err
    for name in ("verb", "noun"):
        shutil.copy(source / f"EPIC_100_{name}_classes.csv", tmp_path)
    Path(alone).unlink()
    epic100.write_narrations(tmp_path / "EPIC_100_train.csv", [])
    assert train(*words, "--data", alone) == 1
    assert "has no narration with an action" in capsys.readouterr().err
