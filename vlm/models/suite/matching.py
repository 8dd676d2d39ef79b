"""Models of equal size: the number of one config word at which another mixer has as many parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from vlm.errors import InputError
from vlm.ssm.stack import count_parameters

# How far two counts may be apart and still be called equal, as a share of the wanted one.
WITHIN = 0.03


def matched(build: Callable[[int], nn.Module], wanted: int, *, among: Iterable[int], within: float = WITHIN) -> int:
    """The number of ``among`` at which ``build`` gives a model with the count of parameters nearest to ``wanted``.

    Models are built without memory for their numbers, and few of them: counts must rise with the number.

    Args:
        build: a model of a number, such as its width; a number at which none can be built raises InputError and is passed over.

    Raises:
        InputError: no number comes within ``within`` of the count.
    """
    numbers, found = sorted(among), list[tuple[int, int]]()
    low, high = 0, len(numbers)
    while low < high:
        middle = (low + high) // 2
        place, count = _next_built(build, numbers, middle, high)
        if count is None:
            high = middle
            continue
        found.append((count, numbers[place]))
        low, high = (place + 1, high) if count < wanted else (low, middle)
    if not found:
        raise InputError(f"no model of {wanted:,} parameters can be built from any of the numbers given")
    count, number = min(found, key=lambda pair: (abs(pair[0] - wanted), pair[1]))
    if abs(count - wanted) > within * wanted:
        raise InputError(f"no model comes within {within:.0%} of {wanted:,} parameters: the nearest, at {number}, has {count:,}")
    return number


def _next_built(build: Callable[[int], nn.Module], numbers: Sequence[int], first: int, last: int) -> tuple[int, int | None]:
    """The first place of ``[first, last)`` at which a model can be built, and its count; the count is None where there is no such place."""
    for place in range(first, last):
        try:
            with torch.device("meta"):
                return place, count_parameters(build(numbers[place]))
        except InputError:
            continue
    return last, None
