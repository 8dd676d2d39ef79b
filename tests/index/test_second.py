"""The second look: the same hits with the moments that their videos' rows show, in an order that a trained model may change."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Demo
from vlm import Library
from vlm.errors import InputError, UnknownVideo
from vlm.index.footage import Footage
from vlm.index.second import DEPTH, MOST_ROWS, ROWS_A_VIDEO, around, look_again
from vlm.types import Features, Grounded, Hit, Moment, Span


def footage(video_id: int, rows: int = 20) -> Footage:
    vectors = np.eye(4, dtype=np.float32)[np.full(rows, video_id % 4)]
    return Footage(
        path=f"{video_id}.mp4", video_id=video_id, features=Features(vectors, np.arange(rows) * 1.0, rows), duration_seconds=rows
    )


def hits(number: int) -> list[Hit]:
    return [
        Hit(rank=place + 1, score=1 - place / 100, video_id=place, segment_id=place, path="", span=Span(2, 4), duration_seconds=20)
        for place in range(number)
    ]


class Told:
    """A reader whose presences are told beforehand, by the number of rows of a video; it takes ``seconds`` a video."""

    def __init__(self, presences: dict[int, float] | None = None, *, score: float = 1.0, seconds: float = 0.0) -> None:
        self.tells_presence = presences is not None
        self.calls: list[int] = []
        self._presences, self._score, self._seconds = presences, score, seconds

    def ground_each(self, text: str, videos: Sequence[Features]) -> list[Grounded]:
        self.calls.append(len(videos))
        time.sleep(self._seconds * len(videos))
        return [
            Grounded(
                text=text,
                moments=(Moment(Span(5, 7), self._score),),
                curve=np.arange(len(one.times), dtype=np.float32),
                presence=None if self._presences is None else self._presences.get(len(one.times), 0.5),
            )
            for one in videos
        ]


def test_without_presence_the_order_stays_and_the_moments_are_new():
    found, looked = look_again(Told(), "x", hits(5), footage)
    assert [hit.video_id for hit in found] == [0, 1, 2, 3, 4]
    assert {hit.span for hit in found} == {Span(5, 7)}
    assert found[0].curve is not None
    assert (found[0].curve.times[:2], found[0].curve.values[:2], found[0].curve.end) == ((0.0, 1.0), (0.0, 1.0), 20.0)
    assert (looked.num_videos, looked.num_skipped, looked.reason) == (5, 0, "")


def test_a_span_stays_where_nothing_stands_out():
    found, _ = look_again(Told(score=0.0), "x", hits(1), footage)
    assert found[0].span == Span(2, 4)


def test_the_span_of_a_short_video_stays():
    found, _ = look_again(Told(score=9.0), "x", hits(1), lambda video: footage(video, 9))
    assert found[0].span == Span(2, 4)
    assert found[0].curve is not None


def test_presence_orders_and_ranks_follow():
    presences = {21: 0.1, 22: 0.9, 23: 0.9, 24: 0.4}
    shown = hits(4)
    reader = Told(presences)
    found, _ = look_again(reader, "x", shown, lambda video: footage(video, 21 + video))
    assert [hit.video_id for hit in found] == [1, 2, 3, 0]
    assert [hit.rank for hit in found] == [1, 2, 3, 4]
    assert [hit.presence for hit in found] == [0.9, 0.9, 0.4, 0.1]
    assert reader.calls == [4]  # one batch
    later, _ = look_again(Told(presences), "x", shown[2:], lambda video: footage(video, 21 + video))
    assert [hit.rank for hit in later] == [3, 4]


def test_no_more_videos_and_rows_are_read_than_is_said():
    found, looked = look_again(Told({}), "x", hits(DEPTH + 3), footage)
    assert [hit.video_id for hit in found] == list(range(DEPTH + 3))
    assert (looked.num_videos, looked.num_skipped) == (DEPTH, 3)
    assert str(DEPTH) in looked.reason
    _, long = look_again(Told({}), "x", hits(20), lambda video: footage(video, 5 * ROWS_A_VIDEO))
    assert long.num_videos == MOST_ROWS // ROWS_A_VIDEO
    assert "rows were reached" in long.reason


def test_a_limit_of_time_is_kept_and_what_it_skipped_is_told():
    reader = Told({}, seconds=0.005)
    begin = time.perf_counter()
    found, looked = look_again(reader, "x", hits(30), footage, latency_ms=60)
    assert time.perf_counter() - begin < 1  # all would be read at once, or in groups; a busy machine may make a group late
    assert looked.num_videos + looked.num_skipped == 30 == len(found)
    assert looked.num_skipped > 0
    assert looked.reason == "60 ms were over"
    assert [hit.presence is None for hit in found] == [False] * looked.num_videos + [True] * looked.num_skipped
    _, all_of_it = look_again(Told({}), "x", hits(30), footage, latency_ms=60_000)
    assert all_of_it.num_skipped == 0


@pytest.mark.parametrize("wrong", [0.0, -5.0, float("nan")])
def test_a_limit_that_is_no_time_is_refused(wrong: float):
    with pytest.raises(InputError, match="latency_ms must be above 0"):
        look_again(Told(), "x", hits(1), footage, latency_ms=wrong)


def test_a_video_that_was_removed_meanwhile_is_no_hit():
    def gone(video: int) -> Footage:
        if video == 1:
            raise UnknownVideo("gone")
        return footage(video)

    found, _ = look_again(Told(), "x", hits(3), gone)
    assert [(hit.rank, hit.video_id) for hit in found] == [(1, 0), (2, 2)]


@pytest.mark.parametrize(
    ("span", "most", "expected"),
    [
        (Span(0, 2), 10, (0, 10)),
        (Span(50, 52), 10, (46, 56)),
        (Span(98, 100), 10, (90, 100)),
        (Span(20, 60), 10, (20, 60)),
        (Span(0, 100), 200, (0, 100)),
    ],
)
def test_of_a_long_video_the_rows_around_the_hit_are_read(span: Span, most: int, expected: tuple[int, int]):
    part = around(footage(1, 100), span, most)
    assert (part.offset_seconds, part.offset_seconds + part.features.end) == expected
    assert len(part.features.times) == expected[1] - expected[0]


def test_a_library_shows_the_moment_and_where_it_came_from(plain_demo: Demo):
    with Library.open(plain_demo.library, create=False) as library:
        result = library.search("a small red circle", top_k=4)
        plain = library.search("a small red circle", top_k=4, second_look=False)
        assert [hit.video_id for hit in result.hits] == [hit.video_id for hit in plain.hits]
        assert result.looked is not None
        assert (result.looked.num_videos, plain.looked) == (4, None)
        for hit in result.hits:
            assert hit.curve is not None
            assert 0 <= hit.span.start < hit.span.end <= hit.duration_seconds + 1e-6
            assert len(hit.curve.times) == len(hit.curve.values)
        by_segment = library.search("a small red circle", group_by="segment")
        assert by_segment.looked is None
        assert by_segment.hits[0].curve is None


def test_pages_are_the_whole_in_parts(colour_videos: Path, tmp_path: Path, blocks: str):
    with Library.open(tmp_path / "lib", encoder=blocks) as library:
        library.add(colour_videos)
        whole = library.search("white", top_k=3).hits
        parts = [hit for skip in range(3) for hit in library.search("white", top_k=1, skip=skip).hits]
        assert [(hit.rank, hit.video_id, hit.span) for hit in parts] == [(hit.rank, hit.video_id, hit.span) for hit in whole]
        thumbnail = library.thumbnail(whole[0].video_id, 12.0)
        assert thumbnail is not None
        times = [one.pts for one in library.thumbnails(whole[0].video_id)]
        assert thumbnail.pts in times
