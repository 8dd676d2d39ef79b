"""Recipes: complete TOML files, one table a config. Everything that is wrong with one is told at once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vlm.errors import InputError

C = TypeVar("C")
FOLDER = Path(__file__).parent / "recipes"
SUITE_TASKS = ("localization", "segmentation", "recognition", "anticipation", "timemamba", "captioning")
TASKS = ("pocket", "retrieval", "toybox", "own", "clip", *SUITE_TASKS)
_PLAIN: dict[Any, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def recipe_path(name: str) -> Path:
    """The file of a recipe: a path, or the name of one that comes with the package.

    Raises:
        InputError: there is neither.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = FOLDER / f"{name}.toml"
    if "/" not in name and shipped.is_file():
        return shipped
    known = sorted(path.stem for path in FOLDER.glob("*.toml"))
    raise InputError(f"there is no recipe {name!r}: name a TOML file, or one of {', '.join(known)}")


def task_of(path: Path) -> str:
    """What a recipe trains, its key ``task``: one of TASKS.

    Raises:
        InputError: the file is no TOML, or the task is missing or unknown.
    """
    task = _table(path).get("task")
    if task not in TASKS:
        raise InputError(f'recipe {str(path)!r} must name its task, one of {", ".join(TASKS)}, as in task = "{TASKS[0]}"; got {task!r}')
    return str(task)


def read_recipe(path: Path, sections: Mapping[str, type[Any]]) -> dict[str, Any]:
    """One config for each of ``sections`` from the tables of a TOML file.

    Raises:
        InputError: the file is no TOML, or breaks any rule; the message lists all of them.
    """
    held = _table(path)
    held.pop("task", None)
    return configs(held, sections, where=str(path))


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"recipe {str(path)!r} cannot be read: {error}") from error


def configs(held: Mapping[str, Any], sections: Mapping[str, type[Any]], *, where: str) -> dict[str, Any]:
    """As ``read_recipe``, from a table that was read already."""
    wrong = [_unknown(name, sections, "table") for name in held if name not in sections]
    made: dict[str, Any] = {}
    for name, kind in sections.items():
        table = held.get(name, {})
        if not isinstance(table, dict):
            wrong.append(f"{name} must be a table, got {table!r}")
            continue
        problems = _problems(name, table, kind)
        if not problems:
            try:
                made[name] = kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in table.items()})
            except InputError as error:
                problems = [f"{name}: {error}"]
        wrong += problems
    if wrong:
        raise InputError(f"recipe {where!r} breaks {len(wrong)} rule{'s' if len(wrong) > 1 else ''}:\n  " + "\n  ".join(wrong))
    return made


def _problems(section: str, table: Mapping[str, Any], kind: type[Any]) -> list[str]:
    hints = get_type_hints(kind)
    known = {field.name: hints[field.name] for field in fields(kind)}
    wrong = [_unknown(f"{section}.{key}", [f"{section}.{name}" for name in known], "key") for key in table if key not in known]
    for field in fields(kind):
        if field.name not in table:
            if field.default is MISSING and field.default_factory is MISSING:
                wrong.append(f"{section}.{field.name} is missing")
        elif not _is_of(table[field.name], known[field.name]):
            wrong.append(f"{section}.{field.name} must be {_wanted(known[field.name])}, got {table[field.name]!r}")
    return wrong


def _wanted(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_wanted(one) for one in get_args(kind) if one is not NoneType)
    return _PLAIN.get(kind, str(kind))


def _is_of(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return any(_is_of(value, one) for one in get_args(kind) if one is not NoneType)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in (str, bool):
        return isinstance(value, kind)
    return isinstance(value, list) and all(isinstance(part, int | float) for part in value)


def _unknown(name: str, known: Any, what: str) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"{what} {name!r} is unknown" + (f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}")
