"""Rendered files: what each frame shows and when, and that nothing is left or lost when something goes wrong."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vlm.data.toybox import files
from vlm.data.toybox.files import RATES, RenderedVideo, frame_times, rate_of, render_files, render_worlds
from vlm.data.toybox.plan import event_clip, make_world
from vlm.data.toybox.render import render
from vlm.data.toybox.world import World
from vlm.errors import InputError, VideoUnwritable
from vlm.types import DecodeOutcome, Frames, Framing, VideoInfo
from vlm.video.decode import decode
from vlm.video.sample import Sampling
from vlm.video.write import CODECS

# Lossy coding and halved colour resolution: far less than any wrong frame, which differs by more than 5 levels at a moving thing alone.
MEAN_DIFFERENCE = 6.0


@pytest.fixture(scope="module")
def clips() -> list[World]:
    """Short worlds of one event each."""
    return [event_clip(5, index, split="train") for index in range(3)]


def read(path: Path, size: int) -> tuple[VideoInfo, NDArray[np.uint8], list[float], DecodeOutcome]:
    """All frames of a file."""
    info, *batches, outcome = decode(path, Sampling.parse("every:1000"), Framing(height=size, width=size))
    assert isinstance(info, VideoInfo)
    assert isinstance(outcome, DecodeOutcome)
    frames = [batch for batch in batches if isinstance(batch, Frames)]
    times = [time for batch in frames for time in info.clock.seconds(batch.pts).tolist()]
    return info, np.concatenate([batch.pixels for batch in frames]), times, outcome


def check_file(video: RenderedVideo, world: World) -> None:
    """Every frame is there, at its time, and shows the world at that time."""
    _, pixels, times, outcome = read(video.path, video.size)
    assert video.world == world.name
    assert times == video.times.tolist()
    assert outcome.status == "complete"
    assert outcome.end_seconds == pytest.approx(video.end_seconds, abs=1e-9)
    expected = render(world, video.times, size=video.size)
    assert np.abs(pixels.astype(int) - expected).mean(axis=(1, 2, 3)).max() < MEAN_DIFFERENCE


@pytest.mark.parametrize("codec", CODECS)
def test_each_frame_shows_the_world_at_its_own_time(tmp_path: Path, clips: list[World], codec: str) -> None:
    (video,) = render_worlds(tmp_path / "out", clips[:1], codec=codec, size=64, frame_rate=Fraction(10))
    check_file(video, clips[0])
    assert video.end_seconds == pytest.approx(clips[0].seconds)


@pytest.mark.parametrize("codec", CODECS)
def test_frames_of_a_variable_rate_show_the_world_at_their_own_times(tmp_path: Path, clips: list[World], codec: str) -> None:
    (video,) = render_worlds(tmp_path / "out", clips[1:2], codec=codec, size=64, frame_rate=10, vfr=True)
    check_file(video, clips[1])
    assert video.frame_rate is None
    assert video.end_seconds == clips[1].seconds


def test_rates_differ_between_worlds_and_are_in_the_files(tmp_path: Path) -> None:
    worlds = [event_clip(5, index, split="train") for index in range(8)]
    videos = render_worlds(tmp_path / "out", worlds, size=32)
    assert len({video.frame_rate for video in videos}) > 2
    for video, world in zip(videos, worlds, strict=True):
        assert video.frame_rate == rate_of(world)
        assert read(video.path, 32)[0].frame_rate == pytest.approx(float(rate_of(world)), rel=0.02)


def test_a_video_at_a_constant_rate_ends_with_its_world(tmp_path: Path, clips: list[World]) -> None:
    for rate in RATES:
        (video,) = render_worlds(tmp_path / str(float(rate)), clips[:1], size=32, frame_rate=rate)
        assert video.end_seconds == clips[0].seconds
        assert read(video.path, 32)[3].end_seconds == clips[0].seconds


def test_times_at_a_constant_rate_are_multiples_of_the_frame_time_until_the_end(clips: list[World]) -> None:
    for rate in RATES:
        times = frame_times(clips[0], rate)
        assert times.tolist() == [float(index / rate) for index in range(len(times))]
        assert times[-1] < clips[0].seconds <= times[-1] + 1 / rate + 1e-9


def test_variable_times_are_whole_milliseconds_with_gaps_around_the_rate() -> None:
    world = make_world(1, 0, seconds=120.0)
    times = frame_times(world, Fraction(25), vfr=True)
    steps = np.diff(times)
    assert np.array_equal(times, np.round(times, 3))
    assert times[0] == 0.0
    assert 0.02 - 1e-9 <= steps.min() < 0.03
    assert 0.3 < steps.max() <= 0.4 + 1e-9
    assert np.median(steps) == pytest.approx(0.04, abs=0.004)
    assert times[-1] < world.seconds


def test_the_same_seed_gives_the_same_videos(tmp_path: Path) -> None:
    one, two = (render_files(tmp_path / name, videos=1, seed=12, split="val", size=32, codec="mpeg4", vfr=True) for name in ("one", "two"))
    assert one[0].path.name == two[0].path.name == "toybox-1-val-12-0.mkv"
    assert np.array_equal(one[0].times, two[0].times)
    assert np.array_equal(read(one[0].path, 32)[1], read(two[0].path, 32)[1])


def test_videos_come_in_the_order_of_their_worlds_and_progress_counts_them(tmp_path: Path, clips: list[World]) -> None:
    reported: list[tuple[int, int]] = []
    videos = render_worlds(tmp_path / "out", clips, size=32, on_progress=lambda done, total: reported.append((done, total)))
    assert [video.world for video in videos] == [world.name for world in clips]
    assert sorted(path.name for path in (tmp_path / "out" / "videos").iterdir()) == sorted(video.path.name for video in videos)
    assert reported[-1] == (3, 3)
    assert reported == sorted(reported)


def test_an_empty_folder_that_exists_is_used(tmp_path: Path, clips: list[World]) -> None:
    assert render_worlds(tmp_path, clips[:1], size=32)[0].path.parent == tmp_path / "videos"


def test_a_folder_that_is_not_empty_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match=r"is not empty, and nothing in it is overwritten"):
        render_files(tmp_path, videos=1, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(InputError, match=r"out' is not a folder"):
        render_files(tmp_path / "out", videos=1, seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"videos": 0}, r"videos must be at least 1, got 0"),
        ({"videos": -3}, r"videos must be at least 1, got -3"),
        ({"split": "dev"}, r"unknown split 'dev'; known are train, val, test"),
        ({"codec": "h263"}, r"unknown codec 'h263'; this FFmpeg writes"),
        ({"size": 16}, r"size must be at least 32 pixels, got 16: too small"),
        ({"size": 65}, r"size must be even, .* got 65; use 66"),
        ({"frame_rate": 0}, r"frame_rate must be within 1 to 1000 frames/s, got 0"),
        ({"frame_rate": float("nan")}, r"frame_rate must be within 1 to 1000 frames/s, got nan"),
        ({"frame_rate": 240, "vfr": True}, r"frame_rate must be within 1 to 120 frames/s with vfr, got 240"),
        ({"workers": 0}, r"workers must be at least 1, got 0"),
    ],
)
def test_bad_values_are_refused_before_anything_is_written(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        render_files(tmp_path / "out", **({"videos": 1, "seed": 0} | arguments))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [0, 2])
def test_worlds_must_be_some_and_differ_in_name(tmp_path: Path, clips: list[World], count: int) -> None:
    with pytest.raises(InputError, match=rf"worlds must be at least one, each with a name of its own, got {count}"):
        render_worlds(tmp_path / "out", clips[:1] * count, size=32)
    assert list(tmp_path.iterdir()) == []


def test_when_one_file_fails_nothing_is_left(tmp_path: Path, clips: list[World], monkeypatch: pytest.MonkeyPatch) -> None:
    written = files.write_video

    def failing(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name.startswith(files.file_name(clips[1])):
            raise VideoUnwritable("no space left")
        return written(path, *arguments, **options)

    monkeypatch.setattr(files, "write_video", failing)
    with pytest.raises(VideoUnwritable, match="no space left"):
        render_worlds(tmp_path / "new" / "out", clips, size=32, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_ends_the_work_and_leaves_nothing(tmp_path: Path, clips: list[World]) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_worlds(tmp_path, clips, size=32, workers=2, on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []
