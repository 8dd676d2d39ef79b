"""Frames out of an opened file: along a plan, or all of them in a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import TracebackType

import av
import numpy as np
from av import VideoFrame
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vlm.video.container import MAX_PIXELS, choose_stream, describe, open_container
from vlm.video.files import PathLike
from vlm.video.packets import only
from vlm.video.plan import Plan
from vlm.video.timeline import NO_PTS, Packets

Report = Callable[[int], None]

# A stretch longer than this is leapt over; a shorter one is read through, which needs no index and cannot land in the wrong place.
SEEK_BYTES = 16 << 20

_PROGRESSIVE = 1  # AV_FIELD_PROGRESSIVE


class Damage:
    """What of a file could not be decoded, as the decoder met it.

    ``is_lost`` (n,) marks packets whose frames will not come; ``stretches`` are positions ``[broken, resumed)``; ``reason`` is the first.
    """

    def __init__(self, num_packets: int) -> None:
        self.is_lost = np.zeros(num_packets, dtype=np.bool_)
        self.stretches: list[tuple[int, int]] = []
        self.reason = ""

    def add(self, started: int, broken: int, resumed: int, reason: str) -> None:
        """Notes a failure at packet ``broken``: whatever was fed since ``started`` and has not come out is gone, up to ``resumed``."""
        self.is_lost[started:resumed] = True
        self.stretches.append((broken, resumed))
        self.reason = self.reason or reason


class PacketSource:
    """The packets of the chosen stream by their position in the table, read forward; long gaps are leapt over."""

    def __init__(self, path: PathLike, *, threads: int) -> None:
        self._path = path
        self._threads = threads
        self._stack = ExitStack()
        self._can_seek = True
        self._pushed: av.Packet[VideoStream] | None = None
        self._next = 0
        self._open()

    def __enter__(self) -> PacketSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    @property
    def codec(self) -> VideoCodecContext:
        """The decoder of the stream."""
        return self._stream.codec_context

    @property
    def stream(self) -> VideoStream:
        """The chosen stream."""
        return self._stream

    @property
    def container(self) -> InputContainer:
        """The demuxer."""
        return self._container

    def packet(self, position: int) -> av.Packet[VideoStream] | None:
        """The packet at ``position``, which must not lie before the last one given; None where the file ends first."""
        while self._next < position:
            if self._read() is None:
                return None
        return self._read()

    def leap(self, packets: Packets, position: int, *, seek_bytes: int = SEEK_BYTES) -> None:
        """Goes near the packet at ``position`` where more than ``seek_bytes`` lie between; the decoder must be flushed."""
        if int(packets.size[self._next : position].sum()) <= seek_bytes or not self._can_seek:
            return
        target = packets.dts[position] if packets.dts[position] != NO_PTS else packets.pts[position]
        before = self._next
        try:
            self._container.seek(int(target), stream=self._stream)
            self._packets = self._container.demux(self._stream)
            landing = self._read()
        except av.FFmpegError:
            landing = None
        landed_pts = NO_PTS if landing is None or landing.pts is None else landing.pts
        found = np.flatnonzero(packets.pts == landed_pts)
        if len(found) == 1 and before <= found[0] <= position:
            self._pushed, self._next = landing, int(found[0])
        else:  # nowhere that the table knows, or too far: from the start again, and on foot from now on
            self._can_seek = False
            self._stack.close()
            self._open()

    def _open(self) -> None:
        self._container = self._stack.enter_context(open_container(self._path))
        self._stream = choose_stream(self._container, self._path)
        only(self._container, self._stream)
        codec = self._stream.codec_context
        codec.thread_count = self._threads
        codec.thread_type = "AUTO" if self._threads > 1 else "NONE"
        codec.options = {"max_pixels": str(MAX_PIXELS)}
        self._packets = self._container.demux(self._stream)
        self._pushed = None
        self._next = 0

    def _read(self) -> av.Packet[VideoStream] | None:
        """The next packet with bytes in it."""
        packet = self._pushed if self._pushed is not None else next((p for p in self._packets if p.size), None)
        self._pushed = None
        self._next += packet is not None
        return packet


def planned_frames(source: PacketSource, packets: Packets, plan: Plan, damage: Damage, report: Report) -> Iterator[VideoFrame]:
    """The frames that the plan's runs give, wanted and others, in the order of output.

    After a failure the decoder starts again at the next keyframe; ``damage`` records what that cost.
    """
    keys = np.flatnonzero(packets.is_key)
    skips = _may_skip(source)
    for first, last in plan.runs.tolist():
        started = first
        while started < last:
            position = started
            try:
                source.leap(packets, started)
                for position in range(started, last):
                    packet = source.packet(position)
                    if packet is None:
                        damage.add(started, position, len(packets), "the file ends earlier than when it was indexed")
                        last = position
                        break
                    if skips:
                        source.codec.skip_frame = "DEFAULT" if plan.is_wanted[position] else "NONREF"
                    report(position)
                    yield from packet.decode()
                source.codec.skip_frame = "DEFAULT"
                yield from source.codec.decode(None)
                started = last
            except av.FFmpegError as error:
                resumed = int(next((k for k in keys[np.searchsorted(keys, position, side="right") :]), len(packets)))
                damage.add(started, position, resumed, describe(error))
                started = resumed
            source.codec.flush_buffers()


def all_frames(source: PacketSource, damage: Damage, report: Report) -> Iterator[VideoFrame]:
    """Every frame of the stream in the order of output; after a failure from the next keyframe on. The same frames each time."""
    position, broken, reason = -1, None, ""
    packet: av.Packet[VideoStream] | None
    while True:
        position += 1
        try:
            packet = source.packet(position)
            if packet is not None and broken is not None and packet.is_keyframe:
                damage.add(broken, broken, position, reason)
                broken = None
            if packet is None:
                break
            if broken is None:
                report(position)
                yield from packet.decode()
        except av.FFmpegError as error:
            broken, reason = position if broken is None else broken, reason or describe(error)
            source.codec.flush_buffers()
    if broken is None:
        try:
            yield from source.codec.decode(None)
        except av.FFmpegError as error:
            broken, reason = position, describe(error)
    if broken is not None:
        damage.add(broken, broken, position, reason)


def tells_truth(source: PacketSource, packets: Packets, *, frames: int = 32) -> bool:
    """Whether the first frames come out of the decoder in the order and at the times that the packet table says."""
    shown = packets.pts[packets.shown]
    seen: list[int | None] = []
    try:
        for frame in all_frames(source, Damage(len(packets)), lambda position: None):
            seen.append(frame.pts)
            if len(seen) == frames:
                break
    except av.FFmpegError:
        return True  # damage is for decoding proper to report
    return bool(seen == shown[: len(seen)].tolist())


def makes_frames_of_two_packets(source: PacketSource) -> bool:
    """Whether fields may come in packets of their own, as in interlaced H.264."""
    return source.codec.name == "h264" and source.codec.field_order != _PROGRESSIVE


def _may_skip(source: PacketSource) -> bool:
    """Whether the decoder may drop unwanted pictures that no other refers to.

    H.264 marks them with nal_ref_idc 0. HEVC marks pictures that are no reference within their own temporal layer: that means the same
    only where there is one layer, which the configuration record tells (ISO/IEC 14496-15, 8.3.3.1: numTemporalLayers).
    """
    if source.codec.name == "h264":
        return not makes_frames_of_two_packets(source)
    record = source.codec.extradata or b""
    return source.codec.name == "hevc" and len(record) > 21 and record[0] == 1 and (record[21] >> 3) & 7 == 1
