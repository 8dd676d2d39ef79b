from __future__ import annotations

from pathlib import Path

import pytest

from tests.killing import kill_rounds
from tests.media import scene_video
from vlm.encoders.registry import load_encoder


@pytest.fixture(scope="session")
def many_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen short videos, and two long ones inside which a run can be killed."""
    folder = tmp_path_factory.mktemp("many")
    colours = ("red", "green", "blue", "white")
    for number in range(16):
        scene_video(folder / f"{number:02}.mp4", [(colours[number % 4], 4)], seed=number)
    for number in range(2):
        scene_video(folder / f"long {number}.mp4", [(colours[i % 4], 60) for i in range(10)], rate=2, seed=number)
    return folder


@pytest.mark.timeout(600)
def test_kill_at_fifty_random_moments_loses_nothing_committed(many_videos: Path, tmp_path: Path, blocks: str):
    tally = kill_rounds(tmp_path, many_videos, load_encoder(blocks), blocks, rounds=50, seed=1)
    print(tally)
    assert tally.killed == 50
    assert tally.libraries >= 1
    assert tally.inside >= 5


@pytest.mark.timeout(600)
def test_kill_at_ten_random_moments_loses_nothing_committed_with_a_torch_encoder(many_videos: Path, tmp_path: Path):
    from tests.small_models import save_open_clip

    spec = f"openclip:local-dir:{save_open_clip(tmp_path / 'model')}"
    tally = kill_rounds(tmp_path, many_videos, load_encoder(spec), spec, rounds=10, seed=2)
    print(tally)
    assert tally.killed == 10
