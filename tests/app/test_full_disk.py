"""A disk that is full by the time a result is written: one clear line, and nothing half-written under the name that was asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
