"""The values that pass between modules: frozen, and validated at birth.

Seconds are floats from the start of the video as a player shows it; intervals are half-open ``[start, end)``.
Shapes use the letters of docs/glossary.md: n rows, t time, h height, w width, d width of a vector.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError, SpanError

Interpolation = Literal["bilinear", "bicubic"]
Resize = Literal["shortest", "longest", "squash"]
ScaleFrom = Literal["rgb", "planes"]


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open time interval ``[start, end)`` in seconds.

    Raises:
        SpanError: a bound is not finite, start is negative, or end is not after start.
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.end)):
            raise SpanError(f"a span needs finite bounds, got start={self.start!r}, end={self.end!r}")
        if self.start < 0:
            raise SpanError(f"start must be at least 0 s, got start={self.start:g} s")
        if self.end <= self.start:
            raise SpanError(f"end must be after start, got start={self.start:g} s, end={self.end:g} s")

    @property
    def seconds(self) -> float:
        """Length of the span."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Clock:
    """Presentation timestamps of one stream in seconds: ``pts * time_base - zero``, exact as fractions.

    ``zero`` is what a player shows as 0: the start of the container after edit lists. A picture stream that starts
    later than the sound keeps its offset.
    """

    time_base: Fraction
    zero: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        if self.time_base <= 0:
            raise InputError(f"time_base must be positive, got {self.time_base}")

    def exact_seconds(self, pts: int) -> Fraction:
        """Seconds of one timestamp as a fraction."""
        return pts * self.time_base - self.zero

    def seconds(self, pts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Seconds of many timestamps, each the float nearest to the exact fraction."""
        exact = [float(self.exact_seconds(int(p))) for p in pts.ravel()]
        return np.asarray(exact, dtype=np.float64).reshape(pts.shape)

    def pts_at(self, seconds: Fraction) -> int:
        """The last timestamp at or before ``seconds``."""
        return math.floor((seconds + self.zero) / self.time_base)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """What a file says about its picture stream before it is decoded.

    ``width`` and ``height`` are in pixels as displayed: after rotation and with square pixels. ``rotation_degrees`` is the
    clockwise turn that makes the stored picture upright. ``promised_seconds`` is the end that the container claims, on the
    player's clock; None where it claims none.
    """

    container: str
    codec: str
    width: int
    height: int
    rotation_degrees: Literal[0, 90, 180, 270]
    frame_rate: Fraction | None
    clock: Clock
    promised_seconds: float | None
    digest: str
    num_bytes: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise InputError(f"a video needs at least one pixel, got {self.width} x {self.height}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """How a decoded picture is brought to the encoder's input size; geometry only, pixels stay uint8 RGB.

    ``resize``: ``shortest`` scales the shorter edge to the target and crops the centre, ``longest`` fits the whole picture
    and pads with ``fill``, ``squash`` ignores the aspect. ``scale_from``: ``rgb`` makes the picture RGB at full size first, as transforms
    on PIL images do; ``planes`` scales straight from the stored planes, as FFmpeg does, which costs less and differs by 1 to 3 grey levels.
    """

    height: int
    width: int
    resize: Resize = "shortest"
    interpolation: Interpolation = "bicubic"
    fill: int = 0
    scale_from: ScaleFrom = "rgb"

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise InputError(f"frame size must be positive, got {self.height} x {self.width}")
        if self.resize not in ("shortest", "longest", "squash"):
            raise InputError(f"resize must be 'shortest', 'longest' or 'squash', got {self.resize!r}")
        if self.interpolation not in ("bilinear", "bicubic"):
            raise InputError(f"interpolation must be 'bilinear' or 'bicubic', got {self.interpolation!r}")
        if self.scale_from not in ("rgb", "planes"):
            raise InputError(f"scale_from must be 'rgb' or 'planes', got {self.scale_from!r}")
        if not 0 <= self.fill <= 255:
            raise InputError(f"fill must be within 0..255, got {self.fill}")


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small JPEG of the whole picture, upright, at one timestamp."""

    pts: int
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class Frames:
    """Decoded rows in order of time: single frames or windows of frames.

    Shapes:
        pixels: (n, h, w, 3) uint8 RGB; (n, t, h, w, 3) for windows.
        pts: (n,) int64 in the stream's time base; (n, t) for windows. Row order is strictly increasing in the first column.
        thumbnails: those that fell due among these rows.
    """

    pixels: NDArray[np.uint8]
    pts: NDArray[np.int64]
    thumbnails: tuple[Thumbnail, ...] = ()

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim not in (4, 5) or self.pixels.shape[-1] != 3:
            raise InputError(f"pixels must be uint8 (n, h, w, 3) or (n, t, h, w, 3), got {self.pixels.dtype} {self.pixels.shape}")
        if self.pts.shape != self.pixels.shape[: self.pixels.ndim - 3]:
            raise InputError(f"pts must have shape {self.pixels.shape[: self.pixels.ndim - 3]}, got {self.pts.shape}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOutcome:
    """How the decoding of one file ended.

    ``status``: ``complete`` (all that was asked for) or ``partial`` (frames were kept, but the file is damaged or was cut short); a file
    without one usable frame raises a VideoError instead. ``coverage`` is the decoded share of the expected stretch, in [0, 1].
    ``end_seconds`` is the end of the last frame on the player's clock. ``reason`` is empty when complete.
    """

    status: Literal["complete", "partial"]
    coverage: float
    end_seconds: float
    reason: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.coverage <= 1.0:
            raise InputError(f"coverage must be within 0..1, got {self.coverage}")
        if (self.status == "complete") == bool(self.reason):
            raise InputError(f"a reason stands with every outcome but 'complete', got {self.status!r} with {self.reason!r}")


@dataclass(frozen=True, slots=True)
class Features:
    """Frame (or window) vectors of one video in order of time.

    Shapes:
        vectors: (t, d) float32, unit length.
        times: (t,) float64 seconds, strictly increasing. Row i stands for ``[times[i], times[i + 1])``, the last for ``[times[-1], end)``.
    """

    vectors: NDArray[np.float32]
    times: NDArray[np.float64]
    end: float

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.times.shape != self.vectors.shape[:1]:
            raise InputError(f"vectors must be (t, d) and times (t,), got {self.vectors.shape} and {self.times.shape}")
        if len(self.times) and (np.any(np.diff(self.times) <= 0) or self.end <= self.times[-1]):
            raise InputError("times must increase strictly and end after the last row")

    def part(self, first: int, last: int) -> Features:
        """Rows ``[first, last)`` as a video of its own, whose time begins with them.

        Raises:
            InputError: there is no such row, or the range is empty.
        """
        if not 0 <= first < last <= len(self.times):
            raise InputError(f"a part needs rows of the {len(self.times)} there are, got [{first}, {last})")
        start = float(self.times[first])
        end = self.end if last == len(self.times) else float(self.times[last])
        return Features(self.vectors[first:last], self.times[first:last] - start, end - start)


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows ``[first, last)`` of a video's features, taken as one searchable stretch. Level 0 is the finest."""

    level: int
    first: int
    last: int
    span: Span


@dataclass(frozen=True, slots=True)
class Moment:
    """A stretch that answers a query. ``score`` orders the moments of one query and video; what it measures is told by what made it.

    ``confidence`` and ``false_alarm_rate`` as of a Hit of these rows; None where nothing was measured.
    """

    span: Span
    score: float
    confidence: float | None = None
    false_alarm_rate: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.score):
            raise InputError(f"score must be finite, got {self.score}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounded:
    """Where in one video a text is true.

    ``moments`` are best first. ``curve`` (t,) float32 says for each row how relevant it is; it is comparable within the video alone.
    ``presence`` is the probability that the video shows the text at all, None where nothing was trained to tell.
    """

    text: str
    moments: tuple[Moment, ...]
    curve: NDArray[np.float32]
    presence: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to one question about one video.

    ``options`` are what could be answered with the share of each, best first; they sum to 1. ``answerable`` is the probability that the
    video shows what is asked, None where nothing was trained to tell. ``evidence`` are the moments that the answer rests on, best first.

    Two figures say how far it can be trusted. ``prior`` is what the question alone suggests, shares as in ``options``; None where nothing
    was trained to tell. ``faithfulness`` is how much of ``probability`` is lost when the evidence is taken out of the video, in [-1, 1];
    None where it was not measured, or nothing would be left.
    """

    text: str
    probability: float
    options: tuple[tuple[str, float], ...]
    evidence: tuple[Moment, ...]
    answerable: float | None = None
    prior: tuple[tuple[str, float], ...] | None = None
    faithfulness: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0:
            raise InputError(f"probability must be within 0..1, got {self.probability}")


@dataclass(frozen=True, slots=True)
class Curve:
    """How relevant each row of a stretch of video is: row i begins at ``times[i]`` seconds of the video, the last ends at ``end``.

    Values are comparable within the video alone.
    """

    times: tuple[float, ...]
    values: tuple[float, ...]
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One search result: a stretch of a video, with the similarity that placed it.

    ``score`` is the cosine between the query and the stretch; it is no probability. ``false_alarm_rate`` says how often a query for
    something that the library does not show has a hit that scores as high, ``confidence`` what that leaves of even odds that the library
    shows it; both None where nothing was measured for such a query. ``coverage`` is the share of the file that could be decoded when it
    was added. ``presence`` is the probability, by the library's trained model, that the video shows the query; None where it did not look.
    ``curve`` says where in the video; None where it was not asked for.
    """

    rank: int
    score: float
    video_id: int
    segment_id: int
    path: str
    span: Span
    duration_seconds: float
    coverage: float = 1.0
    locations: tuple[str, ...] = field(default=())
    confidence: float | None = None
    false_alarm_rate: float | None = None
    presence: float | None = None
    curve: Curve | None = None
