"""Messages between the supervisor and its decoding child: a JSON header and raw blobs, each with its length before it.

No pickle: a child that a hostile file has taken over can send wrong pictures, but it cannot run code in the parent.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from base64 import b64decode, b64encode
from fractions import Fraction
from typing import IO, Any

import numpy as np

from vlm import errors
from vlm.errors import DecoderCrashed, VideoError
from vlm.types import Clock, DecodeOutcome, Frames, Framing, Thumbnail, VideoInfo
from vlm.video.request import DecodeRequest
from vlm.video.sample import Moments, Sampling

Header = dict[str, Any]
Message = tuple[Header, list[bytearray]]

_LENGTH = struct.Struct("<Q")

# More than any honest message; a larger length is garbage on the pipe.
_MAX_BYTES = 1 << 33


def send(stream: IO[bytes], header: Header, *blobs: bytes) -> None:
    """Writes one message."""
    head = json.dumps({**header, "blobs": [len(b) for b in blobs]}).encode()
    stream.write(_LENGTH.pack(len(head)) + head)
    for blob in blobs:
        stream.write(blob)
    stream.flush()


def receive(stream: IO[bytes]) -> Message | None:
    """The next message; None where the stream ends, also in the middle of one.

    Raises:
        ValueError: what arrives is no message.
    """
    length = _exactly(stream, _LENGTH.size)
    head = None if length is None else _exactly(stream, _LENGTH.unpack(length)[0])
    if head is None:
        return None
    header = json.loads(head)
    blobs = [_exactly(stream, n) for n in header.pop("blobs")]
    if any(b is None for b in blobs):
        return None
    return header, [b for b in blobs if b is not None]


def _exactly(stream: IO[bytes], count: int) -> bytearray | None:
    if not 0 <= count <= _MAX_BYTES:
        raise ValueError(f"a message of {count} bytes")
    data = bytearray(count)
    view, filled = memoryview(data), 0
    while filled < count:
        got = stream.readinto(view[filled:])  # type: ignore[attr-defined]  # every binary stream has it, typing.IO lacks it
        if not got:
            return None
        filled += got
    return data


def pack_request(request: DecodeRequest) -> Header:
    """The header that asks for ``request``."""
    framing = request.framing
    return {
        "kind": "decode",
        "path": b64encode(request.path).decode(),
        "digest": request.digest,
        "sampling": str(request.sampling),
        "framing": dataclasses.asdict(framing),
        "after_pts": request.after_pts,
        "thumbnail_seconds": request.thumbnail_seconds,
        "batch_rows": request.batch_rows,
    }


def unpack_request(header: Header) -> DecodeRequest:
    """The request that ``pack_request`` packed."""
    return DecodeRequest(
        path=b64decode(header["path"]),
        digest=header["digest"],
        sampling=(Moments if header["sampling"].startswith("at:") else Sampling).parse(header["sampling"]),
        framing=Framing(**header["framing"]),
        after_pts=header["after_pts"],
        thumbnail_seconds=header["thumbnail_seconds"],
        batch_rows=header["batch_rows"],
    )


def pack_info(info: VideoInfo) -> Header:
    """The header that carries ``info``."""
    plain = {name: getattr(info, name) for name in ("container", "codec", "width", "height", "rotation_degrees", "promised_seconds")}
    rate = None if info.frame_rate is None else str(info.frame_rate)
    clock = [str(info.clock.time_base), str(info.clock.zero)]
    return {"kind": "info", **plain, "digest": info.digest, "num_bytes": info.num_bytes, "frame_rate": rate, "clock": clock}


def unpack_info(header: Header) -> VideoInfo:
    """The VideoInfo that ``pack_info`` packed."""
    fields = {name: value for name, value in header.items() if name not in ("kind", "frame_rate", "clock")}
    time_base, zero = (Fraction(text) for text in header["clock"])
    rate = None if header["frame_rate"] is None else Fraction(header["frame_rate"])
    return VideoInfo(**fields, frame_rate=rate, clock=Clock(time_base, zero))


def pack_frames(frames: Frames) -> tuple[Header, list[bytes]]:
    """The header and blobs that carry ``frames``."""
    header = {"kind": "frames", "shape": list(frames.pixels.shape), "thumbnails": [t.pts for t in frames.thumbnails]}
    return header, [frames.pixels.tobytes(), frames.pts.tobytes(), *(t.jpeg for t in frames.thumbnails)]


def unpack_frames(header: Header, blobs: list[bytearray]) -> Frames:
    """The Frames that ``pack_frames`` packed; its arrays are writable views of the message."""
    shape = tuple(header["shape"])
    pixels = np.frombuffer(blobs[0], dtype=np.uint8).reshape(shape)
    pts = np.frombuffer(blobs[1], dtype=np.int64).reshape(shape[:-3])
    thumbnails = tuple(Thumbnail(p, bytes(jpeg)) for p, jpeg in zip(header["thumbnails"], blobs[2:], strict=True))
    return Frames(pixels, pts, thumbnails)


def pack_outcome(outcome: DecodeOutcome) -> Header:
    """The header that carries ``outcome``."""
    return {"kind": "outcome", **{name: getattr(outcome, name) for name in ("status", "coverage", "end_seconds", "reason")}}


def unpack_outcome(header: Header) -> DecodeOutcome:
    """The DecodeOutcome that ``pack_outcome`` packed."""
    return DecodeOutcome(**{name: value for name, value in header.items() if name != "kind"})


def pack_error(error: VideoError) -> Header:
    """The header that carries ``error``."""
    return {"kind": "error", "error": type(error).__name__, "message": str(error)}


def unpack_error(header: Header) -> VideoError:
    """The error that ``pack_error`` packed."""
    kind = getattr(errors, str(header["error"]), None)
    if isinstance(kind, type) and issubclass(kind, VideoError):
        return kind(header["message"])
    return DecoderCrashed(f"{header['error']}: {header['message']}")
