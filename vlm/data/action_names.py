"""Names of actions as EPIC-Kitchens-100 counts them: a verb and a noun."""

from __future__ import annotations

from vlm.errors import InputError

BETWEEN = ", "


def action_name(verb: str, noun: str) -> str:
    """The name of an action: ``rotate, circle``."""
    return verb + BETWEEN + noun


def verb_and_noun(action: str) -> tuple[str, str]:
    """The parts of an action's name.

    Raises:
        InputError: it has not two.
    """
    verb, between, noun = action.partition(BETWEEN)
    if not (verb and between and noun) or BETWEEN in noun:
        raise InputError(f"an action must be named VERB{BETWEEN}NOUN, as in {action_name('rotate', 'circle')!r}, got {action!r}")
    return verb, noun
