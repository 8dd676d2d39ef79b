from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm.video.plan import plan_runs
from vlm.video.timeline import Packets


def packets(pts: list[int], keys: list[int]) -> Packets:
    n = len(pts)
    column = np.asarray(pts, dtype=np.int64)
    ones = np.ones(n, dtype=np.int64)
    return Packets(pts=column, dts=np.arange(n), duration=ones, size=ones, is_key=np.isin(np.arange(n), keys), is_hidden=np.zeros(n, bool))


@st.composite
def streams(draw: st.DrawFn) -> tuple[Packets, list[set[int]]]:
    """A stream of closed and open groups, and for each packet the packets that it refers to.

    A group is a keyframe, then leading pictures (shown before it), then pictures that refer to the one before. Leading pictures refer to
    their keyframe and to the last picture of the group before that is not itself leading: every standard promises that whatever is shown
    after a random access point can be decoded from it, so a leading picture cannot need one of the group before.
    """
    pts: list[int] = []
    keys: list[int] = []
    needs: list[set[int]] = []
    anchor = 0
    for number in range(draw(st.integers(1, 6))):
        leading = draw(st.integers(0, 3)) if number else 0
        start, shown = len(pts), len(pts)
        keys.append(start)
        pts += [shown + leading, *range(shown, shown + leading)]
        needs += [set(), *({start, anchor} for _ in range(leading))]
        anchor = start
        for _ in range(draw(st.integers(0, 12))):
            needs.append({anchor})
            anchor = len(pts)
            pts.append(anchor)
    return packets(pts, keys), needs


@settings(max_examples=500)
@given(streams(), st.data())
def test_a_decoder_that_forgets_between_runs_still_has_every_reference(stream: tuple[Packets, list[set[int]]], data: st.DataObject) -> None:
    table, needs = stream
    wanted = data.draw(st.sets(st.integers(0, len(table) - 1), min_size=1))
    plan = plan_runs(table, np.asarray(sorted(wanted)), short_gap=data.draw(st.integers(0, 10)), short_end=0)
    decodable: set[int] = set()
    for first, last in plan.runs.tolist():
        held: set[int] = set()  # flushed before each run
        for position in range(first, last):
            if needs[position] <= held:
                held.add(position)
        decodable |= held
    assert wanted <= decodable


@given(streams(), st.data())
def test_runs_ascend_start_at_keyframes_and_are_no_longer_than_needed(stream: tuple[Packets, list[set[int]]], data: st.DataObject) -> None:
    table, _ = stream
    wanted = data.draw(st.sets(st.integers(0, len(table) - 1), min_size=1))
    plan = plan_runs(table, np.asarray(sorted(wanted)), short_gap=0, short_end=0)
    flat = plan.runs.ravel()
    assert np.all(np.diff(flat) >= 0)
    assert table.is_key[plan.runs[:, 0]].all()
    assert all(last - 1 in wanted for last in plan.runs[:, 1].tolist())


def test_groups_without_a_wanted_frame_are_left_out() -> None:
    table = packets(list(range(300)), [0, 100, 200])
    assert plan_runs(table, np.asarray([5, 210]), short_end=0).runs.tolist() == [[0, 6], [200, 211]]


def test_keyframes_alone_are_one_packet_runs() -> None:
    table = packets(list(range(300)), [0, 100, 200])
    assert plan_runs(table, np.asarray([0, 100, 200]), short_end=0).runs.tolist() == [[0, 1], [100, 101], [200, 201]]


def test_a_leading_picture_starts_at_the_keyframe_before_its_own() -> None:
    table = packets([0, 1, 2, 5, 3, 4, 6], [0, 3])
    assert plan_runs(table, np.asarray([4]), short_end=0).runs.tolist() == [[0, 5]]
    assert plan_runs(table, np.asarray([6]), short_end=0).runs.tolist() == [[3, 7]]


def test_a_short_tail_is_fed_rather_than_restarting_the_decoder() -> None:
    table = packets(list(range(20)), [0, 10])
    assert plan_runs(table, np.asarray([5, 12]), short_gap=5, short_end=0).runs.tolist() == [[0, 13]]


def test_whole_groups_reach_the_next_keyframe() -> None:
    table = packets(list(range(30)), [0, 10, 20])
    assert plan_runs(table, np.asarray([3]), whole_groups=True, short_end=0).runs.tolist() == [[0, 10]]


def test_a_stream_that_begins_without_a_keyframe_is_fed_from_its_start() -> None:
    table = packets([0, 1, 2, 3], [2])
    assert plan_runs(table, np.asarray([1]), short_end=0).runs.tolist() == [[0, 2]]


def test_a_short_end_of_the_file_is_read_to_the_last_packet() -> None:
    table = packets(list(range(30)), [0])
    assert plan_runs(table, np.asarray([0]), short_end=29).runs.tolist() == [[0, 30]]
    assert plan_runs(table, np.asarray([0]), short_end=28).runs.tolist() == [[0, 1]]
