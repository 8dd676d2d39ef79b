"""MSRVTT-QA and MSVD-QA: a question with an answer of one word (Xu et al. 2017), in the three forms in which they go about.

CSV of the hierarchical-graph baseline: ``video, question, answer, qid, type`` (MSRVTT-QA) or ``video, width, height, question, answer,
qid`` (MSVD-QA); JSON lines ``{"answer", "question", "video_id", "answer_type"}``; the first publication's JSON list ``{"answer", "id",
"question", "video_id", ...}``. Answer vocabularies are a JSON list, or ``{WORD: NUMBER}``.

Traps: MSRVTT-QA's ``video`` is a bare number in CSV and ``video6513`` in JSON; questions and answers were made by a machine from
captions, spelling mistakes included ("coversation"); answers outside the vocabulary count as wrong whatever is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from vlm.data.formats.fields import Fields
from vlm.data.formats.files import PathLike, read_csv, read_json, read_json_lines, read_objects, write_csv, write_json, write_json_lines
from vlm.data.formats.records import Annotations, Extra, Fault, checked
from vlm.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenQuestion:
    """A question about a video with its answer; ``question_id`` is None where the file gives none."""

    video_id: str
    question: str
    answer: str
    question_id: int | str | None = None
    extra: Extra = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The question's id, or its video and words where it has none."""
        return str(self.question_id) if self.question_id is not None else f"{self.video_id}: {self.question}"

    def faults(self) -> Iterator[Fault]:
        """A question or an answer that says nothing."""
        for name, text in (("question", self.question), ("answer", self.answer)):
            if not text.strip():
                yield Fault(name, repr(text), "says something")


def read_csv_questions(path: PathLike) -> Annotations[OpenQuestion]:
    """The questions of a CSV file."""
    return checked((_question(fields, "video", "qid") for fields in read_csv(path)), unique="qid")


def write_csv_questions(path: PathLike, questions: Iterable[OpenQuestion]) -> None:
    """Writes questions as MSRVTT-QA's CSV, or as MSVD-QA's where the first has a width and a height."""
    kept = tuple(questions)
    extra = tuple(kept[0].extra) if kept else ("type",)
    before = tuple(name for name in ("width", "height") if name in extra)
    after = tuple(name for name in extra if name not in before)
    rows = (_cells(row, before, after) for row in kept)
    write_csv(path, ("video", *before, "question", "answer", "qid", *after), rows)


def read_json_questions(path: PathLike) -> Annotations[OpenQuestion]:
    """The questions of a JSON list."""
    return checked((_question(fields, "video_id", "id") for fields in read_objects(path)), unique="id")


def write_json_questions(path: PathLike, questions: Iterable[OpenQuestion]) -> None:
    """Writes questions as a JSON list."""
    write_json(path, [_question_json(row) for row in questions])


def read_json_line_questions(path: PathLike) -> Annotations[OpenQuestion]:
    """The questions of JSON lines."""
    return checked(_question(fields, "video_id", "id") for fields in read_json_lines(path))


def write_json_line_questions(path: PathLike, questions: Iterable[OpenQuestion]) -> None:
    """Writes questions as JSON lines."""
    write_json_lines(path, (_question_json(row) for row in questions))


def read_answer_words(path: PathLike) -> tuple[str, ...]:
    """The answers of a vocabulary, the number of each its position, from a JSON list or from ``{WORD: NUMBER}``.

    Raises:
        InputError: a word stands twice, or the numbers are not 0 to n - 1 in order.
    """
    value = read_json(path)
    table = value if isinstance(value, dict) else {"words": value}
    fields = Fields(table, str(path))
    if table is value:
        words = tuple(table)
        for number, word in enumerate(words):
            if fields.integer(word) != number:
                fields.refuse(word, table[word], f"{number}, its position in the file")
        return words
    words = fields.texts("words")
    if len(set(words)) != len(words):
        twice = next(word for word in words if words.count(word) > 1)
        raise InputError(f"{path}: a word must stand once in a vocabulary, got {twice!r} again")
    return words


def write_answer_words(path: PathLike, words: Iterable[str], *, numbered: bool = False, indent: int | None = None) -> None:
    """Writes a vocabulary as a JSON list, or as ``{WORD: NUMBER}`` with ``numbered``."""
    kept = list(words)
    write_json(path, {word: number for number, word in enumerate(kept)} if numbered else kept, indent=indent)


def _question(fields: Fields, video: str, identity: str) -> OpenQuestion:
    return OpenQuestion(
        video_id=fields.text(video),
        question=fields.text("question"),
        answer=fields.text("answer"),
        question_id=fields.identity(identity) if identity in fields else None,
        extra=fields.rest(),
    )


def _question_json(row: OpenQuestion) -> dict[str, object]:
    identity = {} if row.question_id is None else {"id": row.question_id}
    return {"answer": row.answer, **identity, "question": row.question, "video_id": row.video_id, **row.extra}


def _cells(row: OpenQuestion, before: Sequence[str], after: Sequence[str]) -> tuple[object, ...]:
    if set(row.extra) != {*before, *after} or row.question_id is None:
        raise InputError(f"every question of a CSV file needs an id and the columns {[*before, *after]}, got {row!r}")
    known = (row.question, row.answer, row.question_id)
    return (row.video_id, *(row.extra[name] for name in before), *known, *(row.extra[name] for name in after))
