"""Rules that the numbers of the suite's configs share."""

from __future__ import annotations

import math
from typing import Any

from vlm.errors import InputError


def check_at_least(config: Any, least: int, *names: str) -> None:
    """Raises InputError, naming the field, where a number of a config is below ``least``."""
    for name in names:
        if getattr(config, name) < least:
            raise InputError(f"{name} must be at least {least}, got {getattr(config, name)}")


def check_positive(config: Any, *names: str) -> None:
    """Raises InputError, naming the field, where a number of a config is not above 0 or not finite."""
    for name in names:
        if not (math.isfinite(getattr(config, name)) and getattr(config, name) > 0):
            raise InputError(f"{name} must be positive, got {getattr(config, name)}")


def check_classes(classes: tuple[str, ...], *, least: int) -> None:
    """Raises InputError where names of classes are fewer than ``least``, or two are the same."""
    if len(classes) < least or len(set(classes)) != len(classes):
        raise InputError(f"classes must be different names and at least {'one' if least == 1 else 'two'}, got {len(classes)}")
