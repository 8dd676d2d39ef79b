"""What all formats share: windows of time as published, defects, and the rows of a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

from vlm.errors import InputError
from vlm.types import Span

Extra = Mapping[str, object]

# Published durations carry the rounding of a division (95.03999999999999 s): so far a window may pass the end without being called past it.
ROUNDING_SECONDS = 1e-6


class Fault(NamedTuple):
    """One value of a record that breaks a rule of ours."""

    field: str
    value: str
    rule: str


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """Two finite times in seconds as a file gives them; unlike a ``Span`` they may be empty, reversed or negative.

    Raises:
        InputError: a time is not finite.
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        if not (is_finite(self.start) and is_finite(self.end)):
            raise InputError(f"a window needs finite times, got start={self.start!r}, end={self.end!r}")

    @classmethod
    def of(cls, span: Span) -> Window:
        """The window of a span."""
        return cls(span.start, span.end)

    @property
    def span(self) -> Span:
        """The same times as a span; raises ``SpanError`` where they are none."""
        return Span(self.start, self.end)

    def faults(self, name: str, duration_seconds: float | None = None) -> Iterator[Fault]:
        """The rules that the window breaks, under the name of its field."""
        value = f"[{self.start!r}, {self.end!r}]"
        if self.start < 0:
            yield Fault(name, value, "starts at 0 s or later")
        if self.end <= self.start:
            yield Fault(name, value, "ends after its start")
        if duration_seconds is not None and self.end > duration_seconds + ROUNDING_SECONDS:
            yield Fault(name, value, f"ends by the end of the video, {duration_seconds!r} s")


@dataclass(frozen=True, slots=True)
class ScoredWindow:
    """A predicted window with its score; higher is surer."""

    window: Window
    score: float

    def __post_init__(self) -> None:
        if not is_finite(self.score):
            raise InputError(f"a score must be finite, got {self.score!r}")


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence and the window that it describes."""

    window: Window
    sentence: str


@dataclass(frozen=True, slots=True)
class Defect:
    """A value that breaks a rule of ours and stands in the file all the same.

    Attributes:
        row: position in ``Annotations.rows``.
        name: what the row is called in its file: a query id, a video id.
    """

    row: int
    name: str
    field: str
    value: str
    rule: str

    def __str__(self) -> str:
        return f"row {self.row} ({self.name}): {self.field} {self.value} breaks the rule: {self.rule}"


class Record(Protocol):
    """A row that knows its name and which of our rules it breaks."""

    @property
    def name(self) -> str:
        """What the row is called in its file."""
        ...

    def faults(self) -> Iterable[Fault]:
        """The rules that its values break."""
        ...


R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Annotations(Generic[R]):
    """All rows of one file in its order, and what is wrong with them.

    Attributes:
        header: what the file says beside its rows (version, taxonomy, ...), as parsed JSON.
    """

    rows: tuple[R, ...]
    defects: tuple[Defect, ...] = ()
    header: Extra = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[R]:
        return iter(self.rows)

    def __getitem__(self, position: int) -> R:
        return self.rows[position]

    def sound(self) -> tuple[R, ...]:
        """The rows without a defect."""
        bad = {defect.row for defect in self.defects}
        return tuple(row for number, row in enumerate(self.rows) if number not in bad)


def checked(
    rows: Iterable[R],
    *,
    unique: str | None = None,
    header: Extra | None = None,
    also: Callable[[R], Iterable[Fault]] | None = None,
) -> Annotations[R]:
    """Rows with the defects that they have.

    ``unique`` names the field that may not stand twice: the one that ``Record.name`` gives. ``also`` adds the faults that are known only
    beside another file, such as the durations of the videos.
    """
    kept = tuple(rows)
    defects = []
    first_with: dict[str, int] = {}
    for number, row in enumerate(kept):
        faults = [*row.faults(), *(also(row) if also is not None else ())]
        first = first_with.setdefault(row.name, number)
        if unique is not None and first != number:
            faults.append(Fault(unique, repr(row.name), f"stands once in a file, stood in row {first}"))
        defects += [Defect(number, row.name, *fault) for fault in faults]
    return Annotations(kept, tuple(defects), {} if header is None else header)


def is_finite(number: float) -> bool:
    """Whether a number is one that a float can hold; an int too large for it is not."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def windows_faults(name: str, windows: Sequence[Window], duration_seconds: float | None) -> Iterator[Fault]:
    """The faults of several windows, each under its position."""
    for number, window in enumerate(windows):
        yield from window.faults(f"{name}[{number}]", duration_seconds)


def need_duration(seconds: float) -> None:
    """Raises ``InputError`` unless a duration is finite and above 0."""
    if not (is_finite(seconds) and seconds > 0):
        raise InputError(f"duration_seconds must be finite and above 0, got {seconds!r}")
