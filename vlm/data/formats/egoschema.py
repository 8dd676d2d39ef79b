"""EgoSchema: five-way questions about three-minute stretches of Ego4D (Mangalam, Akshulakov and Malik 2023).

Questions are a JSON list of ``{"q_uid", "google_drive_id", "question", "option 0" .. "option 4"}``; ``subset_answers.json`` has the right
option of 500 of them, ``{UID: 0..4}``; ``uid_to_ego4d.json`` says where in which Ego4D video each stretch lies.

Traps: only 500 answers are public, the rest is scored by a server; copies of the questions go about without their question, and with a
field ``corrent_answer``; the question is the video's id too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from vlm.data.formats.fields import Fields
from vlm.data.formats.files import PathLike, read_object, read_objects, write_json
from vlm.data.formats.records import Annotations, Extra, Fault, Window, checked

NUM_OPTIONS = 5
_OPTIONS = tuple(f"option {number}" for number in range(NUM_OPTIONS))


@dataclass(frozen=True, slots=True, kw_only=True)
class EgoQuestion:
    """A question about one stretch of video, with five options; ``question`` is None where the file leaves it out."""

    question_id: str
    question: str | None
    options: tuple[str, ...]
    extra: Extra = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The id of the question, and of its video."""
        return self.question_id

    def faults(self) -> Iterator[Fault]:
        """A question left out."""
        if self.question is None:
            yield Fault("question", "nothing", "stands in every row")


@dataclass(frozen=True, slots=True)
class EgoSource:
    """The Ego4D video and the window of it that a question is about."""

    question_id: str
    video_id: str
    window: Window

    @property
    def name(self) -> str:
        """The id of the question."""
        return self.question_id

    def faults(self) -> Iterator[Fault]:
        """A window that is no span."""
        yield from self.window.faults("starting_sec, ending_sec")


def read_questions(path: PathLike) -> Annotations[EgoQuestion]:
    """The questions of a file."""
    return checked((_question(fields) for fields in read_objects(path)), unique="q_uid")


def write_questions(path: PathLike, questions: Iterable[EgoQuestion]) -> None:
    """Writes questions."""
    write_json(path, [_question_json(question) for question in questions])


def read_answers(path: PathLike) -> dict[str, int]:
    """The right option of each question, 0 to 4."""
    fields = read_object(path)
    answers = {question_id: fields.integer(question_id) for question_id in tuple(fields.rest())}
    for question_id, answer in answers.items():
        if not 0 <= answer < NUM_OPTIONS:
            fields.refuse(question_id, answer, f"an option, 0 to {NUM_OPTIONS - 1}")
    return answers


def write_answers(path: PathLike, answers: Mapping[str, int]) -> None:
    """Writes answers; the form of a submission to the server too."""
    write_json(path, dict(answers))


def read_sources(path: PathLike) -> Annotations[EgoSource]:
    """Where each question's stretch lies in Ego4D."""
    return checked(
        EgoSource(question_id, fields.text("video_uid"), Window(fields.number("starting_sec"), fields.number("ending_sec")))
        for question_id, fields in read_object(path).members()
    )


def write_sources(path: PathLike, sources: Iterable[EgoSource]) -> None:
    """Writes where each stretch lies."""
    write_json(
        path,
        {row.question_id: {"video_uid": row.video_id, "starting_sec": row.window.start, "ending_sec": row.window.end} for row in sources},
    )


def _question(fields: Fields) -> EgoQuestion:
    return EgoQuestion(
        question_id=fields.text("q_uid"),
        question=fields.text("question") if "question" in fields else None,
        options=tuple(fields.text(name) for name in _OPTIONS),
        extra=fields.rest(),
    )


def _question_json(row: EgoQuestion) -> dict[str, object]:
    known: dict[str, object] = {"q_uid": row.question_id}
    extra = dict(row.extra)
    if "google_drive_id" in extra:
        known["google_drive_id"] = extra.pop("google_drive_id")
    if row.question is not None:
        known["question"] = row.question
    return {**known, **dict(zip(_OPTIONS, row.options, strict=True)), **extra}
