"""A user's own annotations, as CSV or JSON lines: captions ``path, start, end, caption`` and questions ``path, question, options, answer``.

``start`` and ``end`` are seconds; both may be left out, and the row is about the whole video. ``options`` may be left out for an open
question; in CSV they stand in one cell, ``red|blue|green``, or as a JSON list where an option holds ``|``. ``answer`` is the text of an
option, and may be left out where it is not known. Further columns are kept in ``extra``. One file may hold rows of both kinds.

Unlike the published formats a user's file is strict: a span that is none, an empty caption or an answer that is no option raises
``InputError`` with the line, since the file can be mended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vlm.data.formats.fields import Fields
from vlm.data.formats.files import PathLike, dump_json, parse_json, read_csv, read_json_lines, write_csv, write_json_lines
from vlm.data.formats.records import Annotations, Extra, Fault, Window, checked
from vlm.errors import InputError, SpanError
from vlm.types import Span

_SUFFIXES = (".csv", ".jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCaption:
    """A caption of a video, or of a span of it. ``path`` is as written: relative to wherever the user means."""

    path: str
    caption: str
    span: Span | None = None
    extra: Extra = field(default_factory=dict)

    def __post_init__(self) -> None:
        _need_text("path", self.path)
        _need_text("caption", self.caption)

    @property
    def name(self) -> str:
        """The path."""
        return self.path

    def faults(self) -> Iterator[Fault]:
        """None: what breaks a rule is refused."""
        return iter(())


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnQuestion:
    """A question about a video, or about a span of it.

    Attributes:
        options: empty for an open question.
        answer: one of the options, or any text for an open question; None where it is not known.
    """

    path: str
    question: str
    options: tuple[str, ...] = ()
    answer: str | None = None
    span: Span | None = None
    extra: Extra = field(default_factory=dict)

    def __post_init__(self) -> None:
        _need_text("path", self.path)
        _need_text("question", self.question)
        for option in self.options:
            _need_text("an option", option)
        if len(set(self.options)) != len(self.options) or len(self.options) == 1:
            raise InputError(f"options must be two or more that differ, or none at all, got {list(self.options)}")
        if self.answer is not None:
            _need_text("answer", self.answer)
            if self.options and self.answer not in self.options:
                raise InputError(f"answer must be one of the options {list(self.options)}, got {self.answer!r}")

    @property
    def name(self) -> str:
        """The path."""
        return self.path

    def faults(self) -> Iterator[Fault]:
        """None: what breaks a rule is refused."""
        return iter(())


def read_captions(path: PathLike) -> Annotations[OwnCaption]:
    """The captions of a ``.csv`` or ``.jsonl`` file."""
    return checked(_caption(fields) for fields in _rows(path))


def write_captions(path: PathLike, captions: Iterable[OwnCaption]) -> None:
    """Writes captions as ``.csv`` or ``.jsonl``, by the ending of the path."""
    kept = tuple(captions)
    rows = [{"path": row.path, **_times(row.span), "caption": row.caption, **row.extra} for row in kept]
    _write(path, ("path", "start", "end", "caption"), rows)


def read_questions(path: PathLike) -> Annotations[OwnQuestion]:
    """The questions of a ``.csv`` or ``.jsonl`` file."""
    return checked(_question(fields) for fields in _rows(path))


def write_questions(path: PathLike, questions: Iterable[OwnQuestion]) -> None:
    """Writes questions as ``.csv`` or ``.jsonl``, by the ending of the path."""
    rows = []
    for row in questions:
        options = {"options": row.options} if row.options else {}
        answer = {} if row.answer is None else {"answer": row.answer}
        rows.append({"path": row.path, **_times(row.span), "question": row.question, **options, **answer, **row.extra})
    _write(path, ("path", "start", "end", "question", "options", "answer"), rows)


def read_rows(path: PathLike) -> tuple[tuple[str, OwnCaption | OwnQuestion], ...]:
    """The captions and questions of a ``.csv`` or ``.jsonl`` file that may hold both, each with its place, ``PATH:LINE``."""
    return tuple((fields.place, _row(fields)) for fields in _rows(path))


def _rows(path: PathLike) -> Iterator[Fields]:
    """The rows of the file; an empty cell of CSV is a field that is left out."""
    if _suffix(path) == ".jsonl":
        yield from read_json_lines(path)
        return
    for fields in read_csv(path):
        yield Fields({name: cell for name, cell in fields.rest().items() if cell != ""}, fields.place, numbers_as_text=True)


def _write(path: PathLike, columns: Sequence[str], rows: Sequence[dict[str, object]]) -> None:
    if _suffix(path) == ".jsonl":
        write_json_lines(path, rows)
        return
    extra = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in columns]
    for row in rows:
        for name in extra:
            if not isinstance(row.get(name, ""), str):
                raise InputError(f"{path}: a further column of CSV must hold text, got {name}={row[name]!r}; write .jsonl instead")
    header = [name for name in columns if name in ("path", "caption", "question") or any(name in row for row in rows)] + extra
    write_csv(path, header, ([_cell(row.get(name, "")) for name in header] for row in rows))


def _suffix(path: PathLike) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise InputError(f"{path}: must end in {' or '.join(_SUFFIXES)}, got {suffix!r}")
    return suffix


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        joined = "|".join(value)
        is_plain = not joined.startswith("[") and all("|" not in option and option == option.strip() for option in value)
        return joined if is_plain else dump_json(list(value), ascii_only=False)
    return value if isinstance(value, str) else repr(value)


def _row(fields: Fields) -> OwnCaption | OwnQuestion:
    kinds = [name for name in ("caption", "question") if name in fields]
    if len(kinds) != 1:
        has = "both" if kinds else f"neither; the fields there are: {', '.join(map(repr, fields.rest())) or 'none'}"
        raise InputError(f"{fields.place}: a row must have a field 'caption' or a field 'question', got {has}")
    return _caption(fields) if kinds == ["caption"] else _question(fields)


def _caption(fields: Fields) -> OwnCaption:
    path, caption, span = fields.text("path"), fields.text("caption"), _span(fields)
    try:
        return OwnCaption(path=path, caption=caption, span=span, extra=fields.rest())
    except InputError as error:
        raise InputError(f"{fields.place}: {error}") from error


def _question(fields: Fields) -> OwnQuestion:
    path, question, span = fields.text("path"), fields.text("question"), _span(fields)
    options = _options(fields) if "options" in fields else ()
    answer = fields.text("answer") if "answer" in fields else None
    try:
        return OwnQuestion(path=path, question=question, options=options, answer=answer, span=span, extra=fields.rest())
    except InputError as error:
        raise InputError(f"{fields.place}: {error}") from error


def _options(fields: Fields) -> tuple[str, ...]:
    options = fields.take("options")
    if not isinstance(options, str):
        return fields.texts("options")
    if not options.startswith("["):
        return tuple(option.strip() for option in options.split("|"))
    listed = parse_json(options, f"{fields.place}: field 'options'")
    return Fields({"options": listed}, fields.place).texts("options")


def _span(fields: Fields) -> Span | None:
    if "start" not in fields and "end" not in fields:
        return None
    try:
        return Window(fields.number("start"), fields.number("end")).span
    except SpanError as error:
        raise SpanError(f"{fields.place}: {error}") from error


def _times(span: Span | None) -> dict[str, object]:
    return {} if span is None else {"start": span.start, "end": span.end}


def _need_text(name: str, text: str) -> None:
    if not text.strip():
        raise InputError(f"{name} must say something, got {text!r}")
