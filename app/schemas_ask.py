"""What ``vlm ground --json`` and ``vlm ask --json`` print; see ``vlm.app.schemas``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from vlm.app.schemas import Named, Output, PlaceOutput, name_fields

if TYPE_CHECKING:
    from vlm.index.ask import Asked
    from vlm.index.footage import Footage
    from vlm.types import Answer, Grounded, Moment


class FootageOutput(Named):
    """The video that was read."""

    video_id: int | None
    duration: float
    coverage: float
    start: float
    end: float

    @classmethod
    def of(cls, footage: Footage) -> Self:
        """The output of footage."""
        start = footage.offset_seconds
        return cls(
            **name_fields(footage.path),
            video_id=footage.video_id,
            duration=footage.duration_seconds,
            coverage=footage.coverage,
            start=start + float(footage.features.times[0]),
            end=start + footage.features.end,
        )


class MomentOutput(Output):
    """A stretch of the video."""

    start: float
    end: float
    score: float
    confidence: float | None
    false_alarm_rate: float | None

    @classmethod
    def of(cls, moment: Moment) -> Self:
        """The output of a moment."""
        return cls(
            start=moment.span.start,
            end=moment.span.end,
            score=moment.score,
            confidence=moment.confidence,
            false_alarm_rate=moment.false_alarm_rate,
        )


class GroundedOutput(Output):
    """Where one query is true."""

    query: str
    presence: float | None
    moments: list[MomentOutput]
    curve: list[float]

    @classmethod
    def of(cls, found: Grounded) -> Self:
        """The output of what was found."""
        moments = [MomentOutput.of(moment) for moment in found.moments]
        return cls(query=found.text, presence=found.presence, moments=moments, curve=[float(value) for value in found.curve])


class GroundOutput(Output):
    """``vlm ground --json``."""

    schema_name: Literal["vlm.ground/1"] = Field(default="vlm.ground/1", serialization_alias="schema")
    video: FootageOutput
    score: Literal["probability", "contrast"]
    times: list[float]
    queries: list[GroundedOutput]
    warnings: list[str]


class OptionOutput(Output):
    """One of the answers that were possible."""

    text: str
    probability: float

    @classmethod
    def of(cls, option: tuple[str, float]) -> Self:
        """The output of an option with its share."""
        return cls(text=option[0], probability=option[1])


class AnswerOutput(Output):
    """An answer with what it rests on."""

    text: str
    probability: float
    options: list[OptionOutput]
    evidence: list[MomentOutput]
    answerable: float | None
    blind_prior: list[OptionOutput] | None
    faithfulness: float | None

    @classmethod
    def of(cls, answer: Answer) -> Self:
        """The output of an answer."""
        return cls(
            text=answer.text,
            probability=answer.probability,
            options=[OptionOutput.of(option) for option in answer.options],
            evidence=[MomentOutput.of(moment) for moment in answer.evidence],
            answerable=answer.answerable,
            blind_prior=None if answer.prior is None else [OptionOutput.of(option) for option in answer.prior],
            faithfulness=answer.faithfulness,
        )


class AskOutput(Output):
    """``vlm ask --json``."""

    schema_name: Literal["vlm.ask/1"] = Field(default="vlm.ask/1", serialization_alias="schema")
    library: PlaceOutput | None
    question: str
    is_shown: bool | None
    answer: AnswerOutput
    video: FootageOutput
    videos_read: list[int]
    warnings: list[str]

    @classmethod
    def of(cls, asked: Asked, *, library: str | None) -> Self:
        """The output of an answer; ``library`` is None where a file was read without one."""
        return cls(
            library=None if library is None else PlaceOutput.of(library),
            question=asked.question,
            is_shown=asked.is_shown,
            answer=AnswerOutput.of(asked.answer),
            video=FootageOutput.of(asked.footage),
            videos_read=list(asked.videos_read),
            warnings=list(asked.warnings),
        )
