from __future__ import annotations

from pathlib import Path

import pytest

from tests.app.running import Vlm
from tests.conftest import BLOCKS
from vlm import Library


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's own library, player or settings."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in ("VLM_LIBRARY", "VLM_PLAYER", "VLM_DEBUG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def vlm(capsys: pytest.CaptureFixture[str]) -> Vlm:
    """Runs a command line in this process."""
    return Vlm(capsys)


@pytest.fixture(scope="session")
def colour_library(colour_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of the three videos; copy it before changing anything."""
    folder = tmp_path_factory.mktemp("library") / "colours"
    with Library.open(folder, encoder=BLOCKS) as library:
        library.add(colour_videos)
    return folder


@pytest.fixture
def own_library(videos: Path, tmp_path: Path, blocks: str) -> Path:
    """A library of ``videos`` that a test may change, as it may change the videos."""
    folder = tmp_path / "lib"
    with Library.open(folder, encoder=blocks) as library:
        library.add(videos)
    return folder
