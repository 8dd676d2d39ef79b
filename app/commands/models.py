"""``vlm models``: the models that have a preset, and the plug-ins that are installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from vlm.app.console import emit_json, emit_row, hint, note, result_console, results_go_to_people
from vlm.app.options import JsonOption
from vlm.app.render import byte_size

if TYPE_CHECKING:
    from vlm.app.schemas_machine import PresetOutput


def models(as_json: JsonOption = False) -> None:
    """List the models that --encoder knows by name."""
    from vlm.app.models import known_models
    from vlm.encoders.registry import FORMS

    known = known_models()
    if as_json:
        emit_json(known)
    elif results_go_to_people():
        for preset in known.presets:
            _print_preset(preset)
        for plugin in known.plugins:
            note(f"plug-in {plugin.name}: {plugin.target}")
        note(f"Forms of other models: {FORMS}")
        hint(f"downloads go to {known.cache.path}")
    else:
        for preset in known.presets:
            emit_row(
                preset.spec,
                "default" if preset.is_default else "",
                "cached" if preset.cached else "",
                preset.dim,
                preset.download_bytes,
                preset.licence,
                ",".join(preset.languages),
                preset.good_for,
            )


def _print_preset(preset: PresetOutput) -> None:
    marks = [word for word, holds in (("default", preset.is_default), ("on this disk", preset.cached)) if holds]
    languages = "many languages" if preset.languages == ["*"] else ", ".join(preset.languages)
    speeds = [f"{speed.frames_per_second:g} frames/s ({speed.precision}, {speed.machine})" for speed in preset.measured]
    size = f"{byte_size(preset.download_bytes)}, {preset.parameters / 1e6:.0f} M parameters, {preset.dim} wide"
    words = "; ".join([preset.good_for, size, f"{preset.licence} licence", f"reads {languages}", *(speeds or ["speed not measured"])])
    console = result_console()
    console.print(Text.assemble((preset.spec, "bold"), ("  " + ", ".join(marks), "green")), soft_wrap=True)
    console.print(Padding(Text(words), (0, 0, 0, 4)))
