"""Results as subtitles go out and come back to the millisecond."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm.data.formats.found import FoundMoment
from vlm.data.formats.srt import read_srt, write_srt
from vlm.data.formats.webvtt import read_webvtt, webvtt_text, write_webvtt
from vlm.errors import InputError
from vlm.types import Span

MOMENTS = st.lists(
    st.builds(
        FoundMoment,
        query=st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(["a --> b", "<b>&amp;", "{\\i1}", "one\n\ntwo"]),
        video=st.just("a.mp4"),
        span=st.tuples(st.integers(0, 10**7), st.integers(1, 10**6)).map(lambda t: Span(t[0] / 1000, (t[0] + t[1]) / 1000)),
        score=st.floats(-1, 1),
        rank=st.integers(1, 99),
        video_id=st.none() | st.integers(1, 2**63),
        confidence=st.none() | st.floats(0, 1),
    ),
    max_size=4,
    unique_by=lambda moment: (moment.span, moment.rank),
)


def in_time(found: list[FoundMoment]) -> list[FoundMoment]:
    return [replace(m, query=" ".join(m.query.split())) for m in sorted(found, key=lambda m: (m.span, m.rank))]


@settings(max_examples=40, deadline=None)
@given(found=MOMENTS)
def test_webvtt_comes_back_in_order_of_time(tmp_path_factory: pytest.TempPathFactory, found: list[FoundMoment]):
    path = tmp_path_factory.mktemp("vtt") / "a.vtt"
    write_webvtt(path, found)
    assert list(read_webvtt(path, video="a.mp4")) == in_time(found)


@settings(max_examples=40, deadline=None)
@given(found=MOMENTS)
def test_srt_comes_back_but_for_its_arrows(tmp_path_factory: pytest.TempPathFactory, found: list[FoundMoment]):
    path = tmp_path_factory.mktemp("srt") / "a.srt"
    write_srt(path, found)
    assert list(read_srt(path, video="a.mp4")) == [replace(m, query=m.query.replace("-->", "->")) for m in in_time(found)]


def test_webvtt_escapes_what_would_be_markup():
    moment = FoundMoment(query="a <b> & c --> d", video="a.mp4", span=Span(1.5, 3661.25), score=0.25, rank=1, video_id=None)
    lines = ["WEBVTT", "", "1", "00:00:01.500 --> 01:01:01.250", "a &lt;b&gt; &amp; c --&gt; d", "#1 score=0.25", "", ""]
    assert webvtt_text([moment]) == "\n".join(lines)


def test_subtitles_of_other_makers_are_refused_with_their_cue(tmp_path: Path):
    (tmp_path / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nhello\n")
    with pytest.raises(InputError, match="cue 1"):
        read_srt(tmp_path / "a.srt", video="a.mp4")
