"""Sentences and stored features: the plain reader finds what it should, the trained one starts from it, both refuse nonsense alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vlm.encoders.base import Encoder, Preprocessing, TextTokens
from vlm.errors import EncoderMismatch, InputError, QueryError
from vlm.models.adapter import AdapterConfig
from vlm.models.decoder import DecoderConfig
from vlm.models.interaction import InteractionConfig
from vlm.models.model import VideoTextConfig, VideoTextModel
from vlm.models.plain import PlainReader, Reader
from vlm.models.reader import TrainedReader, _groups, batch_of
from vlm.spans import temporal_iou
from vlm.types import Features, Framing, Span

WORDS = ("dog", "cat", "sea", "is", "it", "a")


class WordEncoder:
    """Each word is an axis; a frame shows words."""

    name, fingerprint, dim = "words", "w1", 8
    preprocessing = Preprocessing(Framing(height=2, width=2))

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise AssertionError("a reader takes stored features and encodes no frame")

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.stack([sum((axis(word) for word in text.split()), np.full(8, 0.01)) for text in texts])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def encode_text_tokens(self, texts: Sequence[str]) -> TextTokens:
        rows = [np.stack([axis(word) for word in text.split()]) for text in texts]
        vectors = np.zeros((len(rows), max(map(len, rows)), 8), np.float32)
        mask = np.zeros(vectors.shape[:2], np.bool_)
        for number, row in enumerate(rows):
            vectors[number, : len(row)], mask[number, : len(row)] = row, True
        return TextTokens(vectors=vectors, mask=mask)


def axis(word: str) -> NDArray[np.float64]:
    return np.eye(8)[WORDS.index(word)] if word in WORDS else np.zeros(8)


def video(*shown: tuple[str, float]) -> Features:
    """Words shown one after the other for some seconds each, two rows a second, with noise."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([np.tile(axis(word) + 0.3, (int(2 * seconds), 1)) for word, seconds in shown])
    rows = rows + 0.02 * rng.standard_normal(rows.shape)
    times = np.arange(len(rows)) / 2
    return Features((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), times, len(rows) / 2)


def trained(*, answers: tuple[str, ...] = ("yes", "no")) -> TrainedReader:
    torch.manual_seed(0)
    config = VideoTextConfig(
        encoder="words",
        fingerprint="w1",
        adapter=AdapterConfig(dim=8, num_layers=1, d_state=4),
        interaction=InteractionConfig(text_dim=8, video_dim=8, width=16, num_layers=1, d_state=4),
        answers=answers,
    )
    return TrainedReader(WordEncoder(), VideoTextModel(config))


READERS = [PlainReader(WordEncoder()), trained()]
SHOWN = video(("sea", 10), ("dog", 6), ("sea", 9), ("cat", 5))


def test_the_stand_in_is_an_encoder() -> None:
    assert isinstance(WordEncoder(), Encoder)


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_that_has_learnt_nothing_pools_as_the_plain_one(reader: Reader) -> None:
    mean = SHOWN.vectors.mean(axis=0)
    np.testing.assert_allclose(reader.embed_video(SHOWN), mean / np.linalg.norm(mean), atol=1e-5)
    np.testing.assert_allclose(reader.embed_texts(["a dog"]), WordEncoder().encode_text(["a dog"]), atol=1e-5)


def test_the_plain_reader_finds_where_a_word_is_shown() -> None:
    found = PlainReader(WordEncoder()).ground(["dog", "cat"], SHOWN)
    assert [one.text for one in found] == ["dog", "cat"]
    assert temporal_iou(found[0].moments[0].span, Span(10, 16)) > 0.95
    assert temporal_iou(found[1].moments[0].span, Span(25, 30)) > 0.95
    assert found[0].curve.shape == (60,)
    assert found[0].presence is None


@pytest.mark.parametrize("reader", READERS)
def test_moments_lie_in_the_video_best_first(reader: Reader) -> None:
    (found,) = reader.ground(["dog"], SHOWN)
    scores = [moment.score for moment in found.moments]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= moment.span.start < moment.span.end <= 30 for moment in found.moments)
    assert len(found.curve) == 60


def test_the_plain_reader_chooses_the_option_that_is_shown_with_its_evidence() -> None:
    answer = PlainReader(WordEncoder()).answer("is it", video(("sea", 20), ("dog", 5)), options=["cat", "dog"])
    assert answer.text == "dog"
    assert answer.probability > 0.9
    assert answer.answerable is None
    assert temporal_iou(answer.evidence[0].span, Span(20, 25)) > 0.9


def test_a_trained_reader_answers_from_its_list_or_from_options() -> None:
    reader = trained()
    open_answer, choice = reader.answer("is it a dog", SHOWN), reader.answer("is it a", SHOWN, options=["dog", "cat", "sea"])
    assert {text for text, _ in open_answer.options} == {"yes", "no"}
    assert {text for text, _ in choice.options} == {"dog", "cat", "sea"}
    for answer in (open_answer, choice):
        assert answer.options[0] == (answer.text, answer.probability)
        assert sum(share for _, share in answer.options) == pytest.approx(1)
        assert answer.answerable is not None
        assert 0 < answer.answerable < 1


def test_a_share_can_be_asked_for_by_itself() -> None:
    for reader in (PlainReader(WordEncoder()), trained()):
        chosen = reader.answer("is it a", SHOWN, options=["dog", "cat"])
        for text, share in chosen.options:
            assert reader.probability("is it a", text, SHOWN, options=["dog", "cat"]) == pytest.approx(share)
    closed = trained()
    assert closed.probability("is it a dog", "yes", SHOWN) == pytest.approx(dict(closed.answer("is it a dog", SHOWN).options)["yes"])
    with pytest.raises(QueryError, match=r"'a sheep'.*--choices"):
        closed.probability("what is it", "a sheep", SHOWN)


def test_what_a_question_alone_suggests_does_not_depend_on_what_is_shown() -> None:
    reader, other = trained(), video(("cat", 30))
    one, two = reader.blind("is it a", SHOWN, options=["dog", "cat"]), reader.blind("is it a", other, options=["dog", "cat"])
    assert one is not None
    assert two is not None
    assert one.options == two.options
    assert PlainReader(WordEncoder()).blind("is it a", SHOWN, options=["dog", "cat"]) is None


def test_who_cannot_speak_says_what_can_be_done() -> None:
    with pytest.raises(QueryError, match=r"--choices.*--answerer.*vlm train"):
        PlainReader(WordEncoder()).answer("what is it", SHOWN)
    with pytest.raises(QueryError, match=r"no answers of its own.*--choices.*vlm train"):
        trained(answers=()).answer("what is it", SHOWN)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("options", "words"), [(["dog"], "at least two options, got"), (["dog", "dog"], "got 'dog' in"), (["dog", " "], "not empty")]
)
def test_options_that_leave_no_choice_are_refused(reader: Reader, options: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        reader.answer("is it a", SHOWN, options=options)


@pytest.mark.parametrize("reader", READERS)
def test_features_that_are_none_are_refused(reader: Reader) -> None:
    empty = Features(np.zeros((0, 8), np.float32), np.zeros(0), 0.0)
    broken = Features(np.full((2, 8), np.nan, np.float32), np.array([0.0, 1.0]), 2.0)
    for features, words in ((empty, "at least one row"), (broken, "row 0 of 2")):
        with pytest.raises(InputError, match=words):
            reader.ground(["dog"], features)


@pytest.mark.parametrize("reader", READERS)
def test_one_row_is_a_video(reader: Reader) -> None:
    one = Features(SHOWN.vectors[:1], np.array([0.0]), 3.0)
    (found,) = reader.ground(["dog"], one)
    assert all(moment.span.end <= 3.0 for moment in found.moments)
    assert np.isfinite(reader.embed_video(one)).all()


def test_a_reader_of_another_encoder_is_refused() -> None:
    other = WordEncoder()
    other.fingerprint = "w2"
    with pytest.raises(EncoderMismatch, match=r"w1.*w2"):
        TrainedReader(other, trained()._model)


@pytest.mark.parametrize("reader", READERS)
def test_several_videos_are_grounded_at_once_as_each_alone(reader: Reader) -> None:
    videos = [SHOWN, video(("dog", 3)), video(("cat", 20), ("dog", 4)), SHOWN.part(5, 40)]
    together = reader.ground_each("a dog", videos)
    assert len(together) == 4
    for features, found in zip(videos, together, strict=True):
        (alone,) = reader.ground(["a dog"], features)
        np.testing.assert_allclose(found.curve, alone.curve, atol=1e-5)
        assert found.presence == pytest.approx(alone.presence, abs=1e-5)
        assert [moment.score for moment in found.moments] == pytest.approx([moment.score for moment in alone.moments], abs=1e-4)
    assert reader.ground_each("a dog", []) == []


def test_a_row_holds_a_text_as_its_foreground_and_the_videos_presence_say(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, texts = trained(), ["a dog", "is it red"]
    videos = [SHOWN, video(("dog", 3)), video(("cat", 20), ("dog", 4))]
    watched: list[int] = []
    crossing = reader._model.cross()
    monkeypatch.setattr(crossing, "watch", lambda *parts, watch=crossing.watch: watched.append(1) or watch(*parts))
    found = reader.holds(texts, videos)
    assert len(watched) == 1
    for text, curves in zip(texts, found, strict=True):
        for features, curve in zip(videos, curves, strict=True):
            (alone,) = reader.ground([text], features)
            assert curve.shape == features.times.shape
            best = max(moment.score for moment in alone.moments) * alone.presence
            assert float(curve.max()) == pytest.approx(best, abs=1e-5)
    assert reader.holds(texts, []) == [[], []]
    assert PlainReader(reader._encoder).holds(texts, videos) is None
    with pytest.raises(InputError):
        reader.holds(texts, [SHOWN, replace(SHOWN, vectors=SHOWN.vectors[:0], times=SHOWN.times[:0])])


def test_a_video_is_watched_once_for_all_that_is_asked_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, first, second = trained(), video(("red", 3), ("blue", 2)), video(("blue", 4))
    fresh = [trained().answer("is it red", one).options for one in (first, second)]
    watched: list[int] = []
    crossing = reader._model.cross()
    monkeypatch.setattr(crossing, "watch", lambda *parts, watch=crossing.watch: watched.append(1) or watch(*parts))
    assert reader.answer("is it red", first).options == fresh[0]
    reader.ground(["blue"], first)
    assert len(watched) == 1
    assert reader.answer("is it red", second).options == fresh[1]
    assert reader.answer("is it red", first).options == fresh[0]
    assert len(watched) == 3
    monkeypatch.setattr("vlm.models.reader.ROWS_AT_ONCE", 4)
    long = video(("red", 9))
    for _ in range(2):
        reader.ground(["blue"], long)
    assert len(watched) == 5


class Codec:
    vocabulary_size, start, end = 2 + len(WORDS), 0, 1

    def encode(self, text: str) -> list[int]:
        return [2 + WORDS.index(word) for word in text.split()]

    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(WORDS[token - 2] for token in tokens)


class Speaking(WordEncoder):
    text_codec = Codec()


def test_what_is_said_tells_whether_the_list_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    interaction = InteractionConfig(text_dim=8, video_dim=8, width=16, num_layers=1, d_state=4)
    decoder = DecoderConfig(
        width=16, summary_size=interaction.summary_size, vocabulary_size=Codec.vocabulary_size, start=Codec.start, end=Codec.end, d_state=4
    )
    adapter = AdapterConfig(dim=8, num_layers=1, d_state=4)
    config = VideoTextConfig(
        encoder="words", fingerprint="w1", adapter=adapter, interaction=interaction, answers=("dog", "sea"), decoder=decoder
    )
    torch.manual_seed(0)
    reader = TrainedReader(Speaking(), VideoTextModel(config))
    said: list[list[int]] = []
    monkeypatch.setattr(reader._model.cross().decoder, "generate", lambda *_: (torch.tensor(said), torch.tensor([0.3])))
    said[:] = [[*Codec().encode("a cat"), Codec.end]]
    found = reader.answer("is it", SHOWN)
    assert [text for text, _ in found.options] == [found.text] == ["a cat"]
    assert found.probability == pytest.approx(0.3)
    said[:] = [[*Codec().encode("sea"), Codec.end]]
    found = reader.answer("is it", SHOWN)
    assert {text for text, _ in found.options} == {"dog", "sea"}
    assert found.options == reader.answer("is it", SHOWN, options=("dog", "sea")).options


def test_groups_of_videos_hold_no_more_rows_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm.models.reader.ROWS_AT_ONCE", 60)
    videos = [video(("dog", seconds)) for seconds in (5, 5, 10, 10, 40, 5, 5)]
    sizes = [[len(one.times) for one in group] for group in _groups(videos)]
    assert [size for group in sizes for size in group] == [len(one.times) for one in videos]
    assert all(len(group) * max(group) <= 60 or len(group) == 1 for group in sizes)
    assert len(sizes) < len(videos)


def test_videos_of_several_lengths_become_a_batch() -> None:
    frames, times, mask, durations = batch_of([SHOWN, video(("dog", 2))])
    assert frames.shape == (2, 60, 8)
    assert mask.sum(dim=1).tolist() == [60, 4]
    assert times[1, 3] == 1.5
    assert durations.tolist() == [30.0, 2.0]
