"""Starting a video player at a second of a file: found on this machine, never through a shell."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vlm.errors import InputError, VlmError

PLAYER_VARIABLE = "VLM_PLAYER"
# A player that cannot start says so at once: no display, no such option. One that still runs after this is playing.
_PATIENCE_SECONDS = 1.0
_APPLICATIONS = Path("/Applications")


class PlayerError(VlmError):
    """A file cannot be played here."""


@dataclass(frozen=True, slots=True)
class Player:
    """A way to play a file. ``arguments`` hold ``{start}`` (seconds) and ``{path}``; without ``{start}`` it begins at the beginning."""

    name: str
    arguments: tuple[str, ...]

    @property
    def seeks(self) -> bool:
        """Whether it can be started at a moment."""
        return any("{start}" in argument for argument in self.arguments)

    def command(self, path: str, start: float) -> list[str]:
        """The process arguments that play ``path`` from ``start`` seconds on."""
        values = {"{start}": f"{start:.3f}", "{path}": path}
        # One pass: a file name that itself holds "{start}" stays as it is.
        return [re.sub(r"\{(?:start|path)\}", lambda found: values[found[0]], argument) for argument in self.arguments]


# In the order of preference. An absolute path follows, which none of them can take for an option or an address.
_ON_PATH = (
    Player("mpv", ("mpv", "--start={start}", "--", "{path}")),
    Player("vlc", ("vlc", "--start-time={start}", "{path}")),
    Player("ffplay", ("ffplay", "-loglevel", "error", "-ss", "{start}", "-i", "{path}")),
)
_IINA = Player("IINA", ("open", "-n", "-a", "IINA", "--args", "{path}", "--mpv-start={start}"))
_VLC_APPLICATION = Player("VLC", ("open", "-n", "-a", "VLC", "--args", "{path}", "--start-time={start}"))
_QUICKTIME = Player("QuickTime Player", ("open", "-a", "QuickTime Player", "{path}"))
_DESKTOP = Player("xdg-open", ("xdg-open", "{path}"))


def find_players() -> list[Player]:
    """The players of this machine, best first: the one that VLM_PLAYER names, then those that can seek, then the desktop's.

    Raises:
        InputError: VLM_PLAYER is no command with a ``{path}``.
    """
    template = os.environ.get(PLAYER_VARIABLE, "")
    chosen = [_parse_template(template)] if template.strip() else []
    players = [player for player in _ON_PATH if shutil.which(player.arguments[0])]
    if sys.platform == "darwin":
        players += [player for player in (_IINA, _VLC_APPLICATION) if (_APPLICATIONS / f"{player.name}.app").exists()]
        players.append(_QUICKTIME)
    elif shutil.which("xdg-open"):
        players.append(_DESKTOP)
    return chosen + players


def _parse_template(template: str) -> Player:
    try:
        arguments = shlex.split(template)
    except ValueError as error:
        raise InputError(f"{PLAYER_VARIABLE}={template!r} cannot be split into words: {error}") from error
    if not any("{path}" in argument for argument in arguments):
        raise InputError(f"{PLAYER_VARIABLE}={template!r} names no {{path}}: write for example 'mpv --start={{start}} {{path}}'")
    return Player(arguments[0], tuple(arguments))


def play(path: str, start: float) -> Player:
    """Starts the best player at ``start`` seconds of ``path`` and leaves it running; returns which one.

    Raises:
        PlayerError: the file is gone, no player is here, or the player ended at once with an error.
    """
    if not os.path.isfile(path):
        raise PlayerError(f"cannot play {path!r}: the file is not there any more; run vlm add again if it has moved")
    players = find_players()
    if not players:
        raise PlayerError(
            f"no video player found: install mpv, VLC or ffplay, or set {PLAYER_VARIABLE}, for example 'mpv --start={{start}} {{path}}'"
        )
    _start(players[0], players[0].command(path, start))
    return players[0]


def _start(player: Player, command: list[str]) -> None:
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=complaints, start_new_session=True
            )
        except OSError as error:
            raise PlayerError(f"cannot start the player {player.name!r}: {error.strerror or error}") from error
        try:
            code = process.wait(timeout=_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.returncode = 0  # it plays on without us; nobody will wait for it
            return
        if code:
            complaints.seek(0)
            words = complaints.read(100_000).decode("utf-8", "replace").split("\n")
            last = next((line.strip() for line in reversed(words) if line.strip()), "it said nothing")
            raise PlayerError(f"the player {player.name!r} ended at once with code {code}: {last}")
