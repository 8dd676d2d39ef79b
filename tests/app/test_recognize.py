"""``vlm recognize`` on rendered files, by a recogniser that the command line trained on such files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.app.running import Vlm
from vlm.app.exits import ExitCode
from vlm.data.formats.found_csv import read_found_csv
from vlm.data.formats.webvtt import read_webvtt
from vlm.data.toybox.export import export
from vlm.data.toybox.files import render_worlds
from vlm.data.toybox.plan import make_world
from vlm.train.__main__ import main

SECONDS = 8.0
RECIPE = """task = "recognition"
[model]
image_size = 32
patch = 8
num_frames = 4
tubelet = 2
width = 16
num_layers = 1
d_state = 4
[data]
batch = 2
[loop]
steps = 3
"""

TOWER_RECIPE = """task = "timemamba"
[model]
num_frames = 2
d_state = 4
[data]
batch = 2
[loop]
steps = 2
"""


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered videos with their annotations, and models that were trained on them: ``labels``, ``verbs``, ``tower``."""
    folder = tmp_path_factory.mktemp("recognize") / "toys"
    worlds = [make_world(3, number, seconds=SECONDS, num_events=1) for number in range(4)]
    rendered = render_worlds(folder, worlds, size=64, frame_rate=4)
    export(folder, worlds, video_paths={video.world: video.path for video in rendered}, size=64)
    (folder / "recipe.toml").write_text(RECIPE)
    for name, data in (("labels", "activitynet_detection/activity_net.json"), ("verbs", "epic100/EPIC_100_train.csv")):
        words = [folder / "recipe.toml", "--out", folder / name, "--data", folder / "annotations" / data, "--videos", folder / "videos"]
        assert main([*map(str, words), "--threads", str(torch.get_num_threads())]) == 0
    (folder / "tower.toml").write_text(TOWER_RECIPE)
    words = [folder / "tower.toml", "--out", folder / "tower", "--data", folder / "annotations" / data, "--videos", folder / "videos"]
    assert main([*map(str, words), "--threads", str(torch.get_num_threads())]) == 0
    return folder


def video(clips: Path) -> Path:
    return sorted((clips / "videos").iterdir())[0]


def test_the_likeliest_actions_of_the_whole_come_first(vlm: Vlm, clips: Path):
    rows = vlm("recognize", video(clips), "--model", clips / "labels/model", "-k", 2, "--device", "cpu").rows()
    assert [row[:2] for row in rows] == [["0.000", f"{SECONDS:.3f}"]] * 2
    assert [float(row[2]) for row in rows] == sorted((float(row[2]) for row in rows), reverse=True)


def test_json_says_what_the_table_says_of_each_window(vlm: Vlm, clips: Path):
    words = ["recognize", video(clips), "--model", clips / "labels/model", "-k", 2, "--every", 3, "--within", "1-8"]
    document = json.loads(vlm(*words, "--json").out)
    assert (document["schema"], document["video"]["path"]) == ("vlm.recognize/1", str(video(clips)))
    assert [(clip["start"], clip["end"]) for clip in document["clips"]] == [(1.0, 4.0), (4.0, 8.0)]
    told = [(f"{clip['start']:.3f}", one["label"], f"{one['probability']:.4f}") for clip in document["clips"] for one in clip["labels"]]
    assert told == [(row[0], row[3], row[2]) for row in vlm(*words).rows()]
    assert {one for _, one, _ in told} <= set(document["classes"])


def test_probabilities_of_all_classes_of_a_group_sum_to_one(vlm: Vlm, clips: Path):
    document = json.loads(vlm("recognize", video(clips), "--model", clips / "verbs/model", "-k", 100, "--json").out)
    (clip,) = document["clips"]
    for group in ("verb", "noun"):
        labels = [one for one in clip["labels"] if one["group"] == group]
        assert sorted(f"{group}:{one['label']}" for one in labels) == sorted(c for c in document["classes"] if c.startswith(group))
        assert sum(one["probability"] for one in labels) == pytest.approx(1.0)


def test_files_hold_the_likeliest_label_of_each_window(vlm: Vlm, clips: Path, tmp_path: Path):
    words = ["recognize", video(clips), "--model", clips / "verbs/model", "--every", 4]
    document = json.loads(vlm(*words, "-k", 1, "--json").out)
    best = [" ".join(one["label"] for one in clip["labels"]) for clip in document["clips"]]
    vlm(*words, "--format", "csv", "-o", tmp_path / "found.csv")
    assert [(row.query, row.span.start) for row in read_found_csv(tmp_path / "found.csv")] == list(zip(best, [0.0, 4.0], strict=True))
    vlm(*words, "--format", "vtt", "-o", tmp_path / "vtt")
    (file,) = (tmp_path / "vtt").iterdir()
    assert [cue.query for cue in read_webvtt(file)] == best


def test_a_model_on_an_encoders_tower_opens_that_encoder_and_no_other(vlm: Vlm, clips: Path, blocks: str):
    rows = vlm("recognize", video(clips), "--model", clips / "tower/model", "-k", 1, "--device", "cpu").rows()
    assert [row[3].partition(":")[0] for row in rows] == ["verb", "noun"]
    done = vlm("recognize", video(clips), "--model", clips / "tower/model", "--encoder", blocks, code=ExitCode.ERROR)
    assert "made for the encoder 'pocket'" in done.err


def test_what_cannot_be_recognised_is_told(vlm: Vlm, clips: Path, tmp_path: Path):
    model = ["--model", clips / "labels/model"]
    assert "begins behind the end" in vlm("recognize", video(clips), *model, "--within", "9-10", code=ExitCode.ERROR).err
    assert "cannot be read" in vlm("recognize", tmp_path / "none.mp4", *model, code=ExitCode.ERROR).err
    assert "no length of a window" in vlm("recognize", video(clips), *model, "--every", 0, code=ExitCode.USAGE).err
    assert "there is no folder" in vlm("recognize", video(clips), "--model", tmp_path / "none", code=ExitCode.ERROR).err
