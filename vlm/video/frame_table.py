"""Which frames a file has and when each is shown, for tools that count frames: the timeline, its rate, and the timecode of its first frame.

``read_frame_table`` works in this process, which a hostile file may hang or end; ``frame_table`` does the same in a child under a deadline.
"""

from __future__ import annotations

import os
import sys
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from vlm.timecode import USUAL_RATES, usual_rate
from vlm.types import Clock
from vlm.video import wire
from vlm.video.container import choose_stream, open_container
from vlm.video.errand import Report, ask, serve
from vlm.video.files import PathLike
from vlm.video.survey import survey
from vlm.video.timeline import Timeline


@dataclass(frozen=True, slots=True)
class FrameTable:
    """The frames of a file.

    Attributes:
        rate: frames a second; of a variable rate the usual one nearest to its average.
        is_variable: no constant rate explains when the frames are shown, to one tick of the file's clock.
        start_timecode: of the first frame, as the camera or the editor noted it in the file; empty where it holds none.
    """

    timeline: Timeline
    rate: Fraction
    is_variable: bool
    start_timecode: str = ""


def read_frame_table(path: PathLike, *, report: Report = lambda phase, position: None) -> FrameTable:
    """The frames of a file. Its packets are read, not its pictures, unless packets do not tell when pictures are shown.

    Raises:
        VideoError: the file cannot be used.
    """
    source = survey(os.fsencode(path), report)
    with open_container(path) as container:
        stream = choose_stream(container, path)
        # MOV and MP4 hold it in a track of its own, MXF and Matroska beside the picture or for the whole file.
        tagged = [stream.metadata, *(other.metadata for other in container.streams), container.metadata]
    started = next((tags["timecode"] for tags in tagged if tags.get("timecode")), "")
    rate = constant_rate(source.timeline, source.info.frame_rate)
    return FrameTable(source.timeline, rate or usual_rate(average_rate(source.timeline)), rate is None, started)


def frame_table(
    path: PathLike, *, deadline_seconds: float = 60.0, command: Sequence[str] = (sys.executable, "-P", "-m", "vlm.video.frame_table")
) -> FrameTable:
    """As ``read_frame_table``, in a child process that may go ``deadline_seconds`` without getting any further.

    Raises:
        VideoError: the file cannot be used; DecoderStalled and DecoderCrashed among them.
    """
    request = {"path": b64encode(os.path.abspath(os.fsencode(path))).decode()}
    header, blobs = ask(command, request, path, answer="frames", deadline_seconds=deadline_seconds)
    pts, is_key = np.frombuffer(blobs[0], np.int64), np.frombuffer(blobs[1], np.bool_)
    time_base, zero = (Fraction(text) for text in header["clock"])
    timeline = Timeline(pts, is_key, Clock(time_base, zero), int(header["end_pts"]))
    return FrameTable(timeline, Fraction(header["rate"]), bool(header["is_variable"]), str(header["start_timecode"]))


def average_rate(timeline: Timeline) -> Fraction:
    """Frames a second over the whole timeline, exact."""
    return len(timeline) / ((timeline.end_pts - int(timeline.pts[0])) * timeline.clock.time_base)


def constant_rate(timeline: Timeline, promised: Fraction | None) -> Fraction | None:
    """The rate at which frames follow each other, to one tick of the clock; None where there is none.

    Usual rates are tried first, of the two nearest to the average the ``promised`` one before the other: a few frames on a coarse clock fit
    both. Then any promised one, and that of the first step.
    """
    tick, first = timeline.clock.time_base, int(timeline.pts[0])
    average = average_rate(timeline)
    candidates = sorted(USUAL_RATES, key=lambda usual: (abs(usual - average), usual))[:2]
    candidates.sort(key=lambda usual: usual != promised)
    candidates += [] if promised is None else [promised]
    if len(timeline) > 1:
        candidates.append(1 / ((int(timeline.pts[1]) - first) * tick))
    steps = (timeline.pts - first).tolist()
    for rate in candidates:
        ticks = 1 / (rate * tick)  # of one frame; a container rounds each time to its clock, and the first one too
        over, under = ticks.numerator, ticks.denominator
        # Less than half a frame besides: on a clock as coarse as the rate itself, one tick more is a frame that is missing.
        if all((off := abs(step * under - index * over)) <= under and 2 * off < over for index, step in enumerate(steps)):
            return rate
    return None


def _told(request: wire.Header, report: Report) -> tuple[wire.Header, list[bytes]]:
    table = read_frame_table(b64decode(request["path"]), report=report)
    timeline = table.timeline
    header = {
        "kind": "frames",
        "clock": [str(timeline.clock.time_base), str(timeline.clock.zero)],
        "end_pts": timeline.end_pts,
        "rate": str(table.rate),
        "is_variable": table.is_variable,
        "start_timecode": table.start_timecode,
    }
    return header, [timeline.pts.astype(np.int64).tobytes(), timeline.is_key.astype(np.bool_).tobytes()]


if __name__ == "__main__":
    serve(_told)
