"""Counting frames: exact frame rates, and timecodes with and without drop-frame (SMPTE ST 12-1). Fractions and whole numbers throughout.

A timecode ``HH:MM:SS:FF`` is a label of a frame. It counts as many frames a second as the rate rounds to, so that at 29.97 frames/s an hour
of labels lasts 3.6 s longer than an hour. Drop-frame keeps step with the clock by leaving labels out, never frames: at 29.97 frames/s the
first two of each minute, at 59.94 the first four, but of every tenth minute. It is written with a semicolon: ``HH:MM:SS;FF``.
"""

from __future__ import annotations

import re
from fractions import Fraction

from vlm.errors import InputError

# What cameras and editors use. Containers often promise a number near one of these.
USUAL_RATES = (
    Fraction(24000, 1001),
    Fraction(24),
    Fraction(25),
    Fraction(30000, 1001),
    Fraction(30),
    Fraction(48000, 1001),
    Fraction(48),
    Fraction(50),
    Fraction(60000, 1001),
    Fraction(60),
    Fraction(100),
    Fraction(120000, 1001),
    Fraction(120),
)
# Rate to how many labels a minute leaves out.
_DROPPED = {Fraction(30000, 1001): 2, Fraction(60000, 1001): 4}
_TIMECODE = re.compile(r"(\d\d):([0-5]\d):([0-5]\d)([:;])(\d{2,3})")


def usual_rate(rate: Fraction) -> Fraction:
    """The rate of USUAL_RATES that is nearest to ``rate``; of two equally near the lower.

    Raises:
        InputError: ``rate`` is not positive.
    """
    _check_rate(rate)
    return min(USUAL_RATES, key=lambda usual: (abs(usual - rate), usual))


def frames_a_second(rate: Fraction) -> int:
    """How many labels a second of timecode has: the whole number nearest to ``rate``, at least 1; a half counts up.

    Raises:
        InputError: ``rate`` is not positive.
    """
    _check_rate(rate)
    return max(1, (2 * rate.numerator + rate.denominator) // (2 * rate.denominator))


def knows_drop_frame(rate: Fraction) -> bool:
    """Whether drop-frame is defined for ``rate``: 30000/1001 and 60000/1001 frames/s alone."""
    return rate in _DROPPED


def check_drop_frame(rate: Fraction) -> None:
    """Raises InputError where drop-frame is not defined for ``rate``."""
    if not knows_drop_frame(rate):
        raise InputError(
            f"drop-frame timecode counts 29.97 (30000/1001) and 59.94 (60000/1001) frames/s alone, got {rate_name(rate)}: "
            "leave drop-frame out"
        )


def timecode(frame: int, rate: Fraction, *, drop_frame: bool = False) -> str:
    """The label of a frame, counted from 0.

    Raises:
        InputError: a negative frame, one whose label would need more than 24 hours, or a rate that drop-frame does not know.
    """
    label = frame
    base = frames_a_second(rate)
    if drop_frame:
        check_drop_frame(rate)
        dropped = _DROPPED[rate]
        tens, rest = divmod(frame, 600 * base - 9 * dropped)
        # The first minute of ten is whole; each of the nine after it begins with labels that are left out.
        minutes = max(0, rest - dropped) // (60 * base - dropped)
        label += dropped * (9 * tens + minutes)
    if not 0 <= label < 86_400 * base:
        raise InputError(f"a timecode counts from 00:00:00:00 to 23:59:59, and frame {frame} at {rate_name(rate)} frames/s lies outside")
    seconds, frames = divmod(label, base)
    digits = 2 if base <= 100 else 3
    mark = ";" if drop_frame else ":"
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{frames:0{digits}}"


def frame_at(text: str, rate: Fraction) -> int:
    """The frame that a timecode labels; a semicolon before its frames makes it drop-frame.

    Raises:
        InputError: it is no timecode of this rate, or its label is one that drop-frame leaves out.
    """
    found = _TIMECODE.fullmatch(text)
    base = frames_a_second(rate)
    if found is None or int(found[1]) > 23 or int(found[5]) >= base:
        raise InputError(f"a timecode at {rate_name(rate)} frames/s is HH:MM:SS:FF with FF below {base}, got {text!r}")
    hours, minutes, seconds, frames = (int(found[group]) for group in (1, 2, 3, 5))
    minutes += 60 * hours
    label = (60 * minutes + seconds) * base + frames
    if found[4] == ":":
        return label
    check_drop_frame(rate)
    dropped = _DROPPED[rate]
    if minutes % 10 and seconds == 0 and frames < dropped:
        raise InputError(f"drop-frame timecode leaves out the first {dropped} labels of each minute but every tenth, got {text!r}")
    return label - dropped * (minutes - minutes // 10)


def rate_name(rate: Fraction) -> str:
    """A rate as people write it: ``25``, ``23.976``, ``12.5``."""
    return f"{float(rate):.3f}".rstrip("0").rstrip(".")


def _check_rate(rate: Fraction) -> None:
    if rate <= 0:
        raise InputError(f"a frame rate must be above 0 frames/s, got {rate}")
