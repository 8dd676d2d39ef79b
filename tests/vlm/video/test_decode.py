from __future__ import annotations

import io
import os
from fractions import Fraction
from functools import lru_cache
from itertools import chain
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.vlm.video.numbered import NUMBER_FRAMING, MakeVideo, collect, numbers_of, times_of
from vlm.errors import NotAVideo, NoVideoStream, UndecodableVideo, VideoUnreadable
from vlm.types import Framing
from vlm.video import reader
from vlm.video.decode import decode
from vlm.video.probe import content_digest, probe
from vlm.video.sample import Sampling
from vlm.video.scale import Scaler

ALL = Sampling.parse("every:100000")

# One row per way in which packets, groups and times are laid out.
LAYOUTS = {
    "closed groups": {"options": {"g": "12", "bf": "3"}},
    "open groups": {"options": {"g": "12", "bf": "3", "x264-params": "open-gop=1:keyint=12:bframes=3"}},
    "one group": {"options": {"g": "1000", "bf": "2"}},
    "no reordering": {"options": {"g": "10", "tune": "zerolatency"}},
    "variable rate": {"pts": [0, 1, 2, 10, 11, 30, 31, 32, 33, 60, 90, 91], "options": {"g": "5", "bf": "2"}},
    "a late start": {"pts": range(500, 530), "options": {"g": "8"}},
    "odd time base": {"pts": range(0, 30 * 1001, 1001), "time_base": Fraction(1, 30000), "options": {"g": "9"}},
    "one frame": {"pts": 1},
}


@pytest.mark.parametrize("policy", ["every:100000", "every:3", "uniform:5", "keyframes"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_rows_hold_the_pictures_that_their_times_name(make_video: MakeVideo, layout: str, suffix: str, policy: str) -> None:
    path = make_video(f"{layout}.{suffix}", **LAYOUTS[layout])
    given = LAYOUTS[layout].get("pts", 50)
    assert isinstance(given, int | range | list)
    pts = list(range(given)) if isinstance(given, int) else list(given)
    time_base = LAYOUTS[layout].get("time_base", Fraction(1, 25))
    info, batches, outcome = collect(decode(path, Sampling.parse(policy), NUMBER_FRAMING))
    assert outcome.status == "complete", outcome
    for number, seconds in zip(numbers_of(batches), times_of(info, batches), strict=True):
        assert seconds == pytest.approx(float((pts[number] - pts[0]) * time_base), abs=0.001)
    if policy == "every:100000":
        assert numbers_of(batches) == list(range(len(pts)))


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("mpeg4.avi", "mpeg4", "yuv420p"),
        ("mpeg4.mp4", "mpeg4", "yuv420p"),
        ("mjpeg.avi", "mjpeg", "yuvj420p"),
        ("vp8.webm", "libvpx", "yuv420p"),
        ("vp9.webm", "libvpx-vp9", "yuv420p"),
        ("hevc.mp4", "libx265", "yuv420p"),
        ("ten bit.mp4", "libx265", "yuv420p10le"),
        ("transport.ts", "libx264", "yuv420p"),
        ("program.mpg", "mpeg2video", "yuv420p"),
        ("flash.flv", "libx264", "yuv420p"),
        ("raw.h264", "libx264", "yuv420p"),
        ("h264.avi", "libx264", "yuv420p"),
        ("animation.gif", "gif", "rgb8"),
    ],
)
@pytest.mark.parametrize("policy", ["every:100000", "every:2"])
def test_every_codec_and_container_gives_the_frame_on_screen(
    make_video: MakeVideo, name: str, codec: str, pixel_format: str, policy: str
) -> None:
    options = {"x265-params": "log-level=error"} if codec == "libx265" else {}
    path = make_video(name, 30, codec=codec, pixel_format=pixel_format, options={**options, "g": "7"}, size=(128, 96))
    info, batches, outcome = collect(decode(path, Sampling.parse(policy), NUMBER_FRAMING))
    assert outcome.status == "complete", outcome
    assert numbers_of(batches) == (list(range(30)) if policy == "every:100000" else [0, 12, 25])
    assert times_of(info, batches) == pytest.approx([n / 25 for n in numbers_of(batches)], abs=0.011)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_change_a_pixel(make_video: MakeVideo, threads: int) -> None:
    path = make_video("threads.mp4", 100, options={"g": "20", "bf": "3"})
    plain = collect(decode(path, Sampling.parse("every:5"), NUMBER_FRAMING))[1]
    threaded = collect(decode(path, Sampling.parse("every:5"), NUMBER_FRAMING, threads=threads))[1]
    assert np.array_equal(plain[0].pixels, threaded[0].pixels)


def test_long_gaps_are_leapt_over_to_the_same_frames(make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video("leap.mkv", 200, options={"g": "10", "bf": "2"})
    read = collect(decode(path, Sampling.parse("every:1"), NUMBER_FRAMING))[1]
    leaps: list[int] = []
    original = reader.PacketSource.leap

    def leap(self: reader.PacketSource, packets: object, position: int, **ignored: object) -> None:
        leaps.append(position)
        original(self, packets, position, seek_bytes=0)  # type: ignore[arg-type]

    monkeypatch.setattr(reader.PacketSource, "leap", leap)
    leapt = collect(decode(path, Sampling.parse("every:1"), NUMBER_FRAMING))[1]
    assert len(leaps) > 3
    assert numbers_of(leapt) == numbers_of(read) == list(range(0, 200, 25))


def test_resuming_gives_the_rows_after_the_last_one(make_video: MakeVideo) -> None:
    path = make_video("resume.mp4", 100, options={"g": "20"})
    whole = collect(decode(path, Sampling.parse("every:5"), NUMBER_FRAMING))[1][0]
    rest = collect(decode(path, Sampling.parse("every:5"), NUMBER_FRAMING, after_pts=int(whole.pts[7])))[1][0]
    assert np.array_equal(rest.pts, whole.pts[8:])
    assert np.array_equal(rest.pixels, whole.pixels[8:])


def test_resuming_after_the_last_row_gives_the_outcome_alone(make_video: MakeVideo) -> None:
    path = make_video("done.mp4", 50)
    _, batches, outcome = collect(decode(path, Sampling.parse("every:5"), NUMBER_FRAMING, after_pts=10**9))
    assert (batches, outcome.status) == ([], "complete")


def test_windows_hold_overlapping_frames_in_batches(make_video: MakeVideo) -> None:
    path = make_video("windows.mp4", 100, options={"g": "20", "bf": "2"})
    batches = collect(decode(path, Sampling.parse("windows:4/2/1"), NUMBER_FRAMING, batch_rows=2))[1]
    assert [b.pixels.shape[:2] for b in batches] == [(2, 4), (1, 4)]
    assert np.reshape(numbers_of(batches), (3, 4)).tolist() == [[6, 18, 31, 43], [31, 43, 56, 68], [56, 68, 81, 93]]


def test_thumbnails_fall_due_for_the_first_row_and_then_by_the_clock(make_video: MakeVideo) -> None:
    path = make_video("thumbnails.mp4", 100, size=(320, 240))
    batches = collect(decode(path, Sampling.parse("every:5"), NUMBER_FRAMING, thumbnail_seconds=1.5))[1]
    thumbnails = [t for b in batches for t in b.thumbnails]
    info = probe(path, digest="")
    assert [float(info.clock.exact_seconds(t.pts)) for t in thumbnails] == pytest.approx([0, 1.6, 3.2], abs=0.02)
    with Image.open(io.BytesIO(thumbnails[0].jpeg)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (160, 120))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_undone(make_video: MakeVideo, degrees: int) -> None:
    path = make_video(f"rotated {degrees}.mp4", 40, rotation=degrees, options={"crf": "10"})
    info = probe(path, digest="")
    assert (info.width, info.height) == ((64, 48) if degrees == 180 else (48, 64))
    batch = collect(decode(path, ALL, NUMBER_FRAMING))[1][1]
    straight = collect(decode(make_video("straight.mp4", 40, options={"crf": "10"}), ALL, NUMBER_FRAMING))[1][1]
    turned = np.rot90(straight.pixels[5], -info.rotation_degrees // 90)
    assert np.abs(batch.pixels[5].astype(int) - turned).mean() < 3


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_truncated_file_gives_what_decodes_and_says_how_much(make_video: MakeVideo, tmp_path: Path, suffix: str) -> None:
    options = {"movflags": "faststart"} if suffix == "mp4" else {}
    whole = make_video(f"whole.{suffix}", 200, options={"g": "10", "bf": "2"}, container_options=options).read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    _, batches, outcome = collect(decode(cut, ALL, NUMBER_FRAMING))
    numbers = numbers_of(batches)
    assert outcome.status == "partial"
    assert numbers == sorted(numbers)
    assert numbers[:50] == list(range(50))
    assert 0.25 < outcome.coverage < 0.75
    assert outcome.coverage == pytest.approx(len(numbers) / 200, abs=0.1)
    assert outcome.reason


def test_damage_in_the_middle_costs_its_group_of_pictures(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video("sound.mkv", 100, codec="libvpx-vp9", options={"g": "10", "keyint_min": "10"})
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][40]
    assert packet.is_keyframe
    content = path.read_bytes()
    assert content.count(bytes(packet)) == 1
    damaged = content.replace(bytes(packet), b"\xff" * packet.size)
    broken = tmp_path / "damaged.mkv"
    broken.write_bytes(damaged)
    _, batches, outcome = collect(decode(broken, ALL, NUMBER_FRAMING))
    assert outcome.status == "partial"
    assert outcome.coverage == pytest.approx(0.9, abs=0.02)
    assert numbers_of(batches) == [*range(40), *range(50, 100)]


@pytest.mark.parametrize("change", ["removed", "cut"])
def test_a_file_that_changes_while_it_is_read_ends_cleanly(make_video: MakeVideo, tmp_path: Path, change: str) -> None:
    path = tmp_path / "changing.mov"
    path.write_bytes(make_video("steady.mov", 400, codec="mjpeg", pixel_format="yuvj420p", size=(320, 240)).read_bytes())
    assert path.stat().st_size > 500_000  # far more than the demuxer reads ahead
    items = decode(path, ALL, NUMBER_FRAMING, batch_rows=1)
    kept = [next(items), next(items)]
    if change == "removed":
        path.unlink()  # the open file stays readable
    else:
        os.truncate(path, path.stat().st_size // 2)
    _, batches, outcome = collect(chain(kept, items))
    assert outcome.status == ("complete" if change == "removed" else "partial")
    assert numbers_of(batches)[:100] == list(range(100))
    assert (len(batches) == 400) == (change == "removed")


def test_a_picture_stream_that_starts_after_the_sound_keeps_its_offset(tmp_path: Path) -> None:
    path = tmp_path / "late.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=48000)
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height = 64, 48
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 48000 * 4), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 48000
        container.mux(sound.encode(silence))
        for number in range(25):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = 50 + number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    info, batches, _ = collect(decode(path, ALL, NUMBER_FRAMING))
    assert times_of(info, batches)[0] == pytest.approx(2.0, abs=0.03)


AWKWARD_NAMES = [
    b"a b.mp4",
    b'it\'s "quoted".mp4',
    b"line\nbreak.mp4",
    b"latin-\xe9.mp4",
    b"-i.mp4",
    b"http:x.mp4",
    b"frame%03d.mp4",
    b"x*?[a].mp4",
]


@pytest.mark.parametrize("name", AWKWARD_NAMES)
def test_any_file_name_is_opened(make_video: MakeVideo, tmp_path: Path, name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = make_video("plain.mp4", 5)
    target = os.path.join(os.fsencode(tmp_path), name)
    os.link(plain, target)
    monkeypatch.chdir(tmp_path)
    assert len(collect(decode(name, ALL, NUMBER_FRAMING))[1][0].pts) == 5
    assert content_digest(target) == content_digest(plain)


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, Path("/dev/zero")):
        for reading in (content_digest, probe):
            with pytest.raises(VideoUnreadable, match=f"{path}.* is not a regular file"):
                reading(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VideoUnreadable, match=r"gone\.mp4' cannot be read: No such file"):
        probe(tmp_path / "gone.mp4")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.mp4", b""),
        ("text.mp4", b"hello world, this is no video\n" * 50),
        ("list.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nPLAIN\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", b"ffconcat version 1.0\nfile 'PLAIN'\n"),
        ("stream.sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"),
    ],
)
def test_what_is_no_video_is_refused_and_playlists_are_not_followed(
    make_video: MakeVideo, tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content.replace(b"PLAIN", os.fsencode(make_video("plain.ts", 5))))
    with pytest.raises(NotAVideo, match=name):
        collect(decode(path, ALL, NUMBER_FRAMING))


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "webp", "tiff"])
def test_a_picture_is_no_video(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"picture.{kind}"
    Image.new("RGB", (64, 48), "red").save(path, kind)
    with pytest.raises(NotAVideo, match=path.name):
        probe(path)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    with pytest.raises(NoVideoStream, match=r"sound\.m4a"):
        probe(path)


def test_a_stream_without_a_decodable_frame_is_named(shared: Path) -> None:
    with pytest.raises(UndecodableVideo, match="mp4parse_cenc_encrypted"):
        collect(decode(shared / "data/awkward/mp4parse_cenc_encrypted.mp4", ALL, NUMBER_FRAMING))


CLIPS = ["sam2_juggle.mp4", "intel_asl_bird.mkv", "mdn_flower.webm", "nasa_13013.mp4", "intel_prev_face.gif", "intel_bottle.mp4"]
SMALL = Framing(height=48, width=64, resize="squash")


@lru_cache
def every_frame(path: Path) -> dict[int, NDArray[np.uint8]]:
    """All frames of a file by a plain decode from start to end."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        scaler = Scaler(SMALL, pixel_aspect=stream.sample_aspect_ratio)
        return {f.pts: scaler.pixels(f) for f in container.decode(stream) if f.pts is not None}


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("policy", ["every:1", "keyframes", "uniform:8"])
def test_sampled_frames_of_real_clips_equal_a_plain_decode_bit_for_bit(shared: Path, clip: str, policy: str) -> None:
    everything = every_frame(shared / "data/clips" / clip)
    for batch in collect(decode(shared / "data/clips" / clip, Sampling.parse(policy), SMALL))[1]:
        for p, pixels in zip(batch.pts.tolist(), batch.pixels, strict=True):
            assert np.array_equal(pixels, everything[p])
