"""A disk that is full by the time a result is written: one clear line, and nothing half-written under the name that was asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.running import COMMAND
from tests.conftest import BLOCKS
from tests.films import Film, cut, library_of
from vlm.app.exits import ExitCode

# Runs command lines in turn; as soon as one opens the file that is named with it, no file may grow beyond 20 bytes.
RUN = """
import contextlib, io, json, os, resource, signal, sys
from vlm.app.cli import run

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing too much is then an error, as on a full disk
most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
full_at = None

def fill(event, arguments):
    if event == "open" and full_at is not None and str(arguments[0]) == full_at:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, most))

sys.addaudithook(fill)
ended = {}
for name, full_at, words in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        code = run(words)
    was_full = resource.getrlimit(resource.RLIMIT_FSIZE)[0] == 20
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    ended[name] = {"code": code, "err": said.getvalue(), "was_full": was_full}
print(json.dumps(ended))
"""
FILES = ("json", "jsonl", "csv", "qvhighlights")
FOLDERS = ("srt", "vtt")
PICTURES = ("plot", "sheet")
PAIRS = ("duplicates",)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("full")


@pytest.fixture(scope="module")
def ended(colour_library: Path, colour_videos: Path, places: Path) -> dict[str, dict[str, object]]:
    """How each command ended whose result found no room."""
    there = ["-l", str(colour_library), "-e", BLOCKS]
    search = ["search", "white", *there]
    ground = ["ground", "white", str(colour_videos / "blue then white.mp4"), *there]
    jobs = [(name, str(places / name), [*search, "--format", name, "-o", str(places / name)]) for name in FILES]
    # Of a folder the first file is written whole.
    jobs += [(name, str(places / name / f"02_green.{name}"), [*search, "--format", name, "-o", str(places / name)]) for name in FOLDERS]
    jobs.append(("sheet", str(places / "sheet.png"), [*search, "--sheet", str(places / "sheet.png")]))
    jobs.append(("plot", str(places / "plot.png"), [*ground, "--plot", str(places / "plot.png")]))
    copies = places.parent / "copies"
    library_of(copies, {name: cut((Film(1), 0, 20)) for name in ("one", "other")})
    pairs = ["duplicates", "-l", str(copies), "--format", "csv", "-o", str(places / "duplicates")]
    jobs.append(("duplicates", str(places / "duplicates"), pairs))
    done = subprocess.run([sys.executable, "-c", RUN], input=json.dumps(jobs), capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("name", [*FILES, *FOLDERS, *PICTURES, *PAIRS])
def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(name: str, ended: dict[str, dict[str, object]], places: Path):
    end = ended[name]
    assert end["was_full"]
    last = str(end["err"]).splitlines()[-1]
    assert last.startswith("error: ")
    assert str(places / name) in last
    assert last.endswith("cannot be written: File too large")
    assert end["code"] == ExitCode.ERROR
    assert not list(places.glob(f"{name}*"))


# Runs command lines in turn, each with stdout on the file that is named with it.
TO_STDOUT = """
import contextlib, io, json, os, sys
from vlm.app.cli import run

printed = os.dup(1)
ended = {}
for name, target, words in json.load(sys.stdin):
    file = os.open(target, os.O_WRONLY)
    os.dup2(file, 1)
    os.close(file)
    sys.stdout = open(1, "w", closefd=False)
    with contextlib.redirect_stderr(io.StringIO()) as said:
        ended[name] = {"code": run(words), "err": said.getvalue()}
os.dup2(printed, 1)
sys.stdout = open(1, "w", closefd=False)
print(json.dumps(ended))
"""
FULL = Path("/dev/full")
TO_FULL = {
    **{f"search {name}": ("search", "--format", name) for name in ("table", *FILES, *FOLDERS)},
    **{f"ground {name}": ("ground", "--format", name) for name in ("table", *FILES, *FOLDERS)},
    "ask table": ("ask",),
    "ask json": ("ask", "--json"),
    **{f"export {name}": ("export", "--format", name) for name in ("edl", "otio", "chapters", "qvhighlights", "fiftyone")},
    "export json": ("export", "--format", "edl", "--json"),
}


@pytest.fixture(scope="module")
def at_stdout(colour_library: Path, colour_videos: Path, places: Path) -> dict[str, dict[str, object]]:
    """How each command ended whose stdout led to a full disk; and the same commands where it led to nowhere."""
    if not FULL.is_char_device():
        pytest.skip(f"{FULL} is not on this machine")
    there = ["-l", str(colour_library), "-e", BLOCKS]
    video = str(colour_videos / "blue then white.mp4")
    asked = {
        "search": ["white", "-k", "1"],
        "ground": ["white", video, "-k", "1"],
        "ask": ["what is it", video, "--choices", "blue,white"],
        "export": ["white", "-k", "1"],
    }
    jobs = []
    for name, (command, *form) in TO_FULL.items():
        for target in (FULL, Path("/dev/null")):
            into = ["-o", str(places / f"edl-{target.name}")] if name == "export json" else []
            jobs.append((f"{name} > {target}", str(target), [command, *asked[command], *there, *form, *into]))
    done = subprocess.run([sys.executable, "-c", TO_STDOUT], input=json.dumps(jobs), capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("name", TO_FULL)
def test_a_full_disk_behind_stdout_is_told_in_one_line(name: str, at_stdout: dict[str, dict[str, object]]):
    assert at_stdout[f"{name} > /dev/null"]["code"] == ExitCode.OK  # it is the disk alone that is in the way
    end = at_stdout[f"{name} > {FULL}"]
    assert end["code"] == ExitCode.ERROR
    errors = [line for line in str(end["err"]).splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "stdout cannot be written" in errors[0]
    assert "No space left on device" in errors[0]
    assert "bug" not in str(end["err"])


@pytest.mark.parametrize("arguments", [("models",), ("--version",), ("search", "--help")], ids=" ".join)
@pytest.mark.parametrize("buffered", [True, False])
def test_a_process_whose_stdout_is_full_leaves_with_one_line_and_no_traceback(arguments: tuple[str, ...], buffered: bool):
    if not FULL.is_char_device():
        pytest.skip(f"{FULL} is not on this machine")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    if not buffered:
        environment["PYTHONUNBUFFERED"] = "1"
    with FULL.open("wb") as full:
        done = subprocess.run([COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert done.returncode == ExitCode.ERROR
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "No space left on device" in line
    assert "stdout" in line
