"""What ``vlm localize``, ``vlm segment`` and ``vlm caption`` print with ``--json``; see ``vlm.app.schemas``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from vlm.app.schemas import Output
from vlm.app.schemas_ask import FootageOutput

if TYPE_CHECKING:
    from vlm.models.suite.actions import FoundAction
    from vlm.models.suite.labels import LabelledStretch
    from vlm.models.suite.sentences import ToldEvent


class ActionOutput(Output):
    """An action that takes place in the video."""

    label: str
    start: float
    end: float
    score: float

    @classmethod
    def of(cls, found: FoundAction) -> Self:
        """The output of an action."""
        return cls(label=found.label, start=found.span.start, end=found.span.end, score=found.score)


class LocalizeOutput(Output):
    """``vlm localize --json``."""

    schema_name: Literal["vlm.localize/1"] = Field(default="vlm.localize/1", serialization_alias="schema")
    video: FootageOutput
    classes: list[str]
    actions: list[ActionOutput]
    warnings: list[str]


class LabelledOutput(Output):
    """A stretch of the video in which the same is done."""

    label: str
    start: float
    end: float
    probability: float

    @classmethod
    def of(cls, found: LabelledStretch) -> Self:
        """The output of a stretch."""
        return cls(label=found.label, start=found.span.start, end=found.span.end, probability=found.score)


class SegmentOutput(Output):
    """``vlm segment --json``."""

    schema_name: Literal["vlm.segment/1"] = Field(default="vlm.segment/1", serialization_alias="schema")
    video: FootageOutput
    classes: list[str]
    background: list[str]
    segments: list[LabelledOutput]
    warnings: list[str]


class ToldEventOutput(Output):
    """An event of the video, told in a sentence."""

    sentence: str
    start: float
    end: float
    score: float
    probability: float

    @classmethod
    def of(cls, found: ToldEvent) -> Self:
        """The output of an event."""
        return cls(sentence=found.sentence, start=found.span.start, end=found.span.end, score=found.score, probability=found.probability)


class CaptionOutput(Output):
    """``vlm caption --json``."""

    schema_name: Literal["vlm.caption/1"] = Field(default="vlm.caption/1", serialization_alias="schema")
    video: FootageOutput
    events: list[ToldEventOutput]
    paragraph: str
    warnings: list[str]
