"""What all rooms' tests share: where things are, and libraries of small real videos."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.media import scene_video
from vlm import Library

REPOSITORY = Path(__file__).resolve().parent.parent
BLOCKS = f"python:{REPOSITORY / 'tests/plugins/blocks.py'}:blocks"
PHOTO = f"python:{REPOSITORY / 'tests/plugins/photo.py'}:photo"


@pytest.fixture
def blocks() -> str:
    """The spec of the numpy-only encoder of the tests: colours and colour words in one space."""
    return BLOCKS


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips and awkward files; tests that read it are skipped where it is absent."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"{folder} is not on this machine")
    return folder


@pytest.fixture(scope="session")
def colour_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three videos: red; green; and one that is blue for 8 s, then white for 8 s. Copy it before changing anything."""
    folder = tmp_path_factory.mktemp("colours")
    scene_video(folder / "red.mp4", [("red", 6)])
    scene_video(folder / "green.mkv", [("green", 6)])
    scene_video(folder / "blue then white.mp4", [("blue", 8), ("white", 8)])
    return folder


@pytest.fixture
def videos(colour_videos: Path, tmp_path: Path) -> Path:
    """A folder of the three videos that a test may change."""
    return Path(shutil.copytree(colour_videos, tmp_path / "videos"))


@pytest.fixture
def library(videos: Path, tmp_path: Path, blocks: str) -> Iterator[Library]:
    """An open library of ``videos``, encoded by ``blocks``, that a test may change."""
    with Library.open(tmp_path / "lib", encoder=blocks) as library:
        library.add(videos)
        yield library


@dataclass(frozen=True)
class Demo:
    """A demo that was run once, as a user runs it: its folder and what it printed. Copy the library before changing it."""

    folder: Path
    out: str
    err: str

    @property
    def library(self) -> Path:
        return self.folder / "library"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The one rendered library that all tests share: 24 clips of Toybox as H.264 files, encoded by pocket."""
    folder = tmp_path_factory.mktemp("demo") / "toybox"
    command = [Path(sys.executable).with_name("vlm"), "demo", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Demo(folder, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def plain_demo(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The same library without the trained model that comes with pocket: an encoder alone."""
    from vlm import Library

    folder = tmp_path_factory.mktemp("plain") / "toybox"
    shutil.copytree(demo.folder, folder)
    plain = Demo(folder, demo.out, demo.err)
    with Library.open(plain.library, create=False) as library:
        assert library.detach() is not None
        library.search("a red circle", top_k=1)  # measures the library anew
    return plain
