"""What training never shows: looks, actions of certain things, pairs of actions, and lengths are held out for the test split.

Residues of vocabulary positions decide, so that every shape, colour, texture and action, and nearly every pair of them, is seen.
"""

from __future__ import annotations

from vlm.data.toybox.vocabulary import ACTIONS, COLOURS, SHAPES, SPLITS, TEXTURES
from vlm.errors import InputError

ACTION_NAMES = tuple(ACTIONS)
# Seconds. Only the test split has longer videos.
LONGEST_IN_TRAINING = 180.0
LONGEST = 600.0
SHORTEST = 5.0


def is_held_out_look(shape: str, colour: str, texture: str) -> bool:
    """Whether no thing of the splits train and val ever looks so: 51 of 256 looks."""
    return (SHAPES.index(shape) + 2 * COLOURS.index(colour) + 3 * TEXTURES.index(texture)) % 5 == 0


def is_held_out_action(shape: str, colour: str, action: str) -> bool:
    """Whether no such thing does this in train and val: 154 of 768 triples."""
    return (2 * SHAPES.index(shape) + 3 * COLOURS.index(colour) + ACTION_NAMES.index(action)) % 5 == 0


def is_held_out_order(first_action: str, second_action: str) -> bool:
    """Whether train and val never ask about these two actions in order: the same for both orders, or the text would tell which is true."""
    return (ACTION_NAMES.index(first_action) + ACTION_NAMES.index(second_action)) % 4 == 0


def check_split(split: str) -> None:
    """Raise unless ``split`` is one.

    Raises:
        InputError: unknown split.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r} is unknown; the splits are {', '.join(SPLITS)}")
