"""What the folder of exported annotations says of itself."""

from __future__ import annotations

from collections.abc import Mapping

from vlm.data.toybox.vocabulary import VERSION

# File, what is in it, how it follows from the truth.
_ROWS = (
    (
        "`qvhighlights/highlight_SPLIT_release.jsonl`",
        "queries with windows and saliency",
        "every true query that has spans. The clips are those that a window touches, but for a rest under 2 s at the end of the video; "
        "a clip's rating is 4 times the mean share of its two seconds, rounded, and stands three times (the truth has one rater)",
    ),
    ("`charades_sta/charades_sta_SPLIT.txt`", "a sentence and its window", "the queries for an event that have one span"),
    (
        "`activitynet_captions/SPLIT.json`, `para/SPLIT_para.json`",
        "sentences with windows; paragraphs",
        "the paragraph of each video, a sentence an event",
    ),
    ("`activitynet_detection/activity_net.json`", "actions with windows", "every event under its label; events may overlap"),
    (
        "`action_seg/groundTruth/VIDEO.txt`, `mapping.txt`, `splits/SPLIT.split1.bundle`",
        "a label a frame",
        "the label track at {rate:g} frames/s: where events overlap, the one that started last has the frame; `nothing` is the background",
    ),
    (
        "`epic100/EPIC_100_SPLIT.csv`, `EPIC_100_verb_classes.csv`, `EPIC_100_noun_classes.csv`",
        "narrated actions",
        "every event with its short caption: the verb is its action, the nouns are the shapes of subject and target; "
        "frames count from 1 at {rate:g} frames/s; `val` is called `validation`",
    ),
    (
        "`epic100/retrieval_annotations/EPIC_100_retrieval_SPLIT.csv`, `..._SPLIT_sentence.csv`",
        "multi-instance retrieval",
        "the same rows, and their different sentences",
    ),
    (
        "`nextqa/SPLIT.csv`, `map_vid_vidorID.json`",
        "questions with five options; the file of each video",
        "balanced questions: which colour (the answer and four other colours), and what happens next (the answer and four other events of "
        "the video, of the actions that can be right). Questions with fewer answers to choose from do not fit and are in `own/`",
    ),
    ("`nextgqa/SPLIT.csv`, `gsub_SPLIT.json`", "the same questions with evidence", "the spans that have to be seen for the answer"),
    ("`msrvtt/MSRVTT_JSFUSION_SPLIT.csv`, `MSRVTT_data.json`", "a caption a video", "the caption of the whole video"),
    ("`msrvtt_qa/SPLIT.jsonl`", "questions with an answer of one word", "balanced questions whose options are words"),
    (
        "`own/captions_SPLIT.jsonl`, `own/questions_SPLIT.jsonl`",
        "vlm's own format",
        "every phrasing of every event; all balanced questions, with the truth's own options",
    ),
)


def readme(splits: Mapping[str, int], *, rate: float) -> str:
    """The text of README.md: which file is what, and how each follows from the truth. ``splits`` counts the videos of each split."""
    counts = ", ".join(f"{number} {split}" for split, number in splits.items() if number)
    rows = "".join(f"| {' | '.join(cell.format(rate=rate) for cell in row)} |\n" for row in _ROWS)
    return (
        f"# Toybox in public formats\n\n"
        f"The truth of {VERSION} videos ({counts}), written by `vlm.data.toybox.export`. SPLIT is one of {', '.join(splits)}.\n"
        f"The id of a video is its file's name without the ending. Times are seconds, exact to 0.1 s.\n"
        f"Paths are relative to the folder above this one.\n\n"
        f"| file | what | how it follows from the truth |\n|---|---|---|\n{rows}"
    )
