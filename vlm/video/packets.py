"""The index pass: every packet of a stream is read once and nothing is decoded."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.stream import Discard
from av.video.stream import VideoStream

from vlm.video.container import describe
from vlm.video.timeline import NO_PTS, Packets

Report = Callable[[int], None]

_KEY, _HIDDEN = 1, 2


def read_packets(container: InputContainer, stream: VideoStream, report: Report) -> tuple[Packets, str]:
    """The packet table of ``stream`` and, where reading broke off, why.

    ``report`` is given a position that grows as long as the file goes on.
    """
    only(container, stream)
    pts, dts, duration, size, flags = array("q"), array("q"), array("q"), array("q"), array("b")
    most, furthest, broken = max(1, container.size), 0, ""
    shows = _vp8_shows if stream.codec_context.name == "vp8" else None
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            if len(pts) >= most:
                broken = f"more packets than its {most} bytes"
                break
            hidden = packet.is_discard or (shows is not None and not shows(packet))
            pts.append(NO_PTS if packet.pts is None else packet.pts)
            dts.append(NO_PTS if packet.dts is None else packet.dts)
            duration.append(packet.duration or 0)
            size.append(packet.size)
            flags.append(_KEY * packet.is_keyframe + _HIDDEN * hidden)
            # A demuxer that circles reads the same places and times again: neither maximum grows.
            furthest = max(furthest, (packet.pos or 0) + max(0, packet.dts or 0))
            report(furthest)
    except av.FFmpegError as error:
        broken = describe(error)
    bits = np.frombuffer(flags, dtype=np.int8)
    table = Packets(
        pts=np.frombuffer(pts, dtype=np.int64),
        dts=np.frombuffer(dts, dtype=np.int64),
        duration=np.frombuffer(duration, dtype=np.int64),
        size=np.frombuffer(size, dtype=np.int64),
        is_key=(bits & _KEY) > 0,
        is_hidden=(bits & _HIDDEN) > 0,
    )
    return table, broken


def last_moment(container: InputContainer, report: Report) -> Fraction:
    """The time at which the last packet of any stream ends, in stream seconds."""
    reached, furthest = Fraction(0), 0
    try:
        for packet in container.demux():
            if packet.size and packet.pts is not None:
                reached = max(reached, (packet.pts + (packet.duration or 0)) * packet.time_base)
                furthest = max(furthest, packet.pos or 0)
                report(furthest)
    except av.FFmpegError:
        pass  # what lies behind the failure is missing, which is what this function is asked
    return reached


def only(container: InputContainer, stream: VideoStream) -> None:
    """Lets the demuxer skip all other streams."""
    for other in container.streams:
        other.discard = Discard.default if other.index == stream.index else Discard.all


def _vp8_shows(packet: av.Packet[VideoStream]) -> bool:
    """Bit 4 of a VP8 frame tag, show_frame (RFC 6386, 9.1): reference pictures without a display are packets of their own."""
    return bool(memoryview(packet)[0] & 0x10)
