"""docs/json.md and the pydantic models say the same: every field, with its type, both ways."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

import vlm.app
from vlm.app import schemas, schemas_machine

PAGE = Path(__file__).resolve().parents[2] / "docs/json.md"
MODELS = dict.fromkeys(
    model
    for module in pkgutil.iter_modules(vlm.app.__path__)
    if module.name.startswith("schemas")
    for model in vars(importlib.import_module(f"vlm.app.{module.name}")).values()
    if isinstance(model, type) and issubclass(model, schemas.Output) and model not in (schemas.Output, schemas.Named)
)


def title(model: type[schemas.Output]) -> str:
    """The heading of a model: the name of its document, or its own name where it is a part of one."""
    field = model.model_fields.get("schema_name")
    return str(field.default) if field is not None else model.__name__.removesuffix("Output")


def in_words(schema: dict[str, Any]) -> str:
    """A JSON schema as the page writes types."""
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[1]).removesuffix("Output")
    if "anyOf" in schema:
        return " or ".join(in_words(part) for part in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        *others, last = [f"`{json.dumps(value)}`" for value in schema.get("enum", [schema.get("const")])]
        return f"{', '.join(others)} or {last}" if others else last
    if schema["type"] == "array":
        return f"list of {in_words(schema['items'])}"
    if schema["type"] == "object":
        return f"object of {in_words(schema['additionalProperties'])}"
    return {"string": "text", "boolean": "true or false"}.get(schema["type"], schema["type"])


def fields_of_model(model: type[schemas.Output]) -> dict[str, str]:
    # Of Named, whose serializer hides its fields from the serialization schema, the validation schema tells them.
    schema = model.model_json_schema(mode="validation")
    return {"schema" if name == "schema_name" else name: in_words(declared) for name, declared in schema["properties"].items()}


def fields_of_page() -> dict[str, dict[str, str]]:
    sections = re.split(r"^#{2,3} (.+)$", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return {
        heading: dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", text, flags=re.MULTILINE))
        for heading, text in zip(sections[::2], sections[1::2], strict=True)
    }


@pytest.mark.parametrize("model", MODELS, ids=title)
def test_the_page_describes_every_field_with_its_type_and_order(model: type[schemas.Output]):
    assert list(fields_of_page()[title(model)].items()) == list(fields_of_model(model).items())


def test_the_page_describes_nothing_that_is_not_printed():
    assert set(fields_of_page()) == {title(model) for model in MODELS}


def test_every_document_prints_its_schema_under_that_name():
    document = schemas_machine.DoctorOutput(status="ok", findings=[])
    assert json.loads(document.model_dump_json(by_alias=True)) == {"schema": "vlm.doctor/1", "status": "ok", "findings": []}
