"""``vlm demo``: real files, a real library, queries and questions whose truth is known; and what pocket says of what it does not know."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.app.running import Vlm, run_on_terminal
from tests.conftest import Demo
from vlm import Library
from vlm.app import demo as steps
from vlm.spans import temporal_iou
from vlm.types import Span
from vlm.video.probe import probe


def rows(demo: Demo) -> list[list[str]]:
    """The hits: of moments and answers the second column is a word."""
    return [row for row in every_row(demo) if row[1].isdigit()]


def every_row(demo: Demo) -> list[list[str]]:
    return [line.split("\t") for line in demo.out.splitlines()]


def test_24_clips_are_real_h264_files_with_their_truth(demo: Demo):
    places = steps.Places(demo.folder)
    clips = sorted(places.videos.iterdir())
    truths = [json.loads(line) for line in places.truth.read_text("utf-8").splitlines()]
    assert len(clips) == len(truths) == 24
    assert {probe(clip).codec for clip in clips} == {"h264"}
    assert {clip.stem for clip in clips} == {truth["name"].replace("/", "-") for truth in truths}


def test_sentences_have_three_hits_each_and_most_first_hits_are_right(demo: Demo):
    made = steps.worlds()
    asked = [*steps.queries(made), steps.order_query(made)]
    assert [row[0] for row in rows(demo)] == [text for text, _, _ in asked for _ in range(3)]
    truth = {text: steps.file_name(world) for text, world, _ in asked}
    firsts = [Path(row[5]).stem == truth[row[0]] for row in rows(demo) if row[1] == "1"]
    assert len(firsts) == 7
    assert sum(firsts) >= 5, "chance is a quarter of one"


def test_moments_and_answers_stand_beside_what_is_true(demo: Demo):
    made = steps.worlds()
    moments = [row for row in every_row(demo) if row[1] == "moment"]
    text, world, true = steps.order_query(made)
    assert (moments[-1][0], moments[-1][5]) == (text, steps.file_name(world))
    assert temporal_iou(Span(float(moments[-1][3]), float(moments[-1][4])), true) > 0.3
    answers = [row for row in every_row(demo) if row[1] == "answer"]
    expected = [[question.text, question.answer, steps.file_name(world)] for question, world in steps.questions(made)]
    assert [[row[0], row[4], row[5]] for row in answers] == expected
    for row, (question, _) in zip(answers, steps.questions(made), strict=True):
        assert row[3] in question.options
        assert 1 / len(question.options) < float(row[2]) <= 1


def test_the_sheet_shows_the_hits(demo: Demo):
    with Image.open(demo.folder / "hits.png") as sheet:
        assert sheet.height > 18 * 96
        assert np.asarray(sheet).std() > 20


def test_everything_that_was_made_is_named(demo: Demo):
    for name in ("hits.png", "videos", "truth.jsonl", "library"):
        assert str(demo.folder) in demo.err
        assert name in demo.err
    assert "not the real one" in demo.err


def test_again_only_the_searches_run(demo: Demo, tmp_path: Path, vlm: Vlm):
    again = tmp_path / "again"
    shutil.copytree(demo.folder, again)
    before = {path: path.stat().st_mtime_ns for path in (again / "clips").rglob("*")}
    begin = time.monotonic()
    first = vlm("demo", again)
    assert "drew" not in first.err
    assert {path: path.stat().st_mtime_ns for path in (again / "clips").rglob("*")} == before
    assert time.monotonic() - begin < 120
    assert [row[0] for row in first.rows()] == [row[0] for row in every_row(demo)]


def test_people_read_where_each_sentence_is_true(demo: Demo):
    done = run_on_terminal(["demo", demo.folder], columns=100)
    assert done.out.count("true of toybox-1-test-24-") == 7
    assert done.out.count("where in toybox-1-test-24-") == 2
    assert done.out.count("about toybox-1-test-24-") == 3


def test_a_folder_of_other_things_is_left_alone(vlm: Vlm, tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    done = vlm("demo", tmp_path, code=1)
    assert str(tmp_path) in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_library_opens_again_by_itself(demo: Demo, vlm: Vlm):
    found = vlm("search", "a", "red", "circle", "--library", demo.library, "-k", 2)
    assert len(found.rows()) == 2
    with Library.open(demo.library) as library:
        assert library.encoder_spec == "pocket"


def test_words_that_pocket_never_saw_are_warned_of_and_searched_all_the_same(demo: Demo, vlm: Vlm):
    done = vlm("search", "two flamingos in Zürich 🦩", "--library", demo.library)
    assert len(done.rows()) == 10
    assert "'flamingos'" in done.err
    assert "the drawn world of Toybox" in done.err


def test_toybox_itself_is_no_cause_of_a_warning(demo: Demo):
    assert "look like nothing" not in demo.err


def test_footage_that_pocket_finds_unfamiliar_is_warned_of(vlm: Vlm, shared: Path, tmp_path: Path):
    name = "sam2_dog.mp4"  # one of the 29 % of real clips that it tells (docs/pocket.md)
    clip = shared / "data" / "clips" / name
    done = vlm("add", clip, "--library", tmp_path / "lib", "--encoder", "pocket")
    assert name in done.err
    assert "look like nothing that 'pocket' knows" in done.err
