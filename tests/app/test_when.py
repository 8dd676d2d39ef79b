"""``vlm when``: queries about time as rows, tables, JSON and files, and what it says of queries that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.app.running import Vlm, run_on_terminal
from tests.conftest import BLOCKS
from vlm import Library
from vlm.errors import GrammarError


def test_rows_tell_intervals_and_their_proof(vlm: Vlm, colour_library: Path):
    rows = vlm("when", '"white" or "red"', "-l", colour_library, "-e", BLOCKS).rows()
    intervals = [row[1:] for row in rows if row[0] == "interval"]
    assert [row[0] for row in intervals] == [str(rank) for rank in range(1, len(intervals) + 1)]
    for rank, sure, start, end, video_id, path in intervals:
        assert 0 <= float(start) < float(end)
        assert 0 < float(sure) <= 1
        assert Path(path).is_file()
        assert int(video_id) > 0
        proof = [row[2:] for row in rows if row[:2] == ["proof", rank]]
        assert {part[5] for part in proof} <= {"white", "red"}
        assert all(part[3] == "shown" for part in proof)


def test_the_python_facade_finds_the_same(vlm: Vlm, colour_library: Path):
    rows = vlm("when", 'not "white"', "-l", colour_library, "-e", BLOCKS).rows()
    with Library.open(colour_library, encoder=BLOCKS) as library:
        told = library.when('not "white"')
        assert [(one.video_id, f"{one.span.start:.3f}") for one in told.intervals] == [
            (int(row[5]), row[3]) for row in rows if row[0] == "interval"
        ]
        assert all(one.span.end <= one.duration_seconds for one in told.intervals)
        alone = library.when('not "white"', told.intervals[0].video_id)
        assert {one.video_id for one in alone.intervals} == {told.intervals[0].video_id}


def test_json_names_sentences_and_settings(vlm: Vlm, colour_library: Path):
    done = vlm("when", '"white" while not "red"', "--json", "--join", "0:03", "--min-probability", 0.4, "-l", colour_library, "-e", BLOCKS)
    told = json.loads(done.out)
    assert (told["schema"], told["sentences"]) == ("vlm.when/1", ["white", "red"])
    assert (told["join_seconds"], told["min_probability"], told["num_videos"]) == (3.0, 0.4, 3)
    assert {part["shows"] for one in told["intervals"] for part in one["proof"]} == {True, False}


def test_one_file_is_asked_without_any_library(vlm: Vlm, colour_videos: Path):
    file = sorted(path for path in colour_videos.iterdir() if path.is_file())[0]
    told = json.loads(vlm("when", 'count("purple unicorn") < 99', file, "--json", "-e", BLOCKS).out)
    (one,) = told["intervals"]
    assert (told["library"], told["num_videos"], one["video_id"], one["start"], one["end"]) == (None, 1, None, 0.0, one["duration"])


def test_a_terminal_gets_two_tables(colour_library: Path):
    done = run_on_terminal(["when", '"white"', "-k", "1", "-l", str(colour_library), "-e", BLOCKS], columns=100)
    assert done.code == 0
    assert "sure" in done.out
    assert "proof" in done.out


def test_formats_and_the_last_result_go_on(vlm: Vlm, colour_library: Path, tmp_path: Path):
    vlm("when", '"white"', "--format", "csv", "-o", tmp_path / "when.csv", "-l", colour_library, "-e", BLOCKS)
    assert (tmp_path / "when.csv").read_text().startswith("query,")
    again = vlm("when", '"white"', "--format", "csv", "-o", tmp_path / "when.csv", "-l", colour_library, "-e", BLOCKS, code=1)
    assert "is never overwritten" in again.err
    assert vlm("export", "LAST", "--format", "qvhighlights", "-l", colour_library).out


def test_where_nothing_holds_the_exit_code_is_four(vlm: Vlm, colour_library: Path):
    done = vlm("when", '"white" and not "white"', "-l", colour_library, "-e", BLOCKS, code=4)
    assert done.out == ""
    assert 'nowhere holds "white" and not "white"' in done.err


def test_an_error_points_at_the_character_and_shows_the_rule(vlm: Vlm, tmp_path: Path):
    done = vlm("when", '"a dög" then "B" within 0s', "-l", tmp_path, code=1)
    query, caret, rule, error = done.err.splitlines()[-4:]
    assert (query, caret) == ('"a dög" then "B" within 0s', " " * 24 + "^")
    assert rule.startswith("order: ")
    assert error.startswith("error: character 25 of the query: within 0 s nothing can follow")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["white"], 1, 'a sentence, "count", "(" or "not" was expected here'),
        (['""'], 1, "an empty sentence says nothing"),
        (['"..."'], 1, "punctuation alone"),
        (['"A" between 2:00 and 1:00'], 1, "between 2:00 and 1:00 lies nothing"),
        (['"A" before -1:00'], 1, "has no sign"),
        (['count("A") >= 2.5'], 1, "a count is a whole number"),
        (['"white"', "99"], 1, "holds no video '99'"),
        (['"white"', "--min-probability", "0"], 2, "give a probability above 0"),
        (['"white"', "--min-probability", "2"], 2, "Input should be less than or equal to 1"),
        (['"white"', "--join", "soon"], 2, "'soon' is no time"),
        (['"white"', "-k", "0"], 2, "Input should be greater than or equal to 1"),
        (['"white"', "--most-read", "0"], 2, "Input should be greater than or equal to 1"),
    ],
)
def test_what_makes_no_sense_is_told(vlm: Vlm, colour_library: Path, words: list[str], code: int, told: str):
    err = vlm("when", *words, "-l", colour_library, "-e", BLOCKS, code=code).err
    assert told in " ".join(err.replace("│", " ").split())


def test_an_empty_library_is_told(vlm: Vlm, tmp_path: Path):
    with Library.open(tmp_path / "lib", encoder=BLOCKS):
        pass
    assert "holds no video yet" in vlm("when", '"white"', "-l", tmp_path / "lib", "-e", BLOCKS, code=1).err


def test_a_sentence_that_cannot_be_read_is_pointed_at(colour_library: Path):
    with Library.open(colour_library, encoder=BLOCKS) as library, pytest.raises(GrammarError, match="punctuation alone") as caught:
        library.when('"white" then "?!"')
    assert caught.value.position == 13
