"""Why a hit was found: words left out one at a time, peaks, and the stage that kept the nearest other candidate out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.media import scene_video
from vlm import Library
from vlm.errors import InputError, QueryError, UnknownVideo
from vlm.index.filters import Filters
from vlm.index.find import Request
from vlm.index.footage import Footage
from vlm.index.why import explained, why, without_each_word
from vlm.types import Features, Grounded, Moment, Span

COLOURS = ("red", "green", "blue", "white", "black")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos, each of one colour for 6 s and then another."""
    folder = tmp_path_factory.mktemp("many")
    for number, colour in enumerate(COLOURS):
        scene_video(folder / f"{colour}.mp4", [(colour, 6), (COLOURS[(number + 1) % 5], 6)], seed=number)
    return folder


@pytest.fixture(scope="module")
def made(many: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.conftest import BLOCKS

    folder = tmp_path_factory.mktemp("made") / "lib"
    with Library.open(folder, encoder=BLOCKS) as library:
        library.add(many)
    return folder


@pytest.fixture
def lib(made: Path, tmp_path: Path, blocks: str) -> Iterator[Library]:
    with Library.open(Path(shutil.copytree(made, tmp_path / "lib")), encoder=blocks) as library:
        yield library


class Counted:
    """A reader to which a text is worth the sum of its words' worths at each row."""

    tells_presence = False

    def __init__(self, worths: dict[str, list[float]]) -> None:
        self._worths = worths

    def ground(self, texts: Sequence[str], features: Features) -> list[Grounded]:
        rows = [np.sum([self._worths[word] for word in text.split()], axis=0, dtype=np.float32) for text in texts]
        return [Grounded(text=text, moments=(Moment(Span(0, 1), 1.0),), curve=row) for text, row in zip(texts, rows, strict=True)]


def footage(rows: int, *, offset: float = 0.0) -> Footage:
    features = Features(np.eye(4, dtype=np.float32)[np.zeros(rows, int)], np.arange(rows) * 1.0, rows)
    return Footage(path="a.mp4", video_id=1, features=features, duration_seconds=rows + offset, offset_seconds=offset)


def test_the_drop_of_a_word_is_what_it_was_worth_within_the_stretch():
    worths = {"a": [0.0] * 6, "red": [9.0, 9.0, 0.1, 0.5, 0.3, 9.0], "dog": [0.0, 0.0, -0.2, 0.0, 0.1, 0.0]}
    curve, words, peaks = explained(Counted(worths), "a red dog", footage(6, offset=10.0), Span(12.0, 15.0))  # type: ignore[arg-type]
    assert [(word.word, word.place) for word in words] == [("a", 0), ("red", 1), ("dog", 2)]
    assert [round(word.drop, 5) for word in words] == [0.0, 0.3, round(-0.1 / 3, 5)]
    assert [(word.at, round(word.most, 5)) for word in words] == [(12.0, 0.0), (13.0, 0.5), (14.0, 0.1)]
    assert np.allclose(words[1].curve, worths["red"])
    assert curve.times == (10.0, 11.0, 12.0, 13.0, 14.0, 15.0)
    assert curve.end == 16.0
    # 0.5 at 13 s is best; its neighbours are not named again.
    assert [(peak.seconds, round(peak.value, 5)) for peak in peaks] == [(13.0, 0.5)]


def test_peaks_are_the_highest_rows_that_are_no_neighbours():
    worths = {"a": [5.0, 6.0, 5.5, 4.0, 7.0, 0.0, 1.0, 3.0]}
    _, words, peaks = explained(Counted(worths), "a", footage(8), Span(0.0, 8.0))  # type: ignore[arg-type]
    assert words == ()
    assert [peak.seconds for peak in peaks] == [4.0, 1.0, 7.0]


def test_a_stretch_between_two_rows_takes_the_one_that_is_shown():
    worths = {"a": [1.0, 2.0, 3.0], "b": [0.0, 1.0, 0.0]}
    _, words, _ = explained(Counted(worths), "a b", footage(3), Span(1.2, 1.4))  # type: ignore[arg-type]
    assert [word.drop for word in words] == [2.0, 1.0]


@pytest.mark.parametrize(
    ("text", "rests"),
    [
        ("a dog", ["dog", "a"]),
        ("dog", []),
        ("dog !", ["dog"]),
        ("red red dog", ["red dog", "red dog", "red red"]),
    ],
)
def test_each_word_is_left_out_once(text: str, rests: list[str]):
    assert [rest for _, _, rest in without_each_word(text)] == rests


def test_the_word_that_names_the_colour_is_the_one_that_counts(lib: Library):
    told = lib.why("a red thing", top_k=2)
    assert told.hit is not None
    assert told.footage is not None
    assert max(told.words, key=lambda word: word.drop).word == "red"
    assert told.peaks[0].seconds in told.footage.features.times
    assert told.hit.span.start <= told.peaks[0].seconds < told.hit.span.end


def test_behind_the_cut_is_the_next_of_the_first_stage(lib: Library):
    every = lib.search("red", top_k=5, second_look=False)
    told = lib.why("red", top_k=2, second_look=False)
    assert told.rejected is not None
    assert (told.rejected.stage, told.rejected.first_rank) == ("top-k", 3)
    assert (told.rejected.video_id, told.rejected.segment_id) == (every[2].video_id, every[2].segment_id)
    assert told.rejected.value == pytest.approx(every[2].score, abs=1e-5)
    assert told.rejected.limit == pytest.approx(every[1].score, abs=1e-5)
    assert "its rank 3 is behind the 2 that were asked for" in told.rejected.reason


def test_where_all_are_hits_nothing_was_rejected(lib: Library):
    assert lib.why("red", top_k=5).rejected is None


def test_a_filter_is_named_with_its_value(lib: Library):
    best = lib.search("red")[0]
    told = lib.why("red", only=Filters(paths=("green.mp4", "blue.mp4"), min_seconds=1.0), top_k=2)
    assert told.rejected is not None
    assert (told.rejected.stage, told.rejected.video_id, told.rejected.first_rank) == ("filter", best.video_id, 1)
    assert "the filter paths = green.mp4, blue.mp4" in told.rejected.reason


def test_a_limit_of_length_is_named_where_it_is_what_failed(lib: Library):
    told = lib.why("red", only=Filters(paths=("*",), max_seconds=3.0))
    assert told.hit is None
    assert told.footage is None
    assert told.rejected is not None
    assert "the filter max_seconds = 3.0" in told.rejected.reason


def test_an_overlap_with_a_better_hit_is_told(lib: Library):
    hits = lib.search("red", group_by="segment", top_k=3)
    told = lib.why("red", group_by="segment", top_k=3)
    assert told.rejected is not None
    assert told.rejected.stage == "suppression"
    (better,) = [hit for hit in hits if f"with hit {hit.rank}," in told.rejected.reason]
    shared = min(better.span.end, told.rejected.span.end) - max(better.span.start, told.rejected.span.start)
    assert shared / min(better.span.seconds, told.rejected.span.seconds) == pytest.approx(told.rejected.value)
    assert told.rejected.limit == 0.5


def test_confidence_below_the_one_asked_for_is_told(lib: Library, monkeypatch: pytest.MonkeyPatch):
    class Half:
        """As sure as the cosine."""

        def of(self, vector: object, scores: np.ndarray) -> np.ndarray:
            return scores

        def false_alarm_rate(self, vector: object, scores: np.ndarray) -> np.ndarray:
            return 1 - scores

    monkeypatch.setattr("vlm.index.equipment.Equipment.confidence", lambda self, encoder, index: Half())
    monkeypatch.setattr("vlm.index.confidence.at_even_odds", lambda rate: 1 - rate)
    hits = lib.search("red", second_look=False)
    least = (hits[1].score + hits[2].score) / 2
    told = lib.why("red", min_confidence=least, second_look=False)
    assert told.rejected is not None
    assert (told.rejected.stage, told.rejected.video_id, told.rejected.limit) == ("min-confidence", hits[2].video_id, least)
    assert told.rejected.value == pytest.approx(hits[2].score)
    none = lib.why("red", min_confidence=1.0, second_look=False)
    assert none.hit is None
    assert none.rejected is not None
    assert none.rejected.video_id == hits[0].video_id


class Presence(Counted):
    """Tells presences by video, known by the first vector's place among the videos."""

    tells_presence = True

    def __init__(self, by_rows: dict[int, float]) -> None:
        self._by_rows = by_rows

    def ground_each(self, text: str, videos: Sequence[Features]) -> list[Grounded]:
        return [
            Grounded(
                text=text,
                moments=(Moment(Span(0, 1), 1.0),),
                curve=np.zeros(len(one.times), np.float32),
                presence=self._by_rows.get(len(one.times), 0.1),
            )
            for one in videos
        ]

    def ground(self, texts: Sequence[str], features: Features) -> list[Grounded]:
        return [self.ground_each(text, [features])[0] for text in texts]


@pytest.fixture
def staged(tmp_path: Path, blocks: str) -> Iterator[Library]:
    """Videos of 6, 7, 8 and 9 s, so that they are told apart by their rows; all begin red, the longer ones less so."""
    for number in range(4):
        scene_video(tmp_path / f"{number}.mp4", [("red", 6 - number), ("blue", 2 * number)], seed=number) if number else scene_video(
            tmp_path / "0.mp4", [("red", 6)]
        )
    with Library.open(tmp_path / "lib", encoder=blocks) as library:
        library.add([tmp_path / f"{number}.mp4" for number in range(4)])
        yield library


def test_the_second_look_is_told_where_it_cost_the_place(staged: Library, monkeypatch: pytest.MonkeyPatch):
    first = staged.search("red", second_look=False)
    rows = {hit.video_id: len(staged.features(hit.video_id).times) for hit in first}
    reader = Presence({rows[first[0].video_id]: 0.2, rows[first[1].video_id]: 0.9, rows[first[2].video_id]: 0.8})
    monkeypatch.setattr("vlm.index.equipment.Equipment.reader", lambda self, encoder=None: reader)
    told = staged.why("red", top_k=2)
    assert told.hit is not None
    assert told.hit.video_id == first[1].video_id
    assert told.rejected is not None
    assert (told.rejected.stage, told.rejected.video_id, told.rejected.first_rank) == ("second-look", first[0].video_id, 1)
    assert (told.rejected.value, told.rejected.limit) == (0.2, 0.8)
    assert "its rank 1 in the first stage became 3" in told.rejected.reason


def test_a_video_that_the_second_look_does_not_read_is_of_the_first_stage(staged: Library, monkeypatch: pytest.MonkeyPatch):
    first = staged.search("red", second_look=False)
    monkeypatch.setattr("vlm.index.second.DEPTH", 2)
    monkeypatch.setattr("vlm.index.equipment.Equipment.reader", lambda self, encoder=None: Presence({}))
    told = staged.why("red", video=first[3].video_id, top_k=2)
    assert told.rejected is not None
    assert (told.rejected.stage, told.rejected.first_rank) == ("first-stage", 4)
    assert "2 videos are looked at" in told.rejected.reason


def test_a_video_that_was_named_is_explained_whether_it_is_a_hit_or_not(lib: Library):
    hits = lib.search("red", top_k=5)
    found = lib.why("red", video=hits[1].video_id, top_k=2)
    assert found.hit is not None
    assert (found.hit.rank, found.hit.video_id) == (2, hits[1].video_id)
    missed = lib.why("red", video=hits[4].video_id, top_k=2)
    assert missed.hit is None
    assert missed.rejected is not None
    assert (missed.rejected.video_id, missed.rejected.stage) == (hits[4].video_id, "top-k")
    assert missed.footage is not None
    assert missed.footage.video_id == hits[4].video_id
    assert missed.span == missed.rejected.span


def test_a_video_beyond_the_farthest_has_no_rank(lib: Library, monkeypatch: pytest.MonkeyPatch):
    hits = lib.search("red", top_k=5)
    monkeypatch.setattr("vlm.index.why.FARTHEST", 1)
    told = lib.why("red", video=hits[4].video_id, top_k=1)
    assert told.rejected is not None
    assert told.rejected.first_rank is None
    assert told.rejected.score == pytest.approx(hits[4].score, abs=1e-3)
    assert "its rank beyond the nearest 1 stretches" in told.rejected.reason


def test_what_cannot_be_explained_is_refused(lib: Library, tmp_path: Path, blocks: str):
    with pytest.raises(InputError, match="rank must be among the 2 hits that are asked for, got 3"):
        lib.why("red", rank=3, top_k=2)
    with pytest.raises(InputError, match="there is no hit 7 to explain: the search found 5"):
        lib.why("red", rank=7)
    with pytest.raises(UnknownVideo, match="99"):
        lib.why("red", video=99)
    with pytest.raises(QueryError, match="empty"):
        lib.why(" ")
    with pytest.raises(QueryError, match="one sentence alone"):
        why(lib._gear, replace(Request(query="red"), minus=["blue"]), lib.footage)
    with Library.open(tmp_path / "empty", encoder=blocks) as empty, pytest.raises(QueryError, match="no video yet"):
        empty.why("red")
