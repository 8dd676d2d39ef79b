"""``vlm duplicates``: what it prints and writes, and how it ends."""

from __future__ import annotations

import csv
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.app.running import Vlm, run_on_terminal
from tests.films import Film, cut, library_of
from vlm import Library
from vlm.app.commands.duplicates import COLUMNS
from vlm.app.exits import ExitCode
from vlm.app.schemas_duplicates import DuplicatesOutput, SharedStretchOutput
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.render import render
from vlm.video.write import write_video


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of six videos, of which the last shows a stretch of the first. Copy it before changing anything."""
    folder = tmp_path_factory.mktemp("films") / "lib"
    videos = {f"/films/{seed}.mp4": cut((Film(seed), 0, 40), noise=0.05, seed=seed) for seed in range(1, 6)}
    host = cut((Film(6), 0, 12), (Film(1), 10, 30), (Film(6), 12, 20), phase=0.4, noise=0.1)
    library_of(folder, videos | {"/films/host,\t6.mp4": host})
    return folder


def test_piped_a_line_holds_both_places(vlm: Vlm, films: Path):
    (row,) = vlm("duplicates", "-l", films).rows()
    assert [row[1], row[4], row[5], row[8]] == ["1", "/films/1.mp4", "6", "/films/host,\\t6.mp4"]
    assert [float(row[place]) for place in (2, 3, 6, 7)] == pytest.approx([10, 30, 12, 32], abs=1.0)
    assert 0.5 < float(row[0]) <= 1


def test_a_terminal_shows_the_two_places_below_each_other(films: Path):
    lines = run_on_terminal(["duplicates", "-l", films], columns=80).out.splitlines()
    shown = lines[[line.split() for line in lines].index(["#", "length", "alike", "time", "id", "video"]) + 1 :]
    assert shown[0].split()[-2:] == ["1", "/films/1.mp4"]
    assert "host" in shown[1]


def test_json_says_the_same(vlm: Vlm, films: Path):
    found = json.loads(vlm("duplicates", "-l", films, "--json", "--min-seconds", 6).out)
    assert found["schema"] == "vlm.duplicates/1"
    assert (found["video_id"], found["min_seconds"], found["repeats"]) == (None, 6.0, False)
    document = DuplicatesOutput.model_validate({key: value for key, value in found.items() if key != "schema"})
    (shared,) = document.duplicates
    assert (shared.one.path, shared.other.path) == ("/films/1.mp4", "/films/host,\t6.mp4")


def test_jsonl_and_csv_are_written_to_a_new_file(vlm: Vlm, films: Path, tmp_path: Path):
    vlm("duplicates", "-l", films, "--format", "jsonl", "-o", tmp_path / "found.jsonl")
    shared = SharedStretchOutput.model_validate_json((tmp_path / "found.jsonl").read_text())
    vlm("duplicates", "-l", films, "--format", "csv", "-o", tmp_path / "found.csv")
    with (tmp_path / "found.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert tuple(row) == COLUMNS
    assert row["other_path"] == shared.other.path == "/films/host,\t6.mp4"
    assert float(row["one_end"]) == pytest.approx(shared.one.end, abs=1e-3)


def test_an_existing_file_is_not_overwritten(vlm: Vlm, films: Path, tmp_path: Path):
    (tmp_path / "kept.csv").write_text("mine")
    done = vlm("duplicates", "-l", films, "--format", "csv", "-o", tmp_path / "kept.csv", code=ExitCode.ERROR)
    assert "exists and is never overwritten" in done.err
    assert (tmp_path / "kept.csv").read_text() == "mine"


def test_a_video_is_named_by_id_or_path(vlm: Vlm, films: Path):
    (by_id,) = vlm("duplicates", "6", "-l", films).rows()
    (by_path,) = vlm("duplicates", "/films/1.mp4", "-l", films).rows()
    assert by_id[1] == by_path[5] == "6"
    done = vlm("duplicates", "2", "-l", films, code=ExitCode.NO_HIT)
    assert done.out == ""
    assert done.err.splitlines()[-1] == "no other video shares with '2' a stretch of 5 s or more in which anything moves"


def test_nothing_found_is_told_and_is_an_exit_code_of_its_own(vlm: Vlm, films: Path):
    done = vlm("duplicates", "-l", films, "--min-seconds", 60, code=ExitCode.NO_HIT)
    assert done.err.splitlines()[-1] == "no two videos share a stretch of 60 s or more in which anything moves"
    assert json.loads(vlm("duplicates", "-l", films, "--min-seconds", 60, "--json", code=ExitCode.NO_HIT).out)["duplicates"] == []


def test_an_unknown_video_is_an_error(vlm: Vlm, films: Path):
    done = vlm("duplicates", "77", "-l", films, code=ExitCode.ERROR)
    assert "holds no video '77'" in done.err


def test_an_empty_library_is_an_error_that_says_how_to_fill_it(vlm: Vlm, tmp_path: Path):
    library_of(tmp_path / "lib", {})
    done = vlm("duplicates", "-l", tmp_path / "lib", code=ExitCode.ERROR)
    assert "holds no video yet: vlm add VIDEOS" in done.err


@pytest.mark.parametrize("seconds", ["0", "-2", "nan", "inf"])
def test_a_length_that_is_none_is_wrong_usage(vlm: Vlm, films: Path, seconds: str):
    done = vlm("duplicates", "-l", films, f"--min-seconds={seconds}", code=ExitCode.USAGE)
    assert f"{float(seconds):g} is no length" in done.err


def test_subtitles_cannot_hold_pairs(vlm: Vlm, films: Path):
    done = vlm("duplicates", "-l", films, "--format", "srt", code=ExitCode.USAGE)
    assert "srt cannot hold pairs of stretches" in done.err


def test_real_files_share_what_was_copied_by_another_codec_at_another_rate(vlm: Vlm, tmp_path: Path):
    (tmp_path / "videos").mkdir()
    one, other = (make_world(31, number, seconds=24.0) for number in (0, 1))

    def shown(world, start: float, seconds: float, rate: int) -> np.ndarray:  # type: ignore[no-untyped-def]
        return render(world, start + np.arange(seconds * rate) / rate, size=96)

    write_video(tmp_path / "videos/source.mp4", shown(one, 0, 24, 4), frame_rate=Fraction(4))
    copied = [shown(other, 0, 6, 5), shown(one, 4, 16, 5), shown(other, 6, 6, 5)]
    write_video(tmp_path / "videos/host.avi", np.concatenate(copied), codec="mpeg4", frame_rate=Fraction(5))
    for number in (2, 3):
        write_video(tmp_path / f"videos/other{number}.mp4", shown(make_world(31, number, seconds=20.0), 0, 20, 4), frame_rate=Fraction(4))
    with Library.open(tmp_path / "lib", encoder="pocket") as library:
        library.add(tmp_path / "videos")
    (row,) = vlm("duplicates", "-l", tmp_path / "lib").rows()
    assert [Path(row[place]).name for place in (4, 8)] == ["host.avi", "source.mp4"]
    assert [float(row[place]) for place in (2, 3, 6, 7)] == pytest.approx([6, 22, 4, 20], abs=1.0)
