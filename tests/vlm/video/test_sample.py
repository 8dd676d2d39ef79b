from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm.errors import InputError
from vlm.types import Clock
from vlm.video.sample import Sampling, every, keyframes, uniform, windows
from vlm.video.timeline import Timeline


def timeline(pts: list[int], *, time_base: Fraction = Fraction(1, 25), zero: Fraction = Fraction(0), end: int | None = None) -> Timeline:
    is_key = np.arange(len(pts)) % 10 == 0
    return Timeline(np.asarray(pts, dtype=np.int64), is_key, Clock(time_base, zero), pts[-1] + 1 if end is None else end)


times = st.lists(st.integers(-20, 200), min_size=1, max_size=25, unique=True).map(sorted)
time_bases = st.sampled_from([Fraction(1, 25), Fraction(1001, 30000), Fraction(1, 90000), Fraction(1, 1000), Fraction(1, 10**9)])
rates = st.fractions(min_value=Fraction(1, 20), max_value=60, max_denominator=1001)


@given(times, time_bases, rates)
def test_every_gives_the_frames_on_screen_at_each_multiple_of_the_period(pts: list[int], time_base: Fraction, fps: Fraction) -> None:
    fps = fps / time_base / 25  # so that every time base sees dense and sparse rates
    line = timeline(pts, time_base=time_base, zero=min(Fraction(0), pts[0] * time_base))
    shown, k = [], 0
    while Fraction(k) / fps < line.clock.exact_seconds(line.end_pts):
        before = [i for i, p in enumerate(pts) if line.clock.exact_seconds(p) <= Fraction(k) / fps]
        shown += before[-1:]
        k += 1
    assert every(line, fps).tolist() == (sorted(set(shown)) or [0])


def test_every_skips_the_time_before_the_pictures_begin() -> None:
    assert every(timeline([50, 75, 100]), 1).tolist() == [0, 1, 2]  # shown at 2, 3 and 4 s; 0 and 1 s show nothing


def test_every_gives_a_frame_of_a_video_that_no_multiple_hits() -> None:
    assert every(timeline([1, 2]), Fraction(1)).tolist() == [0]


def test_every_reads_a_float_rate_as_the_decimal_it_prints() -> None:
    long = timeline(list(range(25 * 300)))
    assert every(long, 0.1).tolist() == every(long, Fraction(1, 10)).tolist() == list(range(0, 7500, 250))


@given(st.integers(1, 400), st.integers(1, 60), st.integers(1, 5000), st.integers(-1000, 1000))
def test_uniform_on_a_constant_rate_is_the_rounded_linspace_of_positions(n: int, count: int, step: int, start: int) -> None:
    line = timeline([start + step * i for i in range(n)], time_base=Fraction(1, 90000))
    expected = np.unique(np.linspace(0, n - 1, count + 2)[1:-1].round().astype(int))
    assert uniform(line, count).tolist() == expected.tolist()


def test_uniform_takes_rounded_milliseconds_for_a_constant_rate() -> None:
    line = timeline([round(i * 1000 / 30) for i in range(91)], time_base=Fraction(1, 1000))
    assert uniform(line, 8).tolist() == np.linspace(0, 90, 10)[1:-1].round().astype(int).tolist()


def test_uniform_on_a_variable_rate_is_even_in_time() -> None:
    line = timeline([*range(20), 1000, 2000])  # twenty quick frames, then two slow ones
    assert uniform(line, 3).tolist() == [19, 20]  # moments 500, 1000 and 1500; halfway counts for the earlier


@given(times, st.integers(1, 100))
def test_uniform_never_repeats_and_gives_at_least_one(pts: list[int], count: int) -> None:
    chosen = uniform(timeline(pts), count)
    assert 1 <= len(chosen) <= min(count, len(pts))
    assert np.all(np.diff(chosen) > 0)


def test_keyframes_are_those_marked() -> None:
    assert keyframes(timeline(list(range(25)))).tolist() == [0, 10, 20]


def test_keyframes_of_a_stream_that_marks_none_is_its_first_frame() -> None:
    line = timeline([0, 1, 2])
    assert keyframes(Timeline(line.pts, np.zeros(3, bool), line.clock, line.end_pts)).tolist() == [0]


def test_windows_hold_the_middles_of_equal_parts() -> None:
    line = timeline(list(range(100)))  # 4 s at 25 frames a second
    assert windows(line, 4, 2, 1).tolist() == [[6, 18, 31, 43], [31, 43, 56, 68], [56, 68, 81, 93]]


def test_windows_of_a_short_video_repeat_its_frames() -> None:
    assert windows(timeline([0, 1]), 4, 2, 1).tolist() == [[1, 1, 1, 1]]


@given(
    times, st.integers(1, 5), st.fractions(Fraction(1, 10), 40, max_denominator=50), st.fractions(Fraction(1, 10), 40, max_denominator=50)
)
def test_windows_start_on_new_frames_and_never_run_backwards(pts: list[int], frames: int, seconds: Fraction, stride: Fraction) -> None:
    line = timeline(pts, zero=min(Fraction(0), Fraction(pts[0], 25)))
    rows = windows(line, frames, seconds, stride)
    assert rows.shape[1] == frames
    assert len(rows) >= 1
    assert np.all(np.diff(rows[:, 0]) > 0)
    assert np.all(np.diff(rows, axis=1) >= 0)


@settings(max_examples=20, deadline=None)
@given(times, st.fractions(1, 10, max_denominator=50), st.fractions(1, 10, max_denominator=50))
def test_windows_without_gaps_reach_the_last_frame(pts: list[int], seconds: Fraction, stride: Fraction) -> None:
    line = timeline(pts, zero=min(Fraction(0), Fraction(pts[0], 25)))
    dense = 2500  # more than there are ticks in a window: no frame is missed
    rows = windows(line, dense, seconds, min(stride, seconds))
    assert rows[-1, -1] == len(pts) - 1


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("every:1", "every:1"),
        ("every:0.5", "every:0.5"),
        (" every:1/3 ", "every:1/3"),
        ("every:30000/1001", "every:30000/1001"),
        ("uniform:8", "uniform:8"),
        ("keyframes", "keyframes"),
        ("windows:16/2/1", "windows:16/2/1"),
        ("windows:8/2.50/0.125", "windows:8/2.5/0.125"),
    ],
)
def test_sampling_prints_what_parse_reads(text: str, canonical: str) -> None:
    sampling = Sampling.parse(text)
    assert str(sampling) == canonical
    assert Sampling.parse(str(sampling)) == sampling


@given(rates)
def test_every_rate_survives_being_printed(rate: Fraction) -> None:
    assert Sampling.parse(str(Sampling("every", (rate,)))).parameters == (rate,)


@pytest.mark.parametrize(
    "text",
    ["", "often", "every", "every:", "every:0", "every:-1", "every:x", "every:1/0", "every:nan", "uniform:1.5", "uniform:0", "keyframes:2",
     "windows:8", "windows:8/2", "windows:8/2/1/1", "windows:0/2/1", "windows:8/2/0"],
)  # fmt: skip
def test_parse_rejects_and_names_the_value_and_the_known_policies(text: str) -> None:
    with pytest.raises(
        InputError, match="known are 'every:FPS', 'uniform:COUNT', 'keyframes' or 'windows:FRAMES/SECONDS/STRIDE'"
    ) as caught:
        Sampling.parse(text)
    assert text.partition(":")[2].split("/")[-1] in str(caught.value)


def test_windows_reject_what_their_own_form_cannot_print() -> None:
    with pytest.raises(InputError, match="finite decimals"):
        Sampling("windows", (Fraction(8), Fraction(1, 3), Fraction(1)))


def test_select_applies_the_policy() -> None:
    line = timeline(list(range(100)))
    assert Sampling.parse("every:5").select(line).tolist() == every(line, 5).tolist()
    assert Sampling.parse("uniform:3").select(line).tolist() == uniform(line, 3).tolist()
    assert Sampling.parse("keyframes").select(line).tolist() == keyframes(line).tolist()
    assert Sampling.parse("windows:4/2/1").select(line).tolist() == windows(line, 4, 2, 1).tolist()
