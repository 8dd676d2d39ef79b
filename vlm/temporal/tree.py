"""The syntax tree of a query about time: what ``vlm.temporal.grammar`` reads and ``vlm.temporal.meaning`` evaluates. Seconds throughout."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Comparison = Literal[">", ">=", "<", "<=", "=="]
COMPARES: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """What the video shows, in words."""

    text: str


@dataclass(frozen=True, slots=True)
class Both:
    """``X and Y``, ``X while Y``."""

    one: Node
    other: Node


@dataclass(frozen=True, slots=True)
class Either:
    """``X or Y``."""

    one: Node
    other: Node


@dataclass(frozen=True, slots=True)
class Not:
    """``not X``."""

    one: Node


@dataclass(frozen=True, slots=True)
class Then:
    """``X then Y within T``; without ``within``, T is None."""

    one: Node
    other: Node
    within: float | None


@dataclass(frozen=True, slots=True)
class Lasting:
    """``X for > T``."""

    one: Node
    comparison: Comparison
    seconds: float


@dataclass(frozen=True, slots=True)
class Placed:
    """``X before T``, ``X after T``, ``X between T and T``: of ``[start, end)``, where ``end`` is None for the end of the video."""

    one: Node
    start: float
    end: float | None


@dataclass(frozen=True, slots=True)
class Count:
    """``count(X) >= N``."""

    one: Node
    comparison: Comparison
    number: int


Node = Sentence | Both | Either | Not | Then | Lasting | Placed | Count


def sentences(node: Node) -> list[str]:
    """The different sentences of a query, in order."""
    return list(dict.fromkeys(leaf.text for leaf in _leaves(node)))


def _leaves(node: Node) -> Iterator[Sentence]:
    if isinstance(node, Sentence):
        yield node
        return
    yield from _leaves(node.one)
    if isinstance(node, Both | Either | Then):
        yield from _leaves(node.other)
