"""Single values of the published files of ../shared, read by eye in the files themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

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
    msrvtt,
    msvd,
    nextgqa,
    nextqa,
    open_qa,
    qvhighlights,
    tacos,
)
from vlm.data.formats.records import Caption, Window
from vlm.types import Span


@pytest.fixture(scope="module")
def annotations(shared: Path) -> Path:
    return shared / "data/annotations"


def test_a_query_of_qvhighlights(annotations: Path):
    query = qvhighlights.read_queries(annotations / "qvhighlights/highlight_val_release.jsonl")[1]
    assert query.query == "A woman sitting in front of a desk wearing headphones and using her laptop"
    assert (query.query_id, query.video_id, query.duration_seconds) == (5071, "NUsG9BgSes0_60.0_210.0", 150)
    assert [window.span for window in query.windows or ()] == [Span(118, 136)]
    assert query.clip_ids == (59, 60, 61, 62, 63, 64, 65, 66, 67)
    assert (query.saliency or ())[3] == (3, 4, 3)


def test_an_unlabelled_query_of_qvhighlights_has_no_truth(annotations: Path):
    query = qvhighlights.read_queries(annotations / "qvhighlights/highlight_test_release.jsonl")[0]
    assert (query.windows, query.clip_ids, query.saliency) == (None, None, None)


def test_the_clips_of_qvhighlights_are_those_of_its_windows(annotations: Path):
    for query in qvhighlights.read_queries(annotations / "qvhighlights/highlight_val_release.jsonl"):
        assert qvhighlights.clips_of(query.windows or (), query.duration_seconds) == query.clip_ids


def test_a_submission_of_qvhighlights(annotations: Path):
    answer = qvhighlights.read_submissions(annotations / "qvhighlights/standalone_eval/sample_val_preds.jsonl")[0]
    assert (answer.windows[1].window, answer.windows[1].score) == (Window(78.0, 146.0), 0.4138)
    assert len(answer.saliency or ()) == 75


def test_a_moment_of_charades(annotations: Path):
    moment = charades_sta.read_moments(annotations / "charades_sta/charades_sta_test.txt")[1]
    assert moment == charades_sta.Moment("3MSZA", Window(24.3, 30.4), "person flipped the light switch near the door.")


def test_a_video_of_activitynet_captions_keeps_the_spaces_of_its_sentences(annotations: Path):
    video = activitynet_captions.read_videos(annotations / "activitynet_captions/val_1.json")[0]
    sentence = "  The coach helps the guy in red with the proper body placement and lifting technique."
    assert (video.video_id, video.duration_seconds) == ("v_uqiMw7tQ1Cc", 55.15)
    assert video.captions[1] == Caption(Window(13.79, 54.32), sentence)


def test_thumos_has_times_as_text_and_no_durations(annotations: Path):
    video = activitynet_detection.read_truth(annotations / "thumos14/thumos_gt.json")[0]
    assert (video.video_id, video.subset, video.duration_seconds) == ("video_test_0000896", "test", None)
    assert video.actions[0] == activitynet_detection.ActionWindow(Window(18.6, 24.8), "HighJump")


def test_the_predictions_of_activitynet_keep_their_header(annotations: Path):
    predictions = activitynet_detection.read_predictions(annotations / "activitynet_detection/sample_detection_prediction.json")
    assert predictions.header["version"] == "VERSION 1.3"
    assert predictions[0].predictions[0].label == "Blow-drying hair"


def test_the_first_actions_of_a_breakfast(annotations: Path):
    video = action_seg.read_frames(annotations / "action_seg/breakfast/groundTruth/P16_cam01_P16_cereals.txt")
    spans = action_seg.spans_of(video, 15)
    assert spans[0].label == "SIL"
    assert spans[-1].span.end == len(video.labels) / 15


def test_50salads_counts_microseconds(annotations: Path):
    row = action_seg.read_activities(annotations / "action_seg/50salads_labels/sequences/01-1-activityAnnotation.txt")[0]
    assert (row.label, row.window) == ("cut_and_mix_ingredients", Window(53.704269, 268.768513))


def test_a_narration_of_epic_kitchens(annotations: Path):
    row = epic100.read_narrations(annotations / "epic100/EPIC_100_validation.csv")[1]
    assert (row.narration_id, row.video_id, row.narration_seconds, row.window) == ("P01_11_1", "P01_11", 1.7, Window(1.56, 2.45))
    assert row.frames == (93, 147)
    assert row.action is not None
    assert (row.action.narration, row.action.verb_class, row.action.noun_classes) == ("put down plate", 1, (2,))


def test_a_class_of_epic_kitchens(annotations: Path):
    tap = epic100.read_classes(annotations / "epic100/EPIC_100_noun_classes.csv")[0]
    assert (tap.id, tap.key, tap.instances[1], tap.category) == (0, "tap", "tap:water", "appliances")


def test_a_video_of_tacos_counts_frames(annotations: Path):
    video = tacos.read_videos(annotations / "tacos/test.json")[0]
    assert (video.video_id, video.frame_rate) == ("s30-d52.avi", 29.4)
    assert video.captions[0].window == Window(141 / 29.4, 354 / 29.4)


def test_tacos_in_frames_and_in_seconds_agree(annotations: Path):
    in_frames = tacos.read_videos(annotations / "tacos/test.json")
    in_seconds = qvhighlights.read_queries(annotations / "tacos/lighthouse/tacos_test_release.jsonl")
    starts = {f"{video.video_id.removesuffix('.avi')}_{n}": c.window.start for video in in_frames for n, c in enumerate(video.captions)}
    for query in in_seconds:
        assert query.windows is not None
        assert starts[str(query.query_id)] == pytest.approx(query.windows[0].start, abs=1e-9)


def test_a_moment_of_didemo_lasts_whole_segments(annotations: Path):
    moment = didemo.read_moments(annotations / "didemo/val_data.json")[0]
    assert moment.stretches == ((1, 1), (1, 1), (1, 1), (0, 0))
    assert moment.windows[0].span == Span(5, 10)


def test_a_pair_of_msrvtt(annotations: Path):
    pair = msrvtt.read_pairs(annotations / "msrvtt/MSRVTT_JSFUSION_test.csv")[1]
    assert pair == msrvtt.CaptionPair("ret1", "msr9771", "video9771", "a little girl does gymnastics")


def test_a_clip_of_msvd_knows_its_source(annotations: Path):
    clips = msvd.read_clips(annotations / "msvd/training_label.json")
    assert clips[0].sentences[0] == "A woman goes under a horse."
    assert all(clip.source is not None for clip in clips)


def test_an_answer_is_a_position_in_nextqa_and_a_text_in_nextgqa(annotations: Path):
    why = nextqa.read_questions(annotations / "nextqa/val.csv")[1]
    same = nextqa.read_questions(annotations / "nextgqa/val.csv")[0]
    assert (why.video_id, why.question_id, why.kind, why.options[2]) == ("4882821564", "1", "CW", "unwrap it")
    assert why.answer == 2
    assert same == why


def test_the_evidence_of_nextgqa_belongs_to_its_questions(annotations: Path):
    evidence = nextgqa.read_evidence(annotations / "nextgqa/gsub_val.json")
    questions = {question.name for question in nextqa.read_questions(annotations / "nextgqa/val.csv")}
    assert evidence[0].windows["3"] == (Window(12.1, 17.1), Window(20.0, 23.5), Window(29.7, 33.2))
    assert {f"{video.video_id}_{question_id}" for video in evidence for question_id in video.windows} == questions


def test_a_question_of_egoschema(annotations: Path):
    row = egoschema.read_questions(annotations / "egoschema/questions_617b469.json")[0]
    assert (row.question or "").startswith("Although the video is predominantly focused")
    assert row.options[4] == "C takes a break to drink from a cup, briefly shifting focus"


def test_an_answer_of_msrvtt_qa_keeps_its_spelling(annotations: Path):
    rows = open_qa.read_csv_questions(annotations / "msrvtt_qa/hqga_val.csv")
    assert (rows[1].video_id, rows[1].question, rows[1].answer) == ("6513", "what is a family having", "coversation")


def test_every_question_of_activitynet_qa_has_an_answer(annotations: Path):
    questions = activitynet_qa.read_questions(annotations / "activitynet_qa/test_q.json")
    answers = activitynet_qa.read_answers(annotations / "activitynet_qa/test_a.json")
    question, answer = activitynet_qa.answered(questions, answers)[0]
    assert (question.question, answer.answer, activitynet_qa.KINDS[answer.kind or 0]) == (
        "is the athlete wearing trousers",
        "no",
        "yes or no",
    )


def test_a_query_of_ego4d_names_its_long_video(annotations: Path):
    query = ego4d_nlq.read_queries(annotations / "ego4d_nlq/nlq_val.jsonl")[0]
    assert (query.query_id, query.query) == ("val0", "what did I put in the black dustbin?")
    assert query.extra["video_uid"] == "38737402-19bd-4689-9e74-3af391b15feb"
