"""Writing real video files with PyAV: every frame at its own time, colours tagged as stored, no half file under the final name."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, gcd, inf
from pathlib import Path
from typing import IO

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vlm.errors import InputError, VideoUnwritable
from vlm.types import Clock
from vlm.video.files import display_name

SECONDS_BETWEEN_KEYFRAMES = 2
_FASTEST_RATE = 1000  # Matroska's milliseconds tell no more frames apart
_FINEST_TICK = 65_535  # parts of a second: MPEG-4 part 2 knows no more
# Without these swscale takes every second pixel's colour for two, and rounds all colours down.
_INTERPOLATION = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP
_FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".webm": "webm", ".avi": "avi"}
# Matroska and WebM count milliseconds. MP4 takes any time base; this one holds every millisecond, and MPEG-4 part 2 knows none much finer.
_TIME_BASES = {".mp4": Fraction(1, 60_000), ".mkv": Fraction(1, 1000), ".webm": Fraction(1, 1000)}


@dataclass(frozen=True, slots=True)
class _Codec:
    """How one codec is written.

    ``suffixes``: the containers that fit, the usual one first. ``is_hd``: stored as BT.709, else as BT.601, which players assume where a
    stream cannot say. ``is_full_range``: black is 0 and white 255, as JPEG has it, instead of 16 and 235.
    """

    encoder: str
    suffixes: tuple[str, ...]
    options: dict[str, str]
    is_hd: bool = False
    is_full_range: bool = False


# Quantiser 3 of 1 to 31, in FFmpeg's units of 118.
_FIXED_QUALITY = {"flags": "+qscale", "global_quality": str(3 * 118)}
_CODECS = {
    "h264": _Codec("libx264", (".mp4", ".mkv"), {"preset": "veryfast", "crf": "20"}, is_hd=True),
    "vp9": _Codec("libvpx-vp9", (".webm", ".mkv", ".mp4"), {"deadline": "realtime", "cpu-used": "7", "crf": "28", "b": "0"}, is_hd=True),
    "mpeg4": _Codec("mpeg4", (".avi", ".mkv", ".mp4"), _FIXED_QUALITY),
    "mjpeg": _Codec("mjpeg", (".mkv", ".avi"), _FIXED_QUALITY, is_full_range=True),
}
CODECS = tuple(_CODECS)


def available_codecs() -> tuple[str, ...]:
    """Those of ``CODECS`` for which this build of FFmpeg has an encoder."""
    return tuple(name for name, codec in _CODECS.items() if _has_encoder(codec.encoder))


def check_codec(codec: str) -> None:
    """Raises InputError where ``codec`` is not one of ``CODECS`` or this build of FFmpeg has no encoder for it."""
    if codec not in _CODECS:
        raise InputError(f"unknown codec {codec!r}; this FFmpeg writes {', '.join(available_codecs())}")
    if not _has_encoder(_CODECS[codec].encoder):
        raise InputError(
            f"codec {codec!r} needs the encoder {_CODECS[codec].encoder!r}, which this FFmpeg {av.ffmpeg_version_info} lacks; "
            f"it writes {', '.join(available_codecs())}"
        )


def suffix_for(codec: str, *, is_variable: bool = False) -> str:
    """The usual file name suffix: .mp4 for h264, .webm for vp9, .mkv for mjpeg, .avi for mpeg4, but .mkv at a variable rate."""
    check_codec(codec)
    return next(suffix for suffix in _CODECS[codec].suffixes if not is_variable or suffix in _TIME_BASES)


def write_video(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    *,
    codec: str = "h264",
    frame_rate: Fraction | None = None,
    times: NDArray[np.float64] | None = None,
    end_seconds: float | None = None,
) -> tuple[NDArray[np.float64], float]:
    """Writes a file and returns the start of each of its frames (t,), and the end of the last, in seconds as a reader will see them.

    The frames come one by one, (h, w, 3) uint8 RGB, or in chunks (t, h, w, 3); height and width are even. Either they follow each other at
    ``frame_rate``, or frame i is shown from ``times[i]`` until the next. The last one is shown until ``end_seconds``, which is needed with
    ``times``; else, and always in .avi, as long as those before it. All times are rounded to milliseconds in .mkv and .webm, and those in
    ``times`` to 1/60000 s in .mp4.

    The suffix of ``path`` chooses the container: .mp4 or .mkv for h264; .webm, .mkv or .mp4 for vp9; .avi, .mkv or .mp4 for mpeg4; .mkv or
    .avi for mjpeg. Colours are stored as 4:2:0, BT.709 (h264, vp9) or BT.601, with a keyframe every two seconds. The file is written beside
    its place under another name and moved there when it is whole; one thread encodes, so that one build writes the same file again.

    Raises:
        InputError: the file exists, the codec is unknown or missing, the suffix does not fit it, or frames and times break their rules.
        VideoUnwritable: the file cannot be written: no space, no permission.
    """
    check_codec(codec)
    recipe = _CODECS[codec]
    suffix = path.suffix.lower()
    if suffix not in recipe.suffixes:
        raise InputError(
            f"{display_name(path)}: {codec} goes into {', '.join(recipe.suffixes)}, not into {suffix or 'a name without suffix'}"
        )
    schedule = _schedule(path, suffix, frame_rate, times, end_seconds)
    if os.path.lexists(path):
        raise InputError(f"{display_name(path)} exists and is not overwritten; choose another name or remove it")
    with _appearing_whole(path) as file, av.open(file, "w", format=_FORMATS[suffix]) as container:
        pts = _encode(container, recipe, _single(frames), schedule)
        if not pts:
            raise InputError(f"{display_name(path)}: a video needs at least one frame, got none")
    ticks = [*pts, pts[-1] + schedule.duration(len(pts) - 1)]
    # Matroska rounds to its own clock, halves up.
    clock = Clock(_TIME_BASES[suffix] if suffix in (".mkv", ".webm") else schedule.time_base)
    stored = [floor(tick * schedule.time_base / clock.time_base + Fraction(1, 2)) for tick in ticks]
    seconds = clock.seconds(np.asarray(stored, dtype=np.int64))
    return seconds[:-1], float(seconds[-1])


@dataclass(frozen=True, slots=True)
class _Schedule:
    """When each frame is shown, in ticks of ``time_base``; ``ticks`` is None for frames that last one tick each."""

    name: str
    time_base: Fraction
    average_rate: Fraction
    ticks: tuple[int, ...] | None
    is_constant: bool = True

    def start(self, index: int) -> int:
        """Of frame ``index``."""
        if self.ticks is None:
            return index
        if index >= len(self.ticks) - 1:
            raise InputError(f"{self.name}: there are more frames than times ({len(self.ticks) - 1})")
        return self.ticks[index]

    def duration(self, index: int) -> int:
        """Of frame ``index``."""
        return 1 if self.ticks is None else self.ticks[index + 1] - self.ticks[index]

    def check_complete(self, count: int) -> None:
        """Raises InputError where ``count`` frames are fewer than there are times."""
        if self.ticks is not None and count < len(self.ticks) - 1:
            raise InputError(f"{self.name}: there are {len(self.ticks) - 1} times and only {count} frames")


def _schedule(
    path: Path, suffix: str, frame_rate: Fraction | None, times: NDArray[np.float64] | None, end_seconds: float | None
) -> _Schedule:
    name = display_name(path)
    if (frame_rate is None) == (times is None) or (times is not None and end_seconds is None):
        raise InputError(f"{name}: give either frame_rate, or times and end_seconds")
    if end_seconds is not None and not 0 < end_seconds < inf:
        raise InputError(f"{name}: end_seconds must be positive and finite, got {end_seconds}")
    if frame_rate is not None:
        return _constant_schedule(name, Fraction(frame_rate), None if suffix == ".avi" else end_seconds)
    if suffix not in _TIME_BASES:
        raise InputError(f"{name}: {suffix} keeps one frame rate only; use .mkv for a variable one")
    assert times is not None
    assert end_seconds is not None
    bounds = np.append(times.astype(np.float64), end_seconds)
    if len(bounds) < 2 or bounds[0] != 0 or not np.all(np.isfinite(bounds)):
        raise InputError(f"{name}: times must begin at 0 s and be finite, got {bounds[:-1][:3].tolist()}")
    time_base = _TIME_BASES[suffix]
    ticks = np.rint(bounds * float(1 / time_base)).astype(np.int64)
    if np.any(np.diff(ticks) <= 0):
        at = int(np.argmin(np.diff(ticks)))
        raise InputError(f"{name}: times must increase by {time_base} s or more, got {bounds[at]:g} s and then {bounds[at + 1]:g} s")
    average_rate = max(Fraction(1, 1001), Fraction((len(bounds) - 1) / float(bounds[-1])).limit_denominator(1001))
    return _Schedule(name, time_base, average_rate, tuple(ticks.tolist()), is_constant=False)


def _constant_schedule(name: str, rate: Fraction, end_seconds: float | None) -> _Schedule:
    if not 0 < rate <= _FASTEST_RATE:
        raise InputError(f"{name}: frame_rate must be above 0 and at most {_FASTEST_RATE} frames/s, got {rate}")
    if end_seconds is None:
        return _Schedule(name, 1 / rate, rate, None)
    step, end = 1 / rate, Fraction(repr(float(end_seconds)))
    # The longest tick of which both are multiples.
    time_base = Fraction(gcd(step.numerator * end.denominator, end.numerator * step.denominator), step.denominator * end.denominator)
    if time_base.denominator > _FINEST_TICK:
        raise InputError(f"{name}: end_seconds {end_seconds!r} fits no clock of {rate} frames/s; give fewer decimals")
    starts = (index * step for index in range(ceil(end * rate)))
    return _Schedule(name, time_base, rate, tuple(int(moment / time_base) for moment in (*starts, end)))


def _encode(container: OutputContainer, recipe: _Codec, frames: Iterator[NDArray[np.uint8]], schedule: _Schedule) -> list[int]:
    """Encodes all frames and returns their timestamps."""
    first = next(frames, None)
    if first is None:
        return []
    stream = _add_stream(container, recipe, schedule, *first.shape[:2])
    to_yuv = VideoReformatter()
    pts: list[int] = []
    durations: dict[int, int] = {}
    for index, pixels in enumerate(_chain(first, frames)):
        if pixels.shape != first.shape:
            raise InputError(f"{schedule.name}: all frames must have one shape, got {first.shape} and then {pixels.shape}")
        frame = to_yuv.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"),
            format=stream.pix_fmt,
            dst_colorspace=Colorspace.ITU709 if recipe.is_hd else Colorspace.ITU601,
            dst_color_range=ColorRange.JPEG if recipe.is_full_range else ColorRange.MPEG,
            interpolation=int(_INTERPOLATION),
        )
        pts.append(schedule.start(index))
        durations[pts[-1]] = schedule.duration(index)
        frame.pts, frame.time_base, frame.duration = pts[-1], schedule.time_base, durations[pts[-1]]
        _mux(container, stream, frame, durations)
    schedule.check_complete(len(pts))
    _mux(container, stream, None, durations)
    return pts


def _mux(container: OutputContainer, stream: VideoStream, frame: av.VideoFrame | None, durations: dict[int, int]) -> None:
    """Writes what the encoder gives for ``frame``, or at the end for None."""
    for packet in stream.encode(frame):
        # Not every encoder hands a frame's duration on, and the last frame's ends the video.
        if packet.pts is not None:
            packet.duration = durations.pop(packet.pts)
        container.mux(packet)


def _add_stream(container: OutputContainer, recipe: _Codec, schedule: _Schedule, height: int, width: int) -> VideoStream:
    if height % 2 or width % 2:
        raise InputError(f"{schedule.name}: height and width must be even for 4:2:0 colours, got {height} x {width}")
    # MP4 counts steps of decoding: reordered frames of unlike lengths miss the end. Cameras with a variable rate reorder none either.
    options = recipe.options if schedule.is_constant else recipe.options | {"bf": "0"}
    stream = container.add_stream(recipe.encoder, rate=schedule.average_rate, options=options)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height = width, height
    stream.pix_fmt = "yuvj420p" if recipe.is_full_range else "yuv420p"
    stream.time_base = schedule.time_base
    codec = stream.codec_context
    codec.time_base = schedule.time_base
    codec.thread_count = 1
    codec.gop_size = max(1, round(SECONDS_BETWEEN_KEYFRAMES * schedule.average_rate))
    codec.colorspace = Colorspace.ITU709 if recipe.is_hd else Colorspace.ITU601
    codec.color_primaries = ColorPrimaries.BT709 if recipe.is_hd else ColorPrimaries.SMPTE170M
    codec.color_trc = ColorTrc.BT709 if recipe.is_hd else ColorTrc.SMPTE170M
    codec.color_range = ColorRange.JPEG if recipe.is_full_range else ColorRange.MPEG
    return stream


def _single(frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Frames (h, w, 3) out of frames and chunks."""
    for item in frames:
        if item.dtype != np.uint8 or item.ndim not in (3, 4) or item.shape[-1] != 3:
            raise InputError(f"frames must be uint8 (h, w, 3) or (t, h, w, 3), got {item.dtype} {item.shape}")
        yield from item if item.ndim == 4 else (item,)


def _chain(first: NDArray[np.uint8], rest: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    yield first
    yield from rest


@contextmanager
def _appearing_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the name ``path`` when the block ends well, and vanishes when it does not.

    FFmpeg writes through it, not to a name: any name will do, and an error of the disk arrives as such.
    """
    partial = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with open(partial, "xb") as file:
            yield file
        _move_without_overwriting(partial, path)
    except (av.FFmpegError, OSError) as error:
        # After an error of the disk FFmpeg fails once more when it is closed, and says less.
        first = error.__context__ if isinstance(error.__context__, OSError) else error
        raise VideoUnwritable(
            f"{display_name(path)} cannot be written: {first.strerror or first}; see to space and permissions there and write it again"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _move_without_overwriting(partial: Path, path: Path) -> None:
    try:
        os.link(partial, path)  # unlike a rename, it never takes the place of a file that has come meanwhile
    except FileExistsError:
        raise InputError(f"{display_name(path)} has appeared meanwhile and is not overwritten; choose another name") from None
    except OSError:  # a file system without links
        os.rename(partial, path)


def _has_encoder(name: str) -> bool:
    try:
        av.Codec(name, "w")
    except UnknownCodecError:
        return False
    return True
