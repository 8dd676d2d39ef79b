"""Sentences about things that a library is unlikely to show: what its scores are held against."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.dice import Dice
from vlm.encoders.base import Encoder
from vlm.index.store import Store

# A change of any sentences changes confidences: what was measured with others is measured again. SEED are the dice of the everyday ones.
VERSION = "sentences-2"
SEED = "sentences-1"
NUMBER = 1000
META = "background"

# Told in the words that people search with, and put together by chance: each word is common, and the whole is hardly anywhere.
_WHO = (
    "a dog, a cat, a horse, a cow, a flock of sheep, an elephant, a lion, a bear, a monkey, a penguin, a parrot, an owl, a shark, a "
    "turtle, a frog, a snake, a butterfly, a swarm of bees, a man, a woman, a boy, a girl, a baby, an old couple, two children, a "
    "crowd of people, a teacher, a doctor, a police officer, a firefighter, a soldier, a farmer, a chef, a waiter, a dancer, a "
    "singer, a pianist, a drummer, a football team, a boxer, a gymnast, a surfer, a skier, a diver, a climber, a cyclist, a bride, a "
    "clown, an astronaut, a robot, a red car, a yellow taxi, a bus, a lorry, a motorcycle, a steam train, a sailing boat, a ferry, a "
    "helicopter, a jet plane, a hot-air balloon, a tractor, a crane, a drone, a kite, a paper lantern, a cake with candles, a bowl of "
    "soup, a pizza, a basket of apples, a vase of tulips, a candle, a clock, a laptop, an old camera, a violin, a trumpet, a chess "
    "board, an umbrella, a pair of boots"
)
_DOES = (
    "runs, jumps, falls over, turns around, sleeps, waits, moves slowly from left to right, comes towards the camera, disappears "
    "behind a door, is lifted up, spins, shakes, rolls away, burns, breaks into pieces, gets wet, is painted blue, is washed, is cut "
    "in half, is handed over, is filmed from above, is seen in close-up, lies upside down, swims, climbs a ladder, dances, sings, "
    "laughs, cries, waves, eats an ice cream, drinks from a cup, reads a newspaper, plays the guitar, throws a ball, opens a present, "
    "talks on the phone, signs a letter, takes a photograph, ties a rope"
)
_WHERE = (
    "on a beach, in a kitchen, in a forest, in the desert, on a snowy mountain, in a swimming pool, under water, on a bridge, at a "
    "railway station, in an airport, in a supermarket, in a classroom, in a hospital, in a church, on a stage, in a football stadium, "
    "on a roof, in a garden, on a farm, in a factory, in a library, in a bathroom, in a tent, in a cave, at a harbour, on a motorway "
    "at night, in the rain, in thick fog, at sunset, beside a waterfall, in front of a castle, next to a campfire, on a roller "
    "coaster, in a museum"
)
# Of a hundred: who does what where, who does what, who is where, who beside whom.
_SHAPES = (40, 25, 20, 15)


def background(encoder: Encoder) -> list[str]:
    """NUMBER different sentences, always the same: in words of the encoder's own world where it has one (``background_texts``), else of
    everyday life."""
    own = getattr(encoder, "background_texts", None)
    return list(own(NUMBER)) if own is not None else everyday(NUMBER)


def kept(
    store: Store, encoder: Encoder, model: str | None, make: Callable[[], NDArray[np.float32]], *, may_write: Callable[[], bool]
) -> NDArray[np.float32]:
    """Unit vectors (n, d) of the sentences by an encoder and a trained model, whose digest is given: those that the store holds; else those
    that are made, and stored where nobody else is writing. Of the encoder alone and of a model they are kept side by side."""
    place = META if model is None else f"{META}_model"
    key = json.dumps([encoder.fingerprint, model, VERSION])
    held = store.meta(place)
    if isinstance(held, bytes) and store.meta(f"{place}_of") == key:
        return np.frombuffer(held, "<f4").reshape(-1, encoder.dim)
    made = make()
    if may_write():
        with store.transaction():
            store.set_meta(place, made.astype("<f4").tobytes())
            store.set_meta(f"{place}_of", key)
    return made


def everyday(number: int) -> list[str]:
    """Sentences of everyday life."""
    who, does, where = ([part.strip() for part in words.split(",")] for words in (_WHO, _DOES, _WHERE))
    dice = Dice(SEED)
    found: dict[str, None] = {}
    while len(found) < number:
        one, action, place, other = dice.choose(who), dice.choose(does), dice.choose(where), dice.choose(who)
        shapes = (f"{one} {action} {place}", f"{one} {action}", f"{one} {place}", f"{one} next to {other} {place}")
        found[shapes[dice.weighted(_SHAPES)]] = None
    return list(found)
