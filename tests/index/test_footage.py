"""A video is asked the same way whether it lies in the library or is read from its file; answers say what they rest on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.index.test_attach import save_model
from tests.media import scene_video
from vlm import Library
from vlm.errors import InputError, NotAVideo, QueryError, SpanError, UnknownVideo, VideoUnreadable, WeightsUnavailable
from vlm.index.ask import MOST_SECONDS, around
from vlm.index.footage import Footage
from vlm.spans import temporal_iou
from vlm.types import Answer, Features, Span


@pytest.fixture
def two(videos: Path) -> str:
    return str(videos / "blue then white.mp4")


def test_a_file_that_is_read_now_has_the_rows_that_the_library_stores(library: Library, two: str, colour_videos: Path):
    stored, read = library.footage(two), library.footage(colour_videos / "blue then white.mp4")
    assert (stored.video_id is None, read.video_id) == (False, None)
    np.testing.assert_array_equal(stored.features.vectors, read.features.vectors)
    np.testing.assert_array_equal(stored.features.times, read.features.times)
    assert (stored.features.end, stored.duration_seconds, stored.coverage) == (read.features.end, read.duration_seconds, 1.0)
    assert len(library.videos()) == 3


def test_a_video_is_known_by_id_and_path(library: Library, two: str):
    video_id = library.resolve(two)
    for reference in (video_id, str(video_id), two):
        assert library.footage(reference).video_id == video_id


def test_a_file_that_changed_since_it_was_added_is_read_anew_and_that_is_told(library: Library, two: str):
    scene_video(Path(two), [("red", 5)])
    found = library.footage(two)
    assert found.video_id is None
    assert found.features.end == pytest.approx(5.0)
    assert "has changed since it was added" in found.notes[0]


def test_a_file_that_has_gone_is_still_answered_from_the_library(library: Library, two: str):
    os.unlink(two)
    (found,) = library.ground(["white"], two)
    assert temporal_iou(found.moments[0].span, Span(8, 16)) > 0.9


def test_what_is_no_video_is_refused_by_name(library: Library, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("no video")
    with pytest.raises(NotAVideo, match=r"notes\.txt"):
        library.footage(tmp_path / "notes.txt")
    for reference in ("99", "missing.mp4"):
        with pytest.raises(UnknownVideo, match=reference.replace(".", r"\.")):
            library.footage(reference)
    with pytest.raises(UnknownVideo, match="99"):
        library.footage(99)
    removed = library.videos()[0].video_id
    library.remove(removed)
    with pytest.raises(UnknownVideo, match=str(removed)):
        library.ground(["red"], removed)


def test_moments_of_a_stretch_are_told_on_the_clock_of_the_video(library: Library, two: str):
    (whole,), (part,) = library.ground(["white"], two), library.ground(["white"], two, within=Span(6, 12))
    assert temporal_iou(whole.moments[0].span, Span(8, 16)) > 0.9
    assert temporal_iou(part.moments[0].span, Span(8, 12)) > 0.9
    assert len(part.curve) == 6


def test_a_stretch_without_frames_is_refused(library: Library, two: str):
    with pytest.raises(SpanError, match=r"20 to 30 s begins behind the end of .*16 s"):
        library.ground(["white"], two, within=Span(20, 30))
    with pytest.raises(SpanError, match=r"no frame .* from 1\.6 to 1\.7 s"):
        library.ground(["white"], two, within=Span(1.6, 1.7))


def test_many_queries_are_answered_in_their_order(library: Library, two: str):
    found = library.ground(["white", "blue", "white"], two)
    assert [one.text for one in found] == ["white", "blue", "white"]
    assert found[0].moments == found[2].moments
    assert found[1].moments[0].span.end <= 9
    for wrong, words in (("  ", "empty"), ("?!", "punctuation alone")):
        with pytest.raises(QueryError, match=words):
            library.ground([wrong], two)


def test_a_choice_is_answered_with_what_it_rests_on(library: Library, two: str):
    asked = library.ask("what colour is the scene", two, choices=["white", "yellow"])
    assert asked.answer.text == "white"
    assert temporal_iou(asked.answer.evidence[0].span, Span(8, 16)) > 0.9
    assert asked.answer.faithfulness is not None
    assert asked.answer.faithfulness > 0.2
    assert (asked.answer.prior, asked.is_shown) == (None, None)
    inside = library.ask("what colour is the scene", two, choices=["white", "blue"], within=Span(0, 7))
    assert inside.answer.text == "blue"
    assert inside.span_read == Span(0, 7)


def test_the_library_is_asked_through_its_best_videos(library: Library, two: str):
    asked = library.ask("what colour is it", choices=["red", "yellow"])
    assert asked.answer.text == "red"
    assert asked.footage.path.endswith("red.mp4")
    assert asked.videos_read == (library.resolve(asked.footage.path),)
    with pytest.raises(InputError, match="name the video"):
        library.ask("what colour is it", choices=["red", "yellow"], within=Span(0, 1))


def test_an_encoder_alone_says_how_an_open_question_can_be_answered(library: Library, two: str):
    with pytest.raises(QueryError, match=r"--choices.*--answerer.*vlm train"):
        library.ask("what is it", two)
    with pytest.raises(InputError, match="at least two options"):
        library.ask("what is it", two, choices=["red"])


def test_an_empty_library_cannot_be_asked(tmp_path: Path, blocks: str):
    with Library.open(tmp_path / "empty", encoder=blocks) as library, pytest.raises(QueryError, match="holds no video yet"):
        library.ask("what colour is it", choices=["red", "green"])


def test_a_trained_model_answers_with_its_prior_and_tells_whether_it_is_shown(library: Library, two: str, tmp_path: Path, blocks: str):
    library.attach(save_model(tmp_path / "trained", answers=("yes", "no"), shows=False))
    asked = library.ask("is it white", two)
    assert {text for text, _ in asked.answer.options} == {"yes", "no"}
    assert asked.answer.prior is not None
    assert (asked.is_shown, asked.answer.answerable) == (False, pytest.approx(0.018, abs=1e-3))
    everywhere = library.ask("is it white")
    assert everywhere.answer.text in ("yes", "no")
    assert len(everywhere.videos_read) == 3  # none shows it: all were asked
    library.attach(save_model(tmp_path / "sure", answers=("yes", "no"), shows=True))
    first = library.ask("is it white")
    assert (first.is_shown, len(first.videos_read)) == (True, 1)
    shutil.rmtree(library.path / "models")
    with Library.open(library.path, encoder=blocks) as again, pytest.raises(WeightsUnavailable, match="vlm attach"):
        again.ask("is it white", two)


class Brightness:
    """Answers by how bright the frames are that it is shown."""

    name = "brightness"

    def __init__(self) -> None:
        self.shown: list[list[float]] = []

    def answer(self, question: str, frames: np.ndarray, times: Sequence[float], *, options: Sequence[str] = ()) -> Answer:
        self.shown.append(list(times))
        white = float(frames.mean()) / 255
        options_shares = sorted((("white", white), ("blue", 1 - white)), key=lambda pair: -pair[1])
        return Answer(text=options_shares[0][0], probability=options_shares[0][1], options=tuple(options_shares), evidence=())


def test_a_larger_answerer_sees_the_frames_of_the_moment_that_is_found(library: Library, two: str):
    answerer = Brightness()
    asked = library.ask("what colour is it", two, choices=["white", "blue"], answerer=answerer)
    evidence, rest = answerer.shown
    span = asked.answer.evidence[0].span
    assert all(span.start <= second < span.end for second in evidence)
    assert not any(span.start <= second < span.end for second in rest)
    assert asked.answer.faithfulness is not None
    assert asked.answer.faithfulness > 0.2
    told = library.ask("where is it white", two, answerer=answerer)
    assert told.answer.text == "white"
    assert told.answer.faithfulness is None
    inside = library.ask("what colour is it", two, choices=["white", "blue"], within=Span(9, 15), answerer=answerer)
    assert all(9 <= second < 15 for times in answerer.shown[-2:] for second in times)
    assert inside.answer.text == "white"


def test_a_larger_answerer_needs_the_file(library: Library, two: str):
    os.unlink(two)
    with pytest.raises(VideoUnreadable, match="blue then white"):
        library.ask("what is it", two, answerer=Brightness())


def test_of_a_long_video_the_part_around_the_hit_is_read():
    times = np.arange(0.0, 3600.0)
    vectors = np.tile(np.eye(4, dtype=np.float32)[:1], (3600, 1))
    footage = Footage(path="x", video_id=1, features=Features(vectors, times, 3600.0), duration_seconds=3600.0)
    for span, start in ((Span(1800, 1810), 1505.0), (Span(0, 10), 0.0), (Span(3590, 3600), 3000.0)):
        part = around(footage, span)
        assert part.offset_seconds == start
        assert part.features.end == pytest.approx(MOST_SECONDS)
