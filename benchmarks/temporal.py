"""How well queries about time are answered, and how fast: Toybox's held-out compositions, and a library of ten hours.

    python -m benchmarks.temporal --out runs/temporal --json docs/results/temporal.json

Two kinds of sentences over the same videos of the test split, at one row a second as a library samples, read by frames alone and by the
trained model that comes with the encoder (or --model FOLDER):

* things, ``a red circle``: what a single row can show. Their truth is when a thing of that look is inside the frame.
* events, ``a red circle bounces``: what only several rows together show. Their truth is the spans of all events that fit.

The truth of a query is the algebra on the truth of its sentences, tenth of a second by tenth of a second. The ceiling is the algebra on
perfect curves, which say of each row whether its frame shows the sentence: what looking once a second loses. An interval is found where
it overlaps one of the truth by an IoU of at least 0.5, each at most once; F1 is over all intervals of an operator. All queries have at
least one true interval. ``--tune`` judges thresholds on the validation split instead. The library of the timing has synthetic rows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.encode import machine
from vlm.data.toybox.dice import Dice
from vlm.data.toybox.facts import Facts
from vlm.data.toybox.language import clause, describe, description_of, pattern_of
from vlm.data.toybox.motion import states
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.vocabulary import COLOURS, SHAPES
from vlm.data.toybox.world import World
from vlm.encoders.base import Encoder
from vlm.encoders.registry import load_encoder
from vlm.index.footage import Footage
from vlm.index.library import Library
from vlm.index.presence import Seen, curves, measured_by, rows_of
from vlm.index.store import Store
from vlm.index.temporal import JOIN_SECONDS, MIN_PROBABILITY, read_through
from vlm.intervals import Intervals
from vlm.models.model import VideoTextModel
from vlm.models.plain import PlainReader, Reader
from vlm.models.reader import TrainedReader
from vlm.models.shipped import shipped_with
from vlm.temporal.grammar import parse
from vlm.temporal.meaning import Meaning, Rows
from vlm.train.features import open_features
from vlm.types import Clock, Segment, Span, VideoInfo

SEEDS = {"test": 71, "val": 72}
SECONDS, FINE = 40.0, 0.1
IOU, PER_WORLD, ENOUGH = 0.5, 8, 560
Truth = Callable[[NDArray[np.float64]], NDArray[np.bool_]]
# What each operator is asked as, of two sentences of one video.
OPERATORS: dict[str, Callable[[str, str, Dice], str]] = {
    "sentence alone": lambda a, b, dice: a,
    "then": lambda a, b, dice: f"{a} then {b}",
    "then within": lambda a, b, dice: f"{a} then {b} within {dice.choose((5, 10, 20))}s",
    "while": lambda a, b, dice: f"{a} while {b}",
    "while not": lambda a, b, dice: f"{a} while not {b}",
    "or": lambda a, b, dice: f"{a} or {b}",
    "not": lambda a, b, dice: dice.choose((f"not {a}", f"not ({a} or {b})")),
    "for": lambda a, b, dice: f"{a} for {dice.choose(('> 2s', '>= 5s', '< 5s', '<= 10s'))}",
    "before": lambda a, b, dice: f"{a} before {dice.choose(('0:15', '0:20', '30s'))}",
    "after": lambda a, b, dice: f"{a} after {dice.choose(('0:10', '0:20', '25s'))}",
    "between": lambda a, b, dice: f"{a} between {dice.between(5, 15)}s and {dice.between(20, 35)}s",
    "count": lambda a, b, dice: f"count({a}) {dice.choose(('>= 1', '>= 2', '== 1', '< 2'))}",
}


@dataclass(frozen=True)
class Asked:
    """A video's sentences with their truth, and queries by operator."""

    sentences: dict[str, Truth]
    queries: list[tuple[str, str]]


def thing_sentences(world: World, dice: Dice) -> dict[str, Truth]:
    """Looks of the world's things, each once, with when one of them is on screen."""
    found: dict[str, Truth] = {}
    looks = {(thing.look.colour, thing.look.shape): thing.look for thing in world.things}
    for (colour, shape), look in looks.items():

        def shows(times: NDArray[np.float64], colour: str = colour, shape: str = shape) -> NDArray[np.bool_]:
            seen = states(world, times)
            fits = (seen.colour_name_index() == list(COLOURS).index(colour)) & (seen.shape == list(SHAPES).index(shape))
            shown: NDArray[np.bool_] = (fits & seen.is_shown).any(axis=1)
            return shown

        found[describe(description_of(look, ("colour", "shape")), dice)] = shows
    return found


def event_sentences(world: World, dice: Dice) -> dict[str, Truth]:
    """Clear patterns of the world's events, with the spans of all that fit."""
    facts, found = Facts(world), {}
    for pattern in dict.fromkeys(pattern_of(event, ("colour", "shape")) for event in world.events):
        if facts.is_clear(pattern):
            spans = [event.span for event in facts.events(pattern)]

            def shows(times: NDArray[np.float64], spans: Sequence[Span] = spans) -> NDArray[np.bool_]:
                # Toybox's own grid is tenths of a second: rounding keeps 0.30000000000000004 inside what begins at 0.3.
                moments = times.round(6)
                return np.any([(moments >= span.start) & (moments < span.end) for span in spans], axis=0)

            found[clause(pattern, dice)] = shows
    return found


def grid(seconds: float, step: float) -> Rows:
    """Rows of one video, number 0."""
    start = np.arange(round(seconds / step)) * step
    return Rows(np.zeros(len(start), np.int64), start, np.append(start[1:], seconds), Intervals.of([(0, 0.0, seconds)]))


def perfect(asked: Asked, rows: Rows, *, join: float) -> Meaning:
    """The meaning of queries on curves of truth."""
    values = {text: shows(rows.start).astype(np.float64) for text, shows in asked.sentences.items()}
    return Meaning(rows, values, least=0.5, join_seconds=join)


def spans_of(meaning: Meaning, query: str) -> list[tuple[float, float]]:
    held = meaning.intervals(parse(query))
    return list(zip(held.start.tolist(), held.end.tolist(), strict=True))


def ask_all(worlds: Sequence[World], kind: str) -> list[Asked]:
    """Queries about each world, until every operator has ENOUGH of them."""
    so_far = dict.fromkeys(OPERATORS, 0)
    asked = [ask(world, kind, so_far) for world in worlds]
    if short := {operator: number for operator, number in so_far.items() if number < 500}:
        print(f"{kind}: fewer than 500 queries of {short}; more --worlds hold more", flush=True)
    return asked


def ask(world: World, kind: str, so_far: dict[str, int]) -> Asked:
    """Queries about a world: of every operator up to PER_WORLD different ones that hold somewhere in it; none of one that has enough."""
    dice = Dice("benchmark of time", kind, world.name)
    made = thing_sentences(world, dice) if kind == "things" else event_sentences(world, dice)
    asked = Asked(made, [])
    if len(made) < 2:
        return asked
    truth = perfect(asked, grid(world.seconds, FINE), join=0.0)
    for operator, write in OPERATORS.items():
        chosen: dict[str, None] = {}
        if so_far[operator] >= ENOUGH:
            continue
        for _ in range(12 * PER_WORLD):
            one, other = dice.shuffled(list(made))[:2]
            query = write(f'"{one}"', f'"{other}"', dice)
            if query not in chosen and spans_of(truth, query):
                chosen[query] = None
            if len(chosen) == PER_WORLD:
                break
        so_far[operator] += len(chosen)
        asked.queries.extend((operator, query) for query in chosen)
    return asked


def matched(found: list[tuple[float, float]], truth: list[tuple[float, float]]) -> int:
    """How many of the found have one of the truth for themselves; the best pairs first."""
    pairs = []
    for i, (s, e) in enumerate(found):
        for j, (a, b) in enumerate(truth):
            both = max(0.0, min(e, b) - max(s, a))
            if (iou := both / (e - s + b - a - both)) >= IOU:
                pairs.append((-iou, i, j))
    used_found: set[int] = set()
    used_truth: set[int] = set()
    for _, i, j in sorted(pairs):
        if i not in used_found and j not in used_truth:
            used_found.add(i)
            used_truth.add(j)
    return len(used_found)


class Score:
    """Intervals found, true, and both."""

    def __init__(self) -> None:
        self.queries = self.hits = self.found = self.true = 0

    def add(self, found: list[tuple[float, float]], truth: list[tuple[float, float]]) -> None:
        self.queries += 1
        self.hits += matched(found, truth)
        self.found += len(found)
        self.true += len(truth)

    @property
    def f1(self) -> float:
        return 2 * self.hits / max(1, self.found + self.true)


def judge(
    worlds: Sequence[World],
    asked: Sequence[Asked],
    seen: Sequence[Seen],
    values: Sequence[dict[str, Any]],
    settings: Sequence[tuple[float, float]],
) -> dict[str, Any]:
    """F1 by operator: of each (threshold, join), and of the ceiling."""
    scores = {setting: {operator: Score() for operator in OPERATORS} for setting in settings}
    ceiling = {operator: Score() for operator in OPERATORS}
    for world, one, rows, curve in zip(worlds, asked, seen, values, strict=True):
        truth = perfect(one, grid(world.seconds, FINE), join=0.0)
        best = perfect(one, grid(world.seconds, 1.0), join=0.0)
        held = {setting: Meaning(rows.rows, curve, least=setting[0], join_seconds=setting[1]) for setting in settings}
        for operator, query in one.queries:
            true = spans_of(truth, query)
            ceiling[operator].add(spans_of(best, query), true)
            for setting, meaning in held.items():
                scores[setting][operator].add(spans_of(meaning, query), true)
    return {"scores": scores, "ceiling": ceiling}


def prepared(split: str, number: int, encoder: Encoder, cache: Path) -> tuple[list[World], list[Seen], Any]:
    """Worlds, their rows, and the measure of all of them together, as of one library."""
    worlds = [make_world(SEEDS[split], index, split=split, seconds=SECONDS) for index in range(number)]
    features = open_features(worlds, encoder, cache, frames_per_second=1.0)
    seen = [
        rows_of(Footage(path=world.name, video_id=None, features=features[place], duration_seconds=world.seconds), 0)
        for place, world in enumerate(worlds)
    ]
    library = Seen(seen[0].rows, np.concatenate([one.vectors for one in seen]))
    return worlds, seen, measured_by(encoder, library)


def curves_of(asked: Sequence[Asked], seen: Sequence[Seen], measure: Any, encoder: Encoder, reader: Reader) -> list[dict[str, Any]]:
    """Of each video's sentences: by frames, and where the reader was trained, by it."""
    found = []
    for one, rows in zip(asked, seen, strict=True):
        texts = list(one.sentences) if one.queries else []
        told = curves(measure, rows, encoder.encode_text(texts)) if texts else np.zeros((0, len(rows.rows.video)))
        if texts:
            read_through(reader, texts, rows, told)
        found.append(dict(zip(texts, told, strict=True)))
    return found


def calibration(asked: Sequence[Asked], seen: Sequence[Seen], values: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Stated probabilities of rows beside how often they show their sentence, of sentences that are true of the video somewhere."""
    stated = np.concatenate([curve[text] for one, curve in zip(asked, values, strict=True) for text in curve])
    true = np.concatenate(
        [shows(rows.rows.start) for one, rows in zip(asked, seen, strict=True) if one.queries for shows in one.sentences.values()]
    )
    found = []
    for low in np.arange(0, 1, 0.1):
        inside = (stated >= low) & (stated < low + 0.1)
        if inside.any():
            found.append({"stated": float(stated[inside].mean()), "true": float(true[inside].mean()), "rows": int(inside.sum())})
    return found


def quality(given: argparse.Namespace, encoder: Encoder) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if not given.kinds:
        return told
    readers: dict[str, Reader] = {"frames": PlainReader(encoder)}
    if (folder := given.model or shipped_with(encoder.fingerprint)) is not None:
        readers["model"] = TrainedReader(encoder, VideoTextModel.from_pretrained(folder))
    worlds, seen, measure = prepared("val" if given.tune else "test", given.worlds, encoder, given.out / "cache")
    settings = (
        [(p, j) for p in (0.5, 0.7, 0.8, 0.9, 0.95, 0.97) for j in (0.0, 1.0, 2.0, 4.0)]
        if given.tune
        else [(MIN_PROBABILITY, JOIN_SECONDS)]
    )
    for kind in given.kinds:
        asked, rows = ask_all(worlds, kind), {}
        for name, reader in readers.items():
            values = curves_of(asked, seen, measure, encoder, reader)
            found = judge(worlds, asked, seen, values, settings)
            if given.tune:
                for setting, scores in found["scores"].items():
                    mean = np.mean([score.f1 for score in scores.values()])
                    print(kind, name, setting, f"{mean:.3f}", {k: round(s.f1, 2) for k, s in scores.items()}, flush=True)
            else:
                (rows[name],) = found["scores"].values()
            told.setdefault(kind, {})[f"calibration of {name}"] = calibration(asked, seen, values)
        if given.tune:
            continue
        told[kind]["operators"] = {
            operator: {"queries": score.queries, "true": score.true, "ceiling": found["ceiling"][operator].f1}
            | {name: {"found": scores[operator].found, "f1": scores[operator].f1} for name, scores in rows.items()}
            for operator, score in rows["frames"].items()
        }
        print(
            f"\n{kind}: | operator | queries | true intervals | {' | '.join(readers)} | ceiling |\n|---|---|---|{'---|' * len(readers)}---|"
        )
        for operator, row in told[kind]["operators"].items():
            scores = " | ".join(f"{row[name]['f1']:.3f}" for name in readers)
            print(f"| {operator} | {row['queries']:,} | {row['true']:,} | {scores} | {row['ceiling']:.3f} |", flush=True)
    return told


def synthetic_library(folder: Path, encoder: Encoder, *, hours: float, minutes: float) -> int:
    """A library of random rows, one a second, that change slowly; the number of its videos."""
    with Library.open(folder, encoder=encoder) as library, library._gear.lock.held():  # the passport that adding would write
        library._gear.prepare_adding()
    store, generator = Store.open(folder), np.random.default_rng(3)
    number, rows = round(hours * 60 / minutes), round(minutes * 60)
    for place in range(number):
        drift = np.cumsum(generator.standard_normal((rows, encoder.dim)) * 0.3, axis=0) + generator.standard_normal(encoder.dim)
        vectors = (drift / np.linalg.norm(drift, axis=1, keepdims=True)).astype(np.float32)
        info = VideoInfo(
            container="mp4",
            codec="h264",
            width=64,
            height=64,
            rotation_degrees=0,
            frame_rate=Fraction(25),
            clock=Clock(Fraction(1, 12800)),
            promised_seconds=float(rows),
            digest=f"synthetic-{place}",
            num_bytes=1,
        )
        with store.transaction():
            video = store.begin_video(info)
            for first in range(0, rows, 64):
                store.append_rows(video, np.arange(first, min(rows, first + 64), dtype=np.int64) * 12800, vectors[first : first + 64])
            whole = [Segment(level=0, first=0, last=rows, span=Span(0.0, float(rows)))]
            store.finish_video(video, end_seconds=float(rows), num_rows=rows, coverage=1.0, reason="", segments=whole, vectors=vectors[:1])
    store.close()
    return number


def speed(encoder: Encoder, *, hours: float, minutes: float, times: int) -> dict[str, Any]:
    """Seconds that queries of all operators take in an open library, each with new sentences; the rows are read anew for each."""
    with tempfile.TemporaryDirectory() as parent:
        number = synthetic_library(Path(parent) / "library", encoder, hours=hours, minutes=minutes)
        texts = [text for world in range(60) for text in thing_sentences(make_world(5, world), Dice("timing", world))]
        dice = Dice("timing")
        with Library.open(Path(parent) / "library", encoder=encoder) as library:
            begin = time.perf_counter()
            library.when('"a red circle"')
            first, taken, busy, intervals = time.perf_counter() - begin, [], [], []
            for _ in range(times):
                for write in OPERATORS.values():
                    one, other = dice.shuffled(texts)[:2]
                    begin, worked = time.perf_counter(), time.process_time()
                    told = library.when(write(f'"{one}"', f'"{other}"', dice))
                    taken.append(time.perf_counter() - begin)
                    busy.append(time.process_time() - worked)
                    intervals.append(told.num_found)
    return {
        "videos": number,
        "rows": told.num_rows,
        "queries": len(taken),
        "p50": float(np.quantile(taken, 0.5)),
        "p95": float(np.quantile(taken, 0.95)),
        "processor_p50": float(np.quantile(busy, 0.5)),
        "processor_p95": float(np.quantile(busy, 0.95)),
        "first": first,
        "rows read by the model": told.num_read,
        "median_intervals": float(np.median(intervals)),
        "most_intervals": max(intervals),
        "features": "synthetic",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for features that are kept between runs")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--encoder", default="pocket")
    parser.add_argument("--model", type=Path, default=None, help="folder of a trained model (default: what comes with the encoder)")
    parser.add_argument("--worlds", type=int, default=480)
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--minutes", type=float, default=2.0, help="length of a video of the timing's library")
    parser.add_argument("--times", type=int, default=10, help="queries of each operator that are timed")
    parser.add_argument("--kinds", nargs="*", default=["things", "events"], help="of sentences; none times alone")
    parser.add_argument("--tune", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    encoder = load_encoder(given.encoder)
    told: dict[str, Any] = {"machine": machine(), "encoder": given.encoder, "worlds": given.worlds}
    told |= {"min_probability": MIN_PROBABILITY, "join_seconds": JOIN_SECONDS, "quality": quality(given, encoder)}
    if given.tune:
        print(json.dumps(told["quality"], indent=1))
        return
    if given.times:
        told["speed"] = speed(encoder, hours=given.hours, minutes=given.minutes, times=given.times)
        print(told["speed"])
    if given.json is not None:
        given.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
