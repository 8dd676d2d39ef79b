"""The trained models that come with vlm, each beside the encoder for which it was made."""

from __future__ import annotations

from pathlib import Path

from vlm.encoders.weights import read_json

FOLDER = Path(__file__).parent / "shipped"


def shipped_with(fingerprint: str) -> Path | None:
    """The folder of the model that comes with vlm for the encoder of that fingerprint; None where none does.

    Raises:
        WeightsUnavailable: the config of one that comes with vlm is damaged.
    """
    for config in sorted(FOLDER.glob("*/config.json")):
        if read_json(config)["model"]["fingerprint"] == fingerprint:
            return config.parent
    return None
