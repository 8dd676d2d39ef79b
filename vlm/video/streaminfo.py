"""The picture stream of an opened file as a VideoInfo: displayed size, rotation, clock, promised end."""

from __future__ import annotations

import re
from fractions import Fraction

import av
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from vlm.errors import UndecodableVideo
from vlm.types import Clock, VideoInfo
from vlm.video.container import MAX_PIXELS, choose_stream, open_container
from vlm.video.files import PathLike, display_name
from vlm.video.geometry import Orientation
from vlm.video.scale import orientation_of

# A first frame that has not come after so many packets will not tell its orientation.
_FIRST_FRAME_PACKETS = 64

_MICROSECOND = Fraction(1, 1_000_000)


def read_info(path: PathLike, *, digest: str) -> VideoInfo:
    """The VideoInfo of a file; opens it and decodes its first frame."""
    with open_container(path) as container:
        stream = choose_stream(container, path)
        return describe_stream(container, stream, path, digest=digest)


def describe_stream(container: InputContainer, stream: VideoStream, path: PathLike, *, digest: str) -> VideoInfo:
    """The VideoInfo of ``stream``. Reads on to the first frame: the container stands behind it afterwards."""
    codec = stream.codec_context
    name, num_bytes, clock, promised = codec.name, container.size, clock_of(container, stream), promised_end(container, stream)
    orientation = _first_orientation(container, stream)  # may correct a size that the header does not give
    if codec.width < 1 or codec.height < 1:
        raise UndecodableVideo(f"{display_name(path)} has a picture stream without a size")
    if codec.width * codec.height > MAX_PIXELS:
        raise UndecodableVideo(f"{display_name(path)} claims {codec.width} x {codec.height} pixels; at most {MAX_PIXELS} are decoded")
    width, height = orientation.displayed(codec.width, codec.height, stream.sample_aspect_ratio)
    return VideoInfo(
        container=container.format.name,
        codec=name,
        width=width,
        height=height,
        rotation_degrees=orientation.clockwise_degrees,
        frame_rate=stream.average_rate or None,
        clock=clock,
        promised_seconds=None if promised is None else float(promised - clock.zero),
        digest=digest,
        num_bytes=num_bytes,
    )


def clock_of(container: InputContainer, stream: VideoStream) -> Clock:
    """The clock whose zero is the earliest start among the taken picture stream and the sound, after edit lists.

    Sound before zero is the priming of its codec, which a player drops: it does not move the pictures.
    """
    pictures = _start(stream)
    sounds = [_start(s) for s in container.streams.audio]
    starts = [pictures, *(s if s is None else max(s, min(Fraction(0), pictures or Fraction(0))) for s in sounds)]
    assert stream.time_base is not None  # every stream of an opened container has one
    return Clock(stream.time_base, min((s for s in starts if s is not None), default=Fraction(0)))


def promised_end(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """The end that the container claims for ``stream``, in seconds before the clock's zero is taken off; None where it claims none."""
    return stream_end(stream) or container_end(container)


def stream_end(stream: VideoStream) -> Fraction | None:
    """The end that is claimed for this very stream."""
    if stream.duration is not None and stream.duration > 0 and stream.time_base is not None:
        return ((stream.start_time or 0) + stream.duration) * stream.time_base
    # Matroska keeps it as a statistics tag, hours:minutes:seconds.
    tag = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if tag is None:
        return None
    return int(tag[1]) * 3600 + int(tag[2]) * 60 + Fraction(tag[3]) or None


def container_end(container: InputContainer) -> Fraction | None:
    """The end that is claimed for the longest stream of the file."""
    if container.duration is None or container.duration <= 0:
        return None
    return ((container.start_time or 0) + container.duration) * _MICROSECOND


def _start(stream: Stream) -> Fraction | None:
    if stream.start_time is None or stream.time_base is None or Disposition.attached_pic in stream.disposition:
        return None
    return stream.start_time * stream.time_base


def _first_orientation(container: InputContainer, stream: VideoStream) -> Orientation:
    """The orientation of the first frame; upright where none can be decoded, which decoding will report."""
    try:
        for count, packet in enumerate(container.demux(stream)):
            for frame in packet.decode():
                return orientation_of(frame)
            if count >= _FIRST_FRAME_PACKETS:
                break
    except av.FFmpegError:
        pass
    return Orientation()
