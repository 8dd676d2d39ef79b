"""The streams of a clip that is encoded anew: pictures as H.264, each at its own time, and sound as AAC, sample by sample."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import chain

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Discard, Disposition
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from vlm.video.container import open_container
from vlm.video.files import PathLike
from vlm.video.geometry import Orientation
from vlm.video.scale import orientation_of

# MP4 counts the length of a frame in 32 bits: ticks of a nanosecond would leave 4 s.
_FINEST_TICK, _USUAL_TICK = Fraction(1, 1_000_000), Fraction(1, 90_000)
# Nothing is reordered: MP4 counts steps of decoding, and reordered frames of unlike lengths would miss their times.
_ENCODING = {"preset": "veryfast", "crf": "18", "bf": "0"}
_SCALING = int(Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP)

_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000})
_LAYOUTS = frozenset({"mono", "stereo", "5.1", "7.1"})
_BITS_PER_CHANNEL = 80_000
# Where decoding begins before the stretch: codecs need some packets before their sound is right.
_LEAD_SECONDS = 1
# Sound this far from where the sound before it ended is moved by rounding, and no gap.
_JITTER_SECONDS = Fraction(1, 20)


class PictureTrack:
    """The H.264 stream of a clip, which takes its size and colours from the first frame.

    ``tick`` is the unit of the times that are given with frames, in seconds; ``rate`` the usual number of frames a second.
    """

    def __init__(self, container: OutputContainer, *, tick: Fraction, rate: Fraction, pixel_aspect: Fraction | None) -> None:
        self._container = container
        self._source_tick = tick
        self._tick = tick if tick >= _FINEST_TICK else _USUAL_TICK
        self._pixel_aspect = pixel_aspect
        rate = min(max(rate, Fraction(1, 100)), Fraction(1000)).limit_denominator(100_000)
        self._stream = container.add_stream("libx264", rate=rate, options=_ENCODING)
        self._stream.time_base = self._stream.codec_context.time_base = self._tick
        self._reformatter = VideoReformatter()
        self._stored: tuple[int, int, Orientation] | None = None
        self._durations: dict[int, int] = {}

    def add(self, frame: VideoFrame, begins: int, ends: int) -> None:
        """Encodes a frame that is on screen during ``[begins, ends)``, in ticks."""
        stored = self._stored = self._stored or self._described(frame)
        begin, end = (round(moment * self._source_tick / self._tick) for moment in (begins, ends))
        if end <= begin:
            return  # two frames within one tick: the later one is seen
        picture = self._upright(frame, *stored)
        picture.pict_type = PictureType.NONE  # else the encoder repeats the source's choice of keyframes
        picture.pts, picture.time_base, picture.duration = begin, self._tick, end - begin
        self._durations[begin] = end - begin
        self._mux(picture)

    def finish(self) -> None:
        """Writes what the encoder still holds."""
        self._mux(None)

    def _mux(self, picture: VideoFrame | None) -> None:
        for packet in self._stream.encode(picture):
            if packet.pts is not None:
                packet.duration = self._durations.pop(packet.pts)  # the last one ends the clip
            self._container.mux(packet)

    def _described(self, frame: VideoFrame) -> tuple[int, int, Orientation]:
        """Tells the encoder the size and colours of the first frame; its stored width and height, and its orientation."""
        orientation = orientation_of(frame)
        width, height = (max(2, edge - edge % 2) for edge in (frame.width, frame.height))
        stream, codec = self._stream, self._stream.codec_context
        stream.width, stream.height = (height, width) if orientation.swaps_axes else (width, height)
        stream.pix_fmt = "yuv420p"
        if self._pixel_aspect:
            codec.sample_aspect_ratio = 1 / self._pixel_aspect if orientation.swaps_axes else self._pixel_aspect
        codec.color_range = ColorRange.MPEG
        if frame.format.is_rgb:
            codec.colorspace = Colorspace.ITU709
        else:
            codec.colorspace, codec.color_primaries, codec.color_trc = frame.colorspace, frame.color_primaries, frame.color_trc
        return frame.width, frame.height, orientation

    def _upright(self, frame: VideoFrame, width: int, height: int, orientation: Orientation) -> VideoFrame:
        """The frame in 4:2:0 and the narrow range of studios, scaled to the first one's size, turned upright, with even edges."""
        is_wide = frame.color_range == ColorRange.JPEG or frame.format.is_rgb or frame.format.name.startswith("yuvj")
        frame = self._reformatter.reformat(
            frame,
            max(2, width),
            max(2, height),
            "yuv420p",
            dst_colorspace=Colorspace.ITU709 if frame.format.is_rgb else None,
            src_color_range=ColorRange.JPEG if is_wide else None,
            dst_color_range=ColorRange.MPEG if is_wide else None,
            interpolation=_SCALING,
        )
        if orientation == Orientation() and not (frame.width % 2 or frame.height % 2):
            return frame
        planes = []
        for plane, halves in zip(frame.planes, (1, 2, 2), strict=True):
            pixels = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            rows, columns = (edge // 2 * 2 // halves for edge in (frame.height, frame.width))
            planes.append(orientation.upright(pixels[:rows, :columns]))
        stacked = np.concatenate([plane.ravel() for plane in planes])
        return VideoFrame.from_ndarray(stacked.reshape(-1, planes[0].shape[1]), format="yuv420p")


class SoundTrack:
    """The AAC stream of a clip, written as far as the pictures are."""

    @classmethod
    def open(cls, container: OutputContainer, path: PathLike, begin: Fraction, until: Fraction, stack: ExitStack) -> SoundTrack | None:
        """The sound of ``path`` during ``[begin, until)``, in stream seconds; None where there is none."""
        found = sound_packets(path, begin, stack)
        return None if found is None else cls(container, *found, begin, until)

    def __init__(
        self, container: OutputContainer, source: AudioStream, packets: Iterator[av.Packet[AudioStream]], begin: Fraction, until: Fraction
    ) -> None:
        self.reason = ""
        self._container = container
        self._source = source
        self._begin = begin
        self._rate = source.codec_context.sample_rate if source.codec_context.sample_rate in _RATES else 48_000
        layout = source.codec_context.layout.name
        self._layout = layout if layout in _LAYOUTS else "stereo"
        self._total = round((until - begin) * self._rate)
        self._written = 0
        self._chunks = self._placed(packets)
        stream = container.add_stream("aac", rate=self._rate)
        assert isinstance(stream, AudioStream)
        self._stream = stream
        stream.codec_context.layout = self._layout
        stream.codec_context.bit_rate = _BITS_PER_CHANNEL * stream.codec_context.layout.nb_channels

    def advance(self, seconds: Fraction) -> None:
        """Encodes the sound of the first ``seconds`` of the clip."""
        until = min(self._total, round(seconds * self._rate))
        while self._written < until:
            samples = next(self._chunks, None)
            if samples is None:
                return
            frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=self._layout)
            frame.sample_rate, frame.pts, frame.time_base = self._rate, self._written, Fraction(1, self._rate)
            self._written += samples.shape[1]
            self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Encodes the rest."""
        self.advance(Fraction(self._total, self._rate))
        if self._written:
            self._container.mux(self._stream.encode(None))

    def _placed(self, packets: Iterator[av.Packet[AudioStream]]) -> Iterator[NDArray[np.float32]]:
        """The samples (c, n) of the stretch one after the other: overlaps are left out, gaps are silent."""
        at, expected = 0, None
        for moment, samples in self._decoded(packets):
            position = round((moment - self._begin) * self._rate)
            if expected is not None and abs(position - expected) <= _JITTER_SECONDS * self._rate:
                position = expected
            expected = position + samples.shape[1]
            while at < min(position, self._total):
                gap = min(position - at, self._total - at, self._rate)
                at += gap
                yield np.zeros((samples.shape[0], gap), np.float32)
            new = samples[:, max(0, at - position) : max(0, self._total - position)]
            if new.shape[1]:
                at += new.shape[1]
                yield new
            if at >= self._total:
                return

    def _decoded(self, packets: Iterator[av.Packet[AudioStream]]) -> Iterator[tuple[Fraction, NDArray[np.float32]]]:
        """Decoded samples (c, n) at the rate of the clip, each run with its moment in stream seconds."""
        resampler, shape = None, None
        for frame in self._frames(packets):
            if resampler is None or shape != (frame.format.name, frame.layout.name, frame.sample_rate):
                shape = frame.format.name, frame.layout.name, frame.sample_rate
                resampler = AudioResampler("fltp", self._layout, self._rate)
            yield from _timed(resampler.resample(frame))
        if resampler is not None:
            yield from _timed(resampler.resample(None))

    def _frames(self, packets: Iterator[av.Packet[AudioStream]]) -> Iterator[AudioFrame]:
        for packet in packets:
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self.reason = "some of the sound cannot be decoded and is silent"
                continue
            yield from (frame for frame in frames if frame.pts is not None)


def sound_packets(path: PathLike, begin: Fraction, stack: ExitStack) -> tuple[AudioStream, Iterator[av.Packet[AudioStream]]] | None:
    """The sound stream of a file and its packets from some time before ``begin`` (in stream seconds) on; None where there is no sound.

    ``stack`` keeps the file open. Damage ends the packets.
    """
    for seeks in (True, False):
        container = stack.enter_context(open_container(path))
        stream = _chosen(container)
        if stream is None:
            return None
        for other in container.streams:
            other.discard = Discard.default if other.index == stream.index else Discard.all
        if seeks and begin > _LEAD_SECONDS:
            try:
                container.seek(int((begin - _LEAD_SECONDS) / _tick(stream)), stream=stream)
            except av.FFmpegError:
                continue
        packets = _read(container, stream)
        first = next((packet for packet in packets if packet.pts is not None), None)
        if first is None or first.pts is None:
            continue
        if first.pts * _tick(stream) <= begin or not seeks:
            return stream, chain([first], packets)
    return None


def _timed(frames: list[AudioFrame]) -> Iterator[tuple[Fraction, NDArray[np.float32]]]:
    for frame in frames:
        if frame.pts is not None and frame.samples:
            assert frame.time_base is not None
            yield frame.pts * frame.time_base, frame.to_ndarray()  # type: ignore[misc]  # fltp is float32


def _read(container: InputContainer, stream: AudioStream) -> Iterator[av.Packet[AudioStream]]:
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except av.FFmpegError:
        return


def _chosen(container: InputContainer) -> AudioStream | None:
    """The sound stream that a player takes: marked default before others, then the first with a decoder."""
    streams = [stream for stream in container.streams.audio if stream.codec_context is not None and stream.codec_context.sample_rate]
    return max(streams, key=lambda stream: Disposition.default in stream.disposition, default=None)


def _tick(stream: AudioStream) -> Fraction:
    assert stream.time_base is not None  # every stream of an opened container has one
    return stream.time_base
