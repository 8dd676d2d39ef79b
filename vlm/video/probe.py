"""What a file says about itself: its content digest, and its picture stream before it is decoded."""

from __future__ import annotations

import hashlib

from vlm.types import VideoInfo
from vlm.video.files import PathLike, open_regular, reading_errors


def content_digest(path: PathLike) -> str:
    """The hexadecimal SHA-256 of the whole file.

    Raises:
        VideoUnreadable: the file is missing, not regular, or fails while it is read.
    """
    with reading_errors(path), open(open_regular(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def decoder_versions() -> str:
    """Which PyAV is installed and which FFmpeg is inside it: ``18.1.0 (FFmpeg 8.1.2)``."""
    import av

    return f"{av.__version__} (FFmpeg {av.ffmpeg_version_info})"


def probe(path: PathLike, *, digest: str | None = None) -> VideoInfo:
    """What the container tells of its picture stream; the digest is computed unless given.

    The headers are read and the first frame is decoded, because only a frame carries the display matrix. In this process: a damaged file
    may hang or end it; SupervisedDecoder.probe does the same in a child.

    Raises:
        VideoUnreadable, NotAVideo, NoVideoStream, UndecodableVideo: see vlm.errors.
    """
    from vlm.video.streaminfo import read_info  # loads PyAV, which content_digest does without

    return read_info(path, digest=content_digest(path) if digest is None else digest)
