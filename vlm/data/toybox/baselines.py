"""How far one gets on Toybox without watching: from the text alone, or from one frame whose things are known exactly.

Both learn on one collection and answer another. Whatever they get above chance, the texts or single frames give away. They are
measuring instruments: fitted by plain gradient steps in numpy, and no truth depends on their floats.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.dice import Dice
from vlm.data.toybox.motion import states
from vlm.data.toybox.queries import Query
from vlm.data.toybox.questions import Question
from vlm.data.toybox.vocabulary import COLOURS, SIZES
from vlm.data.toybox.world import States, World

MOST_WORDS = 1500
NAMED_THINGS = 2


@dataclass(frozen=True, slots=True)
class Item:
    """Something to answer: a text about a world and the answer as a class.

    Attributes:
        things: the things that the text is about, which the single frame's guesser is told.
    """

    world: str
    text: str
    label: str
    things: tuple[int, ...]


def question_items(asked: Iterable[Question]) -> list[Item]:
    """Questions with the sides of their cells as labels."""
    return [Item(question.id.split("/question/")[0], question.text, question.cell.side, question.things) for question in asked]


def query_items(asked: Iterable[Query]) -> list[Item]:
    """Queries as true or false texts, temporal ones with their twins; things in the order in which the text claims that they act."""
    items = []
    for query in asked:
        world = query.id.split("/query/")[0]
        items.append(Item(world, query.text, str(query.is_true), query.things))
        if query.twin is not None and query.is_temporal:
            items.append(Item(world, query.twin, str(not query.is_true), query.things[::-1]))
    return items


def text_only_accuracy(train: Sequence[Item], test: Sequence[Item]) -> float:
    """Accuracy of a logistic regression on words and pairs of neighbouring words, without any video."""
    vocabulary = _vocabulary(train)
    return _accuracy(_text_features(train, vocabulary), _text_features(test, vocabulary), train, test)


def single_frame_accuracy(train: Sequence[Item], test: Sequence[Item], worlds: Mapping[str, World], *, seed: int = 0) -> float:
    """The same of a logistic regression that also knows every attribute of the things at one random moment.

    It is told where the things are that the text is about, how large, turned, coloured and deep, how far from each other and how many are
    shown, and each of these also apart for every word of the text that says what happens; it is not told the time.
    """
    vocabulary = _vocabulary(train)
    both = [np.concatenate([_text_features(items, vocabulary), _frame_features(items, worlds, seed)], axis=1) for items in (train, test)]
    return _accuracy(both[0], both[1], train, test)


def _tokens(text: str) -> list[str]:
    words = re.findall(r"[a-z-]+", text)
    return words + [f"{one} {other}" for one, other in itertools.pairwise(words)]


def _vocabulary(items: Sequence[Item]) -> dict[str, int]:
    counts = Counter(token for item in items for token in set(_tokens(item.text)))
    return {token: place for place, (token, number) in enumerate(counts.most_common(MOST_WORDS)) if number > 1}


def _text_features(items: Sequence[Item], vocabulary: Mapping[str, int]) -> NDArray[np.float32]:
    found = np.zeros((len(items), len(vocabulary) + 1), dtype=np.float32)
    found[:, -1] = 1.0
    for row, item in enumerate(items):
        for token in _tokens(item.text):
            if token in vocabulary:
                found[row, vocabulary[token]] = 1.0
    return found


# What the beginnings of words say of events and order.
ACTION_STEMS = (
    *("left", "right", "up", "down", "top", "bottom", "enter", "come", "leave", "exit", "go", "clockwise", "anti", "counter"),
    *("big", "large", "grow", "small", "shrink", "blink", "flash", "bounce", "hop", "bump", "collide", "run", "hide"),
    *("before", "after", "first", "last", "later"),
)


def _frame_features(items: Sequence[Item], worlds: Mapping[str, World], seed: int) -> NDArray[np.float32]:
    rows = []
    for number, item in enumerate(items):
        world = worlds[item.world]
        # A question and its twin must not get the same frame, or the pair would tell what the frame does not.
        time = Dice("frame", seed, number, world.name).uniform(0.0, world.seconds)
        seen = _seen(states(world, np.array([min(time, world.seconds - 0.05)])), item.things)
        said = np.array([any(word.startswith(stem) for word in item.text.split()) for stem in ACTION_STEMS], dtype=np.float32)
        rows.append(np.concatenate([seen, np.outer(said, seen).ravel()]))
    return np.stack(rows).astype(np.float32)


def _seen(frame: States, things: Sequence[int]) -> NDArray[np.float64]:
    parts: list[NDArray[np.float64]] = [np.array([frame.is_shown[0].sum() / 6.0])]
    for place in range(NAMED_THINGS):
        number = things[place] if place < len(things) else -1
        width = 10 + len(COLOURS) + len(SIZES)
        if number < 0 or not frame.is_shown[0, number]:
            parts.append(np.zeros(width))
            continue
        x, y, angle = frame.x[0, number] - 0.5, frame.y[0, number] - 0.5, frame.angle[0, number]
        others = [k for k in np.flatnonzero(frame.is_shown[0]) if k != number]
        nearest = min((np.hypot(frame.x[0, k] - x - 0.5, frame.y[0, k] - y - 0.5) for k in others), default=1.0)
        exact = [1.0, x, y, x * x, y * y, frame.radius[0, number], np.sin(angle), np.cos(angle), frame.mix[0, number], nearest]
        colour = np.eye(len(COLOURS))[frame.colour_name_index()[0, number]]
        parts.append(np.concatenate([exact, colour, np.eye(len(SIZES))[frame.size[0, number]]]))
    return np.concatenate(parts)


def _accuracy(x: NDArray[np.float32], x_test: NDArray[np.float32], train: Sequence[Item], test: Sequence[Item]) -> float:
    labels = sorted({item.label for item in train})
    y = np.array([labels.index(item.label) for item in train])
    weights = _fit(x, y, len(labels))
    guessed = np.argmax(x_test @ weights, axis=1)
    return float(np.mean([labels[guess] == item.label for guess, item in zip(guessed, test, strict=True)]))


def _fit(x: NDArray[np.float32], y: NDArray[np.int64], num_labels: int, *, steps: int = 150, decay: float = 0.02) -> NDArray[np.float32]:
    """Weights (d, labels) of a multinomial logistic regression with quadratic penalty, by Adam on all rows at once."""
    weights = np.zeros((x.shape[1], num_labels), dtype=np.float32)
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    target = np.eye(num_labels, dtype=np.float32)[y]
    for step in range(1, steps + 1):
        scores = x @ weights
        scores -= scores.max(axis=1, keepdims=True)
        probability = np.exp(scores)
        probability /= probability.sum(axis=1, keepdims=True)
        gradient = x.T @ (probability - target) / np.float32(len(x)) + np.float32(decay / 10.0) * weights
        mean += 0.1 * (gradient - mean)
        square += 0.001 * (gradient * gradient - square)
        weights -= 0.02 * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return weights
