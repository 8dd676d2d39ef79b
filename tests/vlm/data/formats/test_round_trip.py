"""Whatever records can hold is read back as it was written; with defects where windows are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlm.data.formats import (
    action_seg,
    activitynet_captions,
    activitynet_detection,
    activitynet_qa,
    charades_sta,
    didemo,
    ego4d_nlq,
    egoschema,
    epic100,
    lists,
    msrvtt,
    msvd,
    nextgqa,
    nextqa,
    open_qa,
    own,
    qvhighlights,
    tacos,
    youcook2,
)
from vlm.data.formats.records import Caption, ScoredWindow, Window
from vlm.types import Span

NUMBERS = st.integers(-1000, 10**6) | st.floats(-1e3, 1e6)
POSITIVE = st.integers(1, 10**6) | st.floats(1e-3, 1e6)
COUNTS = st.integers(-3, 10**6)
# Without halves of characters, which only JSON can hold, and without the mark that a file may begin with.
CHARACTERS = st.characters(exclude_categories=("Cs",), exclude_characters="\ufeff")
TEXTS = st.text(CHARACTERS, max_size=12)
WORDS = st.text(CHARACTERS, min_size=1, max_size=8).filter(lambda text: text.strip() != "")
LINES = WORDS.filter(lambda text: not set("\n\r") & set(text))
WINDOWS = st.builds(Window, NUMBERS, NUMBERS)
SPANS = st.tuples(st.floats(0, 1e4), st.floats(1e-3, 1e4)).map(lambda pair: Span(pair[0], pair[0] + pair[1]))
VALUES = st.recursive(st.none() | st.booleans() | NUMBERS | TEXTS, lambda inner: st.lists(inner, max_size=2), max_leaves=3)
EXTRA = st.dictionaries(TEXTS.map(lambda text: f"x_{text}"), VALUES, max_size=2)
TEXT_EXTRA = st.dictionaries(LINES.map(lambda text: f"x_{text}"), WORDS, max_size=2)


def tuples(items: st.SearchStrategy[Any], least: int = 0, most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, min_size=least, max_size=most).map(tuple)


def unique(rows: st.SearchStrategy[Any], name: str = "name") -> st.SearchStrategy[list[Any]]:
    """Rows that are written under their names in one JSON object."""
    return st.lists(rows, max_size=4, unique_by=lambda row: getattr(row, name))


CAPTIONS = st.builds(Caption, WINDOWS, TEXTS)
QUERY = st.builds(
    qvhighlights.MomentQuery,
    query_id=COUNTS | TEXTS,
    query=TEXTS,
    video_id=TEXTS,
    duration_seconds=POSITIVE.filter(lambda seconds: seconds < 500),
    windows=st.none() | tuples(WINDOWS),
    clip_ids=st.none() | tuples(COUNTS),
    saliency=st.none() | tuples(tuples(NUMBERS)),
    extra=EXTRA,
)
SUBMISSION = st.builds(
    qvhighlights.Submission,
    query_id=COUNTS | TEXTS,
    query=TEXTS,
    video_id=TEXTS,
    windows=tuples(st.builds(ScoredWindow, WINDOWS, NUMBERS)),
    saliency=st.none() | tuples(NUMBERS),
    extra=EXTRA,
)
MOMENT = st.builds(
    charades_sta.Moment, LINES.filter(lambda text: "##" not in text), WINDOWS, TEXTS.filter(lambda text: not set("\n\r") & set(text))
)
CAPTIONED = st.builds(
    activitynet_captions.CaptionedVideo, video_id=TEXTS, duration_seconds=POSITIVE, captions=tuples(CAPTIONS), extra=EXTRA
)
TOLD = st.builds(activitynet_captions.VideoPredictions, TEXTS, tuples(st.builds(activitynet_captions.CaptionPrediction, CAPTIONS, EXTRA)))
ACTION_VIDEO = st.builds(
    activitynet_detection.ActionVideo,
    video_id=TEXTS,
    actions=tuples(st.builds(activitynet_detection.ActionWindow, WINDOWS, TEXTS, EXTRA)),
    duration_seconds=st.none() | POSITIVE,
    subset=st.none() | TEXTS,
    extra=EXTRA,
)
PREDICTIONS = st.builds(
    activitynet_detection.VideoPredictions,
    TEXTS,
    tuples(st.builds(activitynet_detection.ActionPrediction, NUMBERS, TEXTS, st.none() | WINDOWS, EXTRA)),
)
CLASS_LISTS = tuples(st.integers(0, 400))
ACTION = st.builds(
    epic100.Action,
    narration=TEXTS,
    verb=TEXTS,
    verb_class=COUNTS,
    noun=TEXTS,
    noun_class=COUNTS,
    nouns=tuples(TEXTS),
    noun_classes=CLASS_LISTS,
)
HUNDREDTHS = st.integers(0, 10**7).map(lambda ticks: ticks / 100)


def narrations(actions: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(
        st.builds(
            epic100.Narration,
            narration_id=TEXTS,
            participant_id=TEXTS,
            video_id=TEXTS,
            narration_seconds=st.none() | st.integers(0, 10**7).map(lambda ticks: ticks / 1000),
            window=st.builds(Window, HUNDREDTHS, HUNDREDTHS),
            frames=st.tuples(COUNTS, COUNTS),
            action=actions,
        ),
        min_size=1,
        max_size=3,
    )


SENTENCE = st.builds(epic100.RetrievalSentence, TEXTS, TEXTS, verb=TEXTS, verb_class=COUNTS, nouns=tuples(TEXTS), noun_classes=CLASS_LISTS)
CHOICE = st.builds(
    nextqa.ChoiceQuestion,
    video_id=TEXTS,
    question_id=TEXTS,
    question=TEXTS,
    options=tuples(TEXTS, 5, 5),
    answer=COUNTS,
    kind=TEXTS,
    num_frames=COUNTS,
    width=COUNTS,
    height=COUNTS,
)
TEXT_CHOICE = st.builds(
    nextqa.ChoiceQuestion,
    video_id=TEXTS,
    question_id=TEXTS,
    question=TEXTS,
    options=st.lists(TEXTS, min_size=5, max_size=5, unique=True).map(tuple),
    answer=st.integers(0, 4) | TEXTS.map(lambda text: f"no option: {text}"),
    kind=TEXTS,
    num_frames=COUNTS,
    width=COUNTS,
    height=COUNTS,
)
VIDEO_CAPTIONS = st.builds(msrvtt.VideoCaptions, TEXTS, TEXTS, tuples(st.tuples(COUNTS, TEXTS)), st.none() | WINDOWS, EXTRA)
RECIPE = st.builds(
    youcook2.RecipeVideo,
    video_id=TEXTS,
    duration_seconds=POSITIVE,
    subset=TEXTS,
    recipe_type=TEXTS,
    steps=tuples(st.builds(youcook2.Step, COUNTS, CAPTIONS)),
    extra=EXTRA,
)
COOKING = st.builds(
    tacos.CookingVideo,
    video_id=TEXTS,
    frame_rate=POSITIVE,
    num_frames=COUNTS,
    frame_captions=tuples(st.builds(tacos.FrameCaption, COUNTS, COUNTS, TEXTS)),
    extra=EXTRA,
)
DESCRIBED = st.builds(
    didemo.DescribedMoment,
    annotation_id=COUNTS,
    video_id=TEXTS,
    description=TEXTS,
    stretches=tuples(st.tuples(COUNTS, COUNTS)),
    num_segments=COUNTS,
    url=TEXTS,
    extra=EXTRA,
)
EVIDENCE = st.builds(
    nextgqa.VideoEvidence,
    video_id=TEXTS,
    duration_seconds=POSITIVE,
    frame_rate=NUMBERS,
    windows=st.dictionaries(TEXTS, tuples(WINDOWS), max_size=3),
    extra=EXTRA,
)
EGO = st.builds(egoschema.EgoQuestion, question_id=TEXTS, question=st.none() | TEXTS, options=tuples(TEXTS, 5, 5), extra=EXTRA)


def open_questions(identity: st.SearchStrategy[Any], extra: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(open_qa.OpenQuestion, video_id=TEXTS, question=TEXTS, answer=TEXTS, question_id=identity, extra=extra)


MSVD_SIZE = st.fixed_dictionaries({"width": TEXTS, "height": TEXTS})
OWN_CAPTION = {"path": WORDS, "caption": WORDS, "span": st.none() | SPANS}
OWN_QUESTION = st.builds(
    own.OwnQuestion,
    path=WORDS,
    question=WORDS,
    options=st.just(()) | st.lists(WORDS, min_size=2, max_size=4, unique=True).map(tuple),
    span=st.none() | SPANS,
    extra=TEXT_EXTRA,
).flatmap(lambda row: st.sampled_from([row, *answered(row)]))


def answered(row: own.OwnQuestion) -> list[own.OwnQuestion]:
    """The question with each of its options as the answer, or with some text."""
    keep = {"path": row.path, "question": row.question, "options": row.options, "span": row.span, "extra": row.extra}
    return [own.OwnQuestion(answer=answer, **keep) for answer in row.options or ("any",)]  # type: ignore[arg-type]


Q, D, E = qvhighlights, activitynet_detection, epic100
Reader, Writer = Callable[[Path], Sequence[Any]], Callable[..., None]
CASES: dict[str, tuple[str, st.SearchStrategy[Any], Reader, Writer]] = {
    "qvhighlights queries": ("a.jsonl", st.lists(QUERY, max_size=3), Q.read_queries, Q.write_queries),
    "qvhighlights submissions": ("a.jsonl", st.lists(SUBMISSION, max_size=3), Q.read_submissions, Q.write_submissions),
    "ego4d queries": ("a.jsonl", st.lists(QUERY, max_size=3), ego4d_nlq.read_queries, ego4d_nlq.write_queries),
    "ego4d predictions": (
        "a.json",
        st.lists(
            st.builds(
                ego4d_nlq.ClipPrediction, clip_id=TEXTS, annotation_id=TEXTS, query_index=COUNTS, windows=tuples(WINDOWS), extra=EXTRA
            )
        ),
        ego4d_nlq.read_predictions,
        ego4d_nlq.write_predictions,
    ),
    "charades": ("a.txt", st.lists(MOMENT, max_size=4), charades_sta.read_moments, charades_sta.write_moments),
    "activitynet captions": ("a.json", unique(CAPTIONED), activitynet_captions.read_videos, activitynet_captions.write_videos),
    "paragraphs": (
        "a.json",
        unique(st.builds(activitynet_captions.Paragraph, TEXTS, TEXTS)),
        activitynet_captions.read_paragraphs,
        activitynet_captions.write_paragraphs,
    ),
    "detection truth": ("a.json", unique(ACTION_VIDEO), D.read_truth, D.write_truth),
    "detection truth with times as text": ("a.json", unique(ACTION_VIDEO), D.read_truth, partial(D.write_truth, times_as_text=True)),
    "detection truth laid flat": (
        "a.json",
        unique(ACTION_VIDEO).filter(lambda rows: all(row.video_id != "database" for row in rows)),
        D.read_truth,
        partial(D.write_truth, flat=True),
    ),
    "caption predictions": ("a.json", unique(TOLD), activitynet_captions.read_predictions, activitynet_captions.write_predictions),
    "detection predictions": ("a.json", unique(PREDICTIONS), D.read_predictions, D.write_predictions),
    "frame labels": (
        "a.txt",
        tuples(LINES, 1, 5),
        lambda path: action_seg.read_frames(path).labels,
        lambda path, labels: action_seg.write_frames(path, action_seg.FrameLabels("a", labels)),
    ),
    "mapping": ("a.txt", st.lists(LINES, max_size=5, unique=True).map(tuple), action_seg.read_mapping, action_seg.write_mapping),
    "bundle": ("a.txt", tuples(LINES.filter(lambda text: text[0] != "#")), action_seg.read_bundle, action_seg.write_bundle),
    "activities": (
        "a.txt",
        st.lists(st.builds(action_seg.Activity, COUNTS, COUNTS, LINES), max_size=4),
        action_seg.read_activities,
        action_seg.write_activities,
    ),
    "epic narrations": ("a.csv", narrations(ACTION), E.read_narrations, E.write_narrations),
    "epic narrations of the test split": ("a.csv", narrations(st.none()), E.read_narrations, E.write_narrations),
    "epic classes": (
        "a.csv",
        st.lists(st.builds(E.ActionClass, COUNTS, TEXTS, tuples(TEXTS), TEXTS), max_size=3),
        E.read_classes,
        E.write_classes,
    ),
    "epic sentences": ("a.csv", st.lists(SENTENCE, min_size=1, max_size=3), E.read_sentences, E.write_sentences),
    "epic test sentences": (
        "a.csv",
        st.lists(st.builds(E.RetrievalSentence, TEXTS, TEXTS), max_size=3),
        E.read_sentences,
        E.write_sentences,
    ),
    "epic videos": (
        "a.csv",
        st.lists(st.builds(E.KitchenVideo, TEXTS, POSITIVE, NUMBERS, TEXTS), max_size=3),
        E.read_videos,
        E.write_videos,
    ),
    "tacos": ("a.json", unique(COOKING), tacos.read_videos, tacos.write_videos),
    "didemo": ("a.json", st.lists(DESCRIBED, max_size=3), didemo.read_moments, didemo.write_moments),
    "msrvtt pairs": (
        "a.csv",
        st.lists(st.builds(msrvtt.CaptionPair, TEXTS, TEXTS, TEXTS, TEXTS), max_size=3),
        msrvtt.read_pairs,
        msrvtt.write_pairs,
    ),
    "msrvtt videos": ("a.json", unique(VIDEO_CAPTIONS), msrvtt.read_videos, msrvtt.write_videos),
    "msvd": ("a.json", st.lists(st.builds(msvd.ClipCaptions, TEXTS, tuples(TEXTS), EXTRA), max_size=3), msvd.read_clips, msvd.write_clips),
    "nextqa": ("a.csv", st.lists(CHOICE, max_size=3), nextqa.read_questions, nextqa.write_questions),
    "nextgqa questions": ("a.csv", st.lists(TEXT_CHOICE), nextqa.read_questions, partial(nextqa.write_questions, answers_as_text=True)),
    "nextgqa evidence": ("a.json", unique(EVIDENCE), nextgqa.read_evidence, nextgqa.write_evidence),
    "egoschema": ("a.json", st.lists(EGO, max_size=3), egoschema.read_questions, egoschema.write_questions),
    "egoschema sources": (
        "a.json",
        unique(st.builds(egoschema.EgoSource, TEXTS, TEXTS, WINDOWS)),
        egoschema.read_sources,
        egoschema.write_sources,
    ),
    "msrvtt-qa csv": (
        "a.csv",
        st.lists(open_questions(TEXTS, st.fixed_dictionaries({"type": TEXTS})), max_size=3),
        open_qa.read_csv_questions,
        open_qa.write_csv_questions,
    ),
    "msvd-qa csv": (
        "a.csv",
        st.lists(open_questions(TEXTS, MSVD_SIZE), max_size=3),
        open_qa.read_csv_questions,
        open_qa.write_csv_questions,
    ),
    "msrvtt-qa json": (
        "a.json",
        st.lists(open_questions(COUNTS, EXTRA), max_size=3),
        open_qa.read_json_questions,
        open_qa.write_json_questions,
    ),
    "msrvtt-qa json lines": (
        "a.jsonl",
        st.lists(open_questions(st.none(), EXTRA), max_size=3),
        open_qa.read_json_line_questions,
        open_qa.write_json_line_questions,
    ),
    "answer words": ("a.json", st.lists(TEXTS, unique=True).map(tuple), open_qa.read_answer_words, open_qa.write_answer_words),
    "numbered answer words": (
        "a.json",
        st.lists(TEXTS, unique=True).map(tuple),
        open_qa.read_answer_words,
        partial(open_qa.write_answer_words, numbered=True),
    ),
    "activitynet-qa questions": (
        "a.json",
        st.lists(st.builds(activitynet_qa.Question, TEXTS, TEXTS, TEXTS, EXTRA), max_size=3),
        activitynet_qa.read_questions,
        activitynet_qa.write_questions,
    ),
    "activitynet-qa answers": (
        "a.json",
        st.lists(st.builds(activitynet_qa.Answer, TEXTS, TEXTS, st.none() | COUNTS, EXTRA), max_size=3),
        activitynet_qa.read_answers,
        activitynet_qa.write_answers,
    ),
    "youcook2 recipes": ("a.json", unique(RECIPE), youcook2.read_recipes, youcook2.write_recipes),
    "list": ("a.txt", tuples(LINES), lists.read_list, lists.write_list),
    "column": (
        "a.csv",
        tuples(TEXTS),
        lambda path: lists.read_column(path, "video_id"),
        lambda path, ids: lists.write_column(path, "video_id", ids),
    ),
    "own captions as csv": (
        "a.csv",
        st.lists(st.builds(own.OwnCaption, extra=TEXT_EXTRA, **OWN_CAPTION), max_size=3),
        own.read_captions,
        own.write_captions,
    ),
    "own captions as json lines": (
        "a.jsonl",
        st.lists(st.builds(own.OwnCaption, extra=EXTRA, **OWN_CAPTION), max_size=3),
        own.read_captions,
        own.write_captions,
    ),
    "own questions as csv": ("a.csv", st.lists(OWN_QUESTION, max_size=3), own.read_questions, own.write_questions),
    "own questions as json lines": ("a.jsonl", st.lists(OWN_QUESTION, max_size=3), own.read_questions, own.write_questions),
}


@pytest.mark.parametrize("case", CASES)
def test_rows_are_read_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, case: str):
    name, rows, read, write = CASES[case]
    path = tmp_path_factory.mktemp("formats") / name

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(rows)
    def check(written: Sequence[Any]) -> None:
        write(path, written)
        found = read(path)
        assert tuple(found) == tuple(written)

    check()
