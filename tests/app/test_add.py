from __future__ import annotations

import base64
import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.app.running import Vlm, run_on_terminal
from tests.media import scene_video
from vlm import Library
from vlm.encoders import presets


def names_by_status(rows: list[list[str]]) -> dict[str, str]:
    return {os.path.basename(row[3]): row[0] for row in rows}


def test_every_settled_file_is_one_line_when_piped(vlm: Vlm, videos: Path, tmp_path: Path, blocks: str):
    done = vlm("add", videos, "--library", tmp_path / "lib", "--encoder", blocks)
    assert names_by_status(done.rows()) == {"red.mp4": "added", "green.mkv": "added", "blue then white.mp4": "added"}
    assert {len(row) for row in done.rows()} == {5}
    assert "3 added; 28 s of video" in done.err


def test_a_second_run_finds_everything_unchanged(vlm: Vlm, own_library: Path, videos: Path, blocks: str):
    done = vlm("add", videos, "--library", own_library, "--encoder", blocks)
    assert set(names_by_status(done.rows()).values()) == {"unchanged"}


def test_a_bad_file_is_told_with_its_reason_and_makes_exit_code_3(vlm: Vlm, videos: Path, tmp_path: Path, blocks: str):
    (videos / "text.mp4").write_text("no video")
    done = vlm("add", videos, "--library", tmp_path / "lib", "--encoder", blocks, code=3)
    [row] = [row for row in done.rows() if row[0] == "quarantined"]
    assert row[1] == ""
    assert "NotAVideo" in row[4]
    assert "1 file could not be added:" in done.err
    assert done.err.count("text.mp4") == 1


def test_a_truncated_file_is_kept_and_told_as_partial(vlm: Vlm, tmp_path: Path, blocks: str):
    whole = scene_video(tmp_path / "whole.mkv", [("red", 30)], rate=10, size=(128, 192))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    done = vlm("add", cut, "--library", tmp_path / "lib", "--encoder", blocks, code=3)
    [[status, video_id, coverage, _, reason]] = done.rows()
    assert (status, video_id) == ("added", "1")
    assert 0 < float(coverage) < 1
    assert reason
    assert "1 file could only partly be decoded:" in done.err


def test_json_is_one_object_per_file_and_a_report_at_the_end(vlm: Vlm, videos: Path, tmp_path: Path, blocks: str):
    (videos / "empty.mp4").touch()
    done = vlm("add", videos, "--library", tmp_path / "lib", "--encoder", blocks, "--json", code=3)
    *files, report = map(json.loads, done.out.splitlines())
    assert {file["schema"] for file in files} == {"vlm.add.file/1"}
    assert sorted(file["status"] for file in files) == ["added", "added", "added", "quarantined"]
    assert report["schema"] == "vlm.add.report/1"
    assert report["statuses"] == {"added": 3, "quarantined": 1}
    assert report["num_rows"] == 28
    assert report["library"] == {"path": str(tmp_path / "lib")}


def test_a_name_that_is_not_utf8_keeps_its_bytes_in_json(vlm: Vlm, tmp_path: Path, blocks: str):
    name = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    scene_video(name, [("red", 2)])
    done = vlm("add", name, "--library", tmp_path / "lib", "--encoder", blocks, "--json")
    file = json.loads(done.out.splitlines()[0])
    assert file["path"] == str(tmp_path) + r"/caf\xe9.mp4"
    assert base64.b64decode(file["path_base64"]) == name


@pytest.mark.parametrize("name", ["gone.mp4", "gone\x1b[31m\n.mp4"])
def test_paths_that_do_not_exist_are_refused_before_anything_is_made(vlm: Vlm, tmp_path: Path, blocks: str, name: str):
    done = vlm("add", tmp_path / name, "--library", tmp_path / "lib", "--encoder", blocks, code=1)
    assert "No such file or directory" in done.err
    assert "\x1b" not in done.err
    assert not (tmp_path / "lib").exists()


def test_a_folder_without_videos_is_refused_and_says_what_is_in_it(vlm: Vlm, tmp_path: Path, blocks: str):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").touch()
    done = vlm("add", tmp_path / "texts", "--library", tmp_path / "lib", "--encoder", blocks, code=1)
    assert "no video among 1 file" in done.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--fps", "0"], "--fps"),
        (["--fps", "2", "--sampling", "every:2"], "not both"),
        (["--sampling", "sometimes"], "sometimes"),
        (["--fps", "fast"], "number"),
    ],
)
def test_an_option_out_of_its_rule_is_a_usage_error(vlm: Vlm, videos: Path, tmp_path: Path, arguments: list[str], complaint: str):
    done = vlm("add", videos, "--library", tmp_path / "lib", *arguments, code=2)
    assert complaint in done.err
    assert not (tmp_path / "lib").exists()


def test_an_empty_path_is_a_usage_error_and_not_the_present_folder(vlm: Vlm, tmp_path: Path):
    assert "empty" in vlm("add", "", "--library", tmp_path / "lib", code=2).err
    assert "empty" in vlm("add", "x.mp4", "--library", "", code=2).err


def test_fps_is_the_sampling_of_a_new_library(vlm: Vlm, videos: Path, tmp_path: Path, blocks: str):
    vlm("add", videos, "--library", tmp_path / "lib", "--encoder", blocks, "--fps", "0.5")
    with Library.open(tmp_path / "lib") as library:
        assert library.stats().sampling == "every:0.5"


def test_another_sampling_than_the_librarys_is_refused(vlm: Vlm, own_library: Path, videos: Path, blocks: str):
    done = vlm("add", videos, "--library", own_library, "--encoder", blocks, "--sampling", "uniform:8", code=1)
    assert done.err.startswith("error: ")
    assert "uniform:8" in done.err


def test_retry_tries_quarantined_files_again(vlm: Vlm, videos: Path, tmp_path: Path, blocks: str):
    (videos / "text.mp4").write_text("no video")
    command = ("add", videos, "--library", tmp_path / "lib", "--encoder", blocks)
    vlm(*command, code=3)
    assert "as before" in vlm(*command, code=3).out
    assert "as before" not in vlm(*command, "--retry", code=3).out


@pytest.mark.parametrize(("cached", "told"), [(False, True), (True, False)])
def test_a_download_is_announced_with_size_licence_and_folder(
    vlm: Vlm, videos: Path, tmp_path: Path, blocks: str, monkeypatch: pytest.MonkeyPatch, cached: bool, told: bool
):
    plan = presets.download_plan(presets.PRESETS[0].spec)
    assert plan is not None
    monkeypatch.setattr(presets, "download_plan", lambda spec: dataclasses.replace(plan, cached=cached))
    done = vlm("add", videos / "red.mp4", "--library", tmp_path / "lib", "--encoder", blocks)
    notice = f"model {plan.spec}: downloading 605 MB once to {plan.folder} (licence: MIT)"
    assert (notice in done.err) is told


def test_dry_run_tells_the_cost_and_makes_no_library(vlm: Vlm, videos: Path, tmp_path: Path, blocks: str):
    done = vlm("add", videos, "--library", tmp_path / "lib", "--encoder", blocks, "--dry-run", "--json")
    cost = json.loads(done.out)
    assert cost["schema"] == "vlm.add.estimate/1"
    assert (cost["num_files"], cost["num_new"], cost["num_rows"]) == (3, 3, 28)
    assert cost["hours_of_video"] == pytest.approx(28 / 3600, rel=0.05)
    assert cost["minutes"] > 0
    assert not (tmp_path / "lib").exists()


def test_dry_run_counts_only_what_is_new(vlm: Vlm, own_library: Path, videos: Path, blocks: str):
    scene_video(videos / "new.mp4", [("black", 5)])
    facts = dict(vlm("add", videos, "--library", own_library, "--encoder", blocks, "--dry-run").rows())
    assert facts["files"] == "1 new, 3 known"
    assert "timed here" in facts["time here"]
    with Library.open(own_library) as library:
        assert len(library.videos()) == 3


def test_dry_run_foretells_exit_code_3(vlm: Vlm, videos: Path, tmp_path: Path, blocks: str):
    (videos / "text.mp4").write_text("no video")
    done = vlm("add", videos, "--library", tmp_path / "lib", "--encoder", blocks, "--dry-run", code=3)
    assert "1 that cannot be read" in done.out


def test_dry_run_warns_when_the_disk_is_too_small(vlm: Vlm, videos: Path, tmp_path: Path, blocks: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))  # type: ignore[attr-defined]
    done = vlm("add", videos, "--library", tmp_path / "lib", "--encoder", blocks, "--dry-run")
    assert "warning:" in done.err
    assert "10 bytes are free" in done.err


def test_on_a_terminal_only_problems_and_a_summary_remain(videos: Path, tmp_path: Path, blocks: str):
    (videos / "text.mp4").write_text("no video")
    done = run_on_terminal(["add", videos, "--library", tmp_path / "lib", "--encoder", blocks], columns=80)
    assert done.code == 3
    assert "1 file could not be added:" in done.out
    assert "3 added" in done.out
    assert "red.mp4" not in done.out
