from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.app.running import Vlm, run_on_terminal

READERS = [["list"], ["list", "--quarantined"], ["show", "1"], ["stats"], ["check"], ["rm", "1"], ["search", "red"]]


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_a_folder_without_a_library_is_a_clear_error_and_stays_as_it_is(vlm: Vlm, tmp_path: Path, command: list[str]):
    done = vlm(*command, "--library", tmp_path / "none", code=1)
    assert done.out == ""
    assert done.err.startswith(f"error: no library in '{tmp_path / 'none'}'")
    assert not (tmp_path / "none").exists()


def test_list_is_tab_separated_when_piped(vlm: Vlm, colour_library: Path, colour_videos: Path):
    rows = vlm("list", "--library", colour_library).rows()
    assert {row[4]: row[1:3] for row in rows} == {
        str(colour_videos / "red.mp4"): ["6.000", "1.000"],
        str(colour_videos / "green.mkv"): ["6.000", "1.000"],
        str(colour_videos / "blue then white.mp4"): ["16.000", "1.000"],
    }
    assert all(row[0].isdecimal() and row[3].isdecimal() for row in rows)


def test_list_as_json_holds_every_video_with_its_digest_and_places(vlm: Vlm, colour_library: Path, colour_videos: Path):
    listed = json.loads(vlm("list", "--library", colour_library, "--json").out)
    assert listed["schema"] == "vlm.list/1"
    video = next(v for v in listed["videos"] if v["path"].endswith("red.mp4"))
    content = (colour_videos / "red.mp4").read_bytes()
    assert video["digest"] == hashlib.sha256(content).hexdigest()
    assert video["locations"] == [{"path": str(colour_videos / "red.mp4"), "num_bytes": len(content)}]
    assert (video["width"], video["height"], video["frame_rate"], video["codec"]) == (96, 64, 10.0, "h264")


def test_list_on_a_terminal_is_a_table_with_a_sum_below(colour_library: Path):
    done = run_on_terminal(["list", "--library", colour_library], columns=50)
    head, *rows, total = done.out.splitlines()
    assert head.split() == ["id", "length", "decoded", "segments", "video"]
    assert sorted(row.split()[1] for row in rows) == ["0:06", "0:06", "0:16"]
    assert total == "3 videos, 28 s"


def test_quarantined_files_are_listed_with_their_reasons(vlm: Vlm, own_library: Path, videos: Path, blocks: str):
    (videos / "text.mp4").write_text("no video")
    vlm("add", videos, "--library", own_library, "--encoder", blocks, code=3)
    [[path, error, _, reason]] = vlm("list", "--quarantined", "--library", own_library).rows()
    assert (path, error) == (str(videos / "text.mp4"), "NotAVideo")
    listed = json.loads(vlm("list", "--quarantined", "--library", own_library, "--json").out)
    assert [(file["path"], file["reason"]) for file in listed["files"]] == [(path, reason)]


def test_a_video_is_shown_by_id_and_by_path(vlm: Vlm, colour_library: Path, colour_videos: Path, monkeypatch: pytest.MonkeyPatch):
    by_path = vlm("show", colour_videos / "red.mp4", "--library", colour_library)
    facts = dict(by_path.rows())
    assert facts["length"] == "0:06 (6.000 s)"
    assert vlm("show", facts["id"], "--library", colour_library).out == by_path.out
    monkeypatch.chdir(colour_videos)
    assert vlm("show", "red.mp4", "--library", colour_library).out == by_path.out
    shown = json.loads(vlm("show", facts["id"], "--library", colour_library, "--json").out)
    assert (shown["schema"], shown["video"]["duration"], shown["num_thumbnails"]) == ("vlm.show/1", 6.0, 1)


@pytest.mark.parametrize("command", ["show", "rm"])
@pytest.mark.parametrize("reference", ["99", "no.mp4"])
def test_an_unknown_video_is_named(vlm: Vlm, colour_library: Path, command: str, reference: str):
    assert repr(reference) in vlm(command, reference, "--library", colour_library, code=1).err


def test_removing_leaves_the_file_and_forgets_the_video(vlm: Vlm, colour_library: Path, colour_videos: Path, tmp_path: Path):
    own = shutil.copytree(colour_library, tmp_path / "copy")
    [[video_id, path]] = vlm("rm", colour_videos / "red.mp4", "--library", own).rows()
    assert path == str(colour_videos / "red.mp4")
    assert Path(path).exists()
    assert video_id not in {row[0] for row in vlm("list", "--library", own).rows()}


def test_removing_several_removes_none_if_one_is_unknown(vlm: Vlm, colour_library: Path, colour_videos: Path, tmp_path: Path):
    own = shutil.copytree(colour_library, tmp_path / "copy")
    vlm("rm", colour_videos / "red.mp4", "99", "--library", own, code=1)
    assert len(vlm("list", "--library", own).rows()) == 3


def test_removal_as_json_names_what_is_gone(vlm: Vlm, colour_library: Path, colour_videos: Path, tmp_path: Path):
    own = shutil.copytree(colour_library, tmp_path / "copy")
    answer = json.loads(vlm("rm", colour_videos / "red.mp4", colour_videos / "red.mp4", "--library", own, "--json").out)
    assert answer["schema"] == "vlm.rm/1"
    assert [video["path"] for video in answer["removed"]] == [str(colour_videos / "red.mp4")]


@pytest.mark.parametrize("arguments", [[], ["1", "--missing"]])
def test_rm_wants_either_names_or_missing(vlm: Vlm, colour_library: Path, arguments: list[str]):
    assert "not both" in vlm("rm", *arguments, "--library", colour_library, code=2).err


def test_missing_removes_only_videos_without_any_file_and_only_on_consent(vlm: Vlm, own_library: Path, videos: Path, blocks: str):
    shutil.copy(videos / "red.mp4", videos / "copy of red.mp4")
    vlm("add", videos, "--library", own_library, "--encoder", blocks)
    (videos / "red.mp4").unlink()
    (videos / "green.mkv").unlink()
    asked = vlm("rm", "--missing", "--library", own_library, code=2)
    assert "repeat with --yes" in asked.err
    assert len(vlm("list", "--library", own_library).rows()) == 3
    [[_, path]] = vlm("rm", "--missing", "--yes", "--library", own_library).rows()
    assert path == str(videos / "green.mkv")
    assert "every video still has a file" in vlm("rm", "--missing", "--library", own_library).err


def test_missing_warns_when_a_whole_folder_is_away(vlm: Vlm, own_library: Path, videos: Path):
    shutil.rmtree(videos)
    asked = vlm("rm", "--missing", "--library", own_library, code=2)
    assert f"warning: {videos} is not there at all: is a disk not mounted?" in asked.err


def test_stats_tell_sizes_and_the_model(vlm: Vlm, colour_library: Path, blocks: str):
    sizes = json.loads(vlm("stats", "--library", colour_library, "--json").out)
    assert sizes["schema"] == "vlm.stats/1"
    assert (sizes["num_videos"], sizes["num_rows"], sizes["sampling"]) == (3, 28, "every:1")
    assert sizes["encoder"] == blocks
    assert dict(vlm("stats", "--library", colour_library).rows())["features"].startswith("28 rows")


def test_a_whole_library_passes_the_check(vlm: Vlm, colour_library: Path):
    assert vlm("check", "--library", colour_library).out == ""
    report = json.loads(vlm("check", "--library", colour_library, "--json").out)
    assert (report["schema"], report["problems"], report["done"]) == ("vlm.check/1", [], [])


def test_check_names_a_damaged_vector_and_fails(vlm: Vlm, colour_library: Path, tmp_path: Path):
    own = shutil.copytree(colour_library, tmp_path / "copy")
    with sqlite3.connect(own / "library.sqlite3") as database:
        database.execute("UPDATE segments SET vector = x'00' WHERE id = (SELECT min(id) FROM segments)")
    database.close()
    done = vlm("check", "--library", own, code=1)
    assert "segment vector" in done.out
    assert "1 problem" in done.err


def test_rebuild_repairs_segments_and_index_from_the_features(vlm: Vlm, colour_library: Path, blocks: str, tmp_path: Path):
    own = shutil.copytree(colour_library, tmp_path / "copy")
    search = ("search", "white", "--library", own, "--encoder", blocks, "-k", 1)
    before = vlm(*search).out
    with sqlite3.connect(own / "library.sqlite3") as database:
        database.execute("DELETE FROM segments")
    database.close()
    (own / "vectors.faiss").write_bytes(b"damaged")
    report = json.loads(vlm("check", "--rebuild", "--compact", "--library", own, "--json").out)
    assert (report["done"], report["problems"]) == (["rebuilt", "compacted"], [])
    assert vlm(*search).out == before


def test_check_tells_files_that_are_gone_without_failing(vlm: Vlm, own_library: Path, videos: Path):
    (videos / "red.mp4").unlink()
    os.utime(videos / "green.mkv", ns=(1, 1))
    report = json.loads(vlm("check", "--library", own_library, "--json").out)
    assert report["missing_files"] == [{"path": str(videos / "red.mp4")}]
    assert report["changed_files"] == [{"path": str(videos / "green.mkv")}]


def test_without_a_name_the_users_own_library_is_used_and_told(vlm: Vlm, colour_library: Path, tmp_path: Path):
    folder = tmp_path / "data/vlm/library"
    shutil.copytree(colour_library, folder)
    done = vlm("list")
    assert len(done.rows()) == 3
    assert done.err == f"library: {folder} (the default; name another with --library or VLM_LIBRARY)\n"


def test_the_variable_names_a_library_and_the_option_comes_before_it(
    vlm: Vlm, colour_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VLM_LIBRARY", str(colour_library))
    done = vlm("list")
    assert (len(done.rows()), done.err) == (3, "")
    assert str(tmp_path / "other") in vlm("list", "--library", tmp_path / "other", code=1).err


def test_a_read_only_library_can_be_read_and_says_so_when_written(vlm: Vlm, colour_library: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "access", lambda path, mode, **_: mode != os.W_OK)
    assert len(vlm("list", "--library", colour_library).rows()) == 3
    assert "cannot be written" in vlm("rm", "1", "--library", colour_library, code=1).err
