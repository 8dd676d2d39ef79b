"""Clips hold what their source shows at each moment of the stretch; the oracle is both files decoded in full by PyAV."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.vlm.video.numbered import MakeVideo, number_in, numbered_picture
from vlm.errors import DecoderCrashed, DecoderStalled, InputError, NotAVideo, NoVideoStream, SpanError, UndecodableVideo, VideoUnreadable
from vlm.types import Span
from vlm.video.cut import Cut, cut_clip, cut_supervised

# One tick of the coarsest clock among the sources is a millisecond; MP4 keeps each of their ticks.
TICK_SECONDS = 0.0011
EVERY_WAY = pytest.mark.parametrize("exact", [True, False], ids=["exact", "copy"])


@dataclass(frozen=True)
class Shown:
    """What a file shows: when each frame begins, in seconds from the first stream's start, and the number in its picture."""

    times: list[float]
    numbers: list[int]


def shown_by(path: Path) -> Shown:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    numbers = [number_in(frame.to_ndarray(format="rgb24", width=16, height=16)) for frame in frames]  # type: ignore[arg-type]
    return Shown([float(frame.pts * frame.time_base) for frame in frames if frame.pts is not None], numbers)


def frames_of(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def expected_of(source: Shown, span: Span) -> Shown:
    """The frames on screen during the span, on a clock that begins with it."""
    first = max([index for index, moment in enumerate(source.times) if moment <= span.start], default=0)
    chosen = [index for index, moment in enumerate(source.times) if index >= first and moment < span.end]
    zero = max(span.start, source.times[first])
    return Shown([max(0.0, source.times[index] - zero) for index in chosen], [source.numbers[index] for index in chosen])


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def variable_times(count: int) -> list[int]:
    """Irregular times in milliseconds, with a gap of two seconds."""
    steps = 5 + np.random.default_rng(3).integers(1, 90, count)
    steps[count // 2] = 2000
    return [0, *np.cumsum(steps)[:-1].tolist()]


RATES = {"23.976": Fraction(24000, 1001), "25": Fraction(25), "29.97": Fraction(30000, 1001), "59.94": Fraction(60000, 1001)}


@pytest.fixture(scope="module")
def sources(make_video: MakeVideo) -> dict[str, Path]:
    """Files of 120 frames with reordered frames, by the name of their rate."""
    made = {
        name: make_video(f"cut-{name}.mp4", 120, time_base=1 / rate, options={"bf": "3", "g": "30", "b-pyramid": "normal"})
        for name, rate in RATES.items()
    }
    made["variable"] = make_video("cut-variable.mkv", variable_times(120), time_base=Fraction(1, 1000), options={"bf": "2", "g": "30"})
    return made


def spans_for(source: Shown) -> list[Span]:
    """On frames, between frames, within one frame, from the start, and over the end."""
    times = source.times
    middle = (times[40] + times[41]) / 2
    return [
        Span(times[33], times[52]),
        Span(middle, (times[71] + times[72]) / 2),
        Span(middle, middle + (times[41] - times[40]) / 8),
        Span(0.0, times[7]),
        Span(times[100], times[-1] + 60),
    ]


@pytest.mark.parametrize("name", [*RATES, "variable"])
def test_an_exact_clip_shows_at_each_moment_what_the_source_shows(sources: dict[str, Path], tmp_path: Path, name: str):
    source = shown_by(sources[name])
    assert source.numbers == list(range(120))
    for place, span in enumerate(spans_for(source)):
        cut = cut_clip(sources[name], span, tmp_path / str(place))
        expected, clip = expected_of(source, span), shown_by(cut.path)
        assert clip.numbers == expected.numbers, span
        assert cut.num_frames == len(expected.numbers)
        np.testing.assert_allclose(clip.times, expected.times, atol=TICK_SECONDS)
        assert cut.span.start == pytest.approx(span.start, abs=TICK_SECONDS)
        assert (cut.path.suffix, cut.reason) == (".mp4", "")


def test_times_on_the_sources_own_clock_are_kept_to_the_tick(sources: dict[str, Path], tmp_path: Path):
    source = frames_of(sources["29.97"])
    times = [frame.pts * frame.time_base for frame in source if frame.pts is not None]
    cut = cut_clip(sources["29.97"], Span(float(times[31]), float(times[90])), tmp_path / "clip")
    clip = [frame.pts * frame.time_base for frame in frames_of(cut.path) if frame.pts is not None]
    assert clip == [moment - times[31] for moment in times[31:90]]


def test_the_last_frame_ends_with_the_span(sources: dict[str, Path], tmp_path: Path):
    times = shown_by(sources["variable"]).times
    span = Span(times[50], times[60] + (times[61] - times[60]) / 2)
    cut = cut_clip(sources["variable"], span, tmp_path / "clip")
    with av.open(str(cut.path)) as container:
        stream = container.streams.video[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(span.seconds, abs=TICK_SECONDS)  # type: ignore[operator]
    assert cut.span.end == pytest.approx(span.end, abs=TICK_SECONDS)


def test_the_index_of_an_exact_clip_stands_before_its_pictures(sources: dict[str, Path], tmp_path: Path):
    content = cut_clip(sources["25"], Span(1, 2), tmp_path / "clip").path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_a_stretch_that_begins_before_the_pictures_begins_with_the_first(make_video: MakeVideo, tmp_path: Path):
    path = make_video("late.mkv", list(range(1000, 3000, 40)), time_base=Fraction(1, 1000))
    add_sound(path, tmp_path / "late.mkv", seconds=3)
    cut = cut_clip(tmp_path / "late.mkv", Span(0.5, 2.0), tmp_path / "clip")
    assert shown_by(cut.path).numbers == list(range(25))
    assert (cut.span, shown_by(cut.path).times[0]) == (Span(1.0, 2.0), 0.0)


@pytest.mark.parametrize("name", [*RATES, "variable"])
def test_a_copy_begins_with_the_keyframe_before_and_tells_so(sources: dict[str, Path], tmp_path: Path, name: str):
    source = shown_by(sources[name])
    with av.open(str(sources[name])) as container:
        stream = container.streams.video[0]
        keys = [float(packet.pts * packet.time_base) for packet in container.demux(stream) if packet.pts is not None and packet.is_keyframe]
    for place, span in enumerate(spans_for(source)):
        cut = cut_clip(sources[name], span, tmp_path / str(place), exact=False)
        clip, key = shown_by(cut.path), max(key for key in keys if key <= span.start)
        first = source.times.index(key)
        assert cut.path.suffix == sources[name].suffix
        assert cut.span.start == pytest.approx(key, abs=TICK_SECONDS)
        assert clip.numbers == source.numbers[first : first + cut.num_frames]
        zero = clip.times[0]
        assert zero < 0.2  # Matroska shifts what is decoded before it is shown
        np.testing.assert_allclose(
            np.asarray(clip.times) - zero, np.asarray(source.times[first : first + cut.num_frames]) - key, atol=TICK_SECONDS
        )
        assert set(expected_of(source, span).numbers) <= set(clip.numbers)
        # Reordering takes a few frames more at most.
        last = first + cut.num_frames - 1
        assert last <= expected_of(source, span).numbers[-1] + 8
        ends = source.times[last + 1] if last + 1 < len(source.times) else cut.span.end
        assert cut.span.end == pytest.approx(ends, abs=TICK_SECONDS)


def test_a_copy_holds_the_very_packets(sources: dict[str, Path], tmp_path: Path):
    def payloads(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(video=0) if packet.size]

    cut = cut_clip(sources["25"], Span(2.0, 3.0), tmp_path / "clip", exact=False)
    copied, whole = payloads(cut.path), payloads(sources["25"])
    begin = whole.index(copied[0])
    assert whole[begin : begin + len(copied)] == copied


def add_sound(source: Path, target: Path, *, seconds: int, codec: str = "aac", rate: int = 48_000) -> None:
    """Copies the pictures of ``source`` and adds a tone that sounds during the second half of each second."""
    with av.open(str(source)) as pictures, av.open(str(target), "w") as out:
        copied = out.add_stream_from_template(pictures.streams.video[0], opaque=True)
        sound: Any = out.add_stream(codec, rate=rate)
        sound.codec_context.layout = "mono"
        for packet in pictures.demux(video=0):
            if packet.size:
                packet.stream = copied
                out.mux(packet)
        moments = np.arange(seconds * rate) / rate
        wave = (np.sin(2 * np.pi * 440 * moments) * (moments % 1 >= 0.5) * 0.5).astype(np.float32)[None]
        for at in range(0, seconds * rate, 1024):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[:, at : at + 1024]), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))


def loudness(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The middle of each hundredth of a second that has sound, on the clock of the file, and how loud it is."""
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].codec_context.sample_rate
        pieces = [(round(frame.pts * frame.time_base * rate), frame.to_ndarray()[0]) for frame in container.decode(audio=0)]  # type: ignore[operator]
    samples = np.zeros(max(at + len(piece) for at, piece in pieces))
    for at, piece in pieces:
        samples[max(at, 0) : at + len(piece)] = piece[max(0, -at) :]
    width = rate // 100
    blocks = samples[: len(samples) // width * width].reshape(-1, width)
    return (np.arange(len(blocks)) + 0.5) / 100, np.abs(blocks).max(axis=1)


@EVERY_WAY
@pytest.mark.parametrize("codec", ["aac", "mp3"])
def test_sound_stays_with_its_pictures(sources: dict[str, Path], tmp_path: Path, exact: bool, codec: str):
    add_sound(sources["25"], tmp_path / "tone.mp4", seconds=4, codec={"aac": "aac", "mp3": "libmp3lame"}[codec])
    cut = cut_clip(tmp_path / "tone.mp4", Span(1.75, 3.6), tmp_path / "clip", exact=exact)
    moments, loud = loudness(cut.path)
    phase = (moments + cut.span.start) % 1
    clear = (
        (np.abs(phase - 0.5) > 0.06)
        & (np.minimum(phase, 1 - phase) > 0.06)
        & (moments > 0.1)
        & (moments + cut.span.start < cut.span.end - 0.05)
    )
    np.testing.assert_array_equal(loud[clear] > 0.2, phase[clear] > 0.5)
    assert moments[-1] + cut.span.start == pytest.approx(cut.span.end, abs=0.06)


def test_sound_of_an_exact_clip_is_as_long_as_its_pictures(sources: dict[str, Path], tmp_path: Path):
    add_sound(sources["25"], tmp_path / "tone.mp4", seconds=4)
    cut = cut_clip(tmp_path / "tone.mp4", Span(0.7, 3.1), tmp_path / "clip")
    with av.open(str(cut.path)) as container:
        lengths = [float(stream.duration * stream.time_base) for stream in container.streams]  # type: ignore[operator]
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]
    assert lengths == pytest.approx([2.4, 2.4], abs=0.002)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_turned_pictures_are_stored_upright(make_video: MakeVideo, tmp_path: Path, degrees: int):
    path = make_video(f"turned-{degrees}.mp4", 20, rotation=degrees, size=(64, 48))
    # The numbers were drawn unturned: what is shown is the picture turned against the clock.
    expected = [np.rot90(numbered_picture(number, 64, 48), degrees // 90) for number in range(5, 9)]
    cut = cut_clip(path, Span(0.2, 0.36), tmp_path / "clip")
    clip = frames_of(cut.path)
    assert [(frame.width, frame.height, frame.rotation) for frame in clip] == [(e.shape[1], e.shape[0], 0) for e in expected]
    for frame, picture in zip(clip, expected, strict=True):
        assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - picture).mean() < 12
    copy = cut_clip(path, Span(0.2, 0.36), tmp_path / "copy", exact=False)
    assert frames_of(copy.path)[0].rotation == frames_of(path)[0].rotation


def coloured(path: Path, *, size: tuple[int, int], codec: str, pixel_format: str, aspect: Fraction = Fraction(1)) -> NDArray[np.uint8]:
    """Writes ten frames of four plain fields, and returns the picture."""
    width, height = size
    picture = np.zeros((height, width, 3), np.uint8)
    fields = ((210, 40, 40), (40, 190, 60), (50, 60, 200), (220, 220, 60))
    for number, colour in enumerate(fields):
        picture[number // 2 * (height // 2) :, number % 2 * (width // 2) :] = colour
    picture[: height // 2, width // 2 :] = fields[1]
    picture[height // 2 :, : width // 2] = fields[2]
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format  # type: ignore[union-attr]
        stream.codec_context.sample_aspect_ratio = aspect  # type: ignore[union-attr]
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            out.mux(stream.encode(frame))  # type: ignore[union-attr]
        out.mux(stream.encode(None))  # type: ignore[union-attr]
    return picture


@pytest.mark.parametrize(("pixel_format", "codec"), [("yuv444p", "ffv1"), ("bgr0", "ffv1"), ("yuvj420p", "mjpeg"), ("yuv420p10le", "ffv1")])
def test_odd_sizes_lose_a_line_and_keep_their_colours(tmp_path: Path, pixel_format: str, codec: str):
    picture = coloured(tmp_path / "odd.mkv", size=(67, 49), codec=codec, pixel_format=pixel_format)
    cut = cut_clip(tmp_path / "odd.mkv", Span(0.3, 0.6), tmp_path / "clip")
    with av.open(str(cut.path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert (stream.width, stream.height, stream.pix_fmt) == (66, 48, "yuv420p")
    assert len(frames) == 3
    shown = frames[1].to_ndarray(format="rgb24").astype(int)
    for y, x in ((12, 16), (12, 50), (36, 16), (36, 50)):
        assert np.abs(shown[y, x] - picture[y, x]).max() <= 12, (y, x)


@EVERY_WAY
def test_the_shape_of_pixels_is_kept(tmp_path: Path, exact: bool):
    coloured(tmp_path / "wide.mp4", size=(64, 48), aspect=Fraction(4, 3), codec="libvpx-vp9", pixel_format="yuv420p")
    cut = cut_clip(tmp_path / "wide.mp4", Span(0.3, 0.6), tmp_path / "clip", exact=exact)
    with av.open(str(cut.path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
    assert cut.reason == ""


def test_a_copy_that_loses_the_shape_of_pixels_tells_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    coloured(tmp_path / "wide.mp4", size=(64, 48), aspect=Fraction(4, 3), codec="libvpx-vp9", pixel_format="yuv420p")
    monkeypatch.setattr("vlm.video.cut._MUXERS", {})
    cut = cut_clip(tmp_path / "wide.mp4", Span(0.3, 0.6), tmp_path / "clip", exact=False)
    assert (cut.path.suffix, cut.reason) == (".mkv", "a copy in .mkv loses the shape of its pixels")


def test_a_container_that_cannot_take_the_codec_is_replaced_by_matroska(
    make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = make_video("plain.mp4", 50)
    monkeypatch.setattr("vlm.video.cut._MUXERS", {"mov,mp4,m4a,3gp,3g2,mj2": {".ogv": "ogg"}})
    cut = cut_clip(path, Span(0.4, 1.0), tmp_path / "clip", exact=False)
    assert cut.path.suffix == ".mkv"
    assert shown_by(cut.path).numbers[: cut.num_frames] == list(range(cut.num_frames))


def test_a_container_without_presentation_times_is_cut_by_what_is_decoded(make_video: MakeVideo, tmp_path: Path):
    path = make_video("reordered.avi", 60, options={"bf": "2"})
    source = shown_by(path)
    cut = cut_clip(path, Span(0.8, 1.6), tmp_path / "clip")
    assert source.numbers == list(range(60))
    assert shown_by(cut.path).numbers == list(range(20, 40))
    with pytest.raises(UndecodableVideo, match=r"reordered\.avi.*--cut exact"):
        cut_clip(path, Span(0.8, 1.6), tmp_path / "copy", exact=False)
    assert left_in(tmp_path) == ["clip.mp4"]


@EVERY_WAY
def test_a_stretch_behind_the_end_is_refused_and_both_are_named(make_video: MakeVideo, tmp_path: Path, exact: bool):
    path = make_video("short.mp4", 50)
    with pytest.raises(SpanError, match=r"short\.mp4' shows no picture from 2 to 3 s.*from 0 to 2 s"):
        cut_clip(path, Span(2.0, 3.0), tmp_path / "clip", exact=exact)
    assert left_in(tmp_path) == []


@EVERY_WAY
def test_files_that_hold_no_pictures_are_refused(tmp_path: Path, exact: bool):
    with av.open(str(tmp_path / "sound.wav"), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), format="s16", layout="stereo")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
    (tmp_path / "notes.mp4").write_text("no video at all")
    for name, error in (("sound.wav", NoVideoStream), ("notes.mp4", NotAVideo), ("gone.mp4", VideoUnreadable)):
        with pytest.raises(error, match=name):
            cut_clip(tmp_path / name, Span(0.0, 1.0), tmp_path / "clip", exact=exact)
    assert left_in(tmp_path) == ["notes.mp4", "sound.wav"]


@pytest.mark.parametrize("cutting", [cut_clip, cut_supervised])
def test_an_existing_clip_is_not_overwritten(make_video: MakeVideo, tmp_path: Path, cutting: Callable[..., Cut]):
    (tmp_path / "clip.mp4").write_text("mine")
    with pytest.raises(InputError, match=r"clip\.mp4' exists"):
        cutting(make_video("kept.mp4", 20), Span(0.0, 0.4), tmp_path / "clip")
    assert (tmp_path / "clip.mp4").read_text() == "mine"
    assert left_in(tmp_path) == ["clip.mp4"]


@EVERY_WAY
def test_what_can_be_read_of_a_file_that_was_cut_short_is_cut_and_told(make_video: MakeVideo, tmp_path: Path, exact: bool):
    path = make_video("whole.mp4", 200, options={"g": "20"}, container_options={"movflags": "+faststart"})
    content = path.read_bytes()
    (tmp_path / "half.mp4").write_bytes(content[: len(content) * 6 // 10])
    cut = cut_clip(tmp_path / "half.mp4", Span(0.4, 8.0), tmp_path / "clip", exact=exact)
    assert 0 < cut.num_frames < 190
    assert cut.reason or cut.span.end < 8.0
    numbers = shown_by(cut.path).numbers
    assert len(numbers) == cut.num_frames
    # Of the last group the torn packet is missing, and pictures are stored in another order than shown.
    assert numbers[:-4] == list(range(10 if exact else 0, numbers[-5] + 1))


def test_what_can_be_decoded_of_a_damaged_file_is_cut_and_told(make_video: MakeVideo, tmp_path: Path):
    path = make_video("sound.mkv", 60, codec="ffv1", options={"slicecrc": "1", "g": "1"})
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for place, size in places[20:30]:
        assert place is not None
        content[place + 8 : place + size] = bytes(size - 8)
    (tmp_path / "holes.mkv").write_bytes(content)
    cut = cut_clip(tmp_path / "holes.mkv", Span(0.4, 2.0), tmp_path / "clip")
    clip = shown_by(cut.path)
    good = [number for number in clip.numbers if number < 18 or number > 32]
    assert good == [*range(10, 18), *range(33, 50)]
    assert cut.reason or clip.numbers == list(range(10, 50))


FULL = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
from vlm.errors import VideoUnwritable
from vlm.types import Span
from vlm.video import cut
try:
    getattr(cut, sys.argv[5])(sys.argv[1], Span(0.0, 4.0), Path(sys.argv[2]), exact=sys.argv[3] == "exact")
except VideoUnwritable as error:
    print(error)
"""


@pytest.mark.parametrize("cutting", ["cut_clip", "cut_supervised"])
@pytest.mark.parametrize("way", ["exact", "copy"])
@pytest.mark.parametrize("num_bytes", [100, 3000])
def test_a_disk_that_fills_up_leaves_nothing_behind(make_video: MakeVideo, tmp_path: Path, cutting: str, way: str, num_bytes: int):
    path = make_video("large.mp4", 100, size=(320, 240))
    command = [sys.executable, "-c", FULL, str(path), str(tmp_path / "clip"), way, str(num_bytes), cutting]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "takes no clip: File too large" in done.stdout, done.stderr
    assert left_in(tmp_path) == []


def test_a_child_cuts_as_this_process_does(sources: dict[str, Path], tmp_path: Path):
    for exact in (True, False):
        own = cut_clip(sources["29.97"], Span(1.1, 2.2), tmp_path / f"own-{exact}", exact=exact)
        its = cut_supervised(sources["29.97"], Span(1.1, 2.2), tmp_path / f"its-{exact}", exact=exact)
        assert (its.span, its.num_frames, its.reason) == (own.span, own.num_frames, own.reason)
        assert shown_by(its.path) == shown_by(own.path)
    assert left_in(tmp_path) == ["its-False.mp4", "its-True.mp4", "own-False.mp4", "own-True.mp4"]


def test_names_of_any_bytes_are_cut_from_and_to(make_video: MakeVideo, tmp_path: Path):
    folder = tmp_path / os.fsdecode(b"caf\xe9: 1\n")
    folder.mkdir()
    source = os.fsencode(folder) + b"/\xff.mp4"
    os.link(make_video("linked.mp4", 20), source)
    cut = cut_supervised(source, Span(0.0, 0.4), folder / "clip")
    assert len(frames_of(Path("/dev/fd") / str(os.open(cut.path, os.O_RDONLY)))) == 10


def test_errors_of_the_child_keep_their_kind(make_video: MakeVideo, tmp_path: Path):
    with pytest.raises(SpanError, match="shows no picture"):
        cut_supervised(make_video("brief.mp4", 20), Span(5.0, 6.0), tmp_path / "clip")
    with pytest.raises(VideoUnreadable, match=r"gone\.mp4"):
        cut_supervised(tmp_path / "gone.mp4", Span(5.0, 6.0), tmp_path / "clip")
    assert left_in(tmp_path) == []


MISBEHAVING = """
import os, signal, sys, time
from base64 import b64decode
from pathlib import Path
from vlm.video import wire
folder = Path(os.fsdecode(b64decode(wire.receive(sys.stdin.buffer)[0]["target"])))
(folder / ".half.part").write_text("half")
"""


@pytest.mark.parametrize(
    ("ending", "error", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", DecoderCrashed, "SIGSEGV"),
        ("time.sleep(600)", DecoderStalled, "for 1 s"),
        ("sys.stdout.buffer.write(b'x' * 64)", DecoderCrashed, "no message"),
        ("wire.send(sys.stdout.buffer, {'kind': 'cut', 'suffix': '/../../stolen'})", DecoderCrashed, "stolen"),
    ],
    ids=["crash", "hang", "garbage", "lie"],
)
def test_a_child_that_misbehaves_costs_its_clip_and_leaves_nothing(tmp_path: Path, ending: str, error: type[Exception], words: str):
    command = [sys.executable, "-c", MISBEHAVING + ending]
    with pytest.raises(error, match=rf"some\.mp4.*{words}"):
        cut_supervised("some.mp4", Span(0.0, 1.0), tmp_path / "clip", deadline_seconds=1.0 if "sleep" in ending else 60.0, command=command)
    assert left_in(tmp_path) == []


@EVERY_WAY
@pytest.mark.parametrize(
    ("name", "span"),
    [
        ("data/clips/mp_chaplin.mp4", Span(6.1, 7.3)),
        ("data/clips/mdn_flower.webm", Span(1.02, 2.0)),
        ("data/clips/intel_asl_yes.mkv", Span(0.5, 1.25)),
        ("data/awkward/exo_sample_h264.ts", Span(0.3, 0.9)),
        ("data/awkward/decord_video_90.mov", Span(0.03, 0.09)),
        ("data/awkward/exo_sample_vvc.mp4", Span(0.2, 0.7)),
    ],
)
def test_clips_of_real_files_show_the_frames_of_their_source(shared: Path, tmp_path: Path, name: str, span: Span, exact: bool):
    with av.open(str(shared / name)) as container:
        zero = (container.start_time or 0) / 1_000_000
    source = [frame for frame in frames_of(shared / name) if frame.pts is not None]
    times = [float(frame.pts * frame.time_base) - zero for frame in source]
    cut = cut_clip(shared / name, span, tmp_path / "clip", exact=exact)
    clip = frames_of(cut.path)
    within = cut.span if not exact else span
    expected = expected_of(Shown(times, list(range(len(times)))), Span(within.start + 1e-6, within.end - 1e-6))
    assert len(clip) == len(expected.numbers) == cut.num_frames
    for shown, number in zip(clip, expected.numbers, strict=True):
        picture = source[number].to_ndarray(format="gray").astype(int)
        turned = np.rot90(picture, round(source[number].rotation / 90) % 4) if exact else picture
        pixels = shown.to_ndarray(format="gray").astype(int)
        assert np.abs(pixels - turned[: pixels.shape[0], : pixels.shape[1]]).mean() < (4 if exact else 0.01)


def test_ctrl_c_leaves_nothing_behind(make_video: MakeVideo, tmp_path: Path):
    code = """
import sys, threading, os, signal, time
from pathlib import Path
from vlm.types import Span
from vlm.video.cut import cut_supervised
threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT)).start()
command = [sys.executable, "-c", sys.argv[3]]
try:
    cut_supervised(sys.argv[1], Span(0.0, 1.0), Path(sys.argv[2]), command=command)
except KeyboardInterrupt:
    print("stopped")
"""
    command = [sys.executable, "-c", code, "some.mp4", str(tmp_path / "clip"), MISBEHAVING + "time.sleep(600)"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "stopped\n"
    assert left_in(tmp_path) == []
