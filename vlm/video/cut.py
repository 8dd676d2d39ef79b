"""Cutting a stretch out of a video into a new file: encoded anew and exact to the frame, or copied packet by packet.

``cut_clip`` works in this process, which a hostile file may hang or end; ``cut_supervised`` does the same in a child under a deadline.
"""

from __future__ import annotations

import heapq
import io
import os
import secrets
import sys
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vlm.errors import DecoderCrashed, InputError, UndecodableVideo, VideoUnwritable
from vlm.types import Clock, Span
from vlm.video import wire
from vlm.video.container import choose_stream, describe, open_container
from vlm.video.cut_tracks import PictureTrack, SoundTrack, sound_packets
from vlm.video.errand import Report, ask, serve
from vlm.video.files import PathLike, display_name
from vlm.video.plan import plan_runs
from vlm.video.reader import Damage, PacketSource, all_frames, makes_frames_of_two_packets, planned_frames
from vlm.video.survey import Source, observed, survey
from vlm.video.timeline import NO_PTS, Packets

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
        source = survey(name, report)
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
        request: wire.Header = {
            "path": b64encode(os.path.abspath(os.fsencode(path))).decode(),
            "target": b64encode(os.fsencode(place)).decode(),
            "start": span.start,
            "end": span.end,
            "exact": exact,
        }
        answer, _ = ask(command, request, path, answer="cut", deadline_seconds=deadline_seconds)
        suffix = answer["suffix"]
        if suffix not in _SUFFIXES:
            raise DecoderCrashed(f"{display_name(path)} crashed the decoder: it claims to have cut a {suffix!r}")
        final = target.with_name(target.name + suffix)
        _move_without_overwriting(Path(place) / f"clip{suffix}", final)
    return Cut(final, Span(float(answer["start"]), float(answer["end"])), int(answer["num_frames"]), str(answer["reason"]))


class _TableRefuted(Exception):
    """The decoder did not give a frame that the packets promise, although nothing failed."""


def _cut_exact(source: Source, span: Span, partial: Path, report: Report) -> tuple[Cut, str]:
    try:
        return _encode(source, span, partial, report), ".mp4"
    except _TableRefuted:
        timeline, order = observed(source.path, source.info, source.packets, source.promised_pts, report)
        return _encode(replace(source, timeline=timeline, order=order), span, partial, report), ".mp4"


def _encode(source: Source, span: Span, partial: Path, report: Report) -> Cut:
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


def _frames(source: Source, wanted: range, damage: Damage, report: Report) -> Iterator[tuple[int, VideoFrame]]:
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


def _cut_copy(source: Source, span: Span, partial: Path, report: Report) -> tuple[Cut, str]:
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


def _copy(source: Source, span: Span, partial: Path, muxer: str, report: Report) -> Cut:
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


def _cut(request: wire.Header, report: Report) -> tuple[wire.Header, tuple[()]]:
    span, target = Span(request["start"], request["end"]), Path(os.fsdecode(b64decode(request["target"]))) / "clip"
    cut = cut_clip(b64decode(request["path"]), span, target, exact=request["exact"], report=report)
    told = {"suffix": cut.path.suffix, "start": cut.span.start, "end": cut.span.end, "num_frames": cut.num_frames, "reason": cut.reason}
    return {"kind": "cut"} | told, ()


if __name__ == "__main__":
    serve(_cut)
