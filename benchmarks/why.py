"""Whether the word that ``vlm why`` holds to count most does: against another word of the query, on evidence that did not name it.

    python -m benchmarks.why --clips 1500 --json docs/results/why.json

Queries are captions of single-event clips of Toybox's test split (compositions that training never showed), each with its colour, shape,
action and way. A word is named by one clip: the one without which the score of the event's stretch falls most, as ``vlm why`` tells it
(index.why.explained). What its loss is worth is then measured on evidence that named nothing:

* another clip that shows the same in another place, size, texture and time: the caption fits it as well;
* and, for comparison, the other half of the frames of the clip itself.

It is held against one other word of the query, drawn at random: any, or any but articles and the like. A tie counts against.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.encode import machine
from vlm.data.toybox.dice import Dice
from vlm.data.toybox.language import GLUE, EventPattern, clause, pattern_of
from vlm.data.toybox.plan import event_clip
from vlm.data.toybox.render import render
from vlm.data.toybox.vocabulary import COLOURS, SHAPES
from vlm.data.toybox.world import World
from vlm.encoders.base import Encoder
from vlm.encoders.registry import load_encoder
from vlm.index.footage import Footage
from vlm.index.why import WordDrop, explained
from vlm.models.plain import PlainReader
from vlm.types import Features, Span

FRAMES_PER_SECOND = 2
MENTION = ("colour", "shape")
BAR = 0.80
# Words of more than one are glue only in whole.
GLUE_WORDS = frozenset(GLUE) | {"that", "is", "in", "on", "and", "to", "from", "into", "of", "up", "at", "out", "behind", "along"}


@dataclass(frozen=True)
class Case:
    """A query, the clip that names its word, and another of which it is as true."""

    text: str
    pattern: EventPattern
    named_by: int
    measured_on: int


def cases_of(worlds: Sequence[World]) -> list[Case]:
    """A case for every clip that has another with the same pattern: the next one, in a ring."""
    alike: dict[EventPattern, list[int]] = defaultdict(list)
    for number, world in enumerate(worlds):
        alike[pattern_of(world.events[0], MENTION)].append(number)
    return [
        Case(clause(pattern, Dice("benchmark of why", number), article="a"), pattern, number, numbers[(place + 1) % len(numbers)])
        for pattern, numbers in alike.items()
        if len(numbers) > 1
        for place, number in enumerate(numbers)
    ]


def footage_of(world: World, encoder: Encoder) -> Footage:
    """The rows of a clip's event."""
    span = world.events[0].span
    times = np.arange(span.start, span.end - 1e-6, 1 / FRAMES_PER_SECOND)  # arange may round onto its end
    vectors = encoder.encode_frames(render(world, times, size=encoder.preprocessing.framing.height))
    return Footage(path=world.name, video_id=None, features=Features(vectors, times, span.end), duration_seconds=world.seconds)


def every_second(footage: Footage, first: int) -> Footage:
    """Every second row, from row ``first`` on."""
    features = footage.features
    rows = slice(first, None, 2)
    return Footage(
        path=footage.path,
        video_id=None,
        features=Features(features.vectors[rows], features.times[rows], features.end),
        duration_seconds=footage.duration_seconds,
    )


class Remembering:
    """An encoder that makes the vector of a text once: each is measured on several clips."""

    def __init__(self, encoder: Encoder) -> None:
        self.name, self._encoder = encoder.name, encoder
        self._held: dict[str, NDArray[np.float32]] = {}

    def encode_text(self, texts: list[str]) -> NDArray[np.float32]:
        new = [text for text in dict.fromkeys(texts) if text not in self._held]
        if new:
            self._held |= dict(zip(new, self._encoder.encode_text(new), strict=True))
        return np.stack([self._held[text] for text in texts])


def drops(reader: PlainReader, text: str, footage: Footage) -> list[WordDrop]:
    """What each word adds over the whole of the rows."""
    times = footage.features.times
    return list(explained(reader, text, footage, Span(float(times[0]), footage.features.end))[1])


def judged(naming: list[WordDrop], measured: list[WordDrop], dice: Dice) -> dict[str, Any]:
    """Whether the word that ``naming`` holds to count most loses more in ``measured`` than another one."""
    top = max(naming, key=lambda word: word.drop)
    others = [word for word in measured if word.place != top.place]
    telling = [word for word in others if word.word not in GLUE_WORDS]
    here = measured[[word.place for word in measured].index(top.place)].drop
    return {
        "word": top.word,
        "drop": here,
        "any": here > dice.choose(others).drop,
        "telling": here > dice.choose(telling).drop if telling else None,
        "better_than": float(np.mean([here > word.drop for word in others])),
        "is_first": all(here > word.drop for word in others),
    }


def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    telling = [row["telling"] for row in rows if row["telling"] is not None]
    share = float(np.mean([row["any"] for row in rows]))
    return {
        "queries": len(rows),
        "more_than_a_random_word": share,
        "interval": 1.96 * float(np.sqrt(share * (1 - share) / len(rows))),
        "more_than_a_random_telling_word": float(np.mean(telling)),
        "share_of_other_words_beaten": float(np.mean([row["better_than"] for row in rows])),
        "first_here_too": float(np.mean([row["is_first"] for row in rows])),
        "mean_drop": float(np.mean([row["drop"] for row in rows])),
    }


def kind_of(word: str) -> str:
    if word in COLOURS:
        return "colour"
    if word in SHAPES or word in ("disc", "plus", "crescent"):
        return "shape"
    return "glue" if word in GLUE_WORDS else "action, way or other"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="pocket")
    parser.add_argument("--clips", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=61)
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    torch.set_num_threads(1)
    encoder = load_encoder(given.encoder)
    reader = PlainReader(Remembering(encoder))  # type: ignore[arg-type]  # all that it asks of an encoder
    worlds = [event_clip(given.seed, number, split="test") for number in range(given.clips)]
    cases = cases_of(worlds)
    held = {number: footage_of(worlds[number], encoder) for number in sorted({case.named_by for case in cases})}
    rows: dict[str, list[dict[str, Any]]] = {"another clip": [], "the other frames": []}
    for case in cases:
        dice, own, other = Dice("another word", case.named_by), held[case.named_by], held[case.measured_on]
        rows["another clip"].append(judged(drops(reader, case.text, own), drops(reader, case.text, other), dice))
        if len(own.features.times) > 1:
            even, odd = (every_second(own, first) for first in (0, 1))
            rows["the other frames"].append(judged(drops(reader, case.text, even), drops(reader, case.text, odd), dice))
    found = {name: figures(some) for name, some in rows.items()}
    kinds = Counter(kind_of(row["word"]) for row in rows["another clip"])
    told = {
        "machine": machine(),
        "encoder": given.encoder,
        "fingerprint": encoder.fingerprint,
        "clips": given.clips,
        "seed": given.seed,
        "patterns": len({case.pattern for case in cases}),
        "bar": BAR,
        "measured_on": found,
        "kinds_of_the_word": dict(kinds.most_common()),
    }
    print("| measured on | queries | loses more than a random other word | than a random telling one | other words beaten |")
    print("|---|---|---|---|---|")
    for name, some in found.items():
        print(
            f"| {name} | {some['queries']:,} | {some['more_than_a_random_word']:.3f} ± {some['interval']:.3f} | "
            f"{some['more_than_a_random_telling_word']:.3f} | {some['share_of_other_words_beaten']:.3f} |"
        )
    print(told["patterns"], "patterns;", told["kinds_of_the_word"])
    if given.json is not None:
        given.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
