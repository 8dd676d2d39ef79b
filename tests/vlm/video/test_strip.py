from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from tests.media import COLOURS, scene_video
from tests.vlm.video.numbered import MakeVideo, number_in
from vlm.errors import InputError, VideoError
from vlm.types import Framing, Span
from vlm.video.strip import clip_at, filmstrip, frames_at
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


def test_frames_at_given_moments_come_in_order_of_time_each_once(video: Path, decoder: SupervisedDecoder):
    found = frames_at(video, [9.0, 1.0, 5.0, 1.0], decoder)
    assert [picture.seconds for picture in found] == pytest.approx([1, 5, 9], abs=0.3)
    for picture, name in zip(found, ("red", "green", "blue"), strict=True):
        assert picture.pixels.mean(axis=(0, 1)) == pytest.approx(COLOURS[name], abs=12)


def test_a_frames_own_time_gives_that_frame(make_video: MakeVideo, decoder: SupervisedDecoder):
    path = make_video("thirds.mp4", 30, time_base=Fraction(1, 3), size=(16, 16), options={"g": "10", "bf": "2"})
    times = [float(Fraction(number, 3)) for number in (1, 7, 8, 28)]
    found = frames_at(path, times, decoder)
    assert [picture.seconds for picture in found] == times
    assert [number_in(picture.pixels) for picture in found] == [1, 7, 8, 28]


def test_moments_outside_the_video_show_its_first_and_its_last_frame(video: Path, decoder: SupervisedDecoder):
    first, last = frames_at(video, [0.0, 1000.0], decoder)
    assert first.seconds == 0
    assert 11.5 < last.seconds < 12


def test_frames_are_full_size_or_bounded_and_never_larger(video: Path, decoder: SupervisedDecoder):
    whole = decoder.probe(str(video).encode())
    shapes = [frames_at(video, [1.0], decoder, longest_side=side)[0].pixels.shape[:2] for side in (None, 40, 10_000)]
    full, bounded, unbounded = shapes
    assert full == unbounded == (whole.height, whole.width)
    assert max(bounded) == 40
    assert bounded[0] / bounded[1] == pytest.approx(whole.height / whole.width, rel=0.05)


@pytest.mark.parametrize(("seconds", "said"), [([], "none"), ([1.0, -2.0], "-2.0"), ([float("nan")], "nan")])
def test_moments_that_are_none_are_refused(video: Path, decoder: SupervisedDecoder, seconds: list[float], said: str):
    with pytest.raises(InputError, match=f"seconds must be .* got {said}"):
        frames_at(video, seconds, decoder)


def test_a_bound_below_a_pixel_is_refused(video: Path, decoder: SupervisedDecoder):
    with pytest.raises(InputError, match=r"longest_side must be at least 1 pixel.* got 0"):
        frames_at(video, [1.0], decoder, longest_side=0)


def test_a_clip_has_a_picture_for_each_moment_even_where_it_is_the_same(video: Path, decoder: SupervisedDecoder):
    pixels = clip_at(video, [0.0, 0.001, 3.9, 4.0, 11.9, 40.0], decoder, Framing(height=16, width=24))
    assert pixels.shape == (6, 16, 24, 3)
    seen = pixels.mean(axis=(1, 2))
    for pixel, name in zip(seen, ("red", "red", "red", "green", "blue", "blue"), strict=True):
        assert pixel == pytest.approx(COLOURS[name], abs=12)
    assert (pixels[0] == pixels[1]).all()


def test_a_clip_is_read_forwards(video: Path, decoder: SupervisedDecoder):
    with pytest.raises(InputError, match="must not fall"):
        clip_at(video, [1.0, 0.5], decoder, Framing(height=16, width=16))
    with pytest.raises(InputError, match="not negative, got -1"):
        clip_at(video, [-1.0], decoder, Framing(height=16, width=16))
