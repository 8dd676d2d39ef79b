"""Queries of several parts: texts, pictures and footage, added and taken away; and which videos may be found at all."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.plugins.blocks import COLOURS, Blocks
from vlm import Library
from vlm.errors import InputError, QueryError, UnknownVideo
from vlm.index.filters import Filters
from vlm.index.query import Term, query_vector, told
from vlm.index.search import Searcher
from vlm.types import Framing, Span
from vlm.video.picture import read_picture


@pytest.fixture(scope="module")
def library(colour_videos: Path, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("queries")
    spec = f"python:{Path(__file__).resolve().parents[1] / 'plugins/blocks.py'}:blocks"
    with Library.open(folder / "lib", encoder=spec) as library:
        library.add(shutil.copytree(colour_videos, folder / "videos"))
        yield library


def names(result) -> list[str]:
    return [Path(hit.path).stem for hit in result]


def paint(path: Path, colour: str, *, size: tuple[int, int] = (40, 60)) -> Path:
    Image.new("RGB", size[::-1], COLOURS[colour]).save(path)
    return path


def vector_of(library: Library, *terms: Term) -> np.ndarray:
    return query_vector(terms, library.load_encoder().encode_text, library.reader(), dim=32)


def test_a_sum_is_the_direction_of_its_weighted_parts(library: Library):
    red, white = (Blocks().encode_text([word])[0].astype(np.float64) for word in ("red", "white"))
    expected = 2 * red - 0.5 * white
    found = vector_of(library, Term("red", 2.0), Term("white", -0.5))
    np.testing.assert_allclose(found[0], expected / np.linalg.norm(expected), atol=1e-6)


def test_adding_brings_hits_nearer_and_taking_away_moves_them_off(library: Library):
    plain = {hit.video_id: hit.score for hit in library.search("red", top_k=3)}
    both, less = library.search("red", plus=["green"], top_k=3), library.search("red", minus=[("green", 0.5)], top_k=3)
    assert set(names(both)[:2]) == {"red", "green"}
    green = next(hit.video_id for hit in both if hit.path.endswith("green.mkv"))
    assert next(hit.score for hit in less if hit.video_id == green) < plain[green]
    assert (both.query, less.query) == ("red + green", "red - 0.5 * green")


def test_what_says_only_what_to_leave_out_is_refused(library: Library):
    with pytest.raises(QueryError, match=r"- red.*say what should be seen"):
        library.search(minus=["red"])
    with pytest.raises(QueryError, match=r"cancel out: red - red"):
        library.search("red", minus=["red"])
    with pytest.raises(QueryError, match="empty"):
        library.search()
    with pytest.raises(InputError, match=r"got 0 for 'green'"):
        library.search("red", plus=[("green", 0.0)])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_a_picture_finds_the_video_that_looks_like_it(suffix: str, library: Library, tmp_path: Path):
    assert names(library.search(like=paint(tmp_path / f"sheet{suffix}", "green"), top_k=1)) == ["green"]


def test_a_stretch_of_a_video_finds_itself(library: Library):
    both = next(video for video in library.videos() if len(library.features(video.video_id).times) > 10)
    for start, word in ((0, "blue"), (9, "white")):
        hits = library.search(like=library.footage(both.video_id).within(Span(start, start + 6)), top_k=1)
        assert hits[0].video_id == both.video_id
        assert hits[0].score > 0.99
        assert hits[0].span.start < 8 if word == "blue" else hits[0].span.end > 8


def test_a_picture_can_be_changed_by_words(library: Library, tmp_path: Path):
    sheet = paint(tmp_path / "sheet.png", "red")
    assert names(library.search("green", like=sheet, plus=[("green", 2.0)], top_k=1)) == ["green"]


def test_what_hits_should_look_like_must_be_there_and_be_a_picture(library: Library, tmp_path: Path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match=r"text\.png.*no picture"):
        library.search(like=tmp_path / "text.png")
    with pytest.raises(UnknownVideo, match="missing"):
        library.search(like=tmp_path / "missing.png")
    with pytest.raises(UnknownVideo, match="77"):
        library.search(like=77)


def test_a_picture_is_turned_upright_and_laid_on_white(tmp_path: Path):
    pixels = np.zeros((40, 80, 4), np.uint8)
    pixels[:, :40] = (255, 0, 0, 255)  # the left half is red, the right one transparent
    tag = Image.Exif()
    tag[0x0112] = 6  # shown turned clockwise by a quarter
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=tag)
    found = read_picture(tmp_path / "turned.png", Framing(height=40, width=20, resize="squash", interpolation="bilinear"))
    assert (found[5, 10].tolist(), found[35, 10].tolist()) == ([255, 0, 0], [255, 255, 255])


def test_pages_follow_each_other(library: Library):
    whole = library.search("blue", top_k=3)
    pages = [library.search("blue", top_k=1, skip=skip) for skip in range(4)]
    assert [hit for page in pages for hit in page] == list(whole)
    assert len(pages[3]) == 0
    with pytest.raises(InputError, match="skip must be at least 0, got -1"):
        library.search("blue", skip=-1)


def test_only_videos_that_pass_are_found(library: Library):
    for filters, expected in (
        (Filters(paths=("*.mkv",)), {"green"}),
        (Filters(paths=("videos/red*", "blue*")), {"red", "blue then white"}),
        (Filters(min_seconds=10), {"blue then white"}),
        (Filters(max_seconds=10), {"red", "green"}),
        (Filters(min_seconds=100), set()),
        (Filters(since=datetime.now(UTC) + timedelta(days=1)), set()),
        (Filters(until=datetime.now(UTC) + timedelta(days=1)), {"red", "green", "blue then white"}),
        (Filters(paths=("*.mkv",), min_seconds=10), set()),
    ):
        assert set(names(library.search("red", only=filters, top_k=9))) == expected, filters


def test_files_are_told_by_when_they_were_changed(library: Library, tmp_path: Path, blocks: str, colour_videos: Path):
    folder = shutil.copytree(colour_videos, tmp_path / "dated")
    for name, day in (("red.mp4", 1), ("green.mkv", 2), ("blue then white.mp4", 3)):
        stamp = datetime(2020, 5, day, 12, tzinfo=UTC).timestamp()
        os.utime(folder / name, (stamp, stamp))
    with Library.open(tmp_path / "lib", encoder=blocks) as dated:
        dated.add(folder)
        only = Filters(since=datetime(2020, 5, 2, tzinfo=UTC), until=datetime(2020, 5, 3, tzinfo=UTC))
        assert names(dated.search("red", only=only, top_k=9)) == ["green"]


def test_filters_that_nothing_can_pass_are_refused():
    with pytest.raises(InputError, match="at least 9 s and at most 3 s"):
        Filters(min_seconds=9, max_seconds=3)
    with pytest.raises(InputError, match=r"2021.*2020"):
        Filters(since=datetime(2021, 1, 1, tzinfo=UTC), until=datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(InputError, match="min_seconds must be at least 0, got -1"):
        Filters(min_seconds=-1)


def test_comparing_one_by_one_gives_what_the_index_gives(library: Library, monkeypatch: pytest.MonkeyPatch):
    everything = {video.video_id for video in library.videos()}
    searcher = Searcher(library._store, library._gear.index_cache().current())
    vector = vector_of(library, Term("white"))
    exact, _ = searcher.search(vector, top_k=9, group_by="segment", only=everything)
    whole, _ = searcher.search(vector, top_k=9, group_by="segment")
    some = {exact[-1].video_id}
    few, _ = searcher.search(vector, top_k=9, group_by="segment", only=some)
    monkeypatch.setattr("vlm.index.search.COMPARED_AT_ONCE", 0)
    through_index, _ = searcher.search(vector, top_k=9, group_by="segment", only=some)
    for one, other in ((exact, whole), (few, through_index)):
        assert [hit.segment_id for hit in one] == [hit.segment_id for hit in other]
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-5)
    assert {hit.video_id for hit in few} == some


def test_a_query_is_told_in_words():
    assert told([Term("a", -1.0), Term("b", 0.5), Term("c", -2.0)]) == "- a + 0.5 * b - 2 * c"
