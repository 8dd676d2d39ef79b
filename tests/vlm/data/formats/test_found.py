"""Results go out and come back: JSON lines, CSV, submissions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm.data.formats.found import FoundMoment, only_video_of, submissions_of
from vlm.data.formats.found_csv import read_found_csv, write_found_csv
from vlm.data.formats.found_jsonl import read_found_jsonl, write_found_jsonl
from vlm.errors import InputError
from vlm.types import Span

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
SPANS = st.tuples(st.integers(0, 10**7), st.integers(1, 10**6)).map(lambda t: Span(t[0] / 1000, (t[0] + t[1]) / 1000))
MOMENTS = st.lists(
    st.builds(
        FoundMoment,
        query=TEXTS,
        video=TEXTS,
        span=SPANS,
        score=st.floats(-1, 1),
        rank=st.integers(1, 99),
        video_id=st.none() | st.integers(1, 2**63),
        confidence=st.none() | st.floats(0, 1),
    ),
    max_size=4,
)


def moment(
    video: str = "/films/a.mp4", *, query: str = "a dog", rank: int = 1, span: Span | None = None, video_id: int | None = None
) -> FoundMoment:
    return FoundMoment(query=query, video=video, span=span or Span(1.5, 4.0), score=0.25, rank=rank, video_id=video_id)


@settings(max_examples=40, deadline=None)
@given(found=MOMENTS)
def test_jsonl_comes_back_as_it_went_out(tmp_path_factory: pytest.TempPathFactory, found: list[FoundMoment]):
    path = tmp_path_factory.mktemp("jsonl") / "found.jsonl"
    write_found_jsonl(path, found)
    assert read_found_jsonl(path) == tuple(found)


@settings(max_examples=40, deadline=None)
@given(found=MOMENTS)
def test_csv_comes_back_as_it_went_out(tmp_path_factory: pytest.TempPathFactory, found: list[FoundMoment]):
    path = tmp_path_factory.mktemp("csv") / "found.csv"
    write_found_csv(path, found)
    assert read_found_csv(path) == tuple(found)


def test_csv_holds_a_path_with_commas_quotes_and_line_ends(tmp_path: Path):
    found = (moment('/films/a, "b"\nc.mp4'),)
    write_found_csv(tmp_path / "found.csv", found)
    assert read_found_csv(tmp_path / "found.csv") == found


def test_jsonl_holds_a_file_name_that_is_not_utf8(tmp_path: Path):
    found = (moment(os.fsdecode(b"/films/caf\xe9.mp4")),)
    write_found_jsonl(tmp_path / "found.jsonl", found)
    assert read_found_jsonl(tmp_path / "found.jsonl") == found


def test_csv_refuses_a_file_name_that_is_not_utf8(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be written as UTF-8"):
        write_found_csv(tmp_path / "found.csv", [moment(os.fsdecode(b"/films/caf\xe9.mp4"))])


def test_a_submission_holds_the_windows_of_one_query_in_one_video():
    first, second = submissions_of([moment(), moment("/films/b.mp4", rank=2), moment(rank=3, span=Span(8.0, 9.0))])
    assert [(w.window.start, w.window.end, w.score) for w in first.windows] == [(1.5, 4.0, 0.25), (8.0, 9.0, 0.25)]
    assert (first.video_id, second.video_id) == ("/films/a.mp4", "/films/b.mp4")


def test_a_video_whose_file_has_gone_is_submitted_by_its_id():
    found = submissions_of([moment("", video_id=7), moment("", video_id=8)])
    assert [one.video_id for one in found] == ["video-7", "video-8"]


def test_moments_of_two_videos_are_no_subtitles_of_one():
    with pytest.raises(InputError, match="-o DIR"):
        only_video_of([moment(), moment("/films/b.mp4")])


def test_a_confidence_above_one_is_refused_and_named():
    with pytest.raises(InputError, match=r"1\.5"):
        FoundMoment(query="a dog", video="a.mp4", span=Span(0, 1), score=0.1, rank=1, video_id=None, confidence=1.5)
