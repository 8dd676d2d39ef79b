"""Scores held against background sentences: the rates that are stated are the rates that are seen."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Demo
from vlm import Library
from vlm.encoders.base import Encoder
from vlm.encoders.registry import load_encoder
from vlm.errors import InputError, QueryError
from vlm.index.ask import statement_of
from vlm.index.background import NUMBER, background, everyday
from vlm.index.confidence import DISCOUNT, EVIDENCE, TAIL_FROM, Confidence, at_even_odds, kept, measure, rate_at, with_confidence
from vlm.index.store import Store
from vlm.index.vectors import VectorIndex
from vlm.types import Clock, Hit, Segment, Span, VideoInfo

DIM = 16


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def stored(folder: Path, vectors: np.ndarray) -> tuple[Store, VectorIndex]:
    """A library of one video with these segments, and its index."""
    folder.mkdir()
    store = Store.create(folder)
    info = VideoInfo(
        container="mp4", codec="h264", width=8, height=8, rotation_degrees=0, frame_rate=Fraction(1), clock=Clock(Fraction(1)),
        promised_seconds=None, digest="a", num_bytes=1,
    )  # fmt: skip
    with store.transaction():
        video = store.begin_video(info)
        store.append_rows(video, np.arange(len(vectors)), vectors)
        spans = [Segment(level=0, first=row, last=row + 1, span=Span(float(row), row + 1.0)) for row in range(len(vectors))]
        end = float(len(vectors))
        store.finish_video(video, end_seconds=end, num_rows=len(vectors), coverage=1.0, reason="", segments=spans, vectors=vectors)
    return store, VectorIndex.build(store.segment_ids(), store.segment_vectors(store.segment_ids(), DIM))


@pytest.fixture
def measured(tmp_path: Path) -> tuple[Confidence, np.ndarray, np.random.Generator]:
    """A library of 400 segments that lie about one direction, as those of real encoders do, and its measure."""
    rng = np.random.default_rng(5)
    segments = unit(rng.normal(size=(400, DIM)) + 2 * np.eye(DIM)[0])
    store, index = stored(tmp_path / "lib", segments)
    measure_of_it = measure(store, index, unit(rng.normal(size=(1000, DIM)) + np.eye(DIM)[1]))
    assert measure_of_it is not None
    return measure_of_it, store.segment_vectors(store.segment_ids(), DIM), rng


def test_rates_are_those_of_counting_the_background_by_hand(measured: tuple[Confidence, np.ndarray, np.random.Generator]):
    measure_of_it, segments, rng = measured
    query = unit(rng.normal(size=(1, DIM)))[0]
    scores = [float(sum(a * b for a, b in zip(segment, query, strict=True))) for segment in segments.astype(np.float64)]
    off = DISCOUNT * sum(scores) / len(scores)
    body = [score for score in np.linspace(0.2, 0.6, 40) if score - off < np.quantile(measure_of_it.best, TAIL_FROM)]
    assert len(body) > 5
    for score in body:
        reached = sum(best >= score - off for best in measure_of_it.best)
        assert measure_of_it.false_alarm_rate(query, np.array([score]))[0] == pytest.approx((1 + reached) / 1001, abs=0.002)


def test_queries_like_the_background_raise_false_alarms_as_often_as_is_said(measured: tuple[Confidence, np.ndarray, np.random.Generator]):
    measure_of_it, segments, rng = measured
    queries = unit(rng.normal(size=(4000, DIM)) + np.eye(DIM)[1])
    best = (queries.astype(np.float64) @ segments.T.astype(np.float64)).max(axis=1)
    rates = np.array([measure_of_it.false_alarm_rate(query, np.array([score]))[0] for query, score in zip(queries, best, strict=True)])
    for stated in (0.5, 0.2, 0.1, 0.05, 0.01):
        error = math.sqrt(stated * (1 - stated) * (1 / 1000 + 1 / 4000))
        assert abs((rates <= stated).mean() - stated) < 3.5 * error, stated


def test_a_higher_score_is_never_less_sure(measured: tuple[Confidence, np.ndarray, np.random.Generator]):
    measure_of_it, _, rng = measured
    query = unit(rng.normal(size=(1, DIM)))[0]
    scores = np.linspace(-1, 1, 2001)
    rates = measure_of_it.false_alarm_rate(query, scores)
    assert (np.diff(rates) <= 1e-12).all()
    assert ((rates > 0) & (rates <= 1)).all()
    assert (np.diff(at_even_odds(rates)) >= -1e-12).all()


@given(st.floats(EVIDENCE / (1 + EVIDENCE) + 0.01, 0.999))
def test_the_rate_of_a_confidence_is_the_one_that_it_came_from(confidence: float):
    assert at_even_odds(np.array([rate_at(confidence)]))[0] == pytest.approx(confidence, rel=1e-6)


def test_confidence_at_the_ends():
    assert rate_at(1.0) == 0.0
    assert rate_at(0.0) == 1.0
    assert at_even_odds(np.array([1.0]))[0] == pytest.approx(EVIDENCE / (1 + EVIDENCE))


def test_a_measure_survives_being_stored(measured: tuple[Confidence, np.ndarray, np.random.Generator]):
    measure_of_it, _, rng = measured
    query, scores = unit(rng.normal(size=(1, DIM)))[0], np.linspace(0, 1, 9)
    again = Confidence.from_bytes(measure_of_it.to_bytes())
    assert again.false_alarm_rate(query, scores).tolist() == measure_of_it.false_alarm_rate(query, scores).tolist()


def test_background_sentences_that_are_all_alike_still_give_rates(tmp_path: Path):
    rng = np.random.default_rng(0)
    store, index = stored(tmp_path / "lib", unit(rng.normal(size=(60, DIM))))
    measure_of_it = measure(store, index, unit(np.ones((20, DIM))))
    assert measure_of_it is not None
    rates = measure_of_it.false_alarm_rate(unit(np.ones((1, DIM)))[0], np.array([-1.0, 1.0]))
    assert rates[0] == 1.0
    assert rates[1] < 0.01


def test_too_few_segments_have_no_measure(tmp_path: Path):
    store, index = stored(tmp_path / "lib", unit(np.random.default_rng(0).normal(size=(49, DIM))))
    assert measure(store, index, unit(np.ones((20, DIM)))) is None


def test_what_is_measured_is_kept_until_its_key_changes(tmp_path: Path):
    store, index = stored(tmp_path / "lib", unit(np.random.default_rng(0).normal(size=(60, DIM))))
    made: list[int] = []

    def make() -> Confidence | None:
        made.append(1)
        return measure(store, index, unit(np.random.default_rng(1).normal(size=(50, DIM))))

    for key in ("a", "a", "b", "b"):
        kept(store, {"generation": key}, make, may_write=lambda: True)
    assert len(made) == 2
    reader = Store.open(tmp_path / "lib", read_only=True)
    kept(reader, {"generation": "b"}, make, may_write=lambda: False)
    assert len(made) == 2
    kept(reader, {"generation": "c"}, make, may_write=lambda: False)
    kept(reader, {"generation": "c"}, make, may_write=lambda: False)
    assert len(made) == 4
    reader.close()
    store.close()


def test_hits_below_the_least_confidence_are_left_out(measured: tuple[Confidence, np.ndarray, np.random.Generator]):
    measure_of_it, _, rng = measured
    query = unit(rng.normal(size=(1, DIM)))[0]
    hits = [
        Hit(rank=rank, score=score, video_id=1, segment_id=1, path="", span=Span(0, 1), duration_seconds=1)
        for rank, score in enumerate((0.9, 0.5, -0.5), start=1)
    ]
    told = with_confidence(hits, measure_of_it, query, least=None)
    assert [replace(hit, confidence=None, false_alarm_rate=None) for hit in told] == hits
    sure = [hit.confidence for hit in told]
    assert with_confidence(hits, measure_of_it, query, least=sure[1]) == told[:2]
    assert with_confidence(hits, measure_of_it, query, least=1.0) == []
    for wrong in (-0.1, 1.5, math.nan):
        with pytest.raises(InputError, match=r"within 0\.\.1"):
            with_confidence(hits, measure_of_it, query, least=wrong)


def test_everyday_sentences_are_always_the_same_and_all_different():
    assert everyday(NUMBER) == everyday(NUMBER)
    assert len(set(everyday(NUMBER))) == NUMBER
    assert everyday(50) == everyday(NUMBER)[:50]


def test_pockets_background_is_told_in_words_that_it_knows():
    pocket = load_encoder("pocket", device="cpu")
    sentences = background(pocket)
    assert len(set(sentences)) == NUMBER
    assert pocket.unknown_words(sentences) == []


def test_a_library_says_how_sure_its_hits_are(plain_demo: Demo):
    with Library.open(plain_demo.library, create=False) as library:
        result = library.search("a small red circle bounces", top_k=5)
        sure = [hit.confidence for hit in result.hits]
        assert all(one is not None and 0 < one < 1 for one in sure)
        assert sure == sorted(sure, reverse=True)
        assert library.search("a small red circle bounces", min_confidence=0.9999).hits == ()
        for query in ({"plus": ["a circle", "a star"]}, {"like": [library.videos()[0].video_id]}):
            assert library.search(**query).hits[0].confidence is None
            with pytest.raises(QueryError, match="Leave --min-confidence out"):
                library.search(**query, min_confidence=0.5)


@pytest.mark.parametrize(
    ("question", "statement"),
    [
        ("is there a dog?", "a dog"),
        ("Are there two cars on a bridge", "two cars on a bridge"),
        ("does a red circle bounce?", "a red circle bounce"),
        ("Can you see a hat?", "a hat"),
        ("what is it", None),
        ("who is there?", None),
        ("is", None),
        ("is ?", None),
        ("island with a tree", None),
    ],
)
def test_a_question_for_yes_or_no_is_about_a_statement(question: str, statement: str | None):
    assert statement_of(question) == statement


def test_an_encoder_alone_says_yes_or_no_by_its_confidence(plain_demo: Demo):
    with Library.open(plain_demo.library, create=False) as library:
        best = library.search("a small red circle", top_k=1).hits[0]
        assert best.confidence is not None
        whole = library.ask("is there a small red circle?")
        assert dict(whole.answer.options)["yes"] == pytest.approx(best.confidence)
        assert whole.footage.video_id == best.video_id
        assert whole.answer.text == ("yes" if best.confidence > 0.5 else "no")
        assert (whole.answer.prior, whole.answer.faithfulness) == (None, None)
        for video in library.videos()[:6]:
            asked = library.ask("is there a small red circle?", video.video_id)
            share = dict(asked.answer.options)["yes"]
            assert share <= best.confidence + 1e-9
            assert asked.videos_read == (video.video_id,)
            assert bool(asked.answer.evidence) == (asked.answer.text == "yes")
        with pytest.raises(QueryError, match="--choices"):
            library.ask("what is there?")


@pytest.fixture
def background_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever the background sentences are asked for, to be read."""
    reads: list[int] = []

    def counted(encoder: Encoder) -> list[str]:
        reads.append(1)
        return background(encoder)

    monkeypatch.setattr("vlm.index.background.background", counted)
    return reads


def test_no_search_waits_for_what_add_has_measured(demo: Demo, tmp_path: Path, background_reads: list[int]):
    folder = shutil.copytree(demo.library, tmp_path / "lib")
    with Library.open(folder) as library:
        before = library.search("a small red circle", top_k=1).hits[0].confidence
        library.remove(library.videos()[-1].video_id)
        after = library.search("a small red circle", top_k=1).hits[0].confidence
    assert before is not None
    assert after is not None
    assert background_reads == []  # after a change the library is measured anew, by sentences that were read before


def test_a_library_that_cannot_be_written_is_measured_once_in_a_process(plain_demo: Demo, tmp_path: Path, background_reads: list[int]):
    folder = shutil.copytree(plain_demo.library, tmp_path / "lib")
    store = Store.open(folder)
    with store.transaction():
        for name in ("confidence", "background"):
            store.forget_meta(name)
    store.close()
    with Library.open(folder, read_only=True) as library:
        found = [library.search(text, top_k=1).hits[0].confidence for text in ("a red circle", "a star", "a red circle")]
    assert found[0] == found[2] is not None
    assert background_reads == [1]


def test_a_library_of_few_segments_says_that_it_cannot_tell(colour_videos: Path, tmp_path: Path, blocks: str, background_reads: list[int]):
    with Library.open(tmp_path / "lib", encoder=blocks) as library:
        library.add(colour_videos)
        assert library.search("red").hits[0].confidence is None
        with pytest.raises(QueryError, match="at least 50 stretches"):
            library.search("red", min_confidence=0.5)
        with pytest.raises(QueryError, match="--choices"):
            library.ask("is there something red?")
    assert background_reads == []
