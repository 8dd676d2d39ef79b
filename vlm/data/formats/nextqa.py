"""NExT-QA's multiple choice: a question with five options a row (Xiao, Shang, Yao and Chua 2021). NExT-GQA's questions are the same rows.

CSV with ``video, frame_count, width, height, question, answer, qid, type, a0 .. a4``; ``map_vid_vidorID.json`` gives the file of each
video.

Traps: ``answer`` is the option's position in NExT-QA and its TEXT in NExT-GQA, whose first column is ``video_id``; an option may stand
twice in a row, so that the text does not tell which is meant; ``qid`` counts within a video, not within the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from vlm.data.formats.fields import Fields
from vlm.data.formats.files import PathLike, read_csv, read_object, write_csv, write_json
from vlm.data.formats.records import Annotations, Extra, Fault, checked

NUM_OPTIONS = 5
_OPTIONS = tuple(f"a{number}" for number in range(NUM_OPTIONS))
_COLUMNS = ("frame_count", "width", "height", "question", "answer", "qid", "type", *_OPTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceQuestion:
    """A question about a video, with options of which one is right.

    Attributes:
        question_id: counts within the video.
        kind: C causal (CW why, CH how), T temporal (TC at once, TN next, TP before), D descriptive (DC count, DL place, DO other).
        answer: position of the right option; where a text that is no option is given as the answer, that text.
    """

    video_id: str
    question_id: str
    question: str
    options: tuple[str, ...]
    answer: int | str
    kind: str
    num_frames: int
    width: int
    height: int
    extra: Extra = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The video's id and the question's."""
        return f"{self.video_id}_{self.question_id}"

    def faults(self) -> Iterator[Fault]:
        """An answer that is no option, options that are alike or empty."""
        if isinstance(self.answer, str) or not 0 <= self.answer < len(self.options):
            yield Fault("answer", repr(self.answer), f"is one of the {len(self.options)} options")
        for option, times in Counter(self.options).items():
            if times > 1:
                yield Fault("options", repr(option), f"stands once among the options, stands {times} times")
            if not option.strip():
                yield Fault("options", repr(option), "says something")


def read_questions(path: PathLike) -> Annotations[ChoiceQuestion]:
    """The questions of a CSV file of NExT-QA or NExT-GQA, told apart by their first column."""
    return checked((_question(fields) for fields in read_csv(path)), unique="qid")


def write_questions(path: PathLike, questions: Iterable[ChoiceQuestion], *, answers_as_text: bool = False) -> None:
    """Writes questions as NExT-QA does, or with ``answers_as_text`` as NExT-GQA does. All must have the same ``extra`` columns."""
    kept = tuple(questions)
    extra = tuple(kept[0].extra) if kept else ()
    header = ("video_id" if answers_as_text else "video", *_COLUMNS, *extra)
    write_csv(path, header, (_cells(row, answers_as_text=answers_as_text) for row in kept))


def read_video_paths(path: PathLike) -> dict[str, str]:
    """The path of each video's file, without its ending."""
    fields = read_object(path)
    return {video_id: fields.text(video_id) for video_id in tuple(fields.rest())}


def write_video_paths(path: PathLike, paths: Mapping[str, str]) -> None:
    """Writes the table of files."""
    write_json(path, dict(paths))


def _question(fields: Fields) -> ChoiceQuestion:
    as_text = "video_id" in fields
    options = tuple(fields.text(name) for name in _OPTIONS)
    answer: int | str = fields.text("answer") if as_text else fields.integer("answer")
    return ChoiceQuestion(
        video_id=fields.text("video_id" if as_text else "video"),
        question_id=fields.text("qid"),
        question=fields.text("question"),
        options=options,
        answer=options.index(answer) if isinstance(answer, str) and answer in options else answer,
        kind=fields.text("type"),
        num_frames=fields.integer("frame_count"),
        width=fields.integer("width"),
        height=fields.integer("height"),
        extra=fields.rest(),
    )


def _cells(row: ChoiceQuestion, *, answers_as_text: bool) -> tuple[object, ...]:
    answer = row.options[row.answer] if answers_as_text and isinstance(row.answer, int) else row.answer
    known = (row.video_id, row.num_frames, row.width, row.height, row.question, answer, row.question_id, row.kind)
    return (*known, *row.options, *row.extra.values())
