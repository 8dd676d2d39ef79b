from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from vlm.app.render import byte_size, clock_time, count, duration, order_of, share, shorten_path, stretch
from vlm.types import Hit, Span


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00"), (7.9, "0:07"), (59.9999, "1:00"), (754, "12:34"), (3599.4, "59:59"), (3723, "1:02:03"), (36_000, "10:00:00")],
)
def test_a_moment_reads_as_a_player_shows_it(seconds: float, shown: str):
    assert clock_time(seconds) == shown


@pytest.mark.parametrize(
    ("start", "end", "shown"),
    [(0.4, 4.2, "0:00-0:05"), (5.0, 10.0, "0:05-0:10"), (5.0, 10.0000004, "0:05-0:10"), (3598.5, 3600.1, "59:58-1:00:01")],
)
def test_a_stretch_is_shown_in_whole_seconds_that_hold_it(start: float, end: float, shown: str):
    assert stretch(start, end) == shown


def test_a_table_shows_what_its_hits_stand_in_the_order_of():
    hits = [
        Hit(rank=rank, score=0.1 * rank, video_id=1, segment_id=1, path="a", span=Span(0, 1), duration_seconds=1.0, presence=presence)
        for rank, presence in ((1, 0.987), (2, 0.3), (3, None))
    ]
    column, cells = order_of(hits)
    assert (column.title, cells) == ("shown", ["99%", "30%", "-"])
    column, cells = order_of(hits[2:])
    assert (column.title, cells) == ("score", ["0.300"])


def test_a_path_that_fits_is_left_alone():
    assert shorten_path("/videos/dog.mp4", 15) == "/videos/dog.mp4"


def test_leading_folders_are_dropped_before_anything_else():
    assert shorten_path("/home/anna/videos/2024/dog jumps.mp4", 24) == "…/2024/dog jumps.mp4"


def test_a_long_name_loses_its_middle_and_keeps_its_extension():
    assert shorten_path("/v/a very long name of a video.mp4", 16) == "a very l…deo.mp4"


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Mn", "Me", "Zl", "Zp"]), max_size=60), st.integers(4, 40))
def test_a_shortened_path_never_exceeds_its_width(path: str, width: int):
    assert cell_len(shorten_path(path, width)) <= width


@pytest.mark.parametrize(
    ("num_bytes", "shown"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (605_000_000, "605 MB"), (9_960_000_000, "10.0 GB"), (2.5e12, "2.5 TB")],
)
def test_sizes_are_decimal_and_short(num_bytes: float, shown: str):
    assert byte_size(num_bytes) == shown


def test_what_is_not_whole_never_reads_as_whole():
    assert [share(value) for value in (1.0, 0.99999, 0.5, 0.0)] == ["100%", "99%", "50%", "0%"]


def test_lengths_of_time_take_the_unit_that_matters():
    assert [duration(s) for s in (0, 45, 90, 5399, 5400)] == ["0 s", "45 s", "2 min", "90 min", "1.5 h"]


def test_a_noun_follows_its_number():
    assert [count(1, "video"), count(0, "video"), count(12_000, "video")] == ["1 video", "0 videos", "12,000 videos"]
