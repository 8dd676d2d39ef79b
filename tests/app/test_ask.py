"""``vlm ground`` and ``vlm ask`` as people and programs run them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.app.running import Vlm, run_on_terminal
from tests.conftest import Demo
from tests.index.test_attach import save_model
from vlm import Library
from vlm.data.formats.found_csv import read_found_csv


@pytest.fixture
def two(colour_videos: Path) -> Path:
    return colour_videos / "blue then white.mp4"


def test_moments_are_tab_separated_when_piped(vlm: Vlm, colour_library: Path, two: Path, blocks: str):
    rows = vlm("ground", "white", two, "--also", "blue", "-k", 1, "-l", colour_library, "-e", blocks).rows()
    assert [(row[0], row[2], row[3], row[4]) for row in rows] == [("1", "8.000", "16.000", "white"), ("1", "0.000", "8.000", "blue")]
    assert all(float(row[1]) > 3 for row in rows)


def test_a_file_needs_no_library(vlm: Vlm, two: Path, blocks: str, tmp_path: Path):
    done = vlm("ground", "white", two, "-e", blocks, "-k", 1)
    assert done.rows()[0][2:4] == ["8.000", "16.000"]
    assert not (tmp_path / "data" / "vlm" / "library").exists()


def test_an_answer_from_a_file_alone_names_no_library(vlm: Vlm, colour_library: Path, two: Path, blocks: str):
    command = ("ask", "what colour is it", two, "--choices", "white,red", "-e", blocks, "--json")
    assert json.loads(vlm(*command).out)["library"] is None
    assert json.loads(vlm(*command, "-l", colour_library).out)["library"] == {"path": str(colour_library)}


def test_curves_can_be_drawn_and_are_never_drawn_over(vlm: Vlm, colour_library: Path, two: Path, blocks: str, tmp_path: Path):
    target = tmp_path / "curves.png"
    command = ("ground", "white", two, "-l", colour_library, "-e", blocks, "--plot", target)
    assert f"plot: {target}" in vlm(*command).err
    with Image.open(target) as picture:
        assert picture.width > 800
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 20
    assert "never overwritten" in vlm(*command, code=1).err


def test_grounding_as_json(vlm: Vlm, colour_library: Path, two: Path, blocks: str):
    done = vlm("ground", "white", two, "-l", colour_library, "-e", blocks, "--within", "0:06-12", "-k", 2, "--json")
    found = json.loads(done.out)
    assert (found["schema"], found["score"]) == ("vlm.ground/1", "contrast")
    assert (found["video"]["path"], found["video"]["start"], found["video"]["end"]) == (str(two), 6.0, 12.0)
    assert found["times"] == [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]
    (one,) = found["queries"]
    assert (one["query"], one["presence"], len(one["curve"])) == ("white", None, 6)
    assert (one["moments"][0]["start"], one["moments"][0]["end"]) == (8.0, 12.0)
    assert len(one["moments"]) <= 2


def test_moments_as_subtitles_and_rows(vlm: Vlm, colour_library: Path, two: Path, blocks: str, tmp_path: Path):
    command = ("ground", "white", two, "--also", "blue", "-k", 1, "-l", colour_library, "-e", blocks)
    lines = vlm(*command, "--format", "srt").out.splitlines()
    assert lines[:3] == ["1", "00:00:00,000 --> 00:00:08,000", "blue"]
    vlm(*command, "--format", "csv", "-o", tmp_path / "found.csv")
    assert [one.query for one in read_found_csv(tmp_path / "found.csv")] == ["white", "blue"]
    assert "never overwritten" in vlm(*command, "--format", "csv", "-o", tmp_path / "found.csv", code=1).err


def test_moments_say_how_sure_the_library_is_in_every_form_that_can(vlm: Vlm, demo: Demo, tmp_path: Path):
    with Library.open(demo.library, create=False) as library:
        video = library.search("a small red circle bounces", top_k=1).hits[0].video_id
        expected = [moment.confidence for moment in library.ground(["a small red circle bounces"], video)[0].moments[:1]]
    command = ("ground", "a small red circle bounces", video, "-k", 1, "-l", demo.library)
    (moment,) = json.loads(vlm(*command, "--json").out)["queries"][0]["moments"]
    assert [moment["confidence"]] == expected
    assert 0 < moment["false_alarm_rate"] < 1
    vlm(*command, "--format", "csv", "-o", tmp_path / "found.csv")
    assert [one.confidence for one in read_found_csv(tmp_path / "found.csv")] == expected
    assert [json.loads(line)["confidence"] for line in vlm(*command, "--format", "jsonl").out.splitlines()] == expected
    shown = run_on_terminal([str(word) for word in command], columns=100)
    assert shown.out.splitlines()[0].split() == ["#", "score", "sure", "time"]
    assert shown.out.splitlines()[1].split()[2] == f"{expected[0]:.0%}"


@pytest.mark.parametrize(("within", "words"), [("8", "START-END"), ("9-8", "ends before it begins"), ("1:2:3:4-9", "START-END")])
def test_a_stretch_that_is_none_is_a_usage_error(within: str, words: str, vlm: Vlm, colour_library: Path, two: Path, blocks: str):
    assert words in vlm("ground", "white", two, "-l", colour_library, "-e", blocks, "--within", within, code=2).err


def test_an_unknown_video_is_named(vlm: Vlm, colour_library: Path, blocks: str):
    assert "'77'" in vlm("ground", "white", "77", "-l", colour_library, "-e", blocks, code=1).err
    assert "gone.mp4" in vlm("ask", "what is it", "gone.mp4", "--choices", "a,b", "-l", colour_library, "-e", blocks, code=1).err


def test_a_question_with_choices_is_answered_from_the_library(vlm: Vlm, colour_library: Path, colour_videos: Path, blocks: str):
    command = ("ask", "what colour is it", "-l", colour_library, "-e", blocks)
    ((said, probability, faithfulness, _, _, _, path),) = vlm(*command, "--choices", "red, yellow").rows()
    assert (said, path) == ("red", str(colour_videos / "red.mp4"))
    assert float(probability) > 0.9
    assert not faithfulness or abs(float(faithfulness)) < 0.1  # all of it is red: no moment is needed
    asked = json.loads(vlm(*command, "--choices", "red", "--choices", "a yellow, odd one", "--json").out)
    assert asked["schema"] == "vlm.ask/1"
    assert {option["text"] for option in asked["answer"]["options"]} == {"red", "a yellow, odd one"}
    assert (asked["is_shown"], asked["answer"]["blind_prior"]) == (None, None)


def test_an_open_question_to_an_encoder_alone_names_the_ways_out(vlm: Vlm, colour_library: Path, two: Path, blocks: str):
    err = vlm("ask", "what is it", two, "-l", colour_library, "-e", blocks, code=1).err
    for way in ("--choices", "--answerer", "vlm train"):
        assert way in err


@pytest.mark.parametrize(("shows", "code"), [(False, 4), (True, 0)])
def test_what_no_video_shows_ends_with_exit_code_4(shows: bool, code: int, vlm: Vlm, own_library: Path, blocks: str, tmp_path: Path):
    folder = save_model(tmp_path / "trained", answers=("yes", "no"), shows=shows)
    with Library.open(own_library, encoder=blocks) as library:
        library.attach(folder)
    done = vlm("ask", "is it white", "-l", own_library, "-e", blocks, code=code)
    assert (done.rows()[0][0] in ("yes", "no")) == shows
    asked = json.loads(vlm("ask", "is it white", "-l", own_library, "-e", blocks, "--json", code=code).out)
    assert asked["is_shown"] is shows
    assert len(asked["answer"]["blind_prior"]) == 2
