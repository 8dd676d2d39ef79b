"""Which frames of a video are looked at: sampling policies as pure functions over its presentation timestamps.

Every policy takes a Timeline and returns frame indices into it: (n,) int64 strictly increasing, or (w, t) for windows.
Times are exact fractions until the comparison with a timestamp, so that no rate or time base rounds into the neighbouring frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError
from vlm.video.timeline import Timeline

Policy = Literal["every", "uniform", "keyframes", "windows"]

_HAIR = Fraction(1, 1_000_000)

_FORMS = "'every:FPS', 'uniform:COUNT', 'keyframes' or 'windows:FRAMES/SECONDS/STRIDE'"


def every(timeline: Timeline, fps: Fraction | float) -> NDArray[np.int64]:
    """The frames that a player shows at 0, 1/fps, 2/fps, ... seconds until the end; none twice.

    Moments before the first frame show nothing and are skipped; a video too short for any moment gives its first frame. A float rate
    counts as the decimal it prints as: 0.1 is 1/10.
    """
    rate = _fraction(fps, "fps")
    # Frame i is on screen at some multiple k/fps when an integer k lies in [t[i] * fps, t[i + 1] * fps).
    per_tick, shift = timeline.clock.time_base * rate, timeline.clock.zero * rate
    denominator = math.lcm(per_tick.denominator, shift.denominator)
    scale, offset = int(per_tick * denominator), int(shift * denominator)
    ticks = np.append(timeline.pts, timeline.end_pts).astype(object)  # Python integers: no overflow at any time base
    first_moment = np.maximum(-((offset - ticks * scale) // denominator), 0)
    chosen = np.flatnonzero(first_moment[:-1] < first_moment[1:])
    return chosen if len(chosen) else np.zeros(1, dtype=np.int64)


def uniform(timeline: Timeline, count: int) -> NDArray[np.int64]:
    """``count`` evenly spaced interior frames; fewer where the video has fewer, at least one.

    A video whose frames all lie within half a frame of an even grid is constant: its frames are those at the positions
    ``np.linspace(0, n - 1, count + 2)[1:-1]``, rounded half to even. Otherwise the positions are moments between the first and the
    last frame and the nearest frame is taken.
    """
    if count < 1:
        raise InputError(f"uniform sampling needs a count of at least 1, got {count}")
    last = len(timeline) - 1
    positions = np.linspace(0, last, count + 2)[1:-1]
    even = np.arange(last + 1)
    elapsed = (timeline.pts - timeline.pts[0]).astype(np.float64)
    places = elapsed * last / elapsed[-1] if last else elapsed  # of each frame, in frames of a constant rate
    if np.all(np.abs(places - even) < 0.5):
        return np.unique(positions.round().astype(np.int64))
    after = np.searchsorted(places, positions).clip(1, last)
    is_earlier = positions - places[after - 1] <= places[after] - positions
    return np.unique(after - is_earlier)


def keyframes(timeline: Timeline) -> NDArray[np.int64]:
    """The frames at which decoding can start; the first frame where the stream marks none."""
    found = np.flatnonzero(timeline.is_key)
    return found if len(found) else np.zeros(1, dtype=np.int64)


def windows(timeline: Timeline, frames: int, seconds: Fraction | float, stride: Fraction | float) -> NDArray[np.int64]:
    """Windows (w, frames): window k spans ``[k * stride, k * stride + seconds)`` and holds the frames shown at the middles of equal parts.

    The windows reach the end of the video and go no further than one of them needs; past either end the nearest frame repeats. Of windows
    that begin on the same frame only the last is kept: it sees all that the others see. There is always at least one.
    """
    length, step = _fraction(seconds, "seconds"), _fraction(stride, "stride")
    if frames < 1:
        raise InputError(f"a window needs at least 1 frame, got {frames}")
    clock, end = timeline.clock, timeline.clock.exact_seconds(timeline.end_pts)
    begin = max(Fraction(0), clock.exact_seconds(int(timeline.pts[0])))
    # The last window is the first one that reaches the end, unless the stride leaps over it.
    count = max(1, min(math.ceil((end - length) / step) + 1, math.ceil(end / step)))
    first = max(0, math.floor((begin - length) / step) + 1)
    starts = [k * step for k in range(min(first, count - 1), count)]
    moments = [start + length * (2 * j + 1) / (2 * frames) for start in starts for j in range(frames)]
    rows = timeline.shown_at(moments).clip(0).reshape(len(starts), frames)
    is_last = np.append(np.diff(rows[:, 0]) > 0, True)
    chosen: NDArray[np.int64] = rows[is_last]
    return chosen


@dataclass(frozen=True, slots=True)
class Sampling:
    """A policy with its parameters; ``str`` of it is what ``parse`` reads.

    Parameters: every (fps,); uniform (count,); keyframes (); windows (frames, seconds, stride).

    Raises:
        InputError: an unknown policy, a wrong number of parameters, or a value that breaks its rule.
    """

    policy: Policy
    parameters: tuple[Fraction, ...] = ()

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy):
            raise InputError(f"unknown sampling policy {self.policy!r}; known are {_FORMS}")
        expected = {"every": 1, "uniform": 1, "keyframes": 0, "windows": 3}[self.policy]
        if len(self.parameters) != expected:
            raise InputError(f"sampling {str(self)!r}: {self.policy} takes {expected} parameters; known are {_FORMS}")
        if any(p <= 0 for p in self.parameters):
            raise InputError(f"sampling {self}: every parameter must be positive; known are {_FORMS}")
        if self.policy in ("uniform", "windows") and self.parameters[0].denominator != 1:
            raise InputError(f"sampling {self}: {self.parameters[0]} is no whole number of frames; known are {_FORMS}")
        if self.policy == "windows" and not all(_is_decimal(p) for p in self.parameters):
            raise InputError(f"sampling {self}: seconds and stride must be finite decimals, because '/' separates the parameters")

    @classmethod
    def parse(cls, text: str) -> Sampling:
        """The sampling that ``text`` names: 'every:1', 'every:30000/1001', 'uniform:8', 'keyframes', 'windows:16/2/1'."""
        name, colon, rest = text.strip().partition(":")
        if name not in get_args(Policy):
            raise InputError(f"unknown sampling {text!r}; known are {_FORMS}")
        fields = [] if not colon else rest.split("/") if name == "windows" else [rest]
        try:
            parameters = tuple(Fraction(f) for f in fields)
        except (ValueError, ZeroDivisionError) as error:
            raise InputError(f"sampling {text!r} has a parameter that is no number; known are {_FORMS}") from error
        return cls(name, parameters)  # type: ignore[arg-type]  # checked against Policy above

    def __str__(self) -> str:
        return ":".join([self.policy, *(["/".join(_plain(p) for p in self.parameters)] if self.parameters else [])])

    def select(self, timeline: Timeline) -> NDArray[np.int64]:
        """Frame indices (n,), or (w, t) for windows."""
        if self.policy == "every":
            return every(timeline, self.parameters[0])
        if self.policy == "uniform":
            return uniform(timeline, int(self.parameters[0]))
        if self.policy == "windows":
            frames, seconds, stride = self.parameters
            return windows(timeline, int(frames), seconds, stride)
        return keyframes(timeline)


@dataclass(frozen=True, slots=True)
class Moments:
    """The frames on screen at given seconds of one video, where a Sampling fits any; ``str`` of it is what ``parse`` reads.

    A moment before the first frame gives the first, one after the end the last.

    Raises:
        InputError: no moment, or one before 0.
    """

    seconds: tuple[Fraction, ...]

    def __post_init__(self) -> None:
        if not self.seconds or min(self.seconds) < 0:
            raise InputError(f"moments must be at least one, and none before 0 s, got {[float(second) for second in self.seconds]}")

    @classmethod
    def parse(cls, text: str) -> Moments:
        """The moments that ``str`` wrote."""
        return cls(tuple(Fraction(field) for field in text.removeprefix("at:").split(",")))

    def __str__(self) -> str:
        return f"at:{','.join(map(str, self.seconds))}"

    def select(self, timeline: Timeline) -> NDArray[np.int64]:
        """Frame indices (n,), none twice."""
        # A frame's own time as a float may lie a hair before the fraction it stands for, and would give the frame before.
        return np.unique(timeline.shown_at([second + _HAIR for second in self.seconds]).clip(0))


def _fraction(value: Fraction | float, name: str) -> Fraction:
    if not math.isfinite(value) or value <= 0:
        raise InputError(f"{name} must be positive and finite, got {value}")
    return value if isinstance(value, Fraction) else Fraction(repr(value))


def _is_decimal(value: Fraction) -> bool:
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def _plain(value: Fraction) -> str:
    """Shortest exact text: a decimal where one exists, else a quotient."""
    if value.denominator == 1 or not _is_decimal(value):
        return str(value)
    digits = next(d for d in range(1, value.denominator.bit_length() + 1) if (value * 10**d).denominator == 1)
    whole, part = divmod(int(value * 10**digits), 10**digits)
    return f"{whole}.{part:0{digits}d}"
