"""How far one gets on Toybox without watching: chance, the text alone, and one frame whose things are known exactly, in one table.

    OMP_NUM_THREADS=1 python benchmarks/blind.py [--worlds 800] [--json FILE]

Each guesser (vlm/data/toybox/baselines.py) learns on the worlds of one seed and is asked about those of another. The last column is two
standard errors of an accuracy over so many. The oracle over time, which reads the events, is right always: the truth follows from them.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from vlm.data.toybox.baselines import Item, query_items, question_items, single_frame_accuracy, text_only_accuracy
from vlm.data.toybox.plan import make_world, order_twins
from vlm.data.toybox.queries import Query, balanced_queries
from vlm.data.toybox.questions import Question, balanced_questions, chance
from vlm.data.toybox.world import World

SEEDS = (21, 22)
QUESTIONS = ("count", "colour", "order", "before/after", "yes/no", "open")
QUERIES = (("event", "absent"), ("order",), ("direction",), ("negation",), ("count",))


def row(name: str, split: str, guess: float, sides: Sequence[Sequence[Item]], worlds: dict[str, World] | None) -> dict[str, object]:
    learnt, asked = sides
    frame = None if worlds is None else single_frame_accuracy(learnt, asked, worlds)
    return {
        "split": split,
        "asked": name,
        "n": len(asked),
        "chance": guess,
        "text": text_only_accuracy(learnt, asked),
        "frame": frame,
        "noise": 2 * math.sqrt(guess * (1 - guess) / len(asked)),
    }


def question_rows(split: str, worlds: Sequence[list[World]], label: str, kinds: Sequence[str]) -> list[dict[str, object]]:
    known = {world.name: world for some in worlds for world in some}
    asked = [balanced_questions(some) for some in worlds]
    rows = []
    for kind in kinds:
        picks: list[tuple[str, Callable[[Question], bool]]] = [(f"{label}{kind}", lambda question: not question.is_temporal)]
        picks.append((f"{label}{kind}, temporal", lambda question: question.is_temporal))
        for name, wanted in picks:
            sides = [[question for question in some if question.kind == kind and wanted(question)] for some in asked]
            if min(map(len, sides)) >= 50:
                items = [question_items(side) for side in sides]
                rows.append(row(name, split, chance(sides[1]), items, known if "temporal" in name else None))
    return rows


def query_rows(split: str, worlds: Sequence[list[World]], label: str, groups: Sequence[tuple[str, ...]]) -> list[dict[str, object]]:
    known = {world.name: world for some in worlds for world in some}
    asked: list[list[Query]] = [balanced_queries(some) for some in worlds]
    rows = []
    for kinds in groups:
        sides = [[query for query in some if query.kind in kinds] for some in asked]
        temporal = all(query.is_temporal for query in sides[1])
        items = [query_items(side) for side in sides]
        rows.append(row(f"{label}{' + '.join(kinds)}", split, 0.5, items, known if temporal else None))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=800, help="worlds, and pairs of order twins, on each side")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    given = parser.parse_args()
    rows: list[dict[str, object]] = []
    for split in ("train", "test"):
        whole = [[make_world(seed, index, split=split) for index in range(given.worlds)] for seed in SEEDS]
        twins = [[world for index in range(given.worlds) for world in order_twins(seed, index, split=split)] for seed in SEEDS]
        rows += question_rows(split, whole, "question: ", QUESTIONS)
        rows += query_rows(split, whole, "query: ", QUERIES)
        rows += question_rows(split, twins, "twins, question: ", ("order", "before/after"))
        rows += query_rows(split, twins, "twins, query: ", (("order",),))
    print(f"| split | {'asked':38} |      n | chance |  text | frame | +- |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for found in rows:
        frame = "-" if found["frame"] is None else f"{found['frame']:.3f}"
        figures = f"{found['n']:6} | {found['chance']:.3f} | {found['text']:.3f} | {frame} | {found['noise']:.3f}"
        print(f"| {found['split']} | {found['asked']:38} | {figures} |")
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
