"""Results with their frames go out to editors and come back: exact to the frame at every rate, and as other programs read them."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import opentimelineio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm.data.formats.chapters import chapters_text, read_chapters, write_chapters
from vlm.data.formats.edl import MOST_EVENTS, edl_text, read_edl, write_edl
from vlm.data.formats.fiftyone import fiftyone_text, read_fiftyone, write_fiftyone
from vlm.data.formats.found import FoundMoment
from vlm.data.formats.framed import FramedMoment, FrameRange
from vlm.data.formats.otio import otio_text, read_otio, write_otio
from vlm.errors import BackendUnavailable, InputError
from vlm.timecode import knows_drop_frame
from vlm.types import Clock, Span

RATES = {
    "23.976": Fraction(24000, 1001),
    "24": Fraction(24),
    "25": Fraction(25),
    "29.97": Fraction(30000, 1001),
    "50": Fraction(50),
    "59.94": Fraction(60000, 1001),
}
Write = Callable[[Path, list[FramedMoment]], None]
Read = Callable[[Path], tuple[FramedMoment, ...]]
FORMATS: dict[str, tuple[Write, Read]] = {
    "edl": (write_edl, read_edl),
    "otio": (write_otio, read_otio),
    "chapters": (write_chapters, read_chapters),
    "fiftyone": (write_fiftyone, read_fiftyone),
}
EVERY_FORMAT = pytest.mark.parametrize("name", FORMATS)


def constant(rate: Fraction, first: int, last: int, *, drop_frame: bool = False, origin: int = 0, rank: int = 1) -> FramedMoment:
    """Frames of a file whose clock ticks once a frame."""
    clock = Clock(1 / rate)
    found = FoundMoment(
        query="a dog",
        video="/films/a.mp4",
        span=Span(float(first / rate), float(last / rate)),
        score=0.25,
        rank=rank,
        video_id=7,
        confidence=0.5,
    )
    frames = FrameRange(first=first, last=last, start_pts=first, end_pts=last, clock=clock, rate=rate, drop_frame=drop_frame, origin=origin)
    return FramedMoment(found, frames)


@st.composite
def moments(draw: st.DrawFn) -> list[FramedMoment]:
    """Moments of one video: any rate, with and without drop-frame, or frames at irregular times on a clock of 1/90000 s."""
    rate = draw(st.sampled_from(list(RATES.values())))
    is_variable = draw(st.booleans())
    drop_frame = knows_drop_frame(rate) and draw(st.booleans())
    clock = Clock(Fraction(1, 90_000), draw(st.sampled_from([Fraction(0), Fraction(-1, 44_100), Fraction(1, 1000)])))
    made = []
    for rank in range(1, draw(st.integers(1, 4)) + 1):
        first, num = draw(st.integers(0, 40_000)), draw(st.integers(1, 3_000))
        if is_variable:
            start_pts = draw(st.integers(90, 10**9))
            end_pts = start_pts + draw(st.integers(1, 10**7))
        else:
            start_pts, end_pts = (round(frame / rate * 90_000) + 90 for frame in (first, first + num))
        found = FoundMoment(
            query=draw(st.text(st.characters(codec="utf-8"), max_size=12)),
            video=os.fsdecode(draw(st.just(b"/films/caf\xe9; =#\\ \xe7\x8c\xab.mp4"))),
            span=Span(draw(st.floats(0, 10**5)), 10.0**6),
            score=draw(st.floats(-1, 1)),
            rank=rank,
            video_id=7,
            confidence=draw(st.none() | st.floats(0, 1)),
        )
        frames = FrameRange(
            first=first,
            last=first + num,
            start_pts=start_pts,
            end_pts=end_pts,
            clock=clock,
            rate=rate,
            is_variable=is_variable,
            drop_frame=drop_frame,
            origin=draw(st.integers(0, 100_000)),
        )
        made.append(FramedMoment(found, frames))
    return made


@EVERY_FORMAT
@settings(max_examples=40, deadline=None)
@given(framed=moments())
def test_what_went_out_comes_back_to_the_frame(tmp_path_factory: pytest.TempPathFactory, name: str, framed: list[FramedMoment]):
    path = tmp_path_factory.mktemp(name) / "file"
    write, read = FORMATS[name]
    write(path, framed)
    expected = framed if name != "chapters" else sorted(framed, key=lambda one: (one.frames.first, one.frames.last, one.found.rank))
    assert read(path) == tuple(expected)


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
@pytest.mark.parametrize("drop_frame", [False, True])
def test_another_reader_of_edls_and_timelines_finds_the_same_frames(tmp_path: Path, rate: Fraction, drop_frame: bool):
    if drop_frame and not knows_drop_frame(rate):
        return
    stretches = [(0, 1), (17, 1800), (1799, 1801), (17_981, 17_983), (100_000, 107_893)]
    framed = [constant(rate, first, last, drop_frame=drop_frame, rank=rank) for rank, (first, last) in enumerate(stretches, start=1)]
    write_edl(tmp_path / "a.edl", framed)
    write_otio(tmp_path / "a.otio", framed)
    for path, options in ((tmp_path / "a.edl", {"rate": float(rate)}), (tmp_path / "a.otio", {})):
        timeline = opentimelineio.adapters.read_from_file(str(path), **options)
        ranges = [clip.source_range for clip in timeline.find_clips()]
        assert [(one.start_time.to_frames(), one.end_time_exclusive().to_frames()) for one in ranges] == stretches


def test_ffmpeg_reads_the_chapters(tmp_path: Path):
    rate = RATES["29.97"]
    framed = [constant(rate, 100, 200, rank=2), constant(rate, 30, 90)]
    write_chapters(tmp_path / "a.txt", framed)
    with av.open(str(tmp_path / "a.txt"), format="ffmetadata") as container:
        told = container.chapters()
    assert [(one["start"], one["end"], one["time_base"]) for one in told] == [
        (30 * 1001, 90 * 1001, Fraction(1, 30_000)),
        (100 * 1001, 200 * 1001, Fraction(1, 30_000)),
    ]
    assert [one["metadata"]["title"] for one in told] == ["a dog", "a dog"]


def test_an_edl_reads_as_editors_write_them():
    rate = RATES["29.97"]
    lines = edl_text([constant(rate, 1800, 1830, drop_frame=True), constant(rate, 17_982, 17_983, drop_frame=True)], title="x").split("\n")
    assert lines[:6] == [
        "TITLE: x",
        "FCM: DROP FRAME",
        "",
        "001  AX       V     C        00:01:00;02 00:01:01;02 01:00:00;00 01:00:01;00",
        "* FROM CLIP NAME: a.mp4",
        "* SOURCE FILE: /films/a.mp4",
    ]
    assert lines[8] == "002  AX       V     C        00:10:00;00 00:10:00;01 01:00:01;00 01:00:01;01"


def test_the_timecode_of_the_first_frame_is_added():
    framed = [constant(RATES["25"], 10, 20, origin=90_000)]
    assert "01:00:00:10 01:00:00:20 01:00:00:00 01:00:00:10" in edl_text(framed)


def test_fiftyone_counts_from_one_and_both_ends():
    text = fiftyone_text([constant(RATES["25"], 0, 1), constant(RATES["25"], 10, 20, rank=2)])
    assert '"support": [\n     1,\n     1\n    ]' in text
    assert '"support": [\n     11,\n     20\n    ]' in text
    assert '"media": {\n  "1": "/films/a.mp4"\n }' in text


def test_a_variable_rate_is_labelled_by_points_in_time():
    # At 24 points a second the stretch [0.50 s, 0.60 s) has those at 12/24, 13/24 and 14/24 s; and [0.51, 0.52) has none, and gets one.
    clock = Clock(Fraction(1, 1000), Fraction(-1))

    def labels(start: int, end: int) -> tuple[int, int]:
        made = FrameRange(first=3, last=9, start_pts=start - 1000, end_pts=end - 1000, clock=clock, rate=Fraction(24), is_variable=True)
        return made.labels

    assert labels(500, 600) == (12, 15)
    assert labels(510, 520) == (13, 14)


def test_several_rates_are_refused_in_one_edl_and_taken_elsewhere(tmp_path: Path):
    framed = [constant(RATES["25"], 0, 9), constant(RATES["29.97"], 0, 9, drop_frame=True, rank=2)]
    with pytest.raises(InputError, match=r"got 25 \('/films/a.mp4'\), 29.97 drop-frame .*--hits"):
        edl_text(framed)
    write_otio(tmp_path / "a.otio", framed)
    assert read_otio(tmp_path / "a.otio") == tuple(framed)
    with pytest.raises(InputError, match="no moments"):
        edl_text([])


def test_an_edl_has_no_more_events_than_three_digits_count():
    framed = [constant(RATES["25"], 0, 1)] * (MOST_EVENTS + 1)
    assert edl_text(framed[1:]).count("* VLM:") == MOST_EVENTS
    with pytest.raises(InputError, match="at most 999 events, got 1000"):
        edl_text(framed)


def test_chapters_belong_to_one_video():
    framed = [constant(RATES["25"], 0, 9)]
    with pytest.raises(InputError, match="moments of 0"):
        chapters_text([])
    clock = Clock(Fraction(1, 2**31))
    odd = FrameRange(first=0, last=1, start_pts=0, end_pts=5, clock=clock, rate=Fraction(25))
    with pytest.raises(InputError, match="2147483648"):
        chapters_text([FramedMoment(framed[0].found, odd)])


def test_ranges_that_are_none_are_refused():
    with pytest.raises(InputError, match=r"\[5, 5\) shown from 5 to 6"):
        FrameRange(first=5, last=5, start_pts=5, end_pts=6, clock=Clock(Fraction(1, 25)), rate=Fraction(25))
    with pytest.raises(InputError, match="got 25: leave drop-frame out"):
        constant(RATES["25"], 5, 6, drop_frame=True)


CHANGES = {
    "edl": ("00:00:04:00 00:00:08:00", "00:00:04:01 00:00:08:00"),
    "otio": ('"value": 100.0', '"value": 101.0'),
    "chapters": ("START=100", "START=101"),
    "fiftyone": ("101,", "102,"),
}


@EVERY_FORMAT
def test_what_was_edited_since_is_told_and_not_guessed(tmp_path: Path, name: str):
    write, read = FORMATS[name]
    write(tmp_path / "a", [constant(RATES["25"], 100, 200)])
    before, after = CHANGES[name]
    text = (tmp_path / "a").read_text()
    assert before in text
    (tmp_path / "a").write_text(text.replace(before, after))
    with pytest.raises(InputError, match="was edited since vlm wrote it"):
        read(tmp_path / "a")


FOREIGN = {
    "edl": ("001  AX       V     C        00:00:04:00 00:00:08:00 01:00:00:00 01:00:04:00\n", "as vlm writes them"),
    "otio": (
        '{"OTIO_SCHEMA": "SerializableCollection.1", "children": [], "metadata": {}, "name": ""}',
        "got Serializable",
    ),
    "chapters": (";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/25\nSTART=0\nEND=5\n", "as vlm writes them"),
    "fiftyone": ('{"labels": {"1": [{"label": "x", "support": [1, 5]}]}}', "field 'vlm' is missing"),
}


@EVERY_FORMAT
def test_files_of_others_are_refused(tmp_path: Path, name: str):
    text, told = FOREIGN[name]
    (tmp_path / "a").write_text(text)
    with pytest.raises(InputError, match=told):
        FORMATS[name][1](tmp_path / "a")


@EVERY_FORMAT
def test_a_file_that_is_none_is_refused(tmp_path: Path, name: str):
    (tmp_path / "a").write_text("001 nonsense\n; vlm: []\n")
    with pytest.raises(InputError):
        FORMATS[name][1](tmp_path / "a")


def test_without_its_package_a_timeline_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name == "opentimelineio":
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BackendUnavailable, match=r"vlm-retrieval\[otio\]"):
        otio_text([])
