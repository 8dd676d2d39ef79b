"""ActivityNet-QA: open questions about web videos, the answers in a second file (Yu et al. 2019).

``*_q.json``: a list of ``{"video_name", "question", "question_id"}``; ``*_a.json``: a list of ``{"answer", "type", "question_id"}``;
predictions are answers without a type.

Traps: ``video_name`` lacks the ``v_`` with which ``question_id`` and ActivityNet's other files begin; the rows of the two files are
matched by id, not by position; answers are compared as lower-case words, "yes" and "no" being most of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from vlm.data.formats.files import PathLike, read_objects, write_json
from vlm.data.formats.records import Annotations, Extra, Fault, checked
from vlm.errors import InputError

# The kinds of question by their number in the file.
KINDS = ("motion", "spatial relation", "temporal relation", "yes or no", "colour", "object", "location", "number", "other")


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a video."""

    question_id: str
    video_id: str
    question: str
    extra: Extra = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The id of the question."""
        return self.question_id

    def faults(self) -> Iterator[Fault]:
        """A question that says nothing."""
        if not self.question.strip():
            yield Fault("question", repr(self.question), "says something")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, right or predicted. ``kind`` is a position in ``KINDS``, None in predictions."""

    question_id: str
    answer: str
    kind: int | None = None
    extra: Extra = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The id of the question."""
        return self.question_id

    def faults(self) -> Iterator[Fault]:
        """An answer that says nothing, a kind without a name."""
        if not self.answer.strip():
            yield Fault("answer", repr(self.answer), "says something")
        if self.kind is not None and not 0 <= self.kind < len(KINDS):
            yield Fault("type", repr(self.kind), f"lies within 0..{len(KINDS) - 1}")


def read_questions(path: PathLike) -> Annotations[Question]:
    """The questions of a file."""
    rows = (
        Question(fields.text("question_id"), fields.text("video_name"), fields.text("question"), fields.rest())
        for fields in read_objects(path)
    )
    return checked(rows, unique="question_id")


def write_questions(path: PathLike, questions: Iterable[Question]) -> None:
    """Writes questions."""
    rows = (({"video_name": row.video_id, "question": row.question, "question_id": row.question_id}, row.extra) for row in questions)
    write_json(path, [{**known, **extra} for known, extra in rows])


def read_answers(path: PathLike) -> Annotations[Answer]:
    """The answers of a file, right or predicted."""
    rows = (
        Answer(
            fields.text("question_id"),
            fields.text("answer"),
            fields.integer("type") if "type" in fields else None,
            fields.rest(),
        )
        for fields in read_objects(path)
    )
    return checked(rows, unique="question_id")


def write_answers(path: PathLike, answers: Iterable[Answer]) -> None:
    """Writes answers; those without a kind as predictions, in the compact form of the published example."""
    kept = tuple(answers)
    rows = []
    for row in kept:
        if row.kind is None:
            rows.append({"question_id": row.question_id, "answer": row.answer, **row.extra})
        else:
            rows.append({"answer": row.answer, "type": row.kind, "question_id": row.question_id, **row.extra})
    write_json(path, rows, compact=bool(kept) and all(row.kind is None for row in kept))


def answered(questions: Iterable[Question], answers: Iterable[Answer]) -> tuple[tuple[Question, Answer], ...]:
    """Each question with its answer; raises ``InputError`` for a question that has none."""
    by_id = {answer.question_id: answer for answer in answers}
    pairs = []
    for question in questions:
        if question.question_id not in by_id:
            raise InputError(f"question {question.question_id!r} has no answer among the {len(by_id)}; give the answers of the same split")
        pairs.append((question, by_id[question.question_id]))
    return tuple(pairs)
