"""Opening one local file with PyAV, choosing its picture stream, and naming what is wrong in our own errors."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from vlm.errors import NotAVideo, NoVideoStream, UndecodableVideo, VideoError, VideoUnreadable
from vlm.video.files import PathLike, display_name, open_regular

# A larger picture than 16384 x 16384 in a header is damage or an attack; decoding it would only fill the memory.
MAX_PIXELS = 1 << 28

# Demuxers that read single pictures, or that only point at other files and addresses.
_NOT_VIDEO = frozenset({"image2", "image2pipe", "ico", "tty", "hls", "concat", "dash", "sdp", "rtsp", "ffmetadata", "lavfi"})
_NOT_MOVING = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@contextmanager
def open_container(path: PathLike) -> Iterator[InputContainer]:
    """The demuxer of one local file, closed at the end of the block.

    FFmpeg is handed the open file rather than its name: a name may hold any bytes, begin with a dash, look like a protocol or a pattern.
    It may open nothing else: playlists and reference files cannot lead it to other files or to the network.
    """
    descriptor = open_regular(path)
    try:
        if os.fstat(descriptor).st_size == 0:
            raise NotAVideo(f"{display_name(path)} is empty")
        try:
            container = av.open("fd:", options={"fd": str(descriptor), "protocol_whitelist": "fd"}, metadata_errors="replace")
        except av.FFmpegError as error:
            raise _open_error(path, error) from error
    finally:
        os.close(descriptor)  # FFmpeg holds a duplicate
    with container:
        name = container.format.name
        if name in _NOT_VIDEO or name.endswith("_pipe"):
            raise NotAVideo(f"{display_name(path)} holds {name!r}, which is no video")
        yield container


def choose_stream(container: InputContainer, path: PathLike) -> VideoStream:
    """The picture stream that is taken: marked default before others, moving before still, then the first in the file.

    Cover pictures and thumbnail tracks are no candidates.

    Raises:
        NoVideoStream: no candidate. UndecodableVideo: no candidate has a decoder.
    """
    candidates = [s for s in container.streams.video if not s.disposition & _NOT_MOVING]
    if not candidates:
        raise NoVideoStream(f"{display_name(path)} has no picture stream")
    decodable = [s for s in candidates if s.codec_context is not None]
    if not decodable:
        raise UndecodableVideo(f"{display_name(path)} uses a codec that this FFmpeg {av.ffmpeg_version_info} cannot decode")
    return max(decodable, key=lambda s: (Disposition.default in s.disposition, max(s.frames, len(s.index_entries)) > 1))


def describe(error: av.FFmpegError) -> str:
    """FFmpeg's own words, without the error number."""
    return error.strerror or type(error).__name__


def _open_error(path: PathLike, error: av.FFmpegError) -> VideoError:
    # The file is open already: what FFmpeg refuses now is its content, unless the disk fails.
    if error.errno == errno.EIO:
        return VideoUnreadable(f"{display_name(path)} cannot be read: {describe(error)}")
    return NotAVideo(f"{display_name(path)} is not a video that FFmpeg knows: {describe(error)}")
