"""The published files of ../shared: every row reads, the defects are counted, and writing gives the file back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

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
    lists,
    msrvtt,
    msvd,
    nextgqa,
    nextqa,
    open_qa,
    qvhighlights,
    tacos,
    youcook2,
)


class Published(NamedTuple):
    """A file, how it is read and written, what is in it, and what keeps its bytes from coming back ("" = nothing)."""

    path: str
    read: Callable[[Any], Any]
    write: Callable[..., None]
    num_rows: int
    num_defects: int = 0
    options: dict[str, Any] | None = None
    differs: str = ""


QVH = (qvhighlights.read_queries, qvhighlights.write_queries)
CAPTIONS = (activitynet_captions.read_videos, activitynet_captions.write_videos)
PARAGRAPHS = (activitynet_captions.read_paragraphs, activitynet_captions.write_paragraphs)
TRUTH = (activitynet_detection.read_truth, activitynet_detection.write_truth)
PREDICTIONS = (activitynet_detection.read_predictions, activitynet_detection.write_predictions)
MOMENTS = (charades_sta.read_moments, charades_sta.write_moments)
CONVERSION = (action_seg.read_conversion, action_seg.write_conversion)
BUNDLE = (action_seg.read_bundle, action_seg.write_bundle)
NARRATIONS = (epic100.read_narrations, epic100.write_narrations)
SENTENCES = (epic100.read_sentences, epic100.write_sentences)
CLASSES = (epic100.read_classes, epic100.write_classes)
TACOS = (tacos.read_videos, tacos.write_videos)
DIDEMO = (didemo.read_moments, didemo.write_moments)
CHOICES = (nextqa.read_questions, nextqa.write_questions)
EVIDENCE = (nextgqa.read_evidence, nextgqa.write_evidence)
TIMES = (nextgqa.read_frame_times, nextgqa.write_frame_times)
EGO = (egoschema.read_questions, egoschema.write_questions)
CSV_QA = (open_qa.read_csv_questions, open_qa.write_csv_questions)
WORDS = (open_qa.read_answer_words, open_qa.write_answer_words)
ANET_Q = (activitynet_qa.read_questions, activitynet_qa.write_questions)
ANET_A = (activitynet_qa.read_answers, activitynet_qa.write_answers)
LIST = (lists.read_list, lists.write_list)

AS_TEXT = {"answers_as_text": True}
LINE_END = "no line end behind the last line"
LINE_END_MORE = "a line end behind the JSON value"
DIGITS = "seconds with seventeen digits, of which fifteen tell as much"
ORDER = "another order of the fields"
SPACES = "a space left out in two cells"

FILES = [
    Published("qvhighlights/highlight_train_release.jsonl", *QVH, 7218, differs=LINE_END),
    Published("qvhighlights/highlight_val_release.jsonl", *QVH, 1550, differs=LINE_END),
    Published("qvhighlights/highlight_test_release.jsonl", *QVH, 1542, differs=LINE_END),
    Published("qvhighlights/highlight_test_with_gt.jsonl", *QVH, 1542, differs=LINE_END),
    Published("qvhighlights/run_on_video_example_queries.jsonl", *QVH, 1),
    Published(
        "qvhighlights/standalone_eval/sample_val_preds.jsonl",
        qvhighlights.read_submissions,
        qvhighlights.write_submissions,
        1550,
        differs=LINE_END,
    ),
    Published("charades_sta/charades_sta_train.txt", *MOMENTS, 12408),
    Published("charades_sta/charades_sta_test.txt", *MOMENTS, 3720),
    Published("charades_sta/lighthouse/charades_train_release.jsonl", *QVH, 12404, differs=LINE_END),
    Published("charades_sta/lighthouse/charades_test_release.jsonl", *QVH, 3720, differs=LINE_END),
    Published("activitynet_captions/val_1.json", *CAPTIONS, 4917, 5),
    Published("activitynet_captions/val_2.json", *CAPTIONS, 4885, 1),
    Published("activitynet_captions/para/anet_entities_val_1_para.json", *PARAGRAPHS, 2460),
    Published("activitynet_captions/para/anet_entities_val_2_para.json", *PARAGRAPHS, 2441),
    Published("activitynet_captions/para/anet_entities_test_1_para.json", *PARAGRAPHS, 2457),
    Published("activitynet_captions/para/anet_entities_test_2_para.json", *PARAGRAPHS, 2444),
    Published(
        "activitynet_captions/lighthouse/activitynet_val_release.jsonl", *QVH, 17505, 5, differs="no spaces behind commas and colons"
    ),
    Published("activitynet_detection/anet_anno_action.json", *TRUTH, 19228, 272, {"flat": True}, DIGITS),
    Published("activitynet_detection/sample_detection_prediction.json", *PREDICTIONS, 4926, 3),
    Published("activitynet_detection/sample_classification_prediction.json", *PREDICTIONS, 4926),
    Published("thumos14/thumos_gt.json", *TRUTH, 410, 0, {"times_as_text": True}),
    Published("action_seg/breakfast/splits/mapping_bf.txt", action_seg.read_mapping, action_seg.write_mapping, 48),
    Published("action_seg/breakfast/splits/train.split1.bundle", *BUNDLE, 1460),
    Published("action_seg/breakfast/splits/test.split1.bundle", *BUNDLE, 252),
    Published("action_seg/50salads_labels/conversions/low_to_mid.txt", *CONVERSION, 51),
    Published("action_seg/50salads_labels/conversions/low_to_eval.txt", *CONVERSION, 51),
    Published("action_seg/50salads_labels/conversions/low_to_abstract.txt", *CONVERSION, 51),
    Published("epic100/EPIC_100_validation.csv", *NARRATIONS, 9668),
    Published("epic100/EPIC_100_test_timestamps.csv", *NARRATIONS, 13092),
    Published("epic100/EPIC_100_video_info.csv", epic100.read_videos, epic100.write_videos, 700),
    Published("epic100/EPIC_100_verb_classes.csv", *CLASSES, 97, differs=SPACES),
    Published("epic100/EPIC_100_noun_classes.csv", *CLASSES, 300, differs=LINE_END),
    Published("epic100/EPIC_100_noun_classes_v2.csv", *CLASSES, 305, differs="quotes around every text"),
    Published("epic100/retrieval_annotations/EPIC_100_retrieval_test.csv", *NARRATIONS, 9668),
    Published("epic100/retrieval_annotations/EPIC_100_retrieval_test_sentence.csv", *SENTENCES, 3842),
    Published("epic100/retrieval_annotations/EPIC_100_retrieval_train_sentence.csv", *SENTENCES, 15989),
    Published("tacos/train.json", *TACOS, 75, 43),
    Published("tacos/val.json", *TACOS, 27),
    Published("tacos/test.json", *TACOS, 25, 5),
    Published("tacos/lighthouse/tacos_val_release.jsonl", *QVH, 4436),
    Published("tacos/lighthouse/tacos_test_release.jsonl", *QVH, 4001),
    Published("didemo/val_data.json", *DIDEMO, 4180),
    Published("didemo/test_data.json", *DIDEMO, 4021),
    Published("didemo/ce_splits/train_list.txt", *LIST, 8392),
    Published("msrvtt/MSRVTT_JSFUSION_test.csv", msrvtt.read_pairs, msrvtt.write_pairs, 1000),
    Published("msrvtt/ce_splits/test_list_miech.txt", *LIST, 1000),
    Published("msrvtt/ce_splits/train_list_jsfusion.txt", *LIST, 9000, differs=LINE_END),
    Published("msvd/training_label.json", msvd.read_clips, msvd.write_clips, 1450),
    Published("msvd/test_list.txt", *LIST, 670),
    Published("nextqa/val.csv", *CHOICES, 4996, 3),
    Published("nextqa/test.csv", *CHOICES, 8564, 8),
    Published("nextqa/map_vid_vidorID.json", nextqa.read_video_paths, nextqa.write_video_paths, 10000),
    Published("nextgqa/val.csv", *CHOICES, 3358, 1, AS_TEXT),
    Published("nextgqa/test.csv", *CHOICES, 5553, 3, AS_TEXT),
    Published("nextgqa/gsub_val.json", *EVIDENCE, 570, 3, differs=LINE_END_MORE),
    Published("nextgqa/gsub_test.json", *EVIDENCE, 999, 36),
    Published("nextgqa/frame2time_val.json", *TIMES, 570),
    Published("nextgqa/frame2time_test.json", *TIMES, 999),
    Published("nextgqa/upbd_val.json", *TIMES, 570),
    Published("nextgqa/upbd_test.json", *TIMES, 999),
    Published("egoschema/questions_617b469.json", *EGO, 20),
    Published("egoschema/questions_87ec57c.json", *EGO, 20, 20),
    Published("egoschema/questions_2728859.json", *EGO, 20, 20),
    Published("egoschema/questions_920f0af.json", *EGO, 0),
    Published("egoschema/subset_answers.json", egoschema.read_answers, egoschema.write_answers, 500),
    Published("egoschema/uid_to_ego4d.json", egoschema.read_sources, egoschema.write_sources, 5031),
    Published("msrvtt_qa/hqga_val.csv", *CSV_QA, 12278),
    Published("msrvtt_qa/hqga_test.csv", *CSV_QA, 72821),
    Published("msrvtt_qa/val.jsonl", open_qa.read_json_line_questions, open_qa.write_json_line_questions, 12278, differs=LINE_END),
    Published("msrvtt_qa/hqga_ans_word.json", *WORDS, 4000, 0, {"indent": 4}),
    Published("msrvtt_qa/train_ans2label.json", *WORDS, 1500, 0, {"numbered": True}),
    Published("msvd_qa/hqga_val.csv", *CSV_QA, 6415),
    Published("msvd_qa/hqga_test.csv", *CSV_QA, 13157),
    Published("msvd_qa/hqga_ans_word.json", *WORDS, 1852),
    Published("activitynet_qa/val_q.json", *ANET_Q, 18000),
    Published("activitynet_qa/val_a.json", *ANET_A, 18000),
    Published("activitynet_qa/test_q.json", *ANET_Q, 8000),
    Published("activitynet_qa/test_a.json", *ANET_A, 8000),
    Published("activitynet_qa/evaluation/pred_val_example.json", *ANET_A, 18000),
    Published("youcook2/yc2_train.json", youcook2.read_videos, CAPTIONS[1], 1333),
    Published("youcook2/yc2_val.json", youcook2.read_videos, CAPTIONS[1], 457),
    Published("youcook2/yc2_test.json", youcook2.read_videos, CAPTIONS[1], 210, 210, differs=ORDER),
    Published("youcook2/para_yc2_val.json", *PARAGRAPHS, 457),
    Published("ego4d_nlq/nlq_val.jsonl", ego4d_nlq.read_queries, ego4d_nlq.write_queries, 3874, 399),
]


@pytest.fixture(scope="module")
def annotations(shared: Path) -> Path:
    return shared / "data/annotations"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.path)
def test_a_published_file_reads_whole_and_is_written_back(annotations: Path, tmp_path: Path, file: Published):
    published = annotations / file.path
    rows = file.read(published)
    assert len(rows) == file.num_rows
    assert len(getattr(rows, "defects", ())) == file.num_defects
    options = dict(file.options or {})
    if getattr(rows, "header", None):
        options["header"] = rows.header
    copy = tmp_path / published.name
    file.write(copy, rows, **options)
    if file.differs in ("", LINE_END, LINE_END_MORE):
        end = b"\r\n" if file.differs else b""
        assert copy.read_bytes().rstrip(end) == published.read_bytes().rstrip(end)
    else:
        assert copy.read_bytes() != published.read_bytes()
        assert file.read(copy) == rows


def test_the_frame_labels_of_breakfast_are_written_back(annotations: Path, tmp_path: Path):
    folder = annotations / "action_seg/breakfast/groundTruth"
    videos = action_seg.read_folder(folder)
    assert len(videos) == 122
    for video in videos:
        action_seg.write_frames(tmp_path / "copy.txt", video)
        assert (tmp_path / "copy.txt").read_bytes() == (folder / f"{video.video_id}.txt").read_bytes()


def test_the_frame_labels_of_breakfast_are_all_in_its_mapping(annotations: Path):
    mapping = set(action_seg.read_mapping(annotations / "action_seg/breakfast/splits/mapping_bf.txt"))
    videos = action_seg.read_folder(annotations / "action_seg/breakfast/groundTruth")
    assert {label for video in videos for label in video.labels} <= mapping


def test_the_activities_of_50salads_are_written_back(annotations: Path, tmp_path: Path):
    files = sorted((annotations / "action_seg/50salads_labels/sequences").glob("*.txt"))
    assert len(files) == 54
    for path in files:
        rows = action_seg.read_activities(path)
        action_seg.write_activities(tmp_path / "copy.txt", rows)
        assert (tmp_path / "copy.txt").read_bytes() == path.read_bytes()


def test_one_activity_of_50salads_has_no_length(annotations: Path):
    rows = action_seg.read_activities(annotations / "action_seg/50salads_labels/sequences/21-1-activityAnnotation.txt")
    assert [(defect.row, defect.value, defect.rule) for defect in rows.defects] == [(5, "[84.274167, 84.274167]", "ends after its start")]


@pytest.mark.parametrize(("name", "num_rows"), [("train.7k", 7010), ("train.9k", 9000), ("train.full", 6513), ("val.full", 497)])
def test_the_split_lists_of_msrvtt_are_written_back(annotations: Path, tmp_path: Path, name: str, num_rows: int):
    published = annotations / f"msrvtt/MSRVTT_{name}.csv"
    ids = lists.read_column(published, "video_id")
    lists.write_column(tmp_path / "copy.csv", "video_id", ids)
    assert len(ids) == num_rows
    assert (tmp_path / "copy.csv").read_bytes() == published.read_bytes()


@pytest.mark.parametrize(("split", "num_late"), [("train", 1802), ("test", 562)])
def test_windows_of_charades_past_their_video_are_named_with_durations(annotations: Path, split: str, num_late: int):
    clipped = qvhighlights.read_queries(annotations / f"charades_sta/lighthouse/charades_{split}_release.jsonl")
    durations = {query.video_id: query.duration_seconds for query in clipped}
    moments = charades_sta.read_moments(annotations / f"charades_sta/charades_sta_{split}.txt", durations=durations)
    assert len(moments.defects) == num_late
    assert len(moments.sound()) == len(moments) - num_late


def test_one_narration_of_epic_kitchens_passes_the_end_of_its_video(annotations: Path):
    videos = epic100.read_videos(annotations / "epic100/EPIC_100_video_info.csv")
    durations = {video.video_id: video.duration_seconds for video in videos}
    rows = epic100.read_narrations(annotations / "epic100/EPIC_100_validation.csv", durations=durations)
    assert [str(defect) for defect in rows.defects] == [
        "row 8544 (P29_05_563): stop_timestamp [1820.75, 1821.75] breaks the rule: ends by the end of the video, 1821.7365670000002 s"
    ]
