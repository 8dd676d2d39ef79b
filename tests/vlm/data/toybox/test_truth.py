"""Truth and its record."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import numpy as np
import pytest

from tests.vlm.data.toybox.language_worlds import event_of, planned, world_of
from vlm.data.toybox import language, queries, questions, truth
from vlm.data.toybox.dice import Dice
from vlm.data.toybox.vocabulary import VERSION
from vlm.errors import InputError
from vlm.types import Span


def test_segments_meet_and_cover_the_video() -> None:
    for world in planned("train", 60):
        track = truth.segments(world)
        assert track[0].span.start == 0.0
        assert track[-1].span.end == world.seconds
        assert all(one.span.end == other.span.start for one, other in itertools.pairwise(track))


def test_the_event_that_started_last_has_the_track_and_gives_it_back() -> None:
    world = world_of(event_of(0, "bounce", 0, 2.0, 10.0), event_of(1, "blink", 1, 4.0, 7.0), seconds=12.0)
    assert [(each.span.start, each.label) for each in truth.segments(world)] == [
        (0.0, "nothing"),
        (2.0, "bounce"),
        (4.0, "blink"),
        (7.0, "bounce"),
        (10.0, "nothing"),
    ]


@pytest.mark.parametrize("rate", [0.7, 2.0, 3.0])
def test_the_class_of_a_frame_is_the_label_of_the_segment_around_it(rate: float) -> None:
    for world in planned("train", 20):
        track = truth.segments(world)
        times = truth.frame_times(world, rate=rate)
        expected = [next(each.label for each in track if each.span.start <= at < each.span.end) for at in times]
        assert [truth.CLASSES[number] for number in truth.frame_classes(world, rate=rate)] == expected


def test_every_frame_is_in_its_class_among_all_that_hold() -> None:
    for world in planned("train", 20):
        held = truth.frame_class_sets(world)
        assert held[np.arange(len(held)), truth.frame_classes(world)].all()


def test_frames_where_two_events_overlap_hold_both_classes() -> None:
    world = world_of(event_of(0, "bounce", 0, 2.0, 10.0), event_of(1, "blink", 1, 4.0, 7.0), seconds=12.0)
    at_five = truth.frame_class_sets(world, rate=1.0)[5]
    assert {name for name, holds in zip(truth.CLASSES, at_five, strict=True) if holds} == {"bounce", "blink"}


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_rate_that_is_not_positive_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match=str(rate)):
        truth.frame_times(world_of(), rate=rate)


def test_saliency_is_the_covered_part_of_a_second_by_how_large_the_thing_is() -> None:
    world = world_of(event_of(0, "bounce", 0, 1.5, 4.0), event_of(1, "blink", 1, 10.0, 13.0))
    small, large = truth.saliency(world, [Span(1.5, 4.0)], [0]), truth.saliency(world, [Span(10.0, 13.0)], [1])
    assert (small.seconds, small.shares, small.levels) == ((1, 2, 3), (0.341, 0.682, 0.682), (1, 3, 3))
    assert (large.seconds, large.levels) == ((10, 11, 12), (4, 4, 4))


def test_saliency_of_planned_worlds_lies_in_its_spans_alone() -> None:
    for world in planned("train", 20):
        known = truth.truth_of(world)
        for query, shown in zip(known.queries, known.saliency, strict=True):
            touched = {
                second for span in query.spans for second in range(int(world.seconds) + 1) if span.start < second + 1 and second < span.end
            }
            assert set(shown.seconds) == touched
            assert all(0 <= level <= 4 for level in shown.levels)


def test_the_next_event_is_the_first_that_starts_after_the_cut() -> None:
    for world in planned("train", 60):
        for each in truth.next_events(world):
            started = [event for event in world.events if event.span.start >= each.cut]
            assert each.event == started[0].id
            assert each.cut == pytest.approx(started[0].span.start - 1.0)


def test_what_follows_by_a_rule_is_said_to_be_caused() -> None:
    found = [(world, each) for world in planned("train", 60) for each in truth.next_events(world)]
    assert any(each.is_caused for _, each in found)
    assert all(world.events[each.event].cause is not None for world, each in found if each.is_caused)


def test_a_paragraph_has_a_sentence_for_every_event_in_order() -> None:
    for world in planned("test", 20):
        spans = [span for _, span in language.paragraph(world, Dice("paragraph", world.name))]
        assert spans == [event.span for event in world.events]


def test_a_paragraph_introduces_a_thing_with_a_and_comes_back_to_it_with_the() -> None:
    world = world_of(event_of(0, "bounce", 0, 1.0, 4.0), event_of(1, "blink", 1, 5.0, 8.0), event_of(2, "blink", 0, 9.0, 12.0))
    (first, _), _, (last, _) = language.paragraph(world, Dice("again"))
    assert first.removeprefix("first, ").startswith("a ")
    assert " the " in f" {last}"


def test_a_video_caption_joins_held_out_pairs_of_actions_by_and() -> None:
    bounce, blink, collide = event_of(0, "bounce", 0, 1.0, 4.0), event_of(1, "blink", 1, 5.0, 8.0), event_of(1, "collide", 1, 5.0, 8.0)
    assert ", then " in language.video_caption(world_of(bounce, blink), Dice(0))
    assert ", and " in language.video_caption(world_of(bounce, collide), Dice(0))


def test_all_that_is_written_about_worlds_stays_within_few_words() -> None:
    known = language.words() | language.words_in(queries.TEMPLATES) | language.words_in(questions.TEMPLATES)
    for world in (*planned("train", 60), *planned("test", 60)):
        told = truth.truth_of(world)
        texts = [told.caption, *(text for texts in told.captions for text in texts), *(text for text, _ in told.paragraph)]
        texts += [text for query in told.queries for text in (query.text, query.twin or "")]
        texts += [text for question in told.questions for text in (question.text, question.answer, *question.options)]
        assert language.words_in(texts) <= known
    assert len(known) < 300


def test_a_record_comes_back_from_its_file(tmp_path: Path) -> None:
    worlds = planned("train", 20)
    truth.write_truth(tmp_path / "truth.jsonl", worlds)
    assert truth.read_truth(tmp_path / "truth.jsonl") == [truth.record(world) for world in worlds]


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    path.write_text("precious")
    with pytest.raises(InputError, match=r"truth\.jsonl"):
        truth.write_truth(path, planned("train", 1))
    assert path.read_text() == "precious"


@pytest.mark.parametrize("line", ["{", "[]", '{"version": "toybox-0"}'])
def test_a_damaged_line_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "truth.jsonl"
    path.write_text(f'{{"version": "{VERSION}"}}\n{line}\n')
    with pytest.raises(InputError, match="line 2"):
        truth.read_truth(path)


def test_numbers_of_a_record_lie_on_their_grids() -> None:
    def floats(value: object) -> list[float]:
        if isinstance(value, dict):
            return [number for part in value.values() for number in floats(part)]
        if isinstance(value, list):
            return [number for part in value for number in floats(part)]
        return [value] if isinstance(value, float) else []

    for world in planned("train", 20):
        assert all(number == round(number, 3) for number in floats(truth.record(world)))


def test_a_record_is_the_same_through_json() -> None:
    made = truth.record(planned("train", 20)[0])
    assert json.loads(json.dumps(made)) == made


def test_the_digest_tells_any_world_apart() -> None:
    worlds = planned("train", 20)
    assert truth.digest(worlds[:5]) == truth.digest(worlds[:5])
    assert truth.digest(worlds[:5]) != truth.digest(worlds[1:6])


def test_a_truth_takes_a_few_hundredths_of_a_second() -> None:
    worlds = planned("train", 60)
    before = time.process_time()
    truth.digest(worlds)
    # 20 s for 1,000 on an idle core; the bound leaves room for a busy one.
    assert (time.process_time() - before) / len(worlds) < 0.06
