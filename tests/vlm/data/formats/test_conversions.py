"""Frames, clips and segments as seconds; relevancy; answers matched to questions."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm.data.formats import action_seg, activitynet_qa, epic100, msvd, qvhighlights
from vlm.data.formats.records import Window
from vlm.errors import InputError
from vlm.types import Span

LABELS = st.lists(st.sampled_from("abc"), min_size=1, max_size=30).map(tuple)


@given(LABELS, st.sampled_from([1.0, 2.0, 15.0, 29.97]))
def test_frame_labels_come_back_from_their_spans(labels: tuple[str, ...], frame_rate: float):
    spans = action_seg.spans_of(action_seg.FrameLabels("v", labels), frame_rate)
    assert action_seg.labels_at(spans, len(labels), frame_rate, background="none") == labels


@given(LABELS)
def test_spans_of_labels_meet_and_differ(labels: tuple[str, ...]):
    spans = action_seg.spans_of(action_seg.FrameLabels("v", labels), 2.0)
    assert (spans[0].span.start, spans[-1].span.end) == (0, len(labels) / 2)
    for one, other in itertools.pairwise(spans):
        assert one.span.end == other.span.start
        assert one.label != other.label


def test_frames_without_a_span_are_background():
    spans = [action_seg.LabelledSpan(Span(1, 2), "a")]
    assert action_seg.labels_at(spans, 3, 1.0, background="none") == ("none", "a", "none")


WINDOWS = st.lists(st.builds(Window, st.integers(-5, 30), st.integers(-5, 30)), max_size=3)


@given(WINDOWS, st.integers(1, 25))
def test_the_clips_of_windows_are_the_whole_clips_that_share_time_with_one(windows: list[Window], duration: int):
    def touches(clip: int) -> bool:
        return any(window.start < 2 * clip + 2 and window.end > 2 * clip and window.end > window.start for window in windows)

    assert qvhighlights.clips_of(windows, duration) == tuple(clip for clip in range(duration // 2) if touches(clip))


def action(verb_class: int, *noun_classes: int) -> epic100.Action:
    nouns = tuple(f"n{number}" for number in noun_classes)
    return epic100.Action(
        narration="x", verb="v", verb_class=verb_class, noun=nouns[0], noun_class=noun_classes[0], nouns=nouns, noun_classes=noun_classes
    )


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (action(1, 2), action(1, 2), 1.0),
        (action(1, 2), action(3, 2), 0.5),
        (action(1, 2), action(3, 4), 0.0),
        (action(1, 2, 3), action(1, 2), 0.75),
        (action(1, 2, 3), action(4, 3, 5), 1 / 6),
    ],
)
def test_relevancy_is_the_mean_of_verb_and_shared_nouns(one: epic100.Action, other: epic100.Action, expected: float):
    assert epic100.relevancy(one, other) == pytest.approx(expected)
    assert epic100.relevancy(other, one) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "00:00:00.00"), (61.1, "00:01:01.10"), (3600.999, "01:00:01.00"), (0.285, "00:00:00.28")]
)
def test_the_clock_of_epic_kitchens(seconds: float, text: str):
    assert epic100.clock(seconds, 2) == text


def test_the_clock_of_epic_kitchens_refuses_times_before_the_start():
    with pytest.raises(InputError, match=r"-0\.5 s"):
        epic100.clock(-0.5, 2)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("a_b-c_5_15", ("a_b-c", Window(5, 15))),
        ("xBePrplM4OA_6_18.avi", ("xBePrplM4OA", Window(6, 18))),
        ("nothing", None),
        ("a_b_c", None),
    ],
)
def test_a_clip_of_msvd_names_its_source_and_window(name: str, source: tuple[str, Window] | None):
    assert msvd.ClipCaptions(name, ("x",)).source == source


def test_a_question_without_an_answer_is_named():
    with pytest.raises(InputError, match="'q'"):
        activitynet_qa.answered([activitynet_qa.Question("q", "v", "what?")], [])
