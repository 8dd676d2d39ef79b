"""What cannot be understood is refused with file, line, field, value and rule; nothing else is lost or mended."""

from __future__ import annotations

import importlib
import json
import math
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vlm.data.formats
from vlm.data.formats import action_seg, charades_sta, files, lists, own, qvhighlights
from vlm.data.formats.records import Window
from vlm.errors import InputError, SpanError
from vlm.types import Span

MODULES = [importlib.import_module(f"vlm.data.formats.{found.name}") for found in pkgutil.iter_modules(vlm.data.formats.__path__)]
# Every reader of the package by MODULE.NAME, but for the tools in files.py and read_column, which takes a column too.
READERS: dict[str, Callable[[Any], Any]] = {
    f"{module.__name__.rsplit('.', 1)[-1]}.{name}": getattr(module, name)
    for module in MODULES
    for name in dir(module)
    if name.startswith("read_") and getattr(module, name).__module__ == module.__name__ and module is not files and name != "read_column"
}

GOOD_QUERY = '{"qid": 1, "query": "a", "duration": 10, "vid": "v", "relevant_windows": [[0, 2]]}'
CHOICE_HEADER = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
BAD: list[tuple[str, str, str, tuple[str, ...]]] = [
    # reader, ending, text, what the message must hold beside the file
    ("qvhighlights.read_queries", "jsonl", f"{GOOD_QUERY}\n{{", (":2:", "JSON")),
    ("qvhighlights.read_queries", "jsonl", f"{GOOD_QUERY}\n[]", (":2:", "object", "list")),
    ("qvhighlights.read_queries", "jsonl", GOOD_QUERY.replace('"vid"', '"video"'), (":1:", "'vid'", "missing", "'video'")),
    ("qvhighlights.read_queries", "jsonl", GOOD_QUERY.replace("10", '"ten"'), (":1:", "'duration'", "'ten'", "number")),
    ("qvhighlights.read_queries", "jsonl", GOOD_QUERY.replace("10", "true"), ("'duration'", "True", "number")),
    ("qvhighlights.read_queries", "jsonl", GOOD_QUERY.replace("10", "0"), ("'duration'", "above 0", "0")),
    ("qvhighlights.read_queries", "jsonl", GOOD_QUERY.replace("10", "NaN"), (":1:", "NaN")),
    ("qvhighlights.read_queries", "jsonl", GOOD_QUERY.replace("10", "1e999"), ("'duration'", "finite", "inf")),
    ("qvhighlights.read_queries", "jsonl", GOOD_QUERY.replace("10", "1" + "0" * 400), ("'duration'", "finite")),
    ("qvhighlights.read_queries", "jsonl", GOOD_QUERY.replace("10", "1" + "0" * 5000), (":1:", "JSON")),
    ("qvhighlights.read_queries", "jsonl", GOOD_QUERY.replace("[0, 2]", "[0]"), ("relevant_windows[0]", "[0]", "two times")),
    ("qvhighlights.read_queries", "jsonl", GOOD_QUERY.replace('"qid": 1', '"qid": 1.5'), ("'qid'", "1.5")),
    ("qvhighlights.read_queries", "jsonl", '{"qid": 1, "qid": 2}', (":1:", "'qid'", "twice")),
    ("qvhighlights.read_queries", "jsonl", "[" * 100_000, (":1:", "JSON")),
    (
        "qvhighlights.read_submissions",
        "jsonl",
        '{"qid": 1, "query": "a", "vid": "v", "pred_relevant_windows": [[0, 2]]}',
        ("pred_relevant_windows[0]", "3 numbers", "[0, 2]"),
    ),
    ("charades_sta.read_moments", "txt", "V 1 2##a\nV 1 2 a\n", (":2:", "VIDEO START END##SENTENCE", "V 1 2 a")),
    ("charades_sta.read_moments", "txt", "V one 2##a", (":1:", "'start'", "'one'", "number")),
    ("charades_sta.read_moments", "txt", "V 1 nan##a", (":1:", "'end'", "'nan'")),
    ("charades_sta.read_moments", "txt", "V 1 1_0##a", (":1:", "'end'", "'1_0'")),
    ("charades_sta.read_moments", "txt", "1 2##a", (":1:", "1 2##a")),
    (
        "activitynet_captions.read_videos",
        "json",
        '{"v": {"duration": 9, "timestamps": [[0, 1]], "sentences": []}}',
        ("v", "'sentences'", "0 sentences", "1"),
    ),
    ("activitynet_captions.read_videos", "json", '{"v": 3}', ("'v'", "object", "3")),
    ("activitynet_captions.read_paragraphs", "json", '{"v": 3}', ("'v'", "text", "3")),
    ("activitynet_captions.read_predictions", "json", '{"results": {"v": [{"sentence": "a"}]}}', ("'timestamp'", "missing", "sentence")),
    ("activitynet_detection.read_truth", "json", '{"database": {"v": {"annotations": [{"segment": ["a", "b"]}]}}}', ("'segment'", "'a'")),
    ("activitynet_detection.read_predictions", "json", '{"results": {"v": [{"score": "high", "label": "x"}]}}', ("'score'", "'high'")),
    ("activitynet_detection.read_predictions", "json", "{}", ("'results'", "missing", "none")),
    ("action_seg.read_frames", "txt", "", ("a label a line", "none")),
    ("action_seg.read_mapping", "txt", "0 a\n2 b", (":2:", "'1 LABEL'", "2 b")),
    ("action_seg.read_mapping", "txt", "0 a\n1 a", (":2:", "'a'", "0 and 1")),
    ("action_seg.read_conversion", "txt", "a b c", (":1:", "a b c")),
    ("action_seg.read_conversion", "txt", "a b\na c", (":2:", "'a' again")),
    ("action_seg.read_activities", "txt", "1 2.5 a", (":1:", "whole microseconds", "1 2.5 a")),
    ("epic100.read_narrations", "csv", "narration_id,participant_id\nx,y\n", (":2:", "'video_id'", "missing")),
    ("epic100.read_classes", "csv", "id,key,instances,category\n0,a,__import__('os'),b\n", (":2:", "'instances'", "__import__")),
    ("epic100.read_classes", "csv", "id,key,instances,category\n0,a,[1],b\n", (":2:", "'instances'", "texts")),
    ("epic100.read_classes", "csv", "id,key,instances,category\nzero,a,[],b\n", (":2:", "'id'", "'zero'", "whole number")),
    ("epic100.read_videos", "csv", "video_id,duration,fps,resolution\nv,10,50,\nv,ten,50,\n", (":3:", "'duration'", "'ten'")),
    ("tacos.read_videos", "json", '{"v": {"timestamps": [[0, 1.5]], "sentences": ["a"]}}', ("timestamps[0]", "1.5", "whole")),
    ("didemo.read_moments", "json", '{"a": 1}', ("JSON list", "dict")),
    ("didemo.read_moments", "json", '[{"annotation_id": 1, "video": 2}]', ("item 0", "'video'", "text", "2")),
    ("msrvtt.read_pairs", "csv", "key,vid_key,video_id,sentence\na,b,c\n", (":2:", "4 cells", "3")),
    ("msrvtt.read_pairs", "csv", "key,key,video_id,sentence\n", (":1:", "name of its own")),
    ("msrvtt.read_pairs", "csv", 'key,vid_key,video_id,sentence\na,b,c,"open\n', ("CSV",)),
    ("msrvtt.read_pairs", "csv", "", ("column names", "empty")),
    ("msrvtt.read_videos", "json", '{"videos": [], "sentences": [{"video_id": "v"}]}', ("sentences[0]", "'video_id'", "'v'")),
    ("nextqa.read_questions", "csv", CHOICE_HEADER + "v,9,9,9,q,one,0,TN,a,b,c,d,e\n", (":2:", "'answer'", "'one'", "whole number")),
    ("nextgqa.read_evidence", "json", '{"v": {"location": {"0": [[1]]}, "duration": 3, "fps": 30}}', ("location", "0[0]", "two times")),
    ("egoschema.read_answers", "json", '{"u": 5}', ("'u'", "0 to 4", "5")),
    ("open_qa.read_answer_words", "json", '["a", "b", "a"]', ("'a' again",)),
    ("open_qa.read_answer_words", "json", '{"a": 0, "b": 2}', ("'b'", "1", "2")),
    ("activitynet_qa.read_answers", "json", '[{"question_id": "q", "answer": null}]', ("item 0", "'answer'", "None", "text")),
    ("ego4d_nlq.read_predictions", "json", '{"results": [{"clip_uid": "c", "annotation_uid": "a"}]}', ("'query_idx'", "missing")),
    ("youcook2.read_recipes", "json", '{"database": {"v": {"annotations": [{"id": "first"}]}}}', ("'id'", "'first'")),
    ("own.read_captions", "csv", "path,start,end,caption\na.mp4,3,2,x\n", (":2:", "end must be after start", "3", "2")),
    ("own.read_captions", "csv", "path,start,end,caption\na.mp4,3,,x\n", (":2:", "'end'", "missing")),
    ("own.read_captions", "csv", "path,start,end,caption\na.mp4,0:03,4,x\n", (":2:", "'start'", "'0:03'", "number")),
    ("own.read_captions", "jsonl", '{"path": "a.mp4", "caption": " "}', (":1:", "caption", "' '")),
    ("own.read_captions", "txt", "", (".csv or .jsonl", "'.txt'")),
    ("own.read_questions", "csv", "path,question,options,answer\na,b,x|y,z\n", (":2:", "'z'", "['x', 'y']")),
    ("own.read_questions", "csv", "path,question,options,answer\na,b,x|x,x\n", (":2:", "differ", "['x', 'x']")),
    ("own.read_questions", "csv", "path,question,options,answer\na,b,[x],x\n", (":2:", "'options'", "JSON")),
    ("own.read_rows", "jsonl", '{"path": "a.mp4", "text": "x"}', (":1:", "'caption'", "'question'", "neither", "'text'")),
    ("own.read_rows", "csv", "path,caption,question\na.mp4,x,y\n", (":2:", "'caption'", "'question'", "both")),
]


@pytest.mark.parametrize(("reader", "ending", "text", "parts"), BAD, ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_a_broken_row_is_refused_with_its_place_and_its_rule(tmp_path: Path, reader: str, ending: str, text: str, parts: tuple[str, ...]):
    path = tmp_path / f"broken.{ending}"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError) as raised:
        READERS[reader](path)
    for part in (str(path), *parts):
        assert part in str(raised.value)


@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_is_not_there_is_named(tmp_path: Path, reader: str):
    path = tmp_path / "absent.csv"
    with pytest.raises(InputError, match=r"absent\.csv"):
        READERS[reader](path)


@pytest.mark.parametrize("reader", [reader for reader in READERS if reader != "action_seg.read_folder"])
def test_a_file_that_is_not_utf8_is_named_with_the_byte(tmp_path: Path, reader: str):
    path = tmp_path / "latin.csv"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=r"latin\.csv: byte 3 is b'\\xe9'"):
        READERS[reader](path)


FIELDS = sorted({part.strip("'") for _, _, _, parts in BAD for part in parts if part.startswith("'")} | {"timestamps", "sentences", "v"})
LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text("a1#[]|, ", max_size=4)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5), max_leaves=20
)


@pytest.mark.parametrize("reader", [reader for reader in READERS if reader != "action_seg.read_folder"])
def test_no_file_brings_another_error(tmp_path: Path, reader: str):
    @settings(max_examples=8, deadline=None)
    @given(JSON.map(json.dumps) | st.lists(st.text('a1.:,"#| []\r', max_size=12), max_size=3).map("\n".join))
    def check(text: str) -> None:
        for path in (tmp_path / "a.csv", tmp_path / "a.jsonl"):
            path.write_bytes(text.encode())
            try:
                READERS[reader](path)
            except InputError as error:
                assert str(path) in str(error)  # noqa: PT017

    check()


def test_a_byte_order_mark_is_passed_over(tmp_path: Path):
    path = tmp_path / "excel.csv"
    path.write_bytes("\ufeffpath,caption\r\na.mp4,ein Käfer\r\n".encode())
    assert own.read_captions(path).rows == (own.OwnCaption(path="a.mp4", caption="ein Käfer"),)


def test_blank_lines_are_passed_over_and_counted(tmp_path: Path):
    path = tmp_path / "queries.jsonl"
    path.write_text(f"\n{GOOD_QUERY}\n\n{GOOD_QUERY.replace('10', '-1')}\n", "utf-8")
    with pytest.raises(InputError, match=":4:"):
        qvhighlights.read_queries(path)


def test_a_separator_inside_a_sentence_is_no_line_end(tmp_path: Path):
    path = tmp_path / "moments.txt"
    path.write_bytes("V 1 2##one\u2028two\x0bthree\n".encode())
    assert [row.sentence for row in charades_sta.read_moments(path)] == ["one\u2028two\x0bthree"]


def test_an_id_with_spaces_and_a_sentence_with_the_mark_are_read(tmp_path: Path):
    path = tmp_path / "moments.txt"
    path.write_text("my video 2 1.5 2##turn ## left\n", "utf-8")
    assert charades_sta.read_moments(path).rows == (charades_sta.Moment("my video 2", Window(1.5, 2), "turn ## left"),)


@pytest.mark.parametrize(
    ("window", "rules"),
    [
        ((0, 2), []),
        ((3, 3), ["ends after its start"]),
        ((5, 2), ["ends after its start"]),
        ((-1, 2), ["starts at 0 s or later"]),
        ((8, 10.5), ["ends by the end of the video, 10 s"]),
        ((8, 10.0000001), []),
        ((-2, -3), ["starts at 0 s or later", "ends after its start"]),
    ],
)
def test_a_window_that_is_no_span_of_its_video_stays_and_is_named(tmp_path: Path, window: tuple[float, float], rules: list[str]):
    path = tmp_path / "queries.jsonl"
    path.write_text(GOOD_QUERY.replace("[0, 2]", str(list(window))), "utf-8")
    queries = qvhighlights.read_queries(path)
    assert queries[0].windows == (Window(*window),)
    assert [defect.rule for defect in queries.defects] == rules
    assert queries.sound() == (() if rules else queries.rows)


def test_an_id_that_stands_twice_is_named_with_the_first_row(tmp_path: Path):
    path = tmp_path / "queries.jsonl"
    path.write_text(f"{GOOD_QUERY}\n{GOOD_QUERY}\n", "utf-8")
    queries = qvhighlights.read_queries(path)
    assert len(queries) == 2
    assert [str(defect) for defect in queries.defects] == ["row 1 (1): qid '1' breaks the rule: stands once in a file, stood in row 0"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"clip_ids": (0,), "saliency": ((1, 2, 5),)}, "lies within 0..4"),
        ({"clip_ids": (0,), "saliency": ()}, "has a row for each of the 1 clips"),
        ({"clip_ids": (0, 0)}, "ascends"),
        ({"clip_ids": (0, 5)}, "lies within the 5 whole clips of the video"),
        ({"clip_ids": (0, 1)}, "holds the clips of relevant_windows, [0]"),
    ],
)
def test_clips_that_do_not_fit_their_query_are_named(change: dict[str, Any], rule: str):
    query = qvhighlights.MomentQuery(query_id=1, query="a", video_id="v", duration_seconds=10, windows=(Window(0, 2),), **change)
    assert rule in [fault.rule for fault in query.faults()]


def test_a_window_gives_its_span_or_says_why_not():
    assert Window(1, 2).span == Span(1, 2)
    assert Window.of(Span(1, 2)) == Window(1, 2)
    with pytest.raises(SpanError, match="start=2 s, end=1 s"):
        _ = Window(2, 1).span


@pytest.mark.parametrize("time", [math.nan, math.inf, 10**400])
def test_a_window_needs_finite_times(time: float):
    with pytest.raises(InputError, match="finite"):
        Window(0, time)


@pytest.mark.parametrize(
    ("write", "rows", "part"),
    [
        (charades_sta.write_moments, [charades_sta.Moment("V", Window(0, 1), "two\nlines")], "one line"),
        (action_seg.write_mapping, ["two\nlines"], "one line"),
        (lists.write_list, [" "], "something on it"),
        (lists.write_list, ["\ufeffa"], "byte order mark"),
        (lists.write_list, ["half \ud83d"], "half a character"),
        (own.write_captions, [own.OwnCaption(path="a", caption="b", extra={"n": 1})], "write .jsonl"),
    ],
)
def test_what_a_format_cannot_hold_is_not_written(tmp_path: Path, write: Callable[..., None], rows: list[Any], part: str):
    path = tmp_path / "a.csv"
    with pytest.raises(InputError, match=part):
        write(path, rows)
    assert not path.exists()


def test_a_folder_that_is_not_there_is_named_in_writing(tmp_path: Path):
    with pytest.raises(InputError, match=r"gone.*cannot be written"):
        lists.write_list(tmp_path / "gone/a.txt", ["a"])


def test_one_file_may_hold_captions_and_questions(tmp_path: Path):
    path = tmp_path / "mine.csv"
    path.write_text("path,start,end,caption,question,options,answer\na.mp4,1,2,a dog,,,\n\na.mp4,,,,what jumps?,dog|cat,dog\n")
    assert own.read_rows(path) == (
        (f"{path}:2", own.OwnCaption(path="a.mp4", caption="a dog", span=Span(1, 2))),
        (f"{path}:4", own.OwnQuestion(path="a.mp4", question="what jumps?", options=("dog", "cat"), answer="dog")),
    )
