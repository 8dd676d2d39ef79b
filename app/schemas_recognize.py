"""What ``vlm recognize --json`` prints; see ``vlm.app.schemas``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from vlm.app.schemas import Output, PlaceOutput

if TYPE_CHECKING:
    from vlm.models.suite.clip_classes import Likely
    from vlm.models.suite.recognised import RecognisedClip


class LikelyOutput(Output):
    """A class, and how probable it is within its group."""

    group: str
    label: str
    probability: float

    @classmethod
    def of(cls, likely: Likely) -> Self:
        """The output of a class."""
        return cls(group=likely.group, label=likely.label, probability=likely.probability)


class RecognisedOutput(Output):
    """A stretch of the video with its likeliest classes."""

    start: float
    end: float
    labels: list[LikelyOutput]

    @classmethod
    def of(cls, clip: RecognisedClip) -> Self:
        """The output of a stretch."""
        return cls(start=clip.span.start, end=clip.span.end, labels=[LikelyOutput.of(one) for one in clip.labels])


class RecognizeOutput(Output):
    """``vlm recognize --json``."""

    schema_name: Literal["vlm.recognize/1"] = Field(default="vlm.recognize/1", serialization_alias="schema")
    video: PlaceOutput
    classes: list[str]
    clips: list[RecognisedOutput]
