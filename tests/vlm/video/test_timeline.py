from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm.errors import InputError
from vlm.types import Clock
from vlm.video.coverage import ends_before, missing_tail, outcome
from vlm.video.timeline import NO_PTS, Packets, Timeline, clock_within, observed_timeline, packet_timeline

CLOCK = Clock(Fraction(1, 25))


def packets(pts: list[int], *, dts: list[int] | None = None, hidden: tuple[int, ...] = (), duration: int = 1) -> Packets:
    n = len(pts)
    return Packets(
        pts=np.asarray(pts, dtype=np.int64),
        dts=np.asarray(list(range(n)) if dts is None else dts, dtype=np.int64),
        duration=np.full(n, duration, dtype=np.int64),
        size=np.ones(n, dtype=np.int64),
        is_key=np.arange(n) == 0,
        is_hidden=np.isin(np.arange(n), hidden),
    )


def observed(pts: list[int], dts: list[int] | None = None, *, step: int = 1) -> tuple[Timeline, list[int]]:
    columns = np.asarray(pts, dtype=np.int64), np.asarray([NO_PTS] * len(pts) if dts is None else dts, dtype=np.int64)
    line, order = observed_timeline(*columns, np.zeros(len(pts), bool), CLOCK, start_pts=0, step=step, promised_pts=None)
    return line, order.tolist()


def test_hidden_packets_are_on_no_timeline() -> None:
    line = packet_timeline(packets([-2, 0, 1, 2], hidden=(0,)), CLOCK, None)
    assert line.pts.tolist() == [0, 1, 2]


def test_packets_are_put_in_the_order_of_presentation() -> None:
    line = packet_timeline(packets([0, 4, 2, 1, 3]), CLOCK, None)
    assert line.pts.tolist() == [0, 1, 2, 3, 4]
    assert line.is_key.tolist() == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("pts", "dts", "tells"),
    [
        ([0, 4, 2, 1, 3], None, True),
        ([0, NO_PTS, 2], None, False),
        ([0, 1, 1], None, False),
        ([0, 1, 2], [0, 1, 0], False),
        ([0, 1, 2], [NO_PTS, 0, 1], True),
    ],
)
def test_a_table_tells_presentation_only_with_times_of_its_own(pts: list[int], dts: list[int] | None, tells: bool) -> None:
    assert packets(pts, dts=dts).tells_presentation() is tells


def test_the_last_frame_stays_as_long_as_its_packet_says_but_not_past_the_promise() -> None:
    assert packet_timeline(packets([0, 1, 2], duration=10), CLOCK, None).end_pts == 12
    assert packet_timeline(packets([0, 1, 2], duration=10), CLOCK, 5).end_pts == 5
    assert packet_timeline(packets([0, 1, 2], duration=10), CLOCK, 2).end_pts == 12  # a promise before the last frame is no promise


def test_a_first_frame_before_zero_moves_zero_back() -> None:
    assert clock_within(CLOCK, packets([-3, 0, 1])).zero == Fraction(-3, 25)
    assert clock_within(CLOCK, packets([-3, 0, 1], hidden=(0,))) == CLOCK
    assert clock_within(CLOCK, packets([NO_PTS, NO_PTS])) == CLOCK


def test_frames_with_ascending_times_keep_them() -> None:
    assert observed([0, 3, 9])[0].pts.tolist() == [0, 3, 9]


def test_of_frames_with_one_time_the_last_is_kept() -> None:
    line, order = observed([0, 5, 5, 7])
    assert (line.pts.tolist(), order) == ([0, 5, 7], [0, 2, 3])


def test_times_in_decoding_order_give_way_to_the_decoding_clock() -> None:
    line, _ = observed([1, 2, 4, 3, 6], [2, 3, 4, 5, NO_PTS])
    assert line.pts.tolist() == [0, 1, 2, 3, 4]


def test_frames_without_times_follow_at_the_frame_rate() -> None:
    assert observed([NO_PTS] * 3, step=4)[0].pts.tolist() == [0, 4, 8]


def test_a_clock_that_starts_again_goes_on_where_it_was() -> None:
    assert observed([100, 101, 102, 0, 1, 2])[0].pts.tolist() == [100, 101, 102, 103, 104, 105]


@given(st.lists(st.one_of(st.just(NO_PTS), st.integers(-100, 100)), min_size=1, max_size=40), st.integers(1, 5))
def test_observed_times_always_make_a_timeline(pts: list[int], step: int) -> None:
    line, order = observed(pts, step=step)
    assert len(line) == len(order)
    assert np.all(np.diff(line.pts) > 0)


@pytest.mark.parametrize(("pts", "end"), [([], 1), ([0, 0], 2), ([1, 0], 2), ([0, 1], 1)])
def test_a_timeline_refuses_times_that_do_not_increase(pts: list[int], end: int) -> None:
    with pytest.raises(InputError):
        Timeline(np.asarray(pts, dtype=np.int64), np.zeros(len(pts), bool), CLOCK, end)


def test_a_promise_within_two_frames_is_kept() -> None:
    line = packet_timeline(packets(list(range(50))), CLOCK, None)
    assert missing_tail(line, Fraction(2) + Fraction(2, 25)) == 0
    assert missing_tail(line, Fraction(4)) == 2


def test_coverage_is_the_decoded_share_of_the_expected_stretch() -> None:
    line = packet_timeline(packets(list(range(50))), CLOCK, None)
    result = outcome(line, [(0, 25)], Fraction(2), "cut")
    assert (result.status, result.coverage, result.end_seconds) == ("partial", 0.25, 2.0)


def test_nothing_lost_is_complete() -> None:
    line = packet_timeline(packets(list(range(50))), CLOCK, None)
    result = outcome(line, [], Fraction(0), "")
    assert (result.status, result.coverage) == ("complete", 1.0)


def test_sound_that_reaches_the_promised_end_keeps_the_promise() -> None:
    assert not ends_before(Fraction(10), Fraction(10))
    assert ends_before(Fraction(8), Fraction(10))
