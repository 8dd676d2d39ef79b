from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.suite_toys import SENTENCES, ToyEncoder, toy_told
from tests.train.test_suite import recipe
from vlm.errors import InputError
from vlm.eval.dense_captions import ToldEvent, dense_figures
from vlm.models.suite.captioning import EventCaptioner
from vlm.models.suite.sentences import tell_events, tell_spans
from vlm.train.suite import OwnFiles, train_suite
from vlm.train.suite_captioning import TASK
from vlm.train.suite_data import SuiteDataConfig
from vlm.train.suite_sentences import ToldVideos, file_sentences, toybox_vocabulary, vocabulary_of


def learnt(folder: Path, videos: ToldVideos, **changes: Any) -> EventCaptioner:
    made = recipe(folder, "captioning", steps=changes.pop("steps", 100))
    model: EventCaptioner = train_suite(TASK, made, folder / "run", ToyEncoder(), cache=folder, videos=videos, **changes)  # type: ignore[arg-type]
    return model


def figures(model: EventCaptioner, videos: ToldVideos) -> dict[str, float]:
    truth, found = {}, {}
    for number, video in enumerate(videos.ids):
        told = videos.events[number]
        truth[video] = [[ToldEvent(event.span, event.phrasings[place]) for event in told] for place in range(2)]
        found[video] = [ToldEvent(one.span, one.sentence) for one in tell_events(model, videos.features[number])]
    return dense_figures(truth, found, overlaps=(0.5,)).average()


@pytest.mark.parametrize("mixer", ["mamba", "vim", "dbm", "attention"])
def test_a_captioner_learns_and_its_folder_gives_what_it_gave(tmp_path: Path, mixer: str, one_torch_thread: None):
    model, held_out = learnt(tmp_path, toy_told(16), mixer=mixer), toy_told(8, seed=9)
    found = figures(model, held_out)
    assert found == figures(EventCaptioner.from_pretrained(tmp_path / "run" / "model"), held_out)
    assert found["recall"] > 0.5
    assert found["soda_c"] > 0.15


def test_given_stretches_are_told_with_the_sentences_of_paragraphs(tmp_path: Path, one_torch_thread: None):
    model, held_out = learnt(tmp_path, toy_told(16), segments="given"), toy_told(8, seed=9)
    right = []
    for number in range(8):
        events = held_out.events[number]
        told = tell_spans(model, held_out.features[number], [event.span for event in events])
        right += [one.sentence == event.sentence for one, event in zip(told, events, strict=True)]
    assert np.mean(right) > 0.8  # by chance a half


def test_who_sees_nothing_learns_what_is_usual(tmp_path: Path, one_torch_thread: None):
    model, held_out = learnt(tmp_path, toy_told(16), sight="none", segments="given"), toy_told(4, seed=9)
    told = [tell_spans(model, held_out.features[n], [event.span for event in held_out.events[n]]) for n in range(4)]
    assert {one.sentence for some in told for one in some} <= {f"then {some[0]}" for some in SENTENCES.values()}


def batches(videos: ToldVideos, **changes: Any) -> Any:
    data = SuiteDataConfig(batch=2, longest=64)
    model = TASK.build(TASK.section(width=16, d_state=4, **changes), videos.classes, ToyEncoder(), data)  # type: ignore[arg-type]
    return TASK.source(videos, data, model, seed=0), model


def test_a_batch_holds_every_phrasing_of_every_event():
    videos = toy_told(2)
    made, model = batches(videos)
    truth = made.batch(0).truth
    events = [event for number in made.numbers(0) for event in videos.events[number]]
    assert truth.counts.sum() == len(events) == len(truth.stretches)
    said = [[model.tokenizer.decode(row[mask].tolist()) for row, mask in zip(truth.tokens, truth.mask, strict=True)]]
    assert said == [[text for event in events for text in event.phrasings]]
    torch.testing.assert_close(truth.stretches, torch.tensor([(2 * e.span.start, 2 * e.span.end) for e in events]))
    made, model = batches(videos, segments="given")
    truth = made.batch(0).truth
    assert [model.tokenizer.decode(row[mask].tolist()) for row, mask in zip(truth.tokens, truth.mask, strict=True)] == [
        event.sentence for event in events
    ]


def test_an_event_that_is_cut_counts_where_half_of_it_is_left():
    videos = toy_told(1)
    made, _ = batches(ToldVideos(videos.ids * 2, Twice(videos), videos.events * 2, videos.classes))
    event, whole = videos.events[0][0], videos.features[0]
    first, last = int(2 * event.span.start), int(2 * event.span.end)
    half = -(-(last - first) // 2)
    ((stretch, texts), *_) = made.cut(0, last - half, len(whole.times), whole)
    assert (stretch, texts) == ((0.0, float(half)), event.phrasings)
    assert made.cut(0, first + half + 1, last, whole) == []


class Twice:
    def __init__(self, videos: ToldVideos) -> None:
        self.videos = videos

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int) -> Any:
        return self.videos.features[0]


def test_a_vocabulary_tells_all_that_toybox_says():
    model = batches(toy_told(2))[1]
    assert model.tokenizer.decode(model.tokenizer.encode("a frog jumps")) == "a frog jumps"
    assert len(toybox_vocabulary()) < 500
    assert vocabulary_of(["b b a"])[:4] == ("[pad]", "[unknown]", "[start]", "[end]")


def test_captions_of_activitynet_are_read_with_what_is_wrong_left_out(tmp_path: Path):
    told = {
        "v_a": {"duration": 9.0, "timestamps": [[4, 9], [0, 3], [5, 30], [1, 2]], "sentences": [" It ends.", "It starts.", "Far.", " "]},
        "v_b": {"duration": 9.0, "timestamps": [[9, 3]], "sentences": ["Nothing."]},
    }
    (tmp_path / "val.json").write_text(json.dumps(told))
    (tmp_path / "a.mp4").touch()
    files = OwnFiles(tmp_path / "val.json", tmp_path, None, None, SuiteDataConfig())
    videos = file_sentences(files, ToyEncoder(), tmp_path / "cache")  # type: ignore[arg-type]
    assert videos.ids == ("v_a",)
    assert [(event.span.start, event.sentence, event.phrasings) for event in videos.events[0]] == [
        (0.0, "It starts.", ("It starts.",)),
        (4.0, "It ends.", ("It ends.",)),
    ]
    assert {"starts", "ends"} <= set(videos.classes)
    with pytest.raises(InputError, match="leave out --subset"):
        file_sentences(OwnFiles(tmp_path / "val.json", tmp_path, "val", None, SuiteDataConfig()), ToyEncoder(), tmp_path)  # type: ignore[arg-type]
    (tmp_path / "none.json").write_text(json.dumps({"v_b": told["v_b"]}))
    with pytest.raises(InputError, match="tells no stretch of a video"):
        file_sentences(OwnFiles(tmp_path / "none.json", tmp_path, None, None, SuiteDataConfig()), ToyEncoder(), tmp_path)  # type: ignore[arg-type]
