"""One row of a file, taken apart field by field; whatever is wrong is told with its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NoReturn

from vlm.data.formats.records import Extra, Window, is_finite
from vlm.errors import InputError

_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def whole_of(text: str) -> int | None:
    """The int that a text writes in plain digits; None for any other text."""
    return int(text) if _WHOLE.fullmatch(text) and len(text) < 400 else None


def number_of(text: str) -> float | None:
    """The number that a text writes: an int for plain digits, else a float; None where it is none or not finite."""
    whole = whole_of(text)
    number = whole if whole is not None else float(text) if _DECIMAL.fullmatch(text) else None
    return number if number is not None and is_finite(number) else None


class Fields:
    """The named values of one row. Each method takes one field or raises ``InputError``; ``rest`` gives what was not taken.

    ``numbers_as_text`` lets numbers stand as text too, as in CSV.
    """

    def __init__(self, values: Mapping[str, object], place: str, *, numbers_as_text: bool = False) -> None:
        self._values = values
        self._left = dict(values)
        self._numbers_as_text = numbers_as_text
        self.place = place

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def refuse(self, name: str, value: object, rule: str) -> NoReturn:
        """Raises the error for a value that breaks its rule."""
        raise InputError(f"{self.place}: field {name!r} must be {rule}, got {_short(value)}")

    def take(self, name: str) -> object:
        """The value as it stands."""
        if name not in self._values:
            there = ", ".join(repr(key) for key in self._values) or "none"
            raise InputError(f"{self.place}: field {name!r} is missing; the fields there are: {there}")
        self._left.pop(name, None)
        return self._values[name]

    def rest(self) -> Extra:
        """The fields that were not taken, in their order."""
        return self._left

    def text(self, name: str) -> str:
        """A text."""
        return self._text(name, self.take(name))

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(self._text(f"{name}[{number}]", item) for number, item in enumerate(self.items(name)))

    def integer(self, name: str) -> int:
        """A whole number."""
        return self._integer(name, self.take(name))

    def integers(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        return tuple(self._integer(f"{name}[{number}]", item) for number, item in enumerate(self.items(name)))

    def number(self, name: str) -> float:
        """A finite number."""
        return self._number(name, self.take(name))

    def positive(self, name: str) -> float:
        """A finite number above 0: a duration, a rate."""
        value = self.number(name)
        if value <= 0:
            self.refuse(name, value, "above 0")
        return value

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        return self._numbers(name, self.take(name))

    def identity(self, name: str) -> int | str:
        """An id: a whole number or a text."""
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, int | str):
            self.refuse(name, value, "a whole number or a text")
        return value

    def window(self, name: str) -> Window:
        """A pair of times."""
        return self._window(name, self.take(name))

    def windows(self, name: str) -> tuple[Window, ...]:
        """A list of pairs of times."""
        return tuple(self._window(f"{name}[{number}]", item) for number, item in enumerate(self.items(name)))

    def tuples(self, name: str, length: int | None = None) -> tuple[tuple[float, ...], ...]:
        """A list of lists of finite numbers, each of ``length`` where that is given."""
        found = tuple(self._numbers(f"{name}[{number}]", item) for number, item in enumerate(self.items(name)))
        for number, item in enumerate(found):
            if length is not None and len(item) != length:
                self.refuse(f"{name}[{number}]", list(item), f"{length} numbers")
        return found

    def pairs(self, name: str) -> tuple[tuple[int, int], ...]:
        """A list of pairs of whole numbers."""
        found = []
        for number, item in enumerate(self.items(name)):
            place = f"{name}[{number}]"
            if not isinstance(item, list) or len(item) != 2:
                self.refuse(place, item, "two whole numbers")
            found.append((self._integer(place, item[0]), self._integer(place, item[1])))
        return tuple(found)

    def items(self, name: str) -> list[object]:
        """A list, its items as they stand."""
        value = self.take(name)
        if not isinstance(value, list):
            self.refuse(name, value, "a list")
        return value

    def rows(self, name: str) -> Iterator[Fields]:
        """The objects of a list."""
        for number, item in enumerate(self.items(name)):
            yield self._inner(f"{name}[{number}]", item)

    def inner(self, name: str) -> Fields:
        """The object that a field holds."""
        return self._inner(name, self.take(name))

    def members(self) -> Iterator[tuple[str, Fields]]:
        """The fields themselves, where each holds an object: its name and its own fields."""
        for name in self._values:
            yield name, self.inner(name)

    def _inner(self, name: str, value: object) -> Fields:
        if not isinstance(value, dict):
            self.refuse(name, value, "an object of named fields")
        return Fields(value, f"{self.place}, {name}", numbers_as_text=self._numbers_as_text)

    def _text(self, name: str, value: object) -> str:
        if not isinstance(value, str):
            self.refuse(name, value, "a text")
        return value

    def _integer(self, name: str, value: object) -> int:
        whole = whole_of(value) if isinstance(value, str) and self._numbers_as_text else value
        if isinstance(whole, bool) or not isinstance(whole, int):
            self.refuse(name, value, "a whole number")
        return whole

    def _number(self, name: str, value: object) -> float:
        number = number_of(value) if isinstance(value, str) and self._numbers_as_text else value
        if isinstance(number, bool) or not isinstance(number, int | float) or not is_finite(number):
            self.refuse(name, value, "a finite number")
        return number

    def _numbers(self, name: str, value: object) -> tuple[float, ...]:
        if not isinstance(value, list):
            self.refuse(name, value, "a list of numbers")
        return tuple(self._number(name, item) for item in value)

    def _window(self, name: str, value: object) -> Window:
        if not isinstance(value, list) or len(value) != 2:
            self.refuse(name, value, "two times [start, end]")
        return Window(self._number(name, value[0]), self._number(name, value[1]))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
