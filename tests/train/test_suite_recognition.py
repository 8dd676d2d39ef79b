"""Recognisers of clips learn from pixels, of Toybox and of files, and their folder gives what they gave."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.train.suite_toys import ToyEncoder, toy_clips
from tests.train.test_suite import train
from vlm.data.toybox.export import export
from vlm.data.toybox.files import render_worlds
from vlm.data.toybox.plan import event_clip, make_world
from vlm.data.toybox.vocabulary import ACTIONS, SHAPES
from vlm.errors import InputError
from vlm.eval.recognition import recognition_figures
from vlm.models.suite.clip_classes import ClipReading, class_groups, likeliest, recognise
from vlm.models.suite.recognition import RecognitionConfig, Recognizer
from vlm.train.suite import OwnFiles
from vlm.train.suite_clips import ClipDataConfig, ClipLabelSource, LabelledClips, clips_of_files, moments, toybox_clips
from vlm.train.suite_recognition import RecognitionTraining
from vlm.types import Framing

READING = ClipReading(4, Framing(height=32, width=32))


@pytest.mark.parametrize("mixer", ["mamba", "vim", "dbm", "attention"])
def test_a_recogniser_learns_and_its_folder_gives_what_it_gave(tmp_path: Path, mixer: str, one_torch_thread: None):
    model = train("recognition", tmp_path / "run", mixer=mixer)
    held_out = toy_clips(40, seed=9)
    pixels = np.stack([held_out.pixels(number, model.reading, None) for number in range(40)])
    found = [
        recognition_figures(recognise(reader, pixels)[""], held_out.labels[:, 0])
        for reader in (model, Recognizer.from_pretrained(tmp_path / "run" / "model"))
    ]
    assert found[0] == found[1]
    assert found[0].top1 > 0.9


def test_verbs_and_nouns_are_learnt_side_by_side():
    classes = ("verb:run", "verb:jump", "noun:dog", "noun:cat", "noun:cow")
    torch.manual_seed(0)
    model = Recognizer(RecognitionConfig(classes=classes, image_size=8, patch=8, num_frames=2, width=12, num_layers=1, d_state=4))
    batch = LabelledClips(torch.randint(256, (3, 2, 8, 8, 3), dtype=torch.uint8), torch.tensor([[0, 2], [1, 0], [1, 1]]))
    loss, figures = RecognitionTraining(model)(batch)
    logits = model(batch.pixels)
    expected = (F.cross_entropy(logits[:, :2], batch.labels[:, 0]) + F.cross_entropy(logits[:, 2:], batch.labels[:, 1])) / 2
    torch.testing.assert_close(loss, expected)
    right = (logits[:, :2].argmax(1) == batch.labels[:, 0]) & (logits[:, 2:].argmax(1) == batch.labels[:, 1])
    assert float(figures["right"]) == pytest.approx(float(right.float().mean()))


def test_pixels_of_another_type_are_refused():
    model = Recognizer(RecognitionConfig(classes=("a", "b"), image_size=8, patch=8, num_frames=2, width=12, num_layers=1))
    with pytest.raises(InputError, match=r"must be uint8 \(b, t, h, w, 3\), got torch.float32"):
        model(torch.zeros(1, 2, 8, 8, 3))


def test_classes_are_in_one_group_or_verbs_before_nouns():
    assert class_groups(("a", "b")) == {"": slice(0, 2)}
    assert class_groups(("verb:a", "noun:b", "noun:c:d")) == {"verb": slice(0, 1), "noun": slice(1, 3)}
    for wrong in (("noun:a", "verb:b"), ("verb:a", "b"), ("verb:a", "verb:b")):
        with pytest.raises(InputError, match=r"verbs .* followed by nouns"):
            class_groups(wrong)


def test_the_likeliest_classes_of_each_group_come_best_first():
    probabilities = {"verb": np.array([0.1, 0.9]), "noun": np.array([0.2, 0.5, 0.3])}
    found = likeliest(probabilities, ("verb:run", "verb:jump", "noun:dog", "noun:cat", "noun:cow"), most=2)
    assert [(one.group, one.label, one.probability) for one in found] == [
        ("verb", "jump", 0.9),
        ("verb", "run", 0.1),
        ("noun", "cat", 0.5),
        ("noun", "cow", 0.3),
    ]


# Clips


def test_moments_lie_one_in_each_part():
    assert moments(8.0, 4).tolist() == [1.0, 3.0, 5.0, 7.0]
    drawn = moments(8.0, 4, np.random.default_rng(0))
    assert [int(second // 2) for second in drawn] == [0, 1, 2, 3]
    assert drawn.tolist() != [1.0, 3.0, 5.0, 7.0]


def test_clips_of_toybox_are_told_by_their_event_alone_or_by_verb_and_noun():
    clips = [
        toybox_clips(ClipDataConfig(seed=3, worlds=6, labels="actions", nouns=nouns), ToyEncoder(), Path(), split="val")
        for nouns in (False, True)
    ]  # type: ignore[arg-type]
    for number in range(6):
        (event,) = event_clip(3, number, split="val").events
        assert clips[0].labels[number].tolist() == [list(ACTIONS).index(event.action)]
        assert clips[1].labels[number].tolist() == [list(ACTIONS).index(event.action), SHAPES.index(event.look.shape)]
    assert clips[0].classes == tuple(ACTIONS)
    assert clips[1].classes == (*(f"verb:{name}" for name in ACTIONS), *(f"noun:{name}" for name in SHAPES))
    assert clips[0].pixels(0, READING, None).shape == (4, 32, 32, 3)


def test_batches_of_clips_are_the_same_whenever_asked_for_and_show_other_moments_each_epoch():
    clips = toybox_clips(ClipDataConfig(seed=3, worlds=4, labels="actions"), ToyEncoder(), Path(), split="train")  # type: ignore[arg-type]
    source = ClipLabelSource(clips, READING, 4, 0)
    one, again, later = source.batch(0), pickle.loads(pickle.dumps(source)).batch(0), source.batch(1)
    assert torch.equal(one.pixels, again.pixels)
    assert sorted(source.numbers(0)) == sorted(source.numbers(1)) == [0, 1, 2, 3]
    first, second = source.numbers(0).index(2), source.numbers(1).index(2)
    assert not torch.equal(one.pixels[first], later.pixels[second])
    parts = [source.part(0, rank, 2) for rank in range(2)]
    assert torch.equal(torch.cat([part.pixels for part in parts]), one.pixels)
    assert torch.equal(torch.cat([part.labels for part in parts]), one.labels)
    with pytest.raises(InputError, match="batch 5 is more than the 4 clips there are"):
        ClipLabelSource(clips, READING, 5, 0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rendered videos of two events or so each, and their annotations."""
    folder = tmp_path_factory.mktemp("clips")
    worlds = [make_world(5, number, seconds=16.0, num_events=2) for number in range(3)]
    rendered = render_worlds(folder, worlds, size=64, frame_rate=4)
    export(folder, worlds, video_paths={video.world: video.path for video in rendered}, size=64)
    return folder


def files(folder: Path, name: str, **changes: Any) -> OwnFiles:
    given = {"subset": None, "label_rate": None, "data": ClipDataConfig()} | changes
    return OwnFiles(folder / "annotations" / name, folder / "videos", **given)


@pytest.mark.parametrize("name", ["activitynet_detection/activity_net.json", "epic100/EPIC_100_train.csv"])
def test_clips_of_files_show_the_stretches_that_annotations_name(exported: Path, name: str):
    worlds = {world.name: world for world in (make_world(5, number, seconds=16.0, num_events=2) for number in range(3))}
    events = [event for world in worlds.values() for event in world.events]
    clips = clips_of_files(files(exported, name), ToyEncoder(), Path())  # type: ignore[arg-type]
    assert len(clips.ids) == len(events)
    groups = class_groups(clips.classes)
    for clip, labels in zip(clips.clips, clips.labels, strict=True):
        assert clip.span is not None
        (event,) = [one for one in events if abs(one.span.start - clip.span.start) < 0.02 and abs(one.span.end - clip.span.end) < 0.02]
        told = [clips.classes[part][label].rpartition(":")[2] for part, label in zip(groups.values(), labels, strict=True)]
        assert told == ([event.label] if len(groups) == 1 else [event.action, event.look.shape])
    pixels = clips.pixels(0, READING, None)
    assert pixels.shape == (4, 32, 32, 3)
    assert pixels.std() > 5


def test_annotations_that_hold_no_clips_are_refused(exported: Path):
    for name, changes, told in (
        ("activitynet_detection/activity_net.json", {"subset": "testing"}, "at least two labels in the subset 'testing'"),
        ("README.md", {}, "must be a detection file"),
    ):
        with pytest.raises(InputError, match=told):
            clips_of_files(files(exported, name, **changes), ToyEncoder(), Path())  # type: ignore[arg-type]
