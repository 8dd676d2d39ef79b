"""Cutting a stretch out of a video into a new file: encoded anew and exact to the frame, or copied packet by packet.

``cut_clip`` works in this process, which a hostile file may hang or end; ``cut_supervised`` does the same in a child under a deadline.
"""

from __future__ import annotations

import heapq
import io
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vlm.errors import DecoderCrashed, DecoderStalled, InputError, SpanError, UndecodableVideo, VideoError, VideoUnwritable
from vlm.types import Clock, Span, VideoInfo
from vlm.video import wire
from vlm.video.child import Child, Ended
from vlm.video.container import choose_stream, describe, open_container
from vlm.video.cut_tracks import PictureTrack, SoundTrack, sound_packets
from vlm.video.files import PathLike, display_name
from vlm.video.packets import read_packets
from vlm.video.plan import plan_runs
from vlm.video.reader import Damage, PacketSource, all_frames, makes_frames_of_two_packets, planned_frames, tells_truth
from vlm.video.streaminfo import describe_stream, stream_end
from vlm.video.timeline import NO_PTS, Packets, Timeline, clock_within, observed_timeline, packet_timeline

# How far the work has come: a phase, and a position that grows within it.
Report = Callable[[str, int], None]

# Source container, as FFmpeg names it, to the muxers that a copy may take, by suffix: the source's own first, then the others.
_MUXERS: dict[str, dict[str, str]] = {
    "mov,mp4,m4a,3gp,3g2,mj2": {".mp4": "mp4", ".mov": "mov", ".3gp": "3gp"},
    "matroska,webm": {".mkv": "matroska", ".webm": "webm"},
    "avi": {".avi": "avi"},
    "mpegts": {".ts": "mpegts"},
    "mpeg": {".mpg": "mpeg"},
    "flv": {".flv": "flv"},
    "ogg": {".ogv": "ogg"},
}
_SUFFIXES = frozenset(suffix for muxers in _MUXERS.values() for suffix in muxers)
_SECONDS_BETWEEN_REPORTS = 0.25


@dataclass(frozen=True, slots=True)
class Cut:
    """A clip that was cut: the stretch of the source that it shows, and how many frames; a ``reason`` where some are missing.

    Of a copy the frames are counted by their packets, of which interlaced video may have two for a frame.
    """

    path: Path
    span: Span
    num_frames: int
    reason: str = ""


def cut_clip(path: PathLike, span: Span, target: Path, *, exact: bool = True, report: Report = lambda phase, position: None) -> Cut:
    """Cuts ``span`` out of a video into a new file, in this process, and says what was really cut.

    ``target`` is the new file's name without its suffix. ``exact`` makes an .mp4 of H.264 and AAC that shows at each moment what the source
    shows then: its first frame is the one on screen at ``span.start``, or the first one after where there is none yet, and no frame starts
    at or after ``span.end``. Pictures are stored upright, of even size (an odd row or column is left out), without subtitles or metadata.
    Else packets are copied from the keyframe at or before ``span.start`` to the last one needed, into the source's kind of container, or
    Matroska where that cannot take them. Of a damaged file what can be decoded is cut; a copy decodes
    nothing, and leaves out torn packets alone.

    Raises:
        SpanError: no frame of the video is shown in ``span``. InputError: the new file exists.
        VideoError: the file cannot be used; VideoUnwritable: the new one cannot be written.
    """
    name = os.fsencode(path)
    partial = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        source = _survey(name, report)
        cut, suffix = _cut_exact(source, span, partial, report) if exact else _cut_copy(source, span, partial, report)
        final = target.with_name(target.name + suffix)
        _move_without_overwriting(partial, final)
    except av.FFmpegError as error:
        raise UndecodableVideo(f"{display_name(path)} cannot be cut: {describe(error)}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return replace(cut, path=final)


def cut_supervised(
    path: PathLike,
    span: Span,
    target: Path,
    *,
    exact: bool = True,
    deadline_seconds: float = 60.0,
    command: Sequence[str] = (sys.executable, "-P", "-m", "vlm.video.cut"),
) -> Cut:
    """As ``cut_clip``, in a child process that may go ``deadline_seconds`` without getting any further; ``command`` replaces it in tests.

    Raises:
        SpanError, InputError, VideoError: as ``cut_clip``, and DecoderStalled or DecoderCrashed.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix=".cutting-", dir=target.parent)
    except OSError as error:
        raise VideoUnwritable(
            f"{display_name(target)} cannot be written: {error.strerror or error}; see to space and permissions"
        ) from error
    with folder as place:
        request = {"path": b64encode(os.path.abspath(os.fsencode(path))).decode(), "target": b64encode(os.fsencode(place)).decode()}
        child = Child(command)
        try:
            answer = _answer_of(child, request | {"start": span.start, "end": span.end, "exact": exact}, path, deadline_seconds)
        finally:
            child.kill()
        suffix = answer["suffix"]
        if suffix not in _SUFFIXES:
            raise DecoderCrashed(f"{display_name(path)} crashed the decoder: it claims to have cut a {suffix!r}")
        final = target.with_name(target.name + suffix)
        _move_without_overwriting(Path(place) / f"clip{suffix}", final)
    return Cut(final, Span(float(answer["start"]), float(answer["end"])), int(answer["num_frames"]), str(answer["reason"]))


@dataclass(frozen=True, slots=True)
class _Source:
    """One file after its packets were read. ``order`` (n,) is the place of each frame in the decoder's output where packets do not tell."""

    path: bytes
    info: VideoInfo
    packets: Packets
    timeline: Timeline
    order: NDArray[np.int64] | None
    promised_pts: int | None
    pixel_aspect: Fraction | None
    broken: str

    def stretch(self, span: Span) -> tuple[range, int, int]:
        """The frames shown in ``span``, and the timestamps at which the first appears and the last goes."""
        timeline, clock = self.timeline, self.timeline.clock
        # Compared as floats, as all spans were made: the fraction behind a float may lie on its other side.
        times, end = clock.seconds(timeline.pts), float(clock.exact_seconds(timeline.end_pts))
        first = max(0, int(np.searchsorted(times, span.start, side="right")) - 1)
        last = int(np.searchsorted(times, span.end, side="left"))
        if span.start >= end or first >= last:
            raise SpanError(
                f"{display_name(self.path)} shows no picture from {span.start:g} to {span.end:g} s: "
                f"its pictures last from {times[0]:g} to {end:g} s; give a stretch inside them"
            )
        appears, goes = (round((Fraction(moment) + clock.zero) / clock.time_base) for moment in (span.start, span.end))
        edges = [*timeline.pts[first : last + 1].tolist(), timeline.end_pts][: last - first + 1]
        return range(first, last), max(edges[0], min(appears, edges[1] - 1)), min(edges[-1], max(goes, edges[-2] + 1))


class _TableRefuted(Exception):
    """The decoder did not give a frame that the packets promise, although nothing failed."""


def _survey(path: bytes, report: Report) -> _Source:
    with open_container(path) as container:
        info = describe_stream(container, choose_stream(container, path), path, digest="")
    with open_container(path) as container:
        stream = choose_stream(container, path)
        packets, broken = read_packets(container, stream, lambda position: report("index", position))
        promised, pixel_aspect = stream_end(stream), stream.sample_aspect_ratio
    if not len(packets):
        raise UndecodableVideo(f"{display_name(path)} has a picture stream without a single packet{broken and f': {broken}'}")
    info = replace(info, clock=clock_within(info.clock, packets))
    promised_pts = None if promised is None else Clock(info.clock.time_base).pts_at(promised)
    if _table_is_trusted(path, packets):
        timeline = packet_timeline(packets, info.clock, promised_pts)
        return _Source(path, info, packets, timeline, None, promised_pts, pixel_aspect, broken)
    timeline, order = _observe(path, info, packets, promised_pts, report)
    return _Source(path, info, packets, timeline, order, promised_pts, pixel_aspect, broken)


def _table_is_trusted(path: bytes, packets: Packets) -> bool:
    """Whether the packets say when each frame is shown, as ``vlm.video.decode`` judges it."""
    if not packets.tells_presentation():
        return False
    with PacketSource(path, threads=1) as source:
        return packets.is_reordered() or not source.codec.has_b_frames or tells_truth(source, packets)


def _observe(
    path: bytes, info: VideoInfo, packets: Packets, promised_pts: int | None, report: Report
) -> tuple[Timeline, NDArray[np.int64]]:
    """The timeline by what the decoder gives, and the place of each of its frames in the order of output."""
    damage = Damage(len(packets))
    seen = []
    with PacketSource(path, threads=1) as source:
        for frame in all_frames(source, damage, lambda position: report("observe", position)):
            pts, dts = (NO_PTS if moment is None else moment for moment in (frame.pts, frame.dts))
            seen.append((pts, dts, frame.key_frame))
    if not seen:
        raise UndecodableVideo(f"{display_name(path)} gives no frame: {damage.reason or 'its packets hold no picture'}")
    pts_column, dts_column, keys = (np.asarray(column) for column in zip(*seen, strict=True))
    given = np.concatenate([column[column != NO_PTS][:1] for column in (packets.dts, packets.pts)])
    start = max(int(given[0]), info.clock.pts_at(Fraction(0))) if len(given) else 0
    step = max(1, round(1 / ((info.frame_rate or 25) * info.clock.time_base)))
    return observed_timeline(pts_column, dts_column, keys, info.clock, start_pts=start, step=step, promised_pts=promised_pts)


def _cut_exact(source: _Source, span: Span, partial: Path, report: Report) -> tuple[Cut, str]:
    try:
        return _encode(source, span, partial, report), ".mp4"
    except _TableRefuted:
        timeline, order = _observe(source.path, source.info, source.packets, source.promised_pts, report)
        return _encode(replace(source, timeline=timeline, order=order), span, partial, report), ".mp4"


def _encode(source: _Source, span: Span, partial: Path, report: Report) -> Cut:
    wanted, appears, goes = source.stretch(span)
    clock = source.timeline.clock
    damage = Damage(len(source.packets))
    count, reasons = 0, []
    with _writing(partial, "mp4", {"movflags": "+faststart"}, report) as container, ExitStack() as stack:
        tick = clock.time_base
        rate = source.info.frame_rate or len(wanted) / ((goes - appears) * tick)
        pictures = PictureTrack(container, tick=tick, rate=rate, pixel_aspect=source.pixel_aspect)
        sound = SoundTrack.open(container, source.path, appears * tick, goes * tick, stack)
        shown: tuple[int, VideoFrame] | None = None
        for index, frame in _frames(source, wanted, damage, report):
            # A frame lasts until the next one that can be decoded.
            begins = max(0, int(source.timeline.pts[index]) - appears) if count else 0
            if shown is not None:
                pictures.add(shown[1], shown[0], begins)
            shown, count = (begins, frame), count + 1
            if sound is not None:
                sound.advance(begins * tick)
        if shown is None:
            raise UndecodableVideo(f"{display_name(source.path)} gives no frame from {span.start:g} to {span.end:g} s: {damage.reason}")
        pictures.add(shown[1], shown[0], goes - appears)
        pictures.finish()
        if sound is not None:
            sound.finish()
            reasons.append(sound.reason)
    reason = "; ".join(text for text in (damage.reason, source.broken, *reasons) if text)
    return Cut(partial, _seconds(clock, appears, goes), count, reason)


def _seconds(clock: Clock, start_pts: int, end_pts: int) -> Span:
    return Span(max(0.0, float(clock.exact_seconds(start_pts))), float(clock.exact_seconds(end_pts)))


def _frames(source: _Source, wanted: range, damage: Damage, report: Report) -> Iterator[tuple[int, VideoFrame]]:
    """The wanted frames in order of time, each with its place in the timeline.

    Raises:
        _TableRefuted: after the last one, where one that the packets promise is missing although nothing failed.
    """
    packets = source.packets
    with PacketSource(source.path, threads=1) as reader:
        if source.order is not None:
            index_at = {int(source.order[index]): index for index in wanted}
            for place, frame in enumerate(all_frames(reader, damage, lambda position: report("cut observed", position))):
                if place in index_at:
                    yield index_at.pop(place), frame
                if not index_at:
                    return
            return
        positions = packets.shown
        plan = plan_runs(packets, positions[wanted.start : wanted.stop], whole_groups=makes_frames_of_two_packets(reader), short_end=0)
        index_at = {int(source.timeline.pts[index]): index for index in wanted}
        latest = -1
        for frame in planned_frames(reader, packets, plan, damage, lambda position: report("cut", position)):
            index = index_at.pop(frame.pts, -1) if frame.pts is not None else -1
            if index > latest:
                latest = index
                yield index, frame
    if any(not damage.is_lost[positions[index]] for index in index_at.values()):
        raise _TableRefuted


def _cut_copy(source: _Source, span: Span, partial: Path, report: Report) -> tuple[Cut, str]:
    """Copies packets into the first container that takes them; the cut, and the suffix of that container."""
    if source.order is not None:
        raise UndecodableVideo(
            f"{display_name(source.path)} does not tell when its pictures are shown: cut it exactly instead (--cut exact)"
        )
    muxers = _MUXERS.get(source.info.container, {})
    own = os.path.splitext(os.fsdecode(source.path))[1].lower()
    suffixes = sorted(muxers, key=lambda suffix: suffix != own)
    refused = ""
    for suffix, muxer in [*((suffix, muxers[suffix]) for suffix in suffixes), (".mkv", "matroska")]:
        try:
            cut = _copy(source, span, partial, muxer, report)
        except (av.FFmpegError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            refused = describe(error) if isinstance(error, av.FFmpegError) else str(error)
        else:
            lost = "" if _pixel_aspect(partial) == (source.pixel_aspect or 1) else f"a copy in {suffix} loses the shape of its pixels"
            return replace(cut, reason="; ".join(text for text in (cut.reason, lost) if text)), suffix
    raise UndecodableVideo(f"{display_name(source.path)} cannot be copied ({refused}): cut it exactly instead (--cut exact)")


def _pixel_aspect(path: Path) -> Fraction | int:
    with open_container(path) as container:
        return choose_stream(container, path).sample_aspect_ratio or 1


def _copy(source: _Source, span: Span, partial: Path, muxer: str, report: Report) -> Cut:
    packets, timeline = source.packets, source.timeline
    wanted, _, _ = source.stretch(span)
    kept = _copied(packets, packets.shown[wanted.start : wanted.stop])
    start, latest = int(packets.pts[kept].min()), int(packets.pts[kept].max())
    end = int(next(iter(timeline.pts[timeline.pts > latest]), timeline.end_pts))
    begin, until = (moment * timeline.clock.time_base for moment in (start, end))
    options = {"movflags": "+faststart"} if muxer in ("mp4", "mov") else {}
    with _writing(partial, muxer, options, report) as container, ExitStack() as stack:
        reader = stack.enter_context(PacketSource(source.path, threads=1))
        pictures = container.add_stream_from_template(reader.stream, opaque=True)
        if source.pixel_aspect:  # what the container says goes before what the codec says
            pictures.codec_context.sample_aspect_ratio = source.pixel_aspect
        found = sound_packets(source.path, begin, stack)
        damaged: list[int] = []
        runs = [_shifted(_picked(reader, packets, kept, damaged, report), pictures, begin, late=_lateness(packets, kept))]
        if found is not None:
            sound = container.add_stream_from_template(found[0], opaque=True)
            runs.append(_shifted(_within(found[1], begin, until), sound, begin))
        for packet in heapq.merge(*runs, key=_decoding_time):
            container.mux(packet)
    torn = f"{len(damaged)} of its packets are damaged and left out" if damaged else ""
    count = int((~packets.is_hidden[np.setdiff1d(kept, damaged)]).sum())
    return Cut(partial, _seconds(timeline.clock, start, end), count, "; ".join(text for text in (torn, source.broken) if text))


def _copied(packets: Packets, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions that give the wanted packets' frames, and every frame that is shown between these."""
    runs = plan_runs(packets, wanted, short_end=0).runs
    first, last = int(runs[0][0]), int(runs[-1][1])
    # Pictures that follow the keyframe but are shown before it refer to what is left behind, unless the file begins with it.
    earliest = packets.pts[first] if packets.pts[first] <= packets.pts[wanted].min() else packets.pts[first:last].min()
    while True:
        between = np.flatnonzero((packets.pts >= earliest) & (packets.pts <= packets.pts[first:last].max()))
        if between[-1] < last:
            return between[between >= first]
        last = int(between[-1]) + 1


def _lateness(packets: Packets, kept: NDArray[np.int64]) -> int:
    """How far decoding times lie behind presentation times at most: edit lists of some cameras break the order that muxers ask for."""
    known = kept[packets.dts[kept] != NO_PTS]
    return max(0, int((packets.dts[known] - packets.pts[known]).max())) if len(known) else 0


def _picked(
    reader: PacketSource, packets: Packets, positions: NDArray[np.int64], damaged: list[int], report: Report
) -> Iterator[av.Packet[Any]]:
    """The packets at the positions, but those that the file does not hold whole; their positions go to ``damaged``."""
    reader.leap(packets, int(positions[0]))
    for position in positions.tolist():
        report("cut", position)
        packet = reader.packet(position)
        if packet is None or packet.is_corrupt:
            damaged.append(position)
        else:
            yield packet


def _within(packets: Iterator[av.Packet[Any]], begin: Fraction, until: Fraction) -> Iterator[av.Packet[Any]]:
    """The packets that sound during ``[begin, until)``."""
    for packet in packets:
        if packet.pts is None:
            continue
        if packet.pts * packet.time_base >= until:
            return
        if (packet.pts + (packet.duration or 1)) * packet.time_base > begin:
            yield packet


def _shifted(packets: Iterator[av.Packet[Any]], stream: Any, begin: Fraction, *, late: int = 0) -> Iterator[av.Packet[Any]]:
    """The packets for a stream of the new file, whose time begins at ``begin``; they are decoded ``late`` ticks earlier."""
    for packet in packets:
        zero = round(begin / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - zero
        packet.dts = None if packet.dts is None else packet.dts - zero - late
        packet.stream = stream
        yield packet


def _decoding_time(packet: av.Packet[Any]) -> Fraction:
    moment = packet.pts if packet.dts is None else packet.dts
    return (moment or 0) * packet.time_base


class _Watched(io.BufferedWriter):
    """A new file that reports what is written, so that slow disks and long flushes are seen to go on."""

    name = "clip"  # FFmpeg reads names as UTF-8, which the real one need not be

    def __init__(self, path: Path, report: Report) -> None:
        super().__init__(io.FileIO(path, "wb"))
        self._report = report
        self._num_bytes = 0

    def write(self, data: Any, /) -> int:
        """Writes bytes."""
        self._num_bytes += len(data)
        self._report("write", self._num_bytes)
        return super().write(data)


@contextmanager
def _writing(partial: Path, muxer: str, options: dict[str, str], report: Report) -> Iterator[OutputContainer]:
    """A container that is written through an open file: any name will do, and an error of the disk arrives as such."""
    try:
        with (
            _Watched(partial, report) as file,
            # To move the index to the front of the file the muxer opens it once more, for reading.
            av.open(file, "w", format=muxer, container_options=options, io_open=lambda *_: open(partial, "rb")) as container,
        ):
            yield container
    except (av.FFmpegError, OSError) as error:
        # After an error of the disk FFmpeg fails once more when it is closed, and says less.
        first = error.__context__ if isinstance(error.__context__, OSError) else error
        if isinstance(first, OSError) and not isinstance(first, av.FFmpegError):
            raise VideoUnwritable(
                f"{display_name(partial.parent)} takes no clip: {first.strerror or first}; see to space and permissions there and cut again"
            ) from error
        raise


def _move_without_overwriting(partial: Path, path: Path) -> None:
    try:
        os.link(partial, path)  # unlike a rename, it never takes the place of a file that has come meanwhile
    except FileExistsError:
        raise InputError(f"{display_name(path)} exists and is not overwritten; choose another name") from None
    except OSError:  # a file system without links
        if os.path.lexists(path):
            raise InputError(f"{display_name(path)} exists and is not overwritten; choose another name") from None
        os.rename(partial, path)


def _answer_of(child: Child, request: wire.Header, path: PathLike, deadline_seconds: float) -> wire.Header:
    """What the child says at last. Raises what it raised, DecoderStalled or DecoderCrashed."""
    furthest: dict[str, int] = {}
    left, began = deadline_seconds, time.monotonic()
    try:
        child.send(request)
        while left > 0:
            message = child.receive(left)
            header: wire.Header = {"kind": ""} if message is None else message[0]
            if header["kind"] == "error":
                raise SpanError(header["message"]) if header["error"] == "SpanError" else wire.unpack_error(header)
            if header["kind"] == "cut":
                return header
            now = time.monotonic()
            if header["kind"] == "reached" and furthest.get(header["phase"], -1) < header["position"]:
                furthest[header["phase"]] = header["position"]
                began = now
            left = deadline_seconds - (now - began)
    except Ended:
        raise DecoderCrashed(f"{display_name(path)} crashed the decoder: {child.kill()}") from None
    raise DecoderStalled(f"{display_name(path)} kept the decoder for {deadline_seconds:g} s without getting any further")


def main() -> None:
    """The child: answers one request on its standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever native code prints must not fall between the messages
    av.logging.set_level(None)
    message = wire.receive(sys.stdin.buffer)
    if message is None:
        return
    threading.Thread(target=_end_with_parent, args=(sys.stdin.buffer,), daemon=True).start()
    request: wire.Header = message[0]
    next_report = 0.0

    def report(phase: str, position: int) -> None:
        nonlocal next_report
        if time.monotonic() >= next_report:
            next_report = time.monotonic() + _SECONDS_BETWEEN_REPORTS
            wire.send(out, {"kind": "reached", "phase": phase, "position": position})

    try:
        span, target = Span(request["start"], request["end"]), Path(os.fsdecode(b64decode(request["target"]))) / "clip"
        cut = cut_clip(b64decode(request["path"]), span, target, exact=request["exact"], report=report)
    except (VideoError, SpanError) as error:
        wire.send(out, {"kind": "error", "error": type(error).__name__, "message": str(error)})
        return
    told = {"suffix": cut.path.suffix, "start": cut.span.start, "end": cut.span.end, "num_frames": cut.num_frames, "reason": cut.reason}
    wire.send(out, {"kind": "cut"} | told)


def _end_with_parent(stdin: IO[bytes]) -> None:
    while stdin.read(1):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
