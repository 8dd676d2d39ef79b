"""Frames of one file at the sampled times, in this process: index, select, plan, decode, scale."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

import av
import numpy as np
from av import VideoFrame
from numpy.typing import NDArray

from vlm.errors import UndecodableVideo
from vlm.types import Clock, DecodeOutcome, Frames, Framing, VideoInfo
from vlm.video import reader
from vlm.video.container import choose_stream, open_container
from vlm.video.coverage import Extent, ends_before, missing_tail, outcome
from vlm.video.files import PathLike, display_name
from vlm.video.packets import last_moment, read_packets
from vlm.video.plan import plan_runs
from vlm.video.probe import content_digest
from vlm.video.reader import Damage, PacketSource
from vlm.video.request import DecodeRequest
from vlm.video.rows import RowAssembler
from vlm.video.sample import Sampling
from vlm.video.scale import Scaler
from vlm.video.streaminfo import container_end, describe_stream, stream_end
from vlm.video.timeline import NO_PTS, Packets, Timeline, clock_within, observed_timeline, packet_timeline


class Listener(Protocol):
    """Who wants to hear how decoding goes on."""

    def reached(self, phase: str, position: int) -> None:
        """The work is at ``position`` of ``phase``; within a phase it grows as long as the file goes on."""

    def expects(self, start_seconds: float, end_seconds: float) -> None:
        """The frames of this file lie between these times."""


class _NoListener:
    def reached(self, phase: str, position: int) -> None: ...

    def expects(self, start_seconds: float, end_seconds: float) -> None: ...


class _TableRefuted(Exception):
    """The decoder gave other frames than the packet table promises."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """One file after the index pass."""

    request: DecodeRequest
    info: VideoInfo
    packets: Packets
    broken: str
    extent: Extent
    pixel_aspect: Fraction | None
    threads: int
    listener: Listener

    @property
    def promised_pts(self) -> int | None:
        if self.extent.stream_end is None:
            return None
        return Clock(self.info.clock.time_base).pts_at(self.extent.stream_end)


def decode(
    path: PathLike,
    sampling: Sampling,
    framing: Framing,
    *,
    digest: str | None = None,
    after_pts: int | None = None,
    thumbnail_seconds: float = 0.0,
    batch_rows: int = 32,
    threads: int = 1,
) -> Iterator[VideoInfo | Frames | DecodeOutcome]:
    """VideoInfo, then Frames in the order of time, then DecodeOutcome, in this process; SupervisedDecoder does the same in a child.

    Raises:
        VideoError: the file yields no usable frame; the subclass says why.
    """
    request = DecodeRequest(
        path=os.fsencode(path),
        digest=content_digest(path) if digest is None else digest,
        sampling=sampling,
        framing=framing,
        after_pts=after_pts,
        thumbnail_seconds=thumbnail_seconds,
        batch_rows=batch_rows,
    )
    return decode_request(request, threads=threads)


def decode_request(
    request: DecodeRequest, *, threads: int = 1, listener: Listener | None = None
) -> Iterator[VideoInfo | Frames | DecodeOutcome]:
    """As ``decode``, for one request; ``listener`` hears how the work goes on."""
    opened = _open(request, threads, listener or _NoListener())
    yield opened.info
    last_pts = request.after_pts
    for item in _decode_opened(opened):
        if isinstance(item, Frames):
            last_pts = int(item.pts[-1].flat[0])
        elif last_pts is None:
            raise UndecodableVideo(f"{display_name(request.path)} gives no usable frame: {item.reason}")
        yield item


def _decode_opened(opened: _Opened) -> Iterator[Frames | DecodeOutcome]:
    after_pts = opened.request.after_pts
    if _table_is_trusted(opened):
        try:
            for item in _decode_planned(opened):
                yield item
                if isinstance(item, Frames):
                    after_pts = int(item.pts[-1].flat[0])
            return
        except _TableRefuted:
            pass  # what was given out stays; the rest follows the frames themselves
    yield from _decode_observed(opened, after_pts)


def _open(request: DecodeRequest, threads: int, listener: Listener) -> _Opened:
    with open_container(request.path) as container:
        stream = choose_stream(container, request.path)
        info = describe_stream(container, stream, request.path, digest=request.digest)
    with open_container(request.path) as container:
        stream = choose_stream(container, request.path)
        packets, broken = read_packets(container, stream, lambda position: listener.reached("index", position))
        extent = Extent(stream_end(stream), container_end(container), stream.frames)
        pixel_aspect = stream.sample_aspect_ratio
    if not len(packets):
        raise UndecodableVideo(f"{display_name(request.path)} has a picture stream without a single packet{broken and f': {broken}'}")
    clock = clock_within(info.clock, packets)
    promised = info.promised_seconds
    shifted = None if promised is None else promised + float(info.clock.zero - clock.zero)
    info = replace(info, clock=clock, promised_seconds=shifted)
    return _Opened(request, info, packets, broken, extent, pixel_aspect, threads, listener)


def _table_is_trusted(opened: _Opened) -> bool:
    """Whether the timeline may be taken from the packets; else it is taken from decoded frames.

    A container that only knows decoding order (AVI) gives timestamps that look right and are not: where the decoder reorders and the
    timestamps do not, the first frames are decoded to see.
    """
    if not opened.packets.tells_presentation():
        return False
    with PacketSource(opened.request.path, threads=opened.threads) as source:
        return opened.packets.is_reordered() or not source.codec.has_b_frames or reader.tells_truth(source, opened.packets)


def _decode_planned(opened: _Opened) -> Iterator[Frames | DecodeOutcome]:
    """Rows by the packet table: only the groups of pictures that hold a wanted frame are decoded.

    Raises:
        _TableRefuted: a promised frame did not come although nothing failed, or frames came in another order.
    """
    request, packets = opened.request, opened.packets
    timeline = packet_timeline(packets, opened.info.clock, opened.promised_pts)
    assembler = _assembler(opened, timeline, request.after_pts)
    positions = packets.shown
    wanted = assembler.wanted.tolist()
    index_at = {int(timeline.pts[i]): i for i in wanted}
    damage = Damage(len(packets))
    scaler = Scaler(request.framing, pixel_aspect=opened.pixel_aspect, threads=opened.threads)
    with PacketSource(request.path, threads=opened.threads) as source:
        plan = plan_runs(packets, positions[assembler.wanted], whole_groups=reader.makes_frames_of_two_packets(source))
        expected = iter(wanted)
        for frame in reader.planned_frames(source, packets, plan, damage, lambda position: opened.listener.reached("decode", position)):
            index = index_at.pop(frame.pts, None) if frame.pts is not None else None
            if index is None:
                continue
            _expect(expected, index, positions, damage)
            yield from _add(assembler, index, frame, scaler, request)
        _expect(expected, None, positions, damage)
    yield from assembler.finish()
    yield _finish(opened, timeline, damage)


def _expect(expected: Iterator[int], index: int | None, positions: NDArray[np.int64], damage: Damage) -> None:
    """Moves on to the wanted frame ``index``, or to the end; frames in between must be known as lost."""
    for passed in expected:
        if passed == index:
            return
        if not damage.is_lost[positions[passed]]:
            raise _TableRefuted
    if index is not None:
        raise _TableRefuted  # it came after a later one


def _decode_observed(opened: _Opened, after_pts: int | None) -> Iterator[Frames | DecodeOutcome]:
    """Rows by what the decoder gives: one pass for the times of all frames, a second one for the pixels."""
    request, packets = opened.request, opened.packets
    damage = Damage(len(packets))
    seen: list[tuple[int, int, bool]] = []
    with PacketSource(request.path, threads=opened.threads) as source:
        for frame in reader.all_frames(source, damage, lambda position: opened.listener.reached("observe", position)):
            pts, dts = (NO_PTS if t is None else t for t in (frame.pts, frame.dts))
            seen.append((pts, dts, frame.key_frame))
    if not seen:
        raise UndecodableVideo(f"{display_name(request.path)} gives no frame: {damage.reason or 'its packets hold no picture'}")
    all_pts, all_dts, keys = (np.asarray(column) for column in zip(*seen, strict=True))
    timeline, order = observed_timeline(
        all_pts,
        all_dts,
        keys,
        opened.info.clock,
        start_pts=_first_time(packets, opened.info.clock),
        step=_rate_step(opened),
        promised_pts=opened.promised_pts,
    )
    assembler = _assembler(opened, timeline, after_pts)
    index_at = {int(order[i]): i for i in assembler.wanted.tolist()}
    scaler = Scaler(request.framing, pixel_aspect=opened.pixel_aspect, threads=opened.threads)
    with PacketSource(request.path, threads=opened.threads) as source:
        again = reader.all_frames(source, Damage(len(packets)), lambda position: opened.listener.reached("decode observed", position))
        for place, frame in enumerate(again):
            if place in index_at:
                yield from _add(assembler, index_at.pop(place), frame, scaler, request)
            if not index_at:
                break
    yield from assembler.finish()
    yield _finish(opened, timeline, damage)


def _assembler(opened: _Opened, timeline: Timeline, after_pts: int | None) -> RowAssembler:
    request = opened.request
    start, end = timeline.clock.seconds(np.asarray([timeline.pts[0], timeline.end_pts])).tolist()
    opened.listener.expects(start, end)
    return RowAssembler(
        timeline,
        request.sampling.select(timeline),
        thumbnail_seconds=request.thumbnail_seconds,
        after_pts=after_pts,
        batch_rows=request.batch_rows,
    )


def _add(assembler: RowAssembler, index: int, frame: VideoFrame, scaler: Scaler, request: DecodeRequest) -> Iterator[Frames]:
    try:
        return assembler.add(index, scaler.pixels(frame), lambda: scaler.thumbnail(frame))
    except av.FFmpegError as error:
        raise UndecodableVideo(
            f"{display_name(request.path)} has frames of {frame.width} x {frame.height} {frame.format.name} that cannot be scaled"
        ) from error


def _first_time(packets: Packets, clock: Clock) -> int:
    """The first timestamp of any kind that the container gives, but not before the clock's zero; 0 where it gives none."""
    given = np.concatenate([column[column != NO_PTS][:1] for column in (packets.dts, packets.pts)])
    return max(int(given[0]), clock.pts_at(Fraction(0))) if len(given) else 0


def _rate_step(opened: _Opened) -> int:
    """Ticks of one frame at the rate that the container names; at 25 frames a second where it names none."""
    return max(1, round(1 / ((opened.info.frame_rate or 25) * opened.info.clock.time_base)))


def _finish(opened: _Opened, timeline: Timeline, damage: Damage) -> DecodeOutcome:
    """The outcome, from what failed and from what the container promised beyond the last packet."""
    tail = _absent_tail(opened, timeline)
    ends_early = f"the file ends {float(tail):.3g} s before its container says" if tail else ""
    reason = "; ".join(r for r in (damage.reason, opened.broken, ends_early) if r)
    return outcome(timeline, _lost_times(opened.packets, damage.stretches, timeline), tail, reason)


def _absent_tail(opened: _Opened, timeline: Timeline) -> Fraction:
    extent = opened.extent
    if extent.num_frames and len(opened.packets) >= extent.num_frames:
        return Fraction(0)  # the container's own count is met, whatever its durations say
    if extent.stream_end is not None:
        return missing_tail(timeline, extent.stream_end)
    tail = missing_tail(timeline, extent.container_end)
    if tail and extent.container_end is not None:
        # The pictures may end before the sound: that is no damage. Only then is the rest of the file read.
        with open_container(opened.request.path) as container:
            reached = last_moment(container, lambda position: opened.listener.reached("other streams", position))
        if not ends_before(reached, extent.container_end):
            return Fraction(0)
    return tail


def _lost_times(packets: Packets, stretches: list[tuple[int, int]], timeline: Timeline) -> list[tuple[int, int]]:
    """Damaged packet positions ``[broken, resumed)`` as timestamps, each counted once."""
    first, end = int(timeline.pts[0]), timeline.end_pts
    lost: list[tuple[int, int]] = []
    for broken, resumed in stretches:
        begin, until = (_time_of(packets, position, timeline) for position in (broken, resumed))
        begin = max(begin, lost[-1][1] if lost else first)
        if begin < min(until, end):
            lost.append((begin, min(until, end)))
    return lost


def _time_of(packets: Packets, position: int, timeline: Timeline) -> int:
    """The timestamp of a packet; by its share of the packets where it has none."""
    if position >= len(packets):
        return timeline.end_pts
    if packets.pts[position] != NO_PTS:
        return int(packets.pts[position])
    return int(timeline.pts[0]) + (timeline.end_pts - int(timeline.pts[0])) * position // len(packets)
