"""The command as a process: exit codes, streams, signals, pipes, and how errors look."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.running import COMMAND, Vlm, run_process
from tests.media import scene_video
from tests.test_architecture import loaded_after
from vlm import Library, __version__

COMMANDS = ["add", "search", "list", "show", "rm", "stats", "check", "doctor", "models"]


def test_version_is_one_line(vlm: Vlm):
    assert vlm("--version").out == f"vlm {__version__}\n"


def test_help_names_every_command(vlm: Vlm):
    words = vlm("--help").out.split()
    assert [command for command in COMMANDS if command not in words] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(vlm: Vlm, command: str):
    assert vlm(command, "--help").out.startswith(f"Usage: vlm {command} ")


def test_the_shell_completes_commands():
    done = run_process(environment={"_VLM_COMPLETE": "complete_bash", "COMP_WORDS": "vlm s", "COMP_CWORD": "1"})
    assert done.out.split() == ["search", "segment", "show", "stats"]


@pytest.mark.parametrize("arguments", [["nonsense"], ["list", "--nonsense"], ["search"], ["add"]])
def test_wrong_usage_is_exit_code_2_with_nothing_on_stdout(arguments: list[str]):
    done = run_process(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Usage: vlm" in done.err


def test_an_error_is_one_line_on_stderr_and_exit_code_1(tmp_path: Path):
    done = run_process("list", "--library", tmp_path / "[red]none")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"error: no library in '{tmp_path}/[red]none': ")
    assert done.err.count("\n") == 1


def test_a_bug_is_called_one_and_says_how_to_see_its_traceback(vlm: Vlm, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object, **__: object) -> Library:
        raise KeyError("lost")

    monkeypatch.setattr(Library, "open", broken)
    done = vlm("list", "--library", "some folder", code=1)
    assert done.err == (
        "error: KeyError: 'lost'\n"
        "This is a bug in vlm, not a mistake of yours. See where it happened with: vlm --debug list --library 'some folder'\n"
    )
    assert "Traceback" in vlm("--debug", "list", "--library", "some folder", code=1).err


def test_debug_shows_where_an_expected_error_came_from_too(vlm: Vlm, tmp_path: Path):
    done = vlm("--debug", "list", "--library", tmp_path / "none", code=1)
    assert "Traceback" in done.err
    assert done.err.splitlines()[-1].startswith("error: no library in ")


def test_a_reader_that_leaves_ends_the_command_quietly(colour_library: Path):
    process = subprocess.Popen([COMMAND, "list", "--library", colour_library], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, complaints = process.communicate()
    assert (process.returncode, complaints) == (141, b"")


def test_a_name_that_is_not_utf8_goes_in_and_comes_out_escaped(tmp_path: Path, blocks: str):
    name = os.fsencode(tmp_path) + b"/caf\xe9\n\x1b[31m.mp4"
    scene_video(name, [("red", 2)])
    added = run_process("add", name, "--library", tmp_path / "lib", "--encoder", blocks)
    assert added.code == 0, added
    shown = run_process("show", name, "--library", tmp_path / "lib")
    assert f"path\t{tmp_path}/caf\\xe9\\n\\x1b[31m.mp4" in shown.out.splitlines()


def test_a_terminal_that_cannot_show_a_letter_shows_its_number(tmp_path: Path, blocks: str):
    scene_video(tmp_path / "犬.mp4", [("red", 2)])
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    added = run_process("add", tmp_path / "犬.mp4", "--library", tmp_path / "lib", "--encoder", blocks, environment=ascii_only)
    assert added.code == 0, added
    assert "\\u72ac.mp4" in added.out


@pytest.mark.parametrize("command", ["list", "stats"])
def test_looking_into_a_library_loads_no_model(colour_library: Path, tmp_path: Path, command: str):
    loaded = loaded_after(f"from vlm.app.cli import run\nassert run([{command!r}, '--library', {str(colour_library)!r}]) == 0", tmp_path)
    assert loaded <= ({"faiss"} if command == "stats" else set())


@pytest.fixture
def many_videos(tmp_path: Path) -> Path:
    """Twenty-four videos of the same pictures and different content, so that an ``add`` of them takes a while."""
    folder = tmp_path / "many"
    folder.mkdir()
    first = scene_video(folder / "00.mp4", [("red", 4), ("white", 4)])
    content = first.read_bytes()
    for number in range(1, 24):
        box = number.to_bytes(8, "big")
        (folder / f"{number:02}.mp4").write_bytes(content + (8 + len(box)).to_bytes(4, "big") + b"free" + box)
    return folder


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(many_videos: Path, tmp_path: Path, blocks: str):
    command = [COMMAND, "add", many_videos, "--library", tmp_path / "lib", "--encoder", blocks, "--fps", "10", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, bufsize=0)
    assert process.stdout is not None
    first = process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # to the children as well, as a terminal does
    rest, notes = process.communicate(timeout=60)
    assert process.returncode == 130, notes
    assert b"Traceback" not in notes
    assert b"run the same command again to go on from there" in notes

    *files, report = [json.loads(line) for line in (first + rest).splitlines()]
    assert report["interrupted"] is True
    assert 1 <= len(files) < 24
    with Library.open(tmp_path / "lib") as library:
        assert {video.path for video in library.videos()} == {file["path"] for file in files}
        assert library.verify() == []

    again = run_process(*command[1:])
    assert again.code == 0, again.err
    *second, _ = [json.loads(line) for line in again.out.splitlines()]
    unchanged = {file["path"] for file in second if file["status"] == "unchanged"}
    assert unchanged == {file["path"] for file in files}
    assert len(second) == 24


def test_ctrl_c_before_the_first_file_says_how_to_go_on(
    vlm: Vlm, videos: Path, tmp_path: Path, blocks: str, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Library, "add", interrupted)
    done = vlm("add", videos, "--library", tmp_path / "lib", "--encoder", blocks, code=130)
    assert "run the same command again" in done.err


def test_the_module_of_the_command_is_what_pyproject_names():
    code = "from importlib.metadata import entry_points; print(entry_points(group='console_scripts')['vlm'].value)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "vlm.app.cli:main\n"
