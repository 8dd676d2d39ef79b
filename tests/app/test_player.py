from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from vlm.app import player
from vlm.app.player import PlayerError, find_players, play
from vlm.errors import InputError

# A stand-in that writes down its arguments, one a line, as the real players would get them.
_RECORDER = '#!/bin/sh\nfor a in "$@"; do printf "%s\\n" "$a"; done > "$RECORD.part"\n/bin/mv "$RECORD.part" "$RECORD"\n'


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder that is searched for programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    monkeypatch.setattr(sys, "platform", "linux")
    return folder


def install(folder: Path, name: str, script: str = _RECORDER) -> None:
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)


def recorded(path: Path) -> list[str]:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline, "the player was not started"
    return path.read_text().splitlines()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "dog [x]; touch $(pwned) 'q' {start}.mp4"
    path.write_bytes(b"video")
    return path


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mpv", ["--start=83.250", "--", "PATH"]),
        ("vlc", ["--start-time=83.250", "PATH"]),
        ("ffplay", ["-loglevel", "error", "-ss", "83.250", "-i", "PATH"]),
        ("xdg-open", ["PATH"]),
    ],
)
def test_each_player_is_started_in_its_own_language(name: str, arguments: list[str], programs: Path, video: Path, tmp_path: Path):
    install(programs, name)
    assert play(str(video), 83.25).name == name
    assert recorded(tmp_path / "record") == [str(video) if word == "PATH" else word for word in arguments]


def test_a_file_name_is_never_read_by_a_shell(programs: Path, video: Path, tmp_path: Path):
    install(programs, "mpv")
    play(str(video), 0)
    assert recorded(tmp_path / "record")[-1] == str(video)
    assert not list(tmp_path.rglob("pwned"))


def test_players_that_can_seek_come_before_those_that_cannot(programs: Path):
    for name in ("xdg-open", "ffplay", "mpv"):
        install(programs, name)
    assert [(found.name, found.seeks) for found in find_players()] == [("mpv", True), ("ffplay", True), ("xdg-open", False)]


def test_on_a_mac_iina_comes_before_quicktime(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "Applications/IINA.app").mkdir(parents=True)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(player, "_APPLICATIONS", tmp_path / "Applications")
    iina, quicktime = find_players()
    assert iina.command("/v.mp4", 5) == ["open", "-n", "-a", "IINA", "--args", "/v.mp4", "--mpv-start=5.000"]
    assert (quicktime.command("/v.mp4", 5), quicktime.seeks) == (["open", "-a", "QuickTime Player", "/v.mp4"], False)


def test_the_users_own_command_comes_first(programs: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    install(programs, "mpv", "#!/bin/sh\nexit 9\n")
    install(programs, "mine")
    monkeypatch.setenv("VLM_PLAYER", "mine --at={start} 'with space' {path}")
    assert play(str(video), 1.5).name == "mine"
    assert recorded(tmp_path / "record") == ["--at=1.500", "with space", str(video)]


@pytest.mark.parametrize(("template", "complaint"), [("mpv --start={start}", "names no {path}"), ("mpv '{path}", "cannot be split")])
def test_a_command_that_cannot_be_used_is_refused(template: str, complaint: str, programs: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VLM_PLAYER", template)
    with pytest.raises(InputError, match=complaint):
        find_players()


def test_a_missing_file_is_named(programs: Path, tmp_path: Path):
    install(programs, "mpv")
    with pytest.raises(PlayerError, match=r"gone\.mp4.*not there any more"):
        play(str(tmp_path / "gone.mp4"), 0)


def test_without_any_player_the_ways_out_are_named(programs: Path, video: Path):
    with pytest.raises(PlayerError, match=r"install mpv.*VLM_PLAYER"):
        play(str(video), 0)


def test_a_player_that_does_not_exist_is_named(programs: Path, video: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VLM_PLAYER", "no-such-player {path}")
    with pytest.raises(PlayerError, match=r"no-such-player.*No such file"):
        play(str(video), 0)


def test_a_player_that_fails_at_once_is_quoted(programs: Path, video: Path):
    install(programs, "mpv", "#!/bin/sh\necho starting >&2\necho cannot open display >&2\nexit 3\n")
    with pytest.raises(PlayerError, match="'mpv' ended at once with code 3: cannot open display"):
        play(str(video), 0)


def test_a_player_that_plays_on_is_not_waited_for(programs: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(player, "_PATIENCE_SECONDS", 0.05)
    pid = tmp_path / "pid"
    install(programs, "mpv", f"#!/bin/sh\necho $$ > '{pid}.part'\n/bin/mv '{pid}.part' '{pid}'\nexec /bin/sleep 30\n")
    play(str(video), 0)
    [number] = recorded(pid)
    os.kill(int(number), 9)  # it was running: os.kill raises for a process that is gone
    os.waitpid(int(number), 0)
