"""Written files against our own decoder: times, colours, keyframes; and what is left when writing fails."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.vlm.video.numbered import collect, number_in, numbered_picture, times_of
from vlm.errors import InputError, VideoUnwritable
from vlm.types import DecodeOutcome, Framing, VideoInfo
from vlm.video import write
from vlm.video.decode import decode
from vlm.video.sample import Sampling
from vlm.video.write import CODECS, suffix_for, write_video

ALL_FRAMES = Sampling.parse("every:1000")
NTSC = Fraction(24000, 1001)
CONTAINERS = [
    ("h264", ".mp4"),
    ("h264", ".mkv"),
    ("vp9", ".webm"),
    ("vp9", ".mkv"),
    ("vp9", ".mp4"),
    ("mpeg4", ".avi"),
    ("mpeg4", ".mkv"),
    ("mpeg4", ".mp4"),
    ("mjpeg", ".mkv"),
    ("mjpeg", ".avi"),
]
VARIABLE = [pair for pair in CONTAINERS if pair[1] != ".avi"]
# Milliseconds, with a gap of 0.4 s.
IRREGULAR = np.array([0, 40, 73, 473, 500, 501, 590, 777]) / 1000
COLOURS = ((220, 40, 40), (240, 140, 30), (50, 170, 60), (50, 80, 220), (245, 140, 190), (255, 255, 255), (128, 128, 128), (0, 0, 0))
# 4:2:0 in 8 bits holds no colour more exactly.
COLOUR_TOLERANCE = 2.5


def numbered(count: int) -> NDArray[np.uint8]:
    return np.stack([numbered_picture(number, 64, 64) for number in range(count)])


def read(path: Path, size: int = 16) -> tuple[VideoInfo, NDArray[np.uint8], list[float], DecodeOutcome]:
    info, batches, outcome = collect(decode(path, ALL_FRAMES, Framing(height=size, width=size, resize="squash", interpolation="bilinear")))
    return info, np.concatenate([batch.pixels for batch in batches]), times_of(info, batches), outcome


@pytest.mark.parametrize(("codec", "suffix"), CONTAINERS)
def test_a_constant_rate_is_read_back_as_written(tmp_path: Path, codec: str, suffix: str) -> None:
    path = tmp_path / f"constant{suffix}"
    times, end = write_video(path, numbered(31), codec=codec, frame_rate=NTSC)
    info, pixels, seen, outcome = read(path)
    assert [number_in(picture) for picture in pixels] == list(range(31))
    assert seen == times.tolist()
    assert np.abs(times - np.arange(31) / float(NTSC)).max() <= (0 if suffix in (".mp4", ".avi") else 0.0005) + 1e-12
    assert info.frame_rate == NTSC
    assert (outcome.status, outcome.end_seconds) == ("complete", pytest.approx(end, abs=0.0011))


@pytest.mark.parametrize(("codec", "suffix"), VARIABLE)
def test_a_variable_rate_is_read_back_exactly(tmp_path: Path, codec: str, suffix: str) -> None:
    path = tmp_path / f"variable{suffix}"
    times, end = write_video(path, numbered(8), codec=codec, times=IRREGULAR, end_seconds=0.81)
    _, pixels, seen, outcome = read(path)
    assert [number_in(picture) for picture in pixels] == list(range(8))
    assert seen == times.tolist() == IRREGULAR.tolist()
    assert (outcome.status, outcome.end_seconds, end) == ("complete", 0.81, 0.81)


@pytest.mark.parametrize(("codec", "suffix"), VARIABLE)
def test_the_last_frame_of_a_constant_rate_may_be_cut_short(tmp_path: Path, codec: str, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    _, end = write_video(path, numbered(9), codec=codec, frame_rate=Fraction(8), end_seconds=1.1)
    info, _, seen, outcome = read(path)
    assert seen == [index / 8 for index in range(9)]
    assert (end, outcome.end_seconds, info.promised_seconds) == (1.1, 1.1, pytest.approx(1.1))


@pytest.mark.parametrize(("codec", "suffix"), CONTAINERS)
def test_colours_come_back(tmp_path: Path, codec: str, suffix: str) -> None:
    path = tmp_path / f"colours{suffix}"
    frames = np.stack([np.full((64, 64, 3), colour, dtype=np.uint8) for colour in COLOURS])
    write_video(path, frames, codec=codec, frame_rate=Fraction(2))
    _, pixels, _, _ = read(path, size=64)
    assert np.abs(pixels.mean(axis=(1, 2)) - np.array(COLOURS)).max() <= COLOUR_TOLERANCE


@pytest.mark.parametrize("codec", ["h264", "vp9"])
def test_the_stream_says_that_its_colours_are_bt709(tmp_path: Path, codec: str) -> None:
    path = tmp_path / f"tagged{suffix_for(codec)}"
    write_video(path, numbered(3), codec=codec, frame_rate=Fraction(10))
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)


@pytest.mark.parametrize("codec", CODECS)
def test_no_stretch_of_more_than_two_seconds_is_without_a_keyframe(tmp_path: Path, codec: str) -> None:
    path = tmp_path / f"keys{suffix_for(codec)}"
    write_video(path, np.repeat(numbered(1), 60, axis=0), codec=codec, frame_rate=Fraction(10))
    info, batches, _ = collect(decode(path, Sampling.parse("keyframes"), Framing(height=16, width=16)))
    assert np.diff([*times_of(info, batches), 6.0]).max() <= 2.0


@pytest.mark.parametrize("codec", CODECS)
def test_the_same_frames_give_the_same_bytes(tmp_path: Path, codec: str) -> None:
    paths = [tmp_path / f"{name}{suffix_for(codec, is_variable=True)}" for name in ("one", "two")]
    for path in paths:
        write_video(path, numbered(8), codec=codec, times=IRREGULAR, end_seconds=1.0)
    with av.open(str(paths[0])) as one, av.open(str(paths[1])) as two:  # Matroska gives every file a random name of its own
        packets = [[bytes(packet) for packet in container.demux(video=0)] for container in (one, two)]
    assert packets[0] == packets[1]


def test_frames_may_come_one_by_one_and_in_chunks(tmp_path: Path) -> None:
    frames = numbered(7)
    write_video(tmp_path / "mixed.mp4", iter([frames[0], frames[1:5], frames[5:]]), frame_rate=Fraction(5))
    assert [number_in(picture) for picture in read(tmp_path / "mixed.mp4")[1]] == list(range(7))


@pytest.mark.parametrize(
    "name", ["-dash.mp4", "a b.mp4", "file:x.mp4", "%03d.mp4", "größe.mp4", os.fsdecode(b"\xff.mp4"), "x" * 251 + ".mp4"]
)
def test_any_name_can_be_written(tmp_path: Path, name: str) -> None:
    write_video(tmp_path / name, numbered(3), frame_rate=Fraction(5))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(read(tmp_path / name)[1]) == 3


def test_an_existing_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "mine.mp4"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match=r"mine\.mp4' exists and is not overwritten"):
        write_video(path, numbered(3), frame_rate=Fraction(5))
    assert path.read_bytes() == b"precious"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "mine.mp4"

    def frames() -> Iterator[NDArray[np.uint8]]:
        path.write_bytes(b"precious")
        yield numbered(3)

    with pytest.raises(InputError, match=r"mine\.mp4' has appeared meanwhile"):
        write_video(path, frames(), frame_rate=Fraction(5))
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("mine.mp4", b"precious")]


def test_an_error_of_the_frames_passes_and_leaves_nothing(tmp_path: Path) -> None:
    def frames() -> Iterator[NDArray[np.uint8]]:
        yield numbered(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "broken.mp4", frames(), frame_rate=Fraction(5))
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_no_file_under_the_final_name(tmp_path: Path) -> None:
    code = (
        "import os, sys, numpy as np\nfrom fractions import Fraction\nfrom pathlib import Path\nfrom vlm.video.write import write_video\n"
        "def frames():\n    yield np.zeros((50, 64, 64, 3), np.uint8)\n    os.kill(os.getpid(), 9)\n    yield\n"
        "write_video(Path(sys.argv[1]), frames(), codec='mjpeg', frame_rate=Fraction(5))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "killed.mkv")], check=False)
    assert done.returncode == -9
    assert not (tmp_path / "killed.mkv").exists()


def noise(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("codec", CODECS)
def test_a_limit_of_the_system_is_named_and_leaves_nothing(tmp_path: Path, codec: str) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(VideoUnwritable, match=r"large\.\w+' cannot be written: File too large"):
            write_video(tmp_path / f"large{suffix_for(codec)}", noise(40), codec=codec, frame_rate=Fraction(10))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(write.os, "link", full)
    monkeypatch.setattr(write.os, "rename", full)
    with pytest.raises(VideoUnwritable, match=r"full\.mp4' cannot be written: No space left on device; see to space"):
        write_video(tmp_path / "full.mp4", numbered(3), frame_rate=Fraction(5))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(VideoUnwritable, match=r"nowhere/x\.mp4' cannot be written: No such file or directory"):
        write_video(tmp_path / "nowhere" / "x.mp4", numbered(3), frame_rate=Fraction(5))


def test_a_codec_without_encoder_is_named_with_those_present(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_has_encoder", lambda name: name != "libvpx-vp9")
    with pytest.raises(
        InputError, match=r"codec 'vp9' needs the encoder 'libvpx-vp9', which this FFmpeg .* lacks; it writes h264, mpeg4, mjpeg"
    ):
        write_video(tmp_path / "x.webm", numbered(3), codec="vp9", frame_rate=Fraction(5))


def test_an_unknown_codec_is_named_with_those_known(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown codec 'h263'; this FFmpeg writes h264, vp9, mpeg4, mjpeg"):
        write_video(tmp_path / "x.mp4", numbered(3), codec="h263", frame_rate=Fraction(5))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("x.avi", {"frame_rate": Fraction(5)}, r"h264 goes into \.mp4, \.mkv, not into \.avi"),
        ("x", {"frame_rate": Fraction(5)}, r"not into a name without suffix"),
        ("x.mp4", {}, r"give either frame_rate, or times and end_seconds"),
        ("x.mp4", {"times": IRREGULAR[:3]}, r"give either frame_rate, or times and end_seconds"),
        ("x.mp4", {"frame_rate": Fraction(5), "times": IRREGULAR[:3], "end_seconds": 1.0}, r"give either frame_rate, or times"),
        ("x.mp4", {"frame_rate": Fraction(0)}, r"frame_rate must be above 0 and at most 1000 frames/s, got 0"),
        ("x.mp4", {"frame_rate": Fraction(5), "end_seconds": float("nan")}, r"end_seconds must be positive and finite, got nan"),
        ("x.mp4", {"frame_rate": Fraction(5), "end_seconds": 0.123456789}, r"end_seconds 0\.123456789 fits no clock of 5 frames/s"),
        ("x.mp4", {"frame_rate": Fraction(5), "end_seconds": 0.4}, r"more frames than times \(2\)"),
        ("x.mp4", {"frame_rate": Fraction(5), "end_seconds": 0.8}, r"there are 4 times and only 3 frames"),
        ("x.mp4", {"times": IRREGULAR[:3] + 1, "end_seconds": 2.0}, r"times must begin at 0 s and be finite, got \[1\.0, 1\.04, 1\.073\]"),
        (
            "x.mp4",
            {"times": IRREGULAR[:3], "end_seconds": 0.073},
            r"times must increase by 1/60000 s or more, got 0\.073 s and then 0\.073 s",
        ),
        ("x.mp4", {"times": IRREGULAR[:2], "end_seconds": 1.0}, r"more frames than times \(2\)"),
        ("x.mp4", {"times": IRREGULAR[:4], "end_seconds": 1.0}, r"there are 4 times and only 3 frames"),
    ],
)
def test_times_that_break_their_rule_are_refused(tmp_path: Path, name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_video(tmp_path / name, numbered(3), **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_avi_refuses_a_variable_rate(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.avi keeps one frame rate only; use \.mkv"):
        write_video(tmp_path / "x.avi", numbered(3), codec="mpeg4", times=IRREGULAR[:3], end_seconds=1.0)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], r"at least one frame, got none"),
        ([np.zeros((2, 33, 32, 3), np.uint8)], r"even for 4:2:0 colours, got 33 x 32"),
        ([np.zeros((32, 32, 3), np.uint8), np.zeros((32, 34, 3), np.uint8)], r"one shape, got \(32, 32, 3\) and then \(32, 34, 3\)"),
        ([np.zeros((32, 32, 3), np.float32)], r"frames must be uint8 .* got float32 \(32, 32, 3\)"),
        ([np.zeros((32, 32), np.uint8)], r"frames must be uint8 .* got uint8 \(32, 32\)"),
    ],
)
def test_frames_that_break_their_rule_are_refused(tmp_path: Path, frames: list[NDArray[np.uint8]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_video(tmp_path / "x.mp4", frames, frame_rate=Fraction(5))
    assert list(tmp_path.iterdir()) == []
