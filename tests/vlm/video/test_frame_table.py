"""The frames of real files and their rates, beside files decoded in full by PyAV."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vlm.video.numbered import MakeVideo
from vlm.errors import DecoderCrashed, DecoderStalled, NotAVideo, VideoUnreadable
from vlm.timecode import USUAL_RATES
from vlm.types import Clock, Span
from vlm.video.frame_table import average_rate, constant_rate, frame_table, read_frame_table
from vlm.video.timeline import Timeline

CLOCKS = [Fraction(1, 1000), Fraction(1, 90_000), Fraction(1, 60_000), Fraction(1, 12_800)]


def timeline(pts: list[int], tick: Fraction, *, step: int = 1) -> Timeline:
    return Timeline(np.array(pts, np.int64), np.ones(len(pts), np.bool_), Clock(tick), pts[-1] + step)


@given(
    rate=st.sampled_from(USUAL_RATES),
    tick=st.sampled_from(CLOCKS),
    frames=st.integers(50, 400),
    begin=st.integers(0, 10_000),
    half=st.sampled_from([Fraction(0), Fraction(1, 2)]),
)
def test_frames_on_a_grid_have_its_rate_whatever_the_clock_rounds_to(
    rate: Fraction, tick: Fraction, frames: int, begin: int, half: Fraction
):
    pts = [begin + int(number / rate / tick + half) for number in range(frames)]
    found = constant_rate(timeline(pts, tick, step=max(1, round(1 / rate / tick))), None)
    # Of two neighbouring rates a short file cannot tell the one from the other; each explains every time that it has.
    assert found is not None
    assert all(abs(moment - begin - number / found / tick) <= 1 for number, moment in enumerate(pts))


@pytest.mark.parametrize("rate", USUAL_RATES)
def test_a_minute_tells_neighbouring_rates_apart(rate: Fraction):
    tick = Fraction(1, 1000)
    pts = [round(number / rate / tick) for number in range(int(60 * rate))]
    assert constant_rate(timeline(pts, tick, step=round(1 / rate / tick)), None) == rate


def test_a_frame_that_is_missing_makes_the_rate_variable():
    pts = [*range(50), *range(51, 100)]
    assert constant_rate(timeline(pts, Fraction(1, 25)), Fraction(25)) is None
    assert constant_rate(timeline([40 * place for place in pts], Fraction(1, 1000), step=40), Fraction(25)) is None


@pytest.mark.parametrize("rate", [Fraction(8), Fraction(25, 2), Fraction(15)])
def test_an_unusual_rate_is_told_as_it_is(rate: Fraction):
    pts = [round(number / rate * 90_000) for number in range(100)]
    assert constant_rate(timeline(pts, Fraction(1, 90_000), step=round(90_000 / rate)), rate) == rate


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(30)])
def test_of_two_rates_that_few_frames_fit_the_promised_one_is_taken(rate: Fraction):
    assert constant_rate(timeline([0, 33, 67], Fraction(1, 1000), step=33), rate) == rate


def test_a_single_frame_has_the_rate_of_its_length():
    one = timeline([0], Fraction(1, 25))
    assert average_rate(one) == 25
    assert constant_rate(one, None) == 25


@given(
    pts=st.lists(st.integers(0, 2000), min_size=1, max_size=40, unique=True).map(sorted),
    bounds=st.tuples(st.floats(0, 2.2), st.floats(0.01, 1)),
)
def test_frames_of_a_span_are_those_on_screen_meanwhile(pts: list[int], bounds: tuple[float, float]):
    times = timeline(pts, Fraction(1, 1000), step=40)
    span = Span(bounds[0], sum(bounds))
    ends = [*pts[1:], pts[-1] + 40]
    shown = [place for place, (begin, end) in enumerate(zip(pts, ends, strict=True)) if begin / 1000 < span.end and end / 1000 > span.start]
    assert list(times.shown_during(span)) == shown


def test_the_table_of_a_file_has_the_frames_that_decoding_gives(make_video: MakeVideo):
    pts = [0, 40, 80, 140, 141, 300, 900]
    path = make_video("irregular.mkv", pts, time_base=Fraction(1, 1000))
    table = frame_table(path)
    with av.open(str(path)) as container:
        decoded = [float(frame.pts * frame.time_base) for frame in container.decode(video=0) if frame.pts is not None]
    assert table.timeline.clock.seconds(table.timeline.pts).tolist() == decoded
    assert table.is_variable
    in_process = read_frame_table(path)
    assert (table.rate, table.start_timecode) == (in_process.rate, in_process.start_timecode)
    assert np.array_equal(table.timeline.pts, in_process.timeline.pts)
    assert (table.timeline.clock, table.timeline.end_pts) == (in_process.timeline.clock, in_process.timeline.end_pts)


@pytest.mark.parametrize("name", ["plain.mp4", "plain.mkv", "plain.avi"])
def test_a_constant_file_is_told_as_such(make_video: MakeVideo, name: str):
    table = read_frame_table(make_video(name, 60, codec="mpeg4" if name.endswith("avi") else "libx264"))
    assert (table.rate, table.is_variable, len(table.timeline), table.start_timecode) == (25, False, 60, "")


def test_the_tables_of_real_clips_have_the_frames_that_decoding_gives(shared: Path):
    clips = sorted((path for path in (shared / "data/clips").iterdir() if path.suffix != ".jsonl"), key=lambda path: path.stat().st_size)
    for path in clips[:12]:
        table = read_frame_table(path)
        with av.open(str(path), metadata_errors="replace") as container:
            decoded = sorted(float(frame.pts * frame.time_base) for frame in container.decode(video=0) if frame.pts is not None)
        ticks = table.timeline.pts * float(table.timeline.clock.time_base)
        assert ticks == pytest.approx(decoded, abs=1e-9), path


def test_what_is_no_video_is_refused(tmp_path: Path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(NotAVideo, match=r"text\.mp4"):
        frame_table(tmp_path / "text.mp4")
    with pytest.raises(VideoUnreadable, match=r"gone\.mp4"):
        frame_table(tmp_path / "gone.mp4")


@pytest.mark.parametrize(
    ("program", "error"),
    [("import os; os._exit(3)", DecoderCrashed), ("import time; time.sleep(60)", DecoderStalled)],
    ids=["crash", "hang"],
)
def test_a_file_that_crashes_or_hangs_the_child_costs_no_more(program: str, error: type[Exception]):
    with pytest.raises(error, match=r"some\.mp4"):
        frame_table("some.mp4", deadline_seconds=1.0 if error is DecoderStalled else 60.0, command=(sys.executable, "-c", program))
