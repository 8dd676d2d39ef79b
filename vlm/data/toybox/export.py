"""The truth of Toybox worlds in public annotation formats, so that the readers and scorers of those data sets work on it unchanged."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

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
from vlm.data.formats.files import write_text
from vlm.data.formats.records import Caption, Window
from vlm.data.toybox.dice import Dice
from vlm.data.toybox.export_readme import readme
from vlm.data.toybox.language import clause
from vlm.data.toybox.queries import name_pattern
from vlm.data.toybox.questions import Question, balanced_questions
from vlm.data.toybox.truth import CLASSES, HIGHEST_SALIENCY, Saliency, Truth, frame_classes, truth_of
from vlm.data.toybox.vocabulary import ACTIONS, ACTIONS_THAT_RESTORE, SHAPES, SPLITS, VERSION
from vlm.data.toybox.world import Event, World
from vlm.errors import InputError

# How ActivityNet and EPIC-KITCHENS call the splits.
_SUBSETS = {"train": "training", "val": "validation", "test": "testing"}
_EPIC_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_NUM_RATERS = 3


@dataclass(frozen=True, slots=True)
class _Video:
    """One world's truth and the file that shows it."""

    path: str
    truth: Truth

    @property
    def id(self) -> str:
        return Path(self.path).stem

    @property
    def world(self) -> World:
        return self.truth.world


def export(
    folder: str | os.PathLike[str],
    worlds: Sequence[World],
    *,
    video_paths: Mapping[str, str | os.PathLike[str]],
    rate: float = 2.0,
    size: int = 224,
) -> list[Path]:
    """Writes the truth of ``worlds`` under ``folder``/annotations with a README, and returns the files in the order of writing.

    Args:
        folder: where ``annotations`` is made; it must not be there yet.
        worlds: of one or several splits; each split gets its own files.
        video_paths: the file of each world by the world's name. Its stem is the id of the video, so stems must differ. A file inside
            ``folder`` is named relative to it.
        rate: frames/s of frame labels and frame numbers.
        size: height and width of the frames in pixels, which NExT-QA states.

    Raises:
        InputError: no worlds, one without a path, two files of one stem, a rate that is not positive, or ``annotations`` exists.
    """
    videos = _videos(Path(folder), worlds, video_paths)
    if not rate > 0:
        raise InputError(f"rate must be above 0 frames/s, got {rate:g}")
    target = Path(folder) / "annotations"
    try:
        target.mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"{target} exists and is not overwritten; remove it or choose another folder") from None
    files = _Files(target)
    _write_all_splits(files, videos, rate=rate)
    for split in SPLITS:
        of_split = [video for video in videos if video.world.split == split]
        if of_split:
            _write_spans(files, of_split, split)
            _write_frames(files, of_split, split, rate=rate)
            _write_questions(files, of_split, split, rate=rate, size=size)
    splits = {split: sum(video.world.split == split for video in videos) for split in SPLITS}
    files.write("README.md", write_text, readme(splits, rate=rate))
    return files.written


class _Files:
    """The folder of annotations, and what has been written into it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.written: list[Path] = []

    def write(self, name: str, writer: Callable[..., None], *values: object, **options: object) -> None:
        """Calls ``writer(path, *values, **options)`` for a file in the folder."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        writer(path, *values, **options)
        self.written.append(path)


def _videos(folder: Path, worlds: Sequence[World], video_paths: Mapping[str, str | os.PathLike[str]]) -> list[_Video]:
    if not worlds:
        raise InputError("worlds must hold at least one world, got none")
    missing = [world.name for world in worlds if world.name not in video_paths]
    if missing:
        raise InputError(f"video_paths must name the file of every world, got none for {missing[0]!r} ({len(missing)} in all)")
    by_id: dict[str, _Video] = {}
    for world in worlds:
        full = Path(video_paths[world.name])
        video = _Video((full.relative_to(folder) if full.is_relative_to(folder) else full).as_posix(), truth_of(world))
        if video.id in by_id:
            raise InputError(f"two files have the stem {video.id!r}: {by_id[video.id].path}, {video.path}; a stem is the id of a video")
        by_id[video.id] = video
    return list(by_id.values())


def _write_all_splits(files: _Files, videos: Sequence[_Video], *, rate: float) -> None:
    """What is one file for all splits."""
    actions = [_action_video(video) for video in videos]
    files.write("activitynet_detection/activity_net.json", activitynet_detection.write_truth, actions, header={"version": VERSION})
    files.write("action_seg/mapping.txt", action_seg.write_mapping, CLASSES)
    for name, words in (("verb", tuple(ACTIONS)), ("noun", SHAPES)):
        classes = [epic100.ActionClass(number, word, (word,), "toybox") for number, word in enumerate(words)]
        files.write(f"epic100/EPIC_100_{name}_classes.csv", epic100.write_classes, classes)
    captions = [msrvtt.VideoCaptions(video.id, video.world.split, ((n, video.truth.caption),)) for n, video in enumerate(videos)]
    files.write("msrvtt/MSRVTT_data.json", msrvtt.write_videos, captions)
    paths = {video.id: Path(video.path).with_suffix("").as_posix() for video in videos}
    files.write("nextqa/map_vid_vidorID.json", nextqa.write_video_paths, paths)


def _write_spans(files: _Files, videos: Sequence[_Video], split: str) -> None:
    """Sentences with their windows."""
    queries = list(chain.from_iterable(_moment_queries(video) for video in videos))
    files.write(f"qvhighlights/highlight_{split}_release.jsonl", qvhighlights.write_queries, queries)
    moments = [
        charades_sta.Moment(video.id, Window.of(query.spans[0]), query.text)
        for video in videos
        for query in video.truth.queries
        if query.kind == "event" and len(query.spans) == 1
    ]
    files.write(f"charades_sta/charades_sta_{split}.txt", charades_sta.write_moments, moments)
    captioned = [
        activitynet_captions.CaptionedVideo(
            video_id=video.id,
            duration_seconds=video.world.seconds,
            captions=tuple(Caption(Window.of(span), text) for text, span in video.truth.paragraph),
        )
        for video in videos
    ]
    files.write(f"activitynet_captions/{split}.json", activitynet_captions.write_videos, captioned)
    texts = [" ".join(f"{text}." for text, _ in video.truth.paragraph) for video in videos]
    paragraphs = [activitynet_captions.Paragraph(video.id, text) for video, text in zip(videos, texts, strict=True)]
    files.write(f"activitynet_captions/para/{split}_para.json", activitynet_captions.write_paragraphs, paragraphs)
    pairs = [msrvtt.CaptionPair(f"ret{number}", video.id, video.id, video.truth.caption) for number, video in enumerate(videos)]
    files.write(f"msrvtt/MSRVTT_JSFUSION_{split}.csv", msrvtt.write_pairs, pairs)
    phrasings = [
        own.OwnCaption(path=video.path, caption=caption, span=event.span)
        for video in videos
        for event, captions in zip(video.world.events, video.truth.captions, strict=True)
        for caption in captions
    ]
    files.write(f"own/captions_{split}.jsonl", own.write_captions, phrasings)


def _write_frames(files: _Files, videos: Sequence[_Video], split: str, *, rate: float) -> None:
    """Labels of frames and narrated actions."""
    for video in videos:
        labels = action_seg.FrameLabels(video.id, tuple(CLASSES[number] for number in frame_classes(video.world, rate=rate)))
        files.write(f"action_seg/groundTruth/{video.id}.txt", action_seg.write_frames, labels)
    files.write(f"action_seg/splits/{split}.split1.bundle", action_seg.write_bundle, [f"{video.id}.txt" for video in videos])
    rows = [_narration(video, event, rate=rate) for video in videos for event in video.world.events]
    retrieval = f"epic100/retrieval_annotations/EPIC_100_retrieval_{_EPIC_SPLITS[split]}"
    files.write(f"epic100/EPIC_100_{_EPIC_SPLITS[split]}.csv", epic100.write_narrations, rows)
    files.write(f"{retrieval}.csv", epic100.write_narrations, rows)
    sentences: dict[str, epic100.RetrievalSentence] = {}
    for row in rows:
        if row.action is not None:
            action = row.action
            words = (row.narration_id, action.narration, action.verb, action.verb_class, action.nouns, action.noun_classes)
            sentences.setdefault(action.narration, epic100.RetrievalSentence(*words))
    files.write(f"{retrieval}_sentence.csv", epic100.write_sentences, sentences.values())


def _write_questions(files: _Files, videos: Sequence[_Video], split: str, *, rate: float, size: int) -> None:
    """Questions, balanced over the worlds of the split."""
    by_world = {video.world.name: video for video in videos}
    asked = [(by_world[question.id.split("/question/")[0]], question) for question in balanced_questions(video.world for video in videos)]
    ours = [own.OwnQuestion(path=video.path, question=q.text, options=q.options, answer=q.answer) for video, q in asked]
    files.write(f"own/questions_{split}.jsonl", own.write_questions, ours)
    words = [
        open_qa.OpenQuestion(video_id=video.id, question=q.text, answer=q.answer, extra={"answer_type": q.kind})
        for video, q in asked
        if q.options and all(" " not in option for option in q.options)
    ]
    files.write(f"msrvtt_qa/{split}.jsonl", open_qa.write_json_line_questions, words)
    choices = []
    evidence: dict[str, dict[str, tuple[Window, ...]]] = {}
    for video, question in asked:
        options = _five_options(video.world, question)
        if options:
            of_video = evidence.setdefault(video.id, {})
            choices.append(_choice(video, question, str(len(of_video)), options, rate=rate, size=size))
            of_video[str(len(of_video))] = tuple(Window.of(span) for span in question.evidence)
    files.write(f"nextqa/{split}.csv", nextqa.write_questions, choices)
    files.write(f"nextgqa/{split}.csv", nextqa.write_questions, choices, answers_as_text=True)
    proofs = [
        nextgqa.VideoEvidence(video_id=video.id, duration_seconds=video.world.seconds, frame_rate=rate, windows=evidence[video.id])
        for video in videos
        if video.id in evidence
    ]
    files.write(f"nextgqa/gsub_{split}.json", nextgqa.write_evidence, proofs)


def _moment_queries(video: _Video) -> list[qvhighlights.MomentQuery]:
    found = []
    for query, saliency in zip(video.truth.queries, video.truth.saliency, strict=True):
        if query.is_true and query.spans:
            windows = tuple(Window.of(span) for span in query.spans)
            clip_ids = qvhighlights.clips_of(windows, video.world.seconds)
            found.append(
                qvhighlights.MomentQuery(
                    query_id=query.id,
                    query=query.text,
                    video_id=video.id,
                    duration_seconds=video.world.seconds,
                    windows=windows,
                    clip_ids=clip_ids,
                    saliency=tuple((_rating(saliency, clip),) * _NUM_RATERS for clip in clip_ids),
                )
            )
    return found


def _rating(saliency: Saliency, clip: int) -> int:
    """The rating of a clip of two seconds, from the truth's thousandths a second: integers, so that no rounding differs."""
    thousandths = {second: round(1000 * share) for second, share in zip(saliency.seconds, saliency.shares, strict=True)}
    total = sum(thousandths.get(second, 0) for second in range(clip * 2, clip * 2 + 2))
    return (HIGHEST_SALIENCY * total + 1000) // 2000


def _action_video(video: _Video) -> activitynet_detection.ActionVideo:
    return activitynet_detection.ActionVideo(
        video_id=video.id,
        actions=tuple(activitynet_detection.ActionWindow(Window.of(event.span), event.label) for event in video.world.events),
        duration_seconds=video.world.seconds,
        subset=_SUBSETS[video.world.split],
    )


def action_of(event: Event, narration: str) -> epic100.Action:
    """An event as EPIC-KITCHENS tells one: the verb is its action, the nouns are the shapes of what acts and of its target."""
    nouns = (event.look.shape,) if event.target_look is None else (event.look.shape, event.target_look.shape)
    classes = tuple(SHAPES.index(noun) for noun in nouns)
    return epic100.Action(
        narration=narration,
        verb=event.action,
        verb_class=tuple(ACTIONS).index(event.action),
        noun=nouns[0],
        noun_class=classes[0],
        nouns=nouns,
        noun_classes=classes,
    )


def _narration(video: _Video, event: Event, *, rate: float) -> epic100.Narration:
    first = int(event.span.start * rate) + 1
    return epic100.Narration(
        narration_id=f"{video.id}_{event.id}",
        participant_id=VERSION,
        video_id=video.id,
        narration_seconds=event.span.start,
        window=Window.of(event.span),
        frames=(first, max(first, int(event.span.end * rate))),
        action=action_of(event, video.truth.captions[event.id][0]),
    )


def _five_options(world: World, question: Question) -> tuple[str, ...]:
    """The right answer among four wrong ones that the text alone does not rule out; () where there are not so many."""
    wrong: list[str] = []
    if len(question.options) >= nextqa.NUM_OPTIONS:
        wrong = [option for option in question.options if option != question.answer]
    elif question.kind == "open" and question.is_temporal:
        # The events of the video of the kinds that are asked for, but the one that the question names.
        events = (event for event in world.events if event.action in ACTIONS_THAT_RESTORE and event.span != question.evidence[0])
        texts = dict.fromkeys(clause(name_pattern(event), Dice(0), article="the") for event in events)
        wrong = [text for text in texts if text != question.answer]
    if len(wrong) < nextqa.NUM_OPTIONS - 1:
        return ()
    dice = Dice(VERSION, "five options", question.id)
    return tuple(dice.shuffled([question.answer, *dice.shuffled(wrong)[: nextqa.NUM_OPTIONS - 1]]))


def _choice(
    video: _Video, question: Question, question_id: str, options: tuple[str, ...], *, rate: float, size: int
) -> nextqa.ChoiceQuestion:
    return nextqa.ChoiceQuestion(
        video_id=video.id,
        question_id=question_id,
        question=question.text,
        options=options,
        answer=options.index(question.answer),
        kind="TN" if question.is_temporal else "DO",
        num_frames=len(frame_classes(video.world, rate=rate)),
        width=size,
        height=size,
    )
