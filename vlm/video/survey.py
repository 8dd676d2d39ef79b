"""What a file's packets say of its pictures, and, where they cannot be trusted, what the decoder does: every frame with its time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from vlm.errors import SpanError, UndecodableVideo
from vlm.types import Clock, Span, VideoInfo
from vlm.video.container import choose_stream, open_container
from vlm.video.errand import Report
from vlm.video.files import display_name
from vlm.video.packets import read_packets
from vlm.video.reader import Damage, PacketSource, all_frames, tells_truth
from vlm.video.streaminfo import describe_stream, stream_end
from vlm.video.timeline import NO_PTS, Packets, Timeline, clock_within, observed_timeline, packet_timeline


@dataclass(frozen=True, slots=True)
class Source:
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
        wanted = timeline.shown_during(span)
        if not wanted:
            begin, end = (float(clock.exact_seconds(pts)) for pts in (int(timeline.pts[0]), timeline.end_pts))
            raise SpanError(
                f"{display_name(self.path)} shows no picture from {span.start:g} to {span.end:g} s: "
                f"its pictures last from {begin:g} to {end:g} s; give a stretch inside them"
            )
        appears, goes = (round((Fraction(moment) + clock.zero) / clock.time_base) for moment in (span.start, span.end))
        edges = [*timeline.pts[wanted.start : wanted.stop + 1].tolist(), timeline.end_pts][: len(wanted) + 1]
        return wanted, max(edges[0], min(appears, edges[1] - 1)), min(edges[-1], max(goes, edges[-2] + 1))


def survey(path: bytes, report: Report) -> Source:
    """The frames of a file and their packets. Decodes it all where its packets do not tell when frames are shown.

    Raises:
        VideoError: the file cannot be used.
    """
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
        return Source(path, info, packets, timeline, None, promised_pts, pixel_aspect, broken)
    timeline, order = observed(path, info, packets, promised_pts, report)
    return Source(path, info, packets, timeline, order, promised_pts, pixel_aspect, broken)


def _table_is_trusted(path: bytes, packets: Packets) -> bool:
    """Whether the packets say when each frame is shown, as ``vlm.video.decode`` judges it."""
    if not packets.tells_presentation():
        return False
    with PacketSource(path, threads=1) as source:
        return packets.is_reordered() or not source.codec.has_b_frames or tells_truth(source, packets)


def observed(
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
