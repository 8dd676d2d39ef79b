"""What ``vlm anticipate --json`` prints; see ``vlm.app.schemas``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from vlm.app.schemas import Output
from vlm.app.schemas_ask import FootageOutput

if TYPE_CHECKING:
    from vlm.models.suite.outlook import Expected


class ExpectedOutput(Output):
    """An action that may begin."""

    verb: str
    noun: str
    horizon: float
    probability: float

    @classmethod
    def of(cls, expected: Expected) -> Self:
        """The output of an action."""
        return cls(verb=expected.verb, noun=expected.noun, horizon=expected.horizon, probability=expected.probability)


class OutlookOutput(Output):
    """What may begin after a moment."""

    at: float
    expected: list[ExpectedOutput]


class AnticipateOutput(Output):
    """``vlm anticipate --json``."""

    schema_name: Literal["vlm.anticipate/1"] = Field(default="vlm.anticipate/1", serialization_alias="schema")
    video: FootageOutput
    verbs: list[str]
    nouns: list[str]
    horizons: list[float]
    moments: list[OutlookOutput]
    warnings: list[str]
