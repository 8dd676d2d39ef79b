"""The exported annotations read back with the formats' readers and say what the truth says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from vlm.data.formats import (
    action_seg,
    activitynet_captions,
    activitynet_detection,
    charades_sta,
    epic100,
    msrvtt,
    nextgqa,
    nextqa,
    open_qa,
    own,
    qvhighlights,
)
from vlm.data.toybox.dice import Dice
from vlm.data.toybox.export import export
from vlm.data.toybox.language import clause
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.queries import name_pattern
from vlm.data.toybox.questions import balanced_questions
from vlm.data.toybox.truth import CLASSES, Truth, frame_classes, truth_of
from vlm.data.toybox.world import World
from vlm.errors import InputError

SEED = 3
NUM_TRAIN, NUM_TEST = 5, 40


class Exported(NamedTuple):
    """The folder, its files, and the truth of each video by its id."""

    folder: Path
    files: list[Path]
    truths: dict[str, Truth]

    def of(self, split: str) -> dict[str, Truth]:
        return {video_id: truth for video_id, truth in self.truths.items() if truth.world.split == split}


def video_id(world: World) -> str:
    return world.name.replace("/", "-")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("toybox")
    worlds = [make_world(SEED, number, split="train") for number in range(NUM_TRAIN)]
    worlds += [make_world(SEED, number, split="test") for number in range(NUM_TEST)]
    paths = {world.name: folder / "videos" / f"{video_id(world)}.mp4" for world in worlds}
    files = export(folder, worlds, video_paths=paths)
    return Exported(folder / "annotations", files, {video_id(world): truth_of(world) for world in worlds})


def test_the_list_names_every_file_that_was_written(exported: Exported):
    assert sorted(exported.files) == sorted(path for path in exported.folder.rglob("*") if path.is_file())


def test_no_exported_row_has_a_defect(exported: Exported):
    found: list[Any] = []
    for split in ("train", "test"):
        found += [qvhighlights.read_queries(exported.folder / f"qvhighlights/highlight_{split}_release.jsonl")]
        found += [charades_sta.read_moments(exported.folder / f"charades_sta/charades_sta_{split}.txt")]
        found += [activitynet_captions.read_videos(exported.folder / f"activitynet_captions/{split}.json")]
        found += [epic100.read_narrations(exported.folder / f"epic100/EPIC_100_{split}.csv")]
        found += [nextqa.read_questions(exported.folder / f"nextqa/{split}.csv")]
        found += [nextgqa.read_evidence(exported.folder / f"nextgqa/gsub_{split}.json")]
    found += [activitynet_detection.read_truth(exported.folder / "activitynet_detection/activity_net.json")]
    assert [defect for rows in found for defect in rows.defects] == []


@pytest.mark.parametrize("split", ["train", "test"])
def test_qvhighlights_holds_every_query_with_spans(exported: Exported, split: str):
    rows = qvhighlights.read_queries(exported.folder / f"qvhighlights/highlight_{split}_release.jsonl")
    found = {row.query_id: (row.query, row.video_id, tuple(window.span for window in row.windows or ())) for row in rows}
    truths = exported.of(split).items()
    assert found == {q.id: (q.text, name, q.spans) for name, truth in truths for q in truth.queries if q.spans}


def test_the_ratings_of_qvhighlights_follow_the_shares_of_the_seconds(exported: Exported):
    rows = {row.query_id: row for row in qvhighlights.read_queries(exported.folder / "qvhighlights/highlight_test_release.jsonl")}
    for truth in exported.of("test").values():
        for query, saliency in zip(truth.queries, truth.saliency, strict=True):
            if query.spans:
                row = rows[query.id]
                shares = dict(zip(saliency.seconds, saliency.shares, strict=True))
                means = [(shares.get(2 * clip, 0) + shares.get(2 * clip + 1, 0)) / 2 for clip in row.clip_ids or ()]
                given = [ratings[0] for ratings in row.saliency or ()]
                assert given == pytest.approx([4 * mean for mean in means], abs=0.5 + 1e-9)
                assert all(len(set(ratings)) == 1 and len(ratings) == 3 for ratings in row.saliency or ())


def test_charades_holds_the_events_with_one_span(exported: Exported):
    rows = charades_sta.read_moments(exported.folder / "charades_sta/charades_sta_test.txt")
    truths = exported.of("test").items()
    expected = [(name, q.spans[0], q.text) for name, truth in truths for q in truth.queries if q.kind == "event" and len(q.spans) == 1]
    assert [(row.video_id, row.window.span, row.sentence) for row in rows] == expected


def test_activitynet_captions_hold_the_paragraphs(exported: Exported):
    rows = activitynet_captions.read_videos(exported.folder / "activitynet_captions/test.json")
    found = {row.video_id: tuple((caption.sentence, caption.window.span) for caption in row.captions) for row in rows}
    assert found == {name: truth.paragraph for name, truth in exported.of("test").items()}
    paragraphs = activitynet_captions.read_paragraphs(exported.folder / "activitynet_captions/para/test_para.json")
    assert all(row.text.count(".") == len(found[row.video_id]) for row in paragraphs)


def test_detection_holds_every_event_of_every_split(exported: Exported):
    rows = activitynet_detection.read_truth(exported.folder / "activitynet_detection/activity_net.json")
    found = {row.video_id: [(action.window.span, action.label) for action in row.actions] for row in rows}
    assert found == {name: [(event.span, event.label) for event in truth.world.events] for name, truth in exported.truths.items()}
    assert Counter(row.subset for row in rows) == {"training": NUM_TRAIN, "testing": NUM_TEST}
    assert {row.video_id: row.duration_seconds for row in rows} == {name: t.world.seconds for name, t in exported.truths.items()}


def test_frame_labels_are_those_of_the_label_track(exported: Exported):
    assert action_seg.read_mapping(exported.folder / "action_seg/mapping.txt") == CLASSES
    for name, truth in exported.truths.items():
        labels = action_seg.read_frames(exported.folder / f"action_seg/groundTruth/{name}.txt").labels
        assert np.array_equal([CLASSES.index(label) for label in labels], frame_classes(truth.world, rate=2.0))


def test_the_bundles_name_the_videos_of_their_split(exported: Exported):
    names = action_seg.read_bundle(exported.folder / "action_seg/splits/train.split1.bundle")
    assert names == tuple(f"{name}.txt" for name in exported.of("train"))


def test_epic_kitchens_holds_every_event_as_a_narration(exported: Exported):
    verbs = {row.id: row.key for row in epic100.read_classes(exported.folder / "epic100/EPIC_100_verb_classes.csv")}
    nouns = {row.id: row.key for row in epic100.read_classes(exported.folder / "epic100/EPIC_100_noun_classes.csv")}
    rows = iter(epic100.read_narrations(exported.folder / "epic100/EPIC_100_test.csv"))
    for name, truth in exported.of("test").items():
        for event in truth.world.events:
            row = next(rows)
            looks = [look for look in (event.look, event.target_look) if look is not None]
            assert row.action is not None
            assert (row.video_id, row.window.span, row.action.narration) == (name, event.span, truth.captions[event.id][0])
            assert verbs[row.action.verb_class] == event.action
            assert [nouns[number] for number in row.action.noun_classes] == [look.shape for look in looks]
    assert next(rows, None) is None


def test_the_retrieval_sentences_are_the_different_narrations(exported: Exported):
    folder = exported.folder / "epic100/retrieval_annotations"
    rows = epic100.read_narrations(folder / "EPIC_100_retrieval_test.csv")
    sentences = epic100.read_sentences(folder / "EPIC_100_retrieval_test_sentence.csv")
    assert {row.narration for row in sentences} == {row.action.narration for row in rows if row.action is not None}
    assert len({row.narration for row in sentences}) == len(sentences)


def test_nextqa_gives_the_right_answer_among_five_that_differ(exported: Exported):
    rows = nextqa.read_questions(exported.folder / "nextqa/test.csv")
    asked = balanced_questions(truth.world for truth in exported.of("test").values())
    answers = {(video_id_of(question.id), question.text, question.answer) for question in asked}
    assert len(rows) > 20
    for row in rows:
        assert isinstance(row.answer, int)
        assert (row.video_id, row.question, row.options[row.answer]) in answers


def test_what_happens_next_is_asked_among_events_of_the_video(exported: Exported):
    rows = [row for row in nextqa.read_questions(exported.folder / "nextqa/test.csv") if row.kind == "TN"]
    assert rows
    for row in rows:
        events = exported.truths[row.video_id].world.events
        told = {clause(name_pattern(event), Dice(0), article="the") for event in events}
        assert set(row.options) <= told


def test_nextgqa_has_the_same_questions_and_the_evidence_of_each(exported: Exported):
    choices = nextqa.read_questions(exported.folder / "nextqa/test.csv")
    assert nextqa.read_questions(exported.folder / "nextgqa/test.csv").rows == choices.rows
    evidence = {row.video_id: row for row in nextgqa.read_evidence(exported.folder / "nextgqa/gsub_test.json")}
    truths = exported.of("test")
    spans = {(name, q.text, q.answer): q.evidence for name, truth in truths.items() for q in truth.questions}
    for row in choices:
        assert isinstance(row.answer, int)
        windows = evidence[row.video_id].windows[row.question_id]
        assert tuple(window.span for window in windows) == spans[row.video_id, row.question, row.options[row.answer]]


def test_every_balanced_question_is_in_our_own_format_with_its_options(exported: Exported):
    rows = own.read_questions(exported.folder / "own/questions_test.jsonl")
    asked = balanced_questions(truth.world for truth in exported.of("test").values())
    assert [(row.question, row.options, row.answer) for row in rows] == [(q.text, q.options, q.answer) for q in asked]
    assert {row.path for row in rows} <= {f"videos/{name}.mp4" for name in exported.truths}


def test_every_phrasing_of_every_event_is_in_our_own_format(exported: Exported):
    rows = own.read_captions(exported.folder / "own/captions_test.jsonl")
    expected = [
        (caption, event.span)
        for truth in exported.of("test").values()
        for event, captions in zip(truth.world.events, truth.captions, strict=True)
        for caption in captions
    ]
    assert [(row.caption, row.span) for row in rows] == expected


def test_answers_of_msrvtt_qa_are_words(exported: Exported):
    rows = open_qa.read_json_line_questions(exported.folder / "msrvtt_qa/test.jsonl")
    assert rows
    assert all(" " not in row.answer for row in rows)


def test_msrvtt_has_one_caption_a_video(exported: Exported):
    pairs = msrvtt.read_pairs(exported.folder / "msrvtt/MSRVTT_JSFUSION_test.csv")
    assert {pair.video_id: pair.sentence for pair in pairs} == {name: truth.caption for name, truth in exported.of("test").items()}
    videos = msrvtt.read_videos(exported.folder / "msrvtt/MSRVTT_data.json")
    assert {row.video_id: row.sentences[0][1] for row in videos} == {name: truth.caption for name, truth in exported.truths.items()}


def test_the_files_of_the_videos_are_named_relative_to_the_folder(exported: Exported):
    paths = nextqa.read_video_paths(exported.folder / "nextqa/map_vid_vidorID.json")
    assert paths == {name: f"videos/{name}" for name in exported.truths}


def test_the_readme_names_every_kind_of_file(exported: Exported):
    text = (exported.folder / "README.md").read_text("utf-8")
    assert all(f"`{path.relative_to(exported.folder).parts[0]}/" in text for path in exported.files if path.name != "README.md")
    assert f"{NUM_TRAIN} train, {NUM_TEST} test" in text


def test_export_again_gives_the_same_bytes(exported: Exported, tmp_path: Path):
    worlds = [truth.world for truth in exported.truths.values()]
    paths = {world.name: tmp_path / "videos" / f"{video_id(world)}.mp4" for world in worlds}
    for path in export(tmp_path, worlds, video_paths=paths):
        assert path.read_bytes() == (exported.folder / path.relative_to(tmp_path / "annotations")).read_bytes()


def test_export_refuses_a_folder_with_annotations(exported: Exported):
    world = make_world(SEED, 0, split="val")
    with pytest.raises(InputError, match="annotations exists"):
        export(exported.folder.parent, [world], video_paths={world.name: "a.mp4"})


def test_export_refuses_no_worlds(tmp_path: Path):
    with pytest.raises(InputError, match="at least one world"):
        export(tmp_path, [], video_paths={})


def test_export_names_a_world_without_a_file(tmp_path: Path):
    world = make_world(SEED, 0)
    with pytest.raises(InputError, match=f"'{world.name}'"):
        export(tmp_path, [world], video_paths={})


def test_export_refuses_two_files_of_one_stem(tmp_path: Path):
    worlds = [make_world(SEED, 0), make_world(SEED, 1)]
    with pytest.raises(InputError, match="stem 'a'"):
        export(tmp_path, worlds, video_paths={worlds[0].name: "a.mp4", worlds[1].name: "b/a.mkv"})


def test_export_refuses_a_rate_of_nothing(tmp_path: Path):
    world = make_world(SEED, 0)
    with pytest.raises(InputError, match="rate must be above 0"):
        export(tmp_path, [world], video_paths={world.name: "a.mp4"}, rate=0)


def video_id_of(question_id: str) -> str:
    return question_id.split("/question/")[0].replace("/", "-")
