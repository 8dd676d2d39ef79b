"""The suite's models from the command line: trained by their recipes on rendered video files, then run on such files."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.app.running import Vlm
from tests.train.test_suite import recipe
from tests.vlm.models.suite_cases import localizer, segmenter
from vlm import Library
from vlm.app.exits import ExitCode
from vlm.data.formats.found import FoundMoment
from vlm.data.formats.found_csv import read_found_csv
from vlm.data.formats.found_jsonl import read_found_jsonl
from vlm.data.formats.srt import read_srt
from vlm.data.formats.webvtt import read_webvtt
from vlm.data.toybox.export import export
from vlm.data.toybox.files import render_worlds
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.truth import CLASSES
from vlm.train.__main__ import main

SECONDS = 8.0


@dataclass(frozen=True)
class Toys:
    """A folder of rendered videos with their annotations, and the models that were trained on them."""

    folder: Path
    videos: tuple[Path, ...]

    @property
    def annotations(self) -> Path:
        return self.folder / "annotations"

    def model(self, name: str) -> Path:
        return self.folder / name / "model"


def train(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vlm.train", *map(str, words), "--threads", "1"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Toys:
    """Six short videos, and a model of each task that was trained on them for a few steps, as a user does it."""
    folder = tmp_path_factory.mktemp("suite") / "toys"
    worlds = [make_world(3, number, seconds=SECONDS, num_events=1) for number in range(6)]
    rendered = render_worlds(folder, worlds, size=96, frame_rate=4)
    export(folder, worlds, video_paths={video.world: video.path for video in rendered}, size=96)
    for name, words in (
        ("localization", ["--data", folder / "annotations/activitynet_detection/activity_net.json"]),
        ("segmentation", ["--data", folder / "annotations/action_seg", "--subset", "train.split1.bundle", "--label-rate", "2"]),
    ):
        path = recipe(folder, name, steps=40)
        done = train(path, "--out", folder / name, *words, "--videos", folder / "videos", "--cache", folder / "cache")
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{folder / name / 'model'}\n"
    return Toys(folder, tuple(video.path for video in rendered))


def test_actions_come_as_rows_best_first_and_inside_the_video(vlm: Vlm, toys: Toys):
    done = vlm("localize", toys.videos[0], "--model", toys.model("localization"), "--min-score", 0.001, "-k", 5, "--device", "cpu")
    rows = done.rows()
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [float(row[1]) for row in rows] == sorted((float(row[1]) for row in rows), reverse=True)
    assert all(0 <= float(start) < float(end) <= SECONDS for _, _, start, end, _ in rows)
    assert {row[4] for row in rows} <= set(CLASSES[1:])


def test_labels_cover_the_video_from_start_to_end(vlm: Vlm, toys: Toys):
    rows = vlm("segment", toys.videos[0], "--model", toys.model("segmentation"), "--device", "cpu").rows()
    assert (float(rows[0][0]), float(rows[-1][1])) == (0.0, SECONDS)
    assert [row[1] for row in rows[:-1]] == [row[0] for row in rows[1:]]
    assert {row[3] for row in rows} <= set(CLASSES)


def test_json_says_what_the_table_says(vlm: Vlm, toys: Toys):
    words = ["localize", toys.videos[1], "--model", toys.model("localization"), "--min-score", 0.001, "-k", 3]
    document = json.loads(vlm(*words, "--json").out)
    assert document["schema"] == "vlm.localize/1"
    assert document["classes"] == sorted(document["classes"])
    assert document["video"]["duration"] == SECONDS
    assert [f"{one['start']:.3f}" for one in document["actions"]] == [row[2] for row in vlm(*words).rows()]
    words = ["segment", toys.videos[1], "--model", toys.model("segmentation")]
    document = json.loads(vlm(*words, "--json").out)
    assert (document["schema"], document["background"], document["classes"]) == ("vlm.segment/1", ["nothing"], list(CLASSES))
    assert [f"{one['probability']:.4f}" for one in document["segments"]] == [row[2] for row in vlm(*words).rows()]


def assert_same_places(found: Iterable[FoundMoment], others: Iterable[FoundMoment]) -> None:
    """Every command computes it anew, on as many threads as are free, and files tell milliseconds: 2 ms apart is the same."""
    one, other = (sorted((each.query, each.span.start) for each in some) for some in (found, others))
    assert [query for query, _ in one] == [query for query, _ in other]
    assert [start for _, start in one] == pytest.approx([start for _, start in other], abs=0.002)


@pytest.mark.parametrize("task", ["localize", "segment"])
def test_every_format_holds_the_same_stretches(vlm: Vlm, toys: Toys, task: str, tmp_path: Path):
    name = {"localize": "localization", "segment": "segmentation"}[task]
    words = [task, toys.videos[2], "--model", toys.model(name), *(["--min-score", 0.001, "-k", 4] if task == "localize" else [])]
    vlm(*words, "--format", "csv", "-o", tmp_path / "found.csv")
    vlm(*words, "--format", "jsonl", "-o", tmp_path / "found.jsonl")
    rows = read_found_csv(tmp_path / "found.csv")
    assert_same_places(read_found_jsonl(tmp_path / "found.jsonl"), rows)
    for kind, read in (("srt", read_srt), ("vtt", read_webvtt)):
        vlm(*words, "--format", kind, "-o", tmp_path / kind)
        (file,) = (tmp_path / kind).iterdir()
        assert_same_places(read(file), rows)
    header = next(csv.reader(io.StringIO((tmp_path / "found.csv").read_text())))
    assert header[:4] == ["query", "video", "start", "end"]
    again = vlm(*words, "--format", "csv", "-o", tmp_path / "found.csv", code=ExitCode.ERROR)
    assert "exists and is never overwritten" in again.err


def test_stretches_of_nothing_can_be_left_out(vlm: Vlm, toys: Toys):
    words = ["segment", toys.videos[0], "--model", toys.model("segmentation")]
    every = [row[3] for row in vlm(*words).rows()]
    assert [row[3] for row in vlm(*words, "--actions-only").rows()] == [label for label in every if label != "nothing"]


def test_nothing_found_has_an_exit_code_of_its_own(vlm: Vlm, toys: Toys):
    done = vlm("localize", toys.videos[0], "--model", toys.model("localization"), "--min-score", 1.0, code=ExitCode.NO_HIT)
    assert done.out == ""


def test_a_video_of_a_library_is_found_by_its_id_and_read_at_the_models_rate(vlm: Vlm, toys: Toys, tmp_path: Path):
    words = ["--model", toys.model("segmentation"), "--device", "cpu"]
    from_file = vlm("segment", toys.videos[0], *words).out
    copy = Path(shutil.copy(toys.videos[0], tmp_path / "clip.mp4"))
    for rate in (1.0, 2.0):
        folder = tmp_path / f"library-{rate:g}"
        with Library.open(folder, encoder="pocket", sampling=f"every:{rate:g}") as library:
            library.add(copy)
            (video,) = library.videos()
        assert vlm("segment", video.video_id, "--library", folder, *words).out == from_file
    copy.unlink()
    assert vlm("segment", video.video_id, "--library", folder, *words).out == from_file  # stored at the model's rate
    done = vlm("segment", video.video_id, "--library", tmp_path / "library-1", *words, code=ExitCode.ERROR)
    assert "was sampled every:1 and every:2 is needed, and its file is gone" in done.err


def test_another_encoder_is_refused_with_both_names(vlm: Vlm, toys: Toys, colour_library: Path, blocks: str):
    model = ["--model", toys.model("localization")]
    done = vlm("localize", toys.videos[0], *model, "--encoder", blocks, code=ExitCode.ERROR)
    assert "made for the encoder 'pocket'" in done.err
    assert "blocks" in done.err
    done = vlm("localize", "1", *model, "--library", colour_library, "--encoder", blocks, code=ExitCode.ERROR)
    assert "made for the encoder 'pocket'" in done.err


def test_a_model_runs_no_plugin_of_its_own_choice(vlm: Vlm, toys: Toys, tmp_path: Path):
    folder = segmenter().save_pretrained(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["model"]["encoder"] = "python:evil.py:run"
    (folder / "config.json").write_text(json.dumps(config))
    done = vlm("segment", toys.videos[0], "--model", folder, code=ExitCode.ERROR)
    assert "a model never runs code of its own choice: name it with --encoder python:evil.py:run" in done.err


def test_a_model_of_the_other_task_is_refused(vlm: Vlm, toys: Toys, tmp_path: Path):
    folder = localizer().save_pretrained(tmp_path / "model")
    done = vlm("segment", toys.videos[0], "--model", folder, code=ExitCode.ERROR)
    assert "holds a model of localization, and one of segmentation is needed" in done.err
    assert "there is no folder" in vlm("localize", toys.videos[0], "--model", tmp_path / "none", code=ExitCode.ERROR).err


def test_training_on_files_tells_what_is_missing(toys: Toys, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipes = recipe(tmp_path, "localization"), recipe(tmp_path, "segmentation")
    detection = toys.annotations / "activitynet_detection/activity_net.json"
    for path, words, told in (
        (recipes[0], ["--data", detection], "need both --data"),
        (recipes[0], ["--data", detection, "--videos", tmp_path], "must hold one file named"),
        (recipes[0], ["--data", detection, "--videos", toys.folder / "videos", "--subset", "validation"], "it has ['training']"),
        (recipes[1], ["--data", toys.annotations / "action_seg", "--videos", toys.folder / "videos"], "--label-rate"),
    ):
        assert main([*map(str, [path, "--out", tmp_path / "out", *words]), "--threads", str(torch.get_num_threads())]) == 1
        assert told in capsys.readouterr().err
