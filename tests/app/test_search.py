from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.cells import cell_len

from tests.app.running import Vlm, run_on_terminal
from tests.app.test_player import install, recorded
from vlm import Library
from vlm.index.records import SearchResult


def test_hits_are_tab_separated_when_piped(vlm: Vlm, colour_library: Path, colour_videos: Path, blocks: str):
    first, *_ = vlm("search", "red", "--library", colour_library, "--encoder", blocks).rows()
    rank, score, start, end, video_id, path = first
    assert (rank, path) == ("1", str(colour_videos / "red.mp4"))
    assert 0.5 < float(score) <= 1
    assert (start, end) == ("0.000", "6.000")
    with Library.open(colour_library) as library:
        assert library.resolve(path) == int(video_id)


def test_quotes_around_the_query_may_be_left_out(vlm: Vlm, colour_library: Path, blocks: str):
    options = ("--library", colour_library, "--encoder", blocks)
    assert vlm("search", "a", "white", "scene", *options).out == vlm("search", "a white scene", *options).out


def test_json_holds_what_the_library_answers(vlm: Vlm, colour_library: Path, colour_videos: Path, blocks: str):
    found = json.loads(vlm("search", "white", "--library", colour_library, "--encoder", blocks, "-k", 2, "--json").out)
    assert found["schema"] == "vlm.search/1"
    assert (found["query"], found["group_by"]) == ("white", "video")
    assert [hit["rank"] for hit in found["hits"]] == [1, 2]
    best = found["hits"][0]
    assert best["path"] == str(colour_videos / "blue then white.mp4")
    assert 8 <= best["start"] < best["end"] <= 16
    assert (best["duration"], best["coverage"]) == (16.0, 1.0)
    assert best["confidence"] is None
    assert best["locations"] == [{"path": best["path"]}]
    assert all(seconds >= 0 for seconds in found["timings"].values())


def test_grouping_by_segment_may_give_one_video_twice(vlm: Vlm, colour_library: Path, blocks: str):
    options = ("--library", colour_library, "--encoder", blocks)
    assert len({row[4] for row in vlm("search", "blue", *options).rows()}) == 3
    videos = [row[4] for row in vlm("search", "blue", *options, "--group-by", "segment").rows()]
    assert len(videos) > len(set(videos))


def test_files_that_changed_since_the_last_add_are_told(vlm: Vlm, own_library: Path, videos: Path, blocks: str):
    os.utime(videos / "red.mp4", ns=(1, 1))
    (videos / "green.mkv").unlink()
    done = vlm("search", "red", "--library", own_library, "--encoder", blocks)
    assert "1 file changed and 1 file went away since the last add" in done.err
    found = json.loads(vlm("search", "red", "--library", own_library, "--encoder", blocks, "--json").out)
    assert "1 file changed" in found["warnings"][0]


def test_a_query_in_another_language_is_answered_with_a_warning(vlm: Vlm, colour_library: Path, blocks: str):
    done = vlm("search", "ein Hund auf der Wiese", "--library", colour_library, "--encoder", blocks)
    assert len(done.rows()) == 3
    assert "warning: the query looks like German" in done.err


def test_no_hit_is_said_and_makes_exit_code_4(vlm: Vlm, colour_library: Path, blocks: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Library, "search", lambda *_, **__: SearchResult("red", ()))
    done = vlm("search", "red", "--library", colour_library, "--encoder", blocks, code=4)
    assert done.out == ""
    assert "nothing found for 'red'" in done.err
    assert json.loads(vlm("search", "red", "--library", colour_library, "--encoder", blocks, "--json", code=4).out)["hits"] == []


@pytest.mark.parametrize(("query", "complaint"), [("  ", "empty"), ("word " * 10_000, "10,000 words"), (b"caf\xe9", "not valid UTF-8")])
def test_a_query_that_cannot_be_searched_is_refused(vlm: Vlm, colour_library: Path, blocks: str, query: str | bytes, complaint: str):
    done = vlm("search", query, "--library", colour_library, "--encoder", blocks, code=1)
    assert complaint in done.err
    assert len(done.err) < 500


@pytest.mark.parametrize("options", [["-k", "0"], ["--group-by", "colour"], ["--open", "0"], ["-k", "3", "--open", "4"]])
def test_an_option_out_of_its_rule_is_a_usage_error(vlm: Vlm, colour_library: Path, options: list[str]):
    vlm("search", "red", "--library", colour_library, *options, code=2)


def test_a_plug_in_must_be_named_again_and_the_flag_is_printed(vlm: Vlm, colour_library: Path, blocks: str):
    assert f"--encoder {blocks}" in vlm("search", "red", "--library", colour_library, code=1).err


def test_an_index_device_that_is_not_here_is_refused(vlm: Vlm, colour_library: Path, blocks: str):
    done = vlm("search", "red", "--library", colour_library, "--encoder", blocks, "--index-device", "cuda:99", code=1)
    assert "'cuda:99'" in done.err
    assert len(vlm("search", "red", "--library", colour_library, "--encoder", blocks, "--index-device", "cpu").rows()) == 3


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_table_fits_the_terminal(colour_library: Path, blocks: str, columns: int):
    done = run_on_terminal(["search", "red", "--library", colour_library, "--encoder", blocks, "-k", "2"], columns=columns)
    assert done.code == 0
    head, first, second, *rest = done.out.splitlines()
    assert rest == []
    assert head.split() == ["#", "score", "time", "id", "video"]
    assert first.split()[2] == "0:00-0:06"
    assert first.rstrip().endswith("red.mp4")
    assert max(cell_len(line.rstrip()) for line in (head, first, second)) <= columns


def test_open_starts_a_player_at_the_hits_first_second(
    vlm: Vlm, colour_library: Path, colour_videos: Path, blocks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    install(tmp_path, "recorder")
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    monkeypatch.setenv("VLM_PLAYER", f"{tmp_path / 'recorder'} {{start}} {{path}}")
    done = vlm("search", "white", "--library", colour_library, "--encoder", blocks, "--open", 1)
    [_, _, start, _, _, path] = done.rows()[0]
    assert (float(start) >= 8, path) == (True, str(colour_videos / "blue then white.mp4"))
    assert recorded(tmp_path / "record") == [start, path]
    assert f"from 0:{float(start):02.0f} on" in done.err


def test_open_takes_another_copy_where_the_first_is_gone(
    vlm: Vlm, own_library: Path, videos: Path, blocks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    copy = videos / "z red.mp4"
    copy.write_bytes((videos / "red.mp4").read_bytes())
    vlm("add", videos, "--library", own_library, "--encoder", blocks)
    (videos / "red.mp4").unlink()
    install(tmp_path, "recorder")
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    monkeypatch.setenv("VLM_PLAYER", f"{tmp_path / 'recorder'} {{path}}")
    done = vlm("search", "red", "--library", own_library, "--encoder", blocks, "--open", 1)
    assert recorded(tmp_path / "record") == [str(copy)]
    assert "cannot be started at a moment: go to 0:00" in done.err


def test_opening_a_hit_whose_file_is_gone_is_a_clear_error(
    vlm: Vlm, own_library: Path, videos: Path, blocks: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VLM_PLAYER", "true {path}")
    (videos / "red.mp4").unlink()
    done = vlm("search", "red", "--library", own_library, "--encoder", blocks, "--open", 1, code=1)
    assert "error: cannot play" in done.err
    assert "red.mp4" in done.err


def test_opening_more_than_was_found_is_a_clear_error(vlm: Vlm, colour_library: Path, blocks: str):
    done = vlm("search", "red", "--library", colour_library, "--encoder", blocks, "--open", 7, code=1)
    assert "there is no hit 7 to open: the search found 3" in done.err


def test_a_sheet_shows_the_stretch_of_every_hit(vlm: Vlm, colour_library: Path, blocks: str, tmp_path: Path):
    sheet = tmp_path / "hits.png"
    done = vlm("search", "white", "--library", colour_library, "--encoder", blocks, "-k", 1, "--sheet", sheet)
    assert str(sheet) in done.err
    with Image.open(sheet) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    shown = (np.abs(pixels - 240) <= 4).all(axis=2)  # the white of the video is darker than the paper
    assert shown.mean() > 0.2
    assert (pixels[..., 2] > pixels[..., 0] + 80).mean() < 0.01, "nothing of the blue part of the file"


def test_a_sheet_says_where_a_file_has_gone(vlm: Vlm, own_library: Path, videos: Path, blocks: str, tmp_path: Path):
    (videos / "red.mp4").unlink()
    vlm("search", "red", "--library", own_library, "--encoder", blocks, "--sheet", tmp_path / "hits.png")
    with Image.open(tmp_path / "hits.png") as picture:
        assert picture.height > 3 * 96


@pytest.mark.parametrize(
    ("name", "complaint"), [("there.png", "never overwritten"), ("hits.jpg", "'.*hits.jpg'"), ("no/hits.png", "no folder")]
)
def test_a_sheet_that_cannot_be_made_is_refused_before_the_search(
    vlm: Vlm, colour_library: Path, blocks: str, tmp_path: Path, name: str, complaint: str
):
    (tmp_path / "there.png").write_text("mine")
    done = vlm("search", "red", "--library", colour_library, "--encoder", blocks, "--sheet", tmp_path / name, code=1)
    assert re.search(complaint, done.err)
    assert done.out == ""
    assert (tmp_path / "there.png").read_text() == "mine"


# Queries of several parts, filters and pages


def stems(done) -> list[str]:
    return [Path(row[5]).stem for row in done.rows()]


def test_a_picture_and_a_stretch_of_a_video_are_queries(vlm: Vlm, colour_library: Path, colour_videos: Path, blocks: str, tmp_path: Path):
    options = ("--library", colour_library, "--encoder", blocks, "-k", 1)
    Image.new("RGB", (60, 40), (30, 180, 30)).save(tmp_path / "sheet.png")
    assert stems(vlm("search", "--like", tmp_path / "sheet.png", *options)) == ["green"]
    both = colour_videos / "blue then white.mp4"
    (row,) = vlm("search", "--like", f"{both}@0:09-15", *options).rows()
    assert (row[5], float(row[2]) >= 7) == (str(both), True)
    assert "START-END" in vlm("search", "--like", f"{both}@middle", *options, code=2).err


def test_words_add_and_take_away(vlm: Vlm, colour_library: Path, blocks: str):
    options = ("--library", colour_library, "--encoder", blocks)
    assert stems(vlm("search", "red", "--plus", "3:green", *options))[0] == "green"
    found = json.loads(vlm("search", "red", "--minus", "0.5:green", "--minus", "white", *options, "--json").out)
    assert found["query"] == "red - 0.5 * green - white"
    assert "say what should be seen" in vlm("search", "--minus", "red", *options, code=1).err
    assert "--like" in vlm("search", *options, code=2).err
    assert "punctuation alone" in vlm("search", "?!", *options, code=1).err


def test_filters_leave_videos_out_and_nothing_left_is_exit_code_4(vlm: Vlm, colour_library: Path, blocks: str):
    options = ("red", "--library", colour_library, "--encoder", blocks)
    assert stems(vlm("search", *options, "--path", "*.mkv")) == ["green"]
    assert stems(vlm("search", *options, "--min-length", "0:10")) == ["blue then white"]
    assert len(stems(vlm("search", *options, "--since", "2001-02-03"))) == 3
    assert "pass the filters" in vlm("search", *options, "--until", "2001-02-03T10:00", code=4).err
    assert "at least 20 s and at most 10 s" in vlm("search", *options, "--min-length", "20", "--max-length", "10", code=1).err
    assert "no time" in vlm("search", *options, "--max-length", "long", code=2).err


def test_pages_of_hits_follow_each_other(vlm: Vlm, colour_library: Path, blocks: str):
    options = ("blue", "--library", colour_library, "--encoder", blocks)
    whole = vlm("search", *options).rows()
    assert [row for skip in range(3) for row in vlm("search", *options, "-k", 1, "--skip", skip).rows()] == whole
    assert [row[0] for row in whole] == ["1", "2", "3"]
    assert "hits 2 to 3" in vlm("search", *options, "-k", 2, "--skip", 1, "--open", 1, code=2).err
