"""What ``vlm models --json`` and ``vlm doctor --json`` print; see ``vlm.app.schemas``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from vlm.app.schemas import Output, PlaceOutput

if TYPE_CHECKING:
    from vlm.encoders.presets import Preset


class MeasuredOutput(Output):
    """A speed that was measured."""

    frames_per_second: float
    precision: str
    machine: str


class PresetOutput(Output):
    """A model that has a preset."""

    spec: str
    is_default: bool
    cached: bool
    good_for: str
    dim: int
    parameters: int
    download_bytes: int
    licence: str
    languages: list[str]
    repository: str
    measured: list[MeasuredOutput]

    @classmethod
    def of(cls, preset: Preset, *, is_default: bool, cached: bool) -> Self:
        """The output of a preset."""
        same = ("spec", "good_for", "dim", "parameters", "download_bytes", "licence", "repository")
        return cls(
            **{name: getattr(preset, name) for name in same},
            is_default=is_default,
            cached=cached,
            languages=list(preset.languages),
            measured=[
                MeasuredOutput(frames_per_second=speed.frames_per_second, precision=speed.precision, machine=speed.machine)
                for speed in preset.measured
            ],
        )


class PluginOutput(Output):
    """An encoder that an installed package offers."""

    name: str
    target: str


class ModelsOutput(Output):
    """``vlm models --json``."""

    schema_name: Literal["vlm.models/1"] = Field(default="vlm.models/1", serialization_alias="schema")
    cache: PlaceOutput
    presets: list[PresetOutput]
    plugins: list[PluginOutput]


class FindingOutput(Output):
    """One line of ``vlm doctor``."""

    area: str
    name: str
    status: Literal["ok", "warn", "fail"]
    finding: str
    reason: str


class DoctorOutput(Output):
    """``vlm doctor --json``."""

    schema_name: Literal["vlm.doctor/1"] = Field(default="vlm.doctor/1", serialization_alias="schema")
    status: Literal["ok", "warn", "fail"]
    findings: list[FindingOutput]
