from __future__ import annotations

import json
import os
import shutil
import sqlite3
from importlib import metadata
from pathlib import Path

import pytest

from tests.app.running import Vlm, run_on_terminal
from tests.app.test_player import install
from vlm import __version__
from vlm.app import diagnosis
from vlm.encoders.presets import POCKET, PRESETS
from vlm.encoders.registry import DEFAULT_ENCODER
from vlm.ssm.backends import BACKENDS
from vlm.ssm.native import library


def findings(done_out: str) -> dict[str, tuple[str, str, str]]:
    """(status, finding, reason) by name."""
    report = json.loads(done_out)
    assert report["schema"] == "vlm.doctor/1"
    return {f["name"]: (f["status"], f["finding"], f["reason"]) for f in report["findings"]}


@pytest.fixture
def player(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One player that can seek, so that nothing is wrong with this machine."""
    install(tmp_path, "mpv")
    monkeypatch.setenv("PATH", str(tmp_path))


def test_doctor_names_versions_machine_and_models(vlm: Vlm, player: None):
    found = findings(vlm("doctor", "--json").out)
    assert found["vlm"] == ("ok", __version__, "")
    assert found["torch"][1] == metadata.version("torch")
    assert found["FAISS"][1].startswith(("faiss-cpu ", "faiss-gpu "))
    assert found["cores"][1].startswith(str(len(os.sched_getaffinity(0))))
    assert found["--open"][:2] == ("ok", "mpv")
    assert found["folder"][0] == "ok"


def test_every_line_has_a_status_and_a_cell_for_each_column_when_piped(vlm: Vlm, player: None):
    rows = vlm("doctor").rows()
    assert {len(row) for row in rows} == {5}
    assert {row[0] for row in rows} <= {"ok", "warn"}


def test_a_well_library_is_ok_in_all_points(vlm: Vlm, colour_library: Path, player: None):
    rows = vlm("doctor", "--library", colour_library).rows()
    about = {row[2]: (row[0], row[3]) for row in rows if row[1] == "library"}
    assert about["health"] == ("ok", "whole")
    assert about["videos"][1].startswith("3 videos, ")
    assert {status for status, _ in about.values()} == {"ok"}


def test_a_damaged_library_fails_with_the_way_out(vlm: Vlm, colour_library: Path, tmp_path: Path):
    own = shutil.copytree(colour_library, tmp_path / "copy")
    with sqlite3.connect(own / "library.sqlite3") as database:
        database.execute("UPDATE segments SET vector = x'00' WHERE id = (SELECT min(id) FROM segments)")
    database.close()
    status, _, reason = findings(vlm("doctor", "--library", own, "--json", code=1).out)["health"]
    assert status == "fail"
    assert "segment vector" in reason
    assert "vlm check --rebuild" in reason


def test_a_file_that_is_no_database_is_a_finding_and_no_crash(vlm: Vlm, tmp_path: Path):
    (tmp_path / "library.sqlite3").write_bytes(b"no database" * 1000)
    status, _, reason = findings(vlm("doctor", "--library", tmp_path, "--json", code=1).out)["folder"]
    assert status == "fail"
    assert reason


def test_a_named_library_that_is_not_there_fails(vlm: Vlm, tmp_path: Path):
    assert findings(vlm("doctor", "--library", tmp_path / "none", "--json", code=1).out)["folder"][0] == "fail"


def test_files_that_changed_or_went_away_are_warnings(vlm: Vlm, own_library: Path, videos: Path, player: None):
    (videos / "red.mp4").unlink()
    os.utime(videos / "green.mkv", ns=(1, 1))
    found = findings(vlm("doctor", "--library", own_library, "--json").out)
    assert found["missing files"][:2] == ("warn", "1")
    assert found["changed files"][:2] == ("warn", "1")


def test_a_missing_package_fails_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch):
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    found = {f.name: (f.status, f.reason) for f in diagnosis.versions()}
    assert found["open_clip"][0] == "fail"
    assert found["open_clip"][1].startswith("pip install open-clip-torch")


def test_two_faiss_packages_at_once_are_a_warning(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metadata, "version", lambda name: "1.0")
    assert next(f for f in diagnosis.versions() if f.name == "FAISS").status == "warn"


def test_every_backend_of_the_scan_is_present_or_says_why(vlm: Vlm, player: None):
    found = findings(vlm("doctor", "--json").out)
    for backend in BACKENDS:
        _, state, reason = found[f"backend {backend.name}"]
        assert (state == "missing") == (backend.missing() is not None)
        assert reason == (backend.missing() or backend.purpose)


def test_a_missing_native_backend_is_a_warning_with_the_compilers_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "not_built.txt").write_text("CompileError: no g++\n")
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    found = next(f for f in diagnosis.scans() if f.name == "backend native")
    assert (found.status, found.finding) == ("warn", "missing")
    assert "CompileError: no g++" in found.reason


def test_instructions_that_this_processor_lacks_fail(monkeypatch: pytest.MonkeyPatch):
    if library.missing() is not None:
        pytest.skip(str(library.missing()))
    monkeypatch.setenv(library.INSTRUCTIONS_VARIABLE, "none")
    found = next(f for f in diagnosis.scans() if f.name == "backend native")
    assert (found.status, found.finding) == ("fail", "set up wrongly")


def test_a_wrong_player_variable_fails(vlm: Vlm, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VLM_PLAYER", "mpv")
    assert findings(vlm("doctor", "--json", code=1).out)["--open"][0] == "fail"


def test_doctor_on_a_narrow_terminal_keeps_to_it(colour_library: Path):
    done = run_on_terminal(["doctor", "--library", colour_library], columns=60)
    assert max(len(line.rstrip()) for line in done.out.splitlines()) <= 60


def test_models_lists_every_preset_and_marks_the_default(vlm: Vlm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    listed = json.loads(vlm("models", "--json").out)
    assert listed["schema"] == "vlm.models/1"
    assert [preset["spec"] for preset in listed["presets"]] == [preset.spec for preset in (*PRESETS, POCKET)]
    assert [preset["spec"] for preset in listed["presets"] if preset["is_default"]] == [DEFAULT_ENCODER]
    rows = vlm("models").rows()
    assert [(row[0], row[3]) for row in rows] == [(preset.spec, str(preset.dim)) for preset in (*PRESETS, POCKET)]


def test_models_on_a_terminal_name_size_licence_and_use():
    done = run_on_terminal(["models"], columns=80)
    text = " ".join(done.out.split())
    assert done.code == 0
    for preset in (*PRESETS, POCKET):
        assert preset.spec in text
        assert preset.good_for in text
    assert "MIT licence" in text
