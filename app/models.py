"""Which models can be named here: presets with their state on this disk, and installed plug-ins."""

from __future__ import annotations

from vlm.app.schemas import PlaceOutput
from vlm.app.schemas_machine import ModelsOutput, PluginOutput, PresetOutput


def known_models() -> ModelsOutput:
    """Everything that ``--encoder`` knows by name; looks at the disk and never at the network."""
    from vlm.encoders.hub import cache_folder
    from vlm.encoders.presets import POCKET, PRESETS, download_plan
    from vlm.encoders.registry import DEFAULT_ENCODER, installed_plugins

    presets = []
    for preset in (*PRESETS, POCKET):
        plan = download_plan(preset.spec)
        presets.append(PresetOutput.of(preset, is_default=preset.spec == DEFAULT_ENCODER, cached=plan is None or plan.cached))
    return ModelsOutput(
        cache=PlaceOutput.of(str(cache_folder())),
        presets=presets,
        plugins=[PluginOutput(name=name, target=target) for name, target in sorted(installed_plugins().items())],
    )
