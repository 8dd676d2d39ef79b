"""What all that ``--json`` prints is made of; modules ``schemas_…`` hold the documents. docs/json.md explains them; a test compares both.

``schema`` names the document and its version. A version gains fields; one that goes away or changes its meaning makes a new version.
Seconds count from the start of the video as a player shows it.
"""

from __future__ import annotations

import base64
import os
from typing import Any, Self, TypedDict

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class Output(BaseModel):
    """Base of all that is printed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PathFields(TypedDict):
    """The fields of ``Named``."""

    path: str
    path_base64: str | None


def name_fields(path: str) -> PathFields:
    """``path`` and ``path_base64`` of a file name as ``os.fsdecode`` gives it.

    The text of a name that is not UTF-8 has its strange bytes as ``\\xe9``, and the exact bytes stand beside it in base64.
    """
    raw = os.fsencode(path)
    try:
        return {"path": raw.decode("utf-8"), "path_base64": None}
    except UnicodeDecodeError:
        return {"path": raw.decode("utf-8", "backslashreplace"), "path_base64": base64.b64encode(raw).decode("ascii")}


class Named(Output):
    """Something that lies at a path."""

    path: str
    path_base64: str | None = None

    @model_serializer(mode="wrap")
    def _without_needless_bytes(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        if self.path_base64 is None:
            del fields["path_base64"]
        return fields


class PlaceOutput(Named):
    """A path and nothing more."""

    @classmethod
    def of(cls, path: str) -> Self:
        """The output of a path."""
        return cls(**name_fields(path))
