from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.media import COLOURS, scene_video
from vlm.errors import InputError, VideoError
from vlm.types import Span
from vlm.video.strip import filmstrip
from vlm.video.supervise import SupervisedDecoder


@pytest.fixture(scope="module")
def decoder() -> Iterator[SupervisedDecoder]:
    with SupervisedDecoder(deadline_seconds=20) as decoder:
        yield decoder


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("strip") / "three.mp4"
    scene_video(path, [("red", 4), ("green", 4), ("blue", 4)])
    return path


def test_the_pictures_lie_in_the_span_evenly_and_in_order(video: Path, decoder: SupervisedDecoder):
    times = [picture.seconds for picture in filmstrip(video, Span(2.0, 10.0), decoder, count=4)]
    assert times == pytest.approx([3, 5, 7, 9], abs=0.3)


def test_each_picture_shows_its_own_moment(video: Path, decoder: SupervisedDecoder):
    seen = [picture.pixels.mean(axis=(0, 1)) for picture in filmstrip(video, Span(4.0, 12.0), decoder, count=2)]
    for pixel, name in zip(seen, ("green", "blue"), strict=True):
        assert pixel == pytest.approx(COLOURS[name], abs=12)


def test_pictures_keep_the_aspect_at_the_height_that_is_asked_for(video: Path, decoder: SupervisedDecoder):
    (picture,) = filmstrip(video, Span(0.0, 1.0), decoder, count=1, height=30)
    assert picture.pixels.shape[0] == 30
    whole = decoder.probe(str(video).encode())
    assert picture.pixels.shape[1] == round(30 * whole.width / whole.height)


def test_a_stretch_of_few_frames_gives_each_once(video: Path, decoder: SupervisedDecoder):
    times = [picture.seconds for picture in filmstrip(video, Span(11.9, 12.0), decoder, count=8)]
    assert 1 <= len(times) == len(set(times))
    assert all(11.9 <= at < 12.0 for at in times)


def test_what_cannot_be_shown_is_refused_by_name(video: Path, tmp_path: Path, decoder: SupervisedDecoder):
    with pytest.raises(InputError, match="count=0"):
        filmstrip(video, Span(0, 1), decoder, count=0)
    with pytest.raises(VideoError, match=r"gone\.mp4"):
        filmstrip(tmp_path / "gone.mp4", Span(0, 1), decoder)
