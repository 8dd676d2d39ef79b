"""Timecodes against a table worked out by hand, against counting label by label, and there and back."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm.errors import InputError
from vlm.timecode import USUAL_RATES, frame_at, frames_a_second, knows_drop_frame, rate_name, timecode, usual_rate

NTSC, FAST = Fraction(30000, 1001), Fraction(60000, 1001)
FILM = Fraction(24000, 1001)

# SMPTE ST 12-1: labels ;00 and ;01 (of 59.94: ;00 to ;03) of each minute but every tenth are left out. 10 minutes are 17,982 frames.
BY_HAND = [
    (NTSC, 0, "00:00:00;00"),
    (NTSC, 1799, "00:00:59;29"),
    (NTSC, 1800, "00:01:00;02"),
    (NTSC, 1801, "00:01:00;03"),
    (NTSC, 3597, "00:01:59;29"),
    (NTSC, 3598, "00:02:00;02"),
    (NTSC, 17981, "00:09:59;29"),
    (NTSC, 17982, "00:10:00;00"),
    (NTSC, 17983, "00:10:00;01"),
    (NTSC, 19781, "00:10:59;29"),
    (NTSC, 19782, "00:11:00;02"),
    (NTSC, 107892, "01:00:00;00"),
    (NTSC, 2589407, "23:59:59;29"),
    (FAST, 3599, "00:00:59;59"),
    (FAST, 3600, "00:01:00;04"),
    (FAST, 7195, "00:01:59;59"),
    (FAST, 7196, "00:02:00;04"),
    (FAST, 35964, "00:10:00;00"),
    (FAST, 215784, "01:00:00;00"),
    (NTSC, 1800, "00:01:00:00"),
    (FILM, 1440, "00:01:00:00"),
    (Fraction(25), 90_000, "01:00:00:00"),
    (Fraction(50), 3_049, "00:01:00:49"),
    (Fraction(120), 119, "00:00:00:119"),
]
RATES = st.sampled_from([*USUAL_RATES, Fraction(8), Fraction(25, 2), Fraction(15)])


@pytest.mark.parametrize(("rate", "frame", "text"), BY_HAND)
def test_labels_are_those_of_the_table(rate: Fraction, frame: int, text: str):
    assert timecode(frame, rate, drop_frame=";" in text) == text
    assert frame_at(text, rate) == frame


@pytest.mark.parametrize(("rate", "left_out"), [(NTSC, 2), (FAST, 4)])
def test_drop_frame_is_counting_every_label_that_is_not_left_out(rate: Fraction, left_out: int):
    base, frame = frames_a_second(rate), 0
    for minute in range(23):
        for second in range(60):
            for label in range(base):
                if minute % 10 and second == 0 and label < left_out:
                    continue
                if second in (0, 59):
                    assert timecode(frame, rate, drop_frame=True) == f"00:{minute:02}:{second:02};{label:02}"
                frame += 1


@given(rate=RATES, frame=st.integers(0, 8 * 3600 * 23), drop=st.booleans())
def test_a_label_leads_back_to_its_frame(rate: Fraction, frame: int, drop: bool):
    assert frame_at(timecode(frame, rate, drop_frame=drop and knows_drop_frame(rate)), rate) == frame


@given(frame=st.integers(0, 2589407))
def test_drop_frame_stays_within_two_frames_of_the_clock(frame: int):
    hours, minutes, seconds = (int(part) for part in timecode(frame, NTSC, drop_frame=True)[:8].split(":"))
    # 17,982 frames last 600 s and 0.6 ms: nothing drifts by more than 86 ms a day.
    assert abs(3600 * hours + 60 * minutes + seconds - frame / NTSC) < 1 + 2 / NTSC + Fraction(86, 1000)


@pytest.mark.parametrize("text", ["00:01:00;00", "00:01:00;01", "00:59:00;01"])
def test_a_label_that_is_left_out_is_no_frame(text: str):
    with pytest.raises(InputError, match=text):
        frame_at(text, NTSC)


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(24), FILM, Fraction(30), Fraction(50), Fraction(60)])
def test_a_rate_that_drop_frame_does_not_know_is_refused(rate: Fraction):
    with pytest.raises(InputError, match=f"got {rate_name(rate)}: leave drop-frame out"):
        timecode(0, rate, drop_frame=True)
    with pytest.raises(InputError, match=r"29\.97"):
        frame_at("00:00:01;00", rate)


@pytest.mark.parametrize("text", ["", "1:00:00:00", "00:00:00:25", "00:60:00:00", "24:00:00:00", "00:00:00.00", "-1:00:00:00"])
def test_what_is_no_timecode_is_refused(text: str):
    with pytest.raises(InputError, match="FF below 25"):
        frame_at(text, Fraction(25))


@pytest.mark.parametrize("frame", [-1, 24 * 3600 * 25])
def test_a_frame_outside_the_day_has_no_label(frame: int):
    with pytest.raises(InputError, match=f"frame {frame} at 25"):
        timecode(frame, Fraction(25))


def test_a_day_of_drop_frame_ends_where_the_table_does():
    with pytest.raises(InputError, match="frame 2589408"):
        timecode(2589408, NTSC, drop_frame=True)


@pytest.mark.parametrize(
    ("near", "usual"),
    [
        (Fraction("23.98"), FILM),
        (Fraction("29.97"), NTSC),
        (Fraction(19001, 634), NTSC),
        (Fraction("59.94"), FAST),
        (Fraction("24.99"), Fraction(25)),
        (Fraction(1), FILM),
    ],
)
def test_a_rate_that_is_nearly_usual_is_told(near: Fraction, usual: Fraction):
    assert usual_rate(near) == usual


@pytest.mark.parametrize(
    ("rate", "base"), [(FILM, 24), (NTSC, 30), (FAST, 60), (Fraction(25, 2), 13), (Fraction(1, 10), 1), (Fraction(25), 25)]
)
def test_a_second_has_as_many_labels_as_the_rate_rounds_to(rate: Fraction, base: int):
    assert frames_a_second(rate) == base


def test_a_rate_of_nothing_is_refused():
    with pytest.raises(InputError, match="got 0"):
        usual_rate(Fraction(0))
    with pytest.raises(InputError, match="got -1"):
        frames_a_second(Fraction(-1))


@pytest.mark.parametrize(("rate", "name"), [(FILM, "23.976"), (NTSC, "29.97"), (Fraction(25), "25"), (Fraction(25, 2), "12.5")])
def test_rates_are_named_as_people_do(rate: Fraction, name: str):
    assert rate_name(rate) == name
