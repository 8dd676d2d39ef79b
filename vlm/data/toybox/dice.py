"""Random choices that come out the same on every machine and with every version of numpy and Python."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
MASK = (1 << 64) - 1


class Dice:
    """A SplitMix64 generator (Steele, Lea and Flood 2014) seeded by anything that prints.

    Integers decide everything, so no rounding of a transcendental function can turn a choice.
    """

    def __init__(self, *seed: object) -> None:
        text = "/".join(str(part) for part in seed)
        self._state = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")

    def bits(self) -> int:
        """64 random bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
        return mixed ^ (mixed >> 31)

    def below(self, limit: int) -> int:
        """An integer of [0, limit); the bias of limit / 2**64 is no matter here."""
        return (self.bits() * limit) >> 64

    def between(self, low: int, high: int) -> int:
        """An integer of [low, high], both ends included."""
        return low + self.below(high - low + 1)

    def uniform(self, low: float = 0.0, high: float = 1.0, *, steps: int = 1 << 20) -> float:
        """A float of [low, high) on a grid of ``steps``."""
        return low + (high - low) * (self.below(steps) / steps)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform() < probability

    def choose(self, items: Sequence[T]) -> T:
        """One of ``items``, each as likely."""
        return items[self.below(len(items))]

    def weighted(self, weights: Sequence[int]) -> int:
        """A position of ``weights``, each as likely as its weight."""
        mark = self.below(sum(weights))
        for position, weight in enumerate(weights):
            mark -= weight
            if mark < 0:
                return position
        raise AssertionError(weights)

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """``items`` in random order (Fisher and Yates)."""
        mixed = list(items)
        for last in range(len(mixed) - 1, 0, -1):
            other = self.below(last + 1)
            mixed[last], mixed[other] = mixed[other], mixed[last]
        return mixed
