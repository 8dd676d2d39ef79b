"""Whether faithfulness tells answers that are right for the wrong reason: on held-out Toybox, with any trained model.

    python -m benchmarks.faithfulness --out runs/faithfulness                    # what comes with pocket
    python -m benchmarks.faithfulness --out runs/faithfulness --model FOLDER     # another trained model
    python -m benchmarks.faithfulness --out runs/faithfulness --worlds 24        # a smoke run

Each question of the test split whose evidence is known is asked of the whole video and of the longest stretch of it without that evidence,
which is so moved out of view. Answers that are right then were not read from the video. Features are those of benchmarks.understanding:
with its cache as --cache nothing is rendered again. Where a model answers a kind of questions no better than by chance, its right answers
are guesses too, and no figure can part them.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vlm.data.toybox.questions import KINDS, balanced_questions
from vlm.encoders.registry import load_encoder
from vlm.eval.faithfulness import AskedOfEvidence, RightAnswer, faithfulness_figures, right_answers
from vlm.models.model import VideoTextModel
from vlm.models.plain import PlainReader, Reader
from vlm.models.reader import TrainedReader
from vlm.models.shipped import shipped_with
from vlm.train.features import open_features
from vlm.train.toybox import RATE, worlds_of

TEST_SEED = 105
BAR, FEWEST = 0.8, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=None, help="folder of a trained model; by default what comes with pocket")
    parser.add_argument("--cache", type=Path, default=None, help="where features are kept; OUT/cache by default")
    parser.add_argument("--worlds", type=int, default=300)
    parser.add_argument("--per-kind", type=int, default=400)
    parser.add_argument("--encoder", default="pocket")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    encoder = load_encoder(given.encoder, device="cpu")
    folder = given.model or shipped_with(encoder.fingerprint)
    if folder is None:
        parser.error(f"no trained model comes with {given.encoder}: name one with --model")
    worlds = worlds_of(TEST_SEED, given.worlds, split="test")
    video_of = {world.name: number for number, world in enumerate(worlds)}
    asked = [
        AskedOfEvidence(
            video=video_of[one.id.split("/question/")[0]],
            text=one.text,
            kind=one.kind,
            options=one.options,
            answer=one.answer,
            evidence=one.evidence,
        )
        for one in balanced_questions(worlds, per_type=given.per_kind)
        if one.evidence
    ]
    features = open_features(worlds, encoder, given.cache or given.out / "cache", frames_per_second=RATE)
    readers: dict[str, Reader] = {
        "training-free": PlainReader(encoder),
        folder.name: TrainedReader(encoder, VideoTextModel.from_pretrained(folder)),
    }
    held: dict[str, Any] = {"worlds": given.worlds, "questions": len(asked), "model": str(folder), "rows": {}}
    print(f"{len(asked)} questions with evidence; the bar is {BAR} with at least {FEWEST} of each sort\n")
    print("| model | kind | right, grounded | right without evidence | AUROC of faithfulness | of the probability | of answerable |")
    print("|---|---|---|---|---|---|---|")
    for name, reader in readers.items():
        begin = time.perf_counter()
        some = [one for one in asked if one.options or isinstance(reader, TrainedReader)]
        answers = right_answers(reader, features.__getitem__, some)
        held["rows"][name] = {kind: row(name, kind, answers) for kind in (*KINDS, "all")}
        held["rows"][name]["seconds"] = round(time.perf_counter() - begin, 1)
    (given.out / "faithfulness.json").write_text(json.dumps(held, indent=2) + "\n")


def row(name: str, kind: str, answers: list[RightAnswer]) -> dict[str, Any] | None:
    """The figures of a kind of questions; None where one sort of answers is missing."""
    some = [one for one in answers if kind in (one.kind, "all")]
    if len({one.is_grounded for one in some}) < 2:
        return None
    found = faithfulness_figures(some)
    answerable = "" if found.answerable is None else f"{found.answerable:.3f}"
    counts = f"{found.num_grounded} | {found.num_ungrounded}"
    print(f"| {name} | {kind} | {counts} | {found.faithfulness:.3f} | {found.probability:.3f} | {answerable} |", flush=True)
    return asdict(found)


if __name__ == "__main__":
    main()
