"""What ``vlm train --json`` prints; see ``vlm.app.schemas``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from vlm.app.schemas import Output, PlaceOutput

if TYPE_CHECKING:
    from vlm.train.own import Judgement, OwnReport


class TrainingRowsOutput(Output):
    """How many of the user's rows were used, by kind."""

    videos: int
    span_captions: int
    whole_captions: int
    choices: int
    open_questions: int
    unanswered: int


class JudgedOutput(Output):
    """What held-out rows say of one ability."""

    ability: Literal["search", "ground", "choose", "answer"]
    num_rows: int
    plain: float
    trained: float
    is_used: bool

    @classmethod
    def of(cls, one: Judgement) -> Self:
        """The output of a judgement."""
        return cls.model_validate(
            {"ability": one.ability, "num_rows": one.rows, "plain": one.plain, "trained": one.trained, "is_used": one.is_better}
        )


class OwnTrainingOutput(Output):
    """A training on rows of a library."""

    library: PlaceOutput
    attached: str | None
    rows: TrainingRowsOutput
    num_steps: int
    judged: list[JudgedOutput]
    strength: float
    skills: list[str]
    warnings: list[str]

    @classmethod
    def of(cls, report: OwnReport, *, library: str, attached: str | None) -> Self:
        """The output of a report; ``attached`` is the name that the library knows the model by, None where it has not got it."""
        return cls(
            library=PlaceOutput.of(library),
            attached=attached,
            rows=TrainingRowsOutput(**asdict(report.rows)),
            num_steps=report.steps,
            judged=[JudgedOutput.of(one) for one in report.judged],
            strength=report.strength,
            skills=list(report.skills),
            warnings=list(report.notes),
        )


class TrainOutput(Output):
    """``vlm train --json``."""

    schema_name: Literal["vlm.train/1"] = Field(default="vlm.train/1", serialization_alias="schema")
    task: str
    recipe: PlaceOutput
    model: PlaceOutput
    run: PlaceOutput | None
    own: OwnTrainingOutput | None

    @classmethod
    def of(cls, task: str, recipe: Path, model: Path, run: Path | None, own: OwnTrainingOutput | None = None) -> Self:
        """The output of a training: where its model lies, and its log and checkpoints where they were kept."""
        return cls(
            task=task,
            recipe=PlaceOutput.of(str(recipe)),
            model=PlaceOutput.of(str(model)),
            run=None if run is None else PlaceOutput.of(str(run)),
            own=own,
        )
