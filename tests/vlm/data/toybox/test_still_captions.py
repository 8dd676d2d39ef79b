"""Captions of frames hold, their hard negatives do not, and exactly one attribute lies between them."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm.data.toybox.dice import Dice
from vlm.data.toybox.language import words as language_words
from vlm.data.toybox.language import words_in
from vlm.data.toybox.motion import states
from vlm.data.toybox.plan import make_world
from vlm.data.toybox.still_captions import (
    all_negatives,
    caption,
    captions_with_negatives,
    full_claim,
    phrase,
    true_claim,
    wording_of,
    words,
)
from vlm.data.toybox.still_facts import (
    BANDS,
    PLACES,
    RELATIONS,
    WAYS,
    Claim,
    Mention,
    Scene,
    Sight,
    holds,
    is_at,
    may_hold,
    points,
    scene,
)
from vlm.data.toybox.still_masks import possible
from vlm.data.toybox.stills import Stills, joined, stills

RED, BLUE = 0, 5
CIRCLE, STAR = 0, 3
RED_CIRCLE = Sight(RED, True, CIRCLE, 0, 1, 0.2, 0.2, 2.0)
BLUE_STAR = Sight(BLUE, True, STAR, 2, 0, 0.8, 0.5, 7.1)
HIDDEN_STAR = Sight(3, False, STAR, 0, 2, 0.5, 0.5, 0.0)
TWO = Scene((RED_CIRCLE, BLUE_STAR), 3)


@cache
def frames() -> Stills:
    """Three frames of each of forty worlds."""
    worlds = [make_world(7, index, seconds=12.0) for index in range(40)]
    return joined([stills(world, states(world, np.array([0.5, 4.0, 9.5]))) for world in worlds])


@pytest.mark.parametrize(
    ("claim", "truth"),
    [
        (Claim((Mention(colour=RED),)), True),
        (Claim((Mention(colour=1),)), False),
        (Claim((Mention(colour=RED, shape=STAR),)), False),  # a red one and a star, but no red star
        (Claim((Mention(shape=CIRCLE, size=0, texture=1, place=0, way=2),)), True),
        (Claim((Mention(colour=RED, way=3),)), False),
        (Claim((Mention(colour=RED), Mention(colour=BLUE)), RELATIONS.index("left of")), True),
        (Claim((Mention(colour=RED), Mention(colour=BLUE)), RELATIONS.index("right of")), False),
        (Claim((Mention(colour=RED), Mention(colour=BLUE)), RELATIONS.index("above")), True),
        (Claim(count=2), True),
        (Claim(count=3), False),
        (Claim(count=1, counted=STAR), True),
        (Claim(count=0, counted=1), True),
        (Claim(backdrop=3), True),
        (Claim(backdrop=2), False),
    ],
)
def test_claims_about_a_frame_that_is_wholly_clear(claim: Claim, truth: bool) -> None:
    assert (holds(claim, TWO), may_hold(claim, TWO)) == (truth, truth)


@pytest.mark.parametrize("claim", [Claim(count=2), Claim(count=3), Claim((Mention(shape=STAR, size=1),)), Claim((Mention(colour=3),))])
def test_what_depends_on_an_unclear_thing_neither_holds_nor_is_false(claim: Claim) -> None:
    frame = Scene((*TWO.sights, HIDDEN_STAR), 3)
    assert (holds(claim, frame), may_hold(claim, frame)) == (False, True)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_place_is_certain_in_at_most_one_cell_and_possible_in_at_least_one(x: float, y: float) -> None:
    certain = [is_at(place, x, y, certain=True) for place in range(len(PLACES))]
    likely = [is_at(place, x, y, certain=False) for place in range(len(PLACES))]
    assert sum(certain) <= 1 <= sum(likely)
    assert all(possible for sure, possible in zip(certain, likely, strict=True) if sure)


def test_bands_are_the_outer_thirds() -> None:
    points_in = ((0.1, 0.5), (0.9, 0.5), (0.5, 0.1), (0.5, 0.9))
    rows = [[is_at(len(PLACES) + band, x, y, certain=True) for x, y in points_in] for band in range(len(BANDS))]
    assert np.array_equal(rows, np.eye(4, dtype=bool))


def test_ways_go_clockwise_from_up() -> None:
    assert [next(way for way in range(8) if points(way, eighths % 8, certain=True)) for eighths in np.arange(8) + 0.3] == list(range(8))
    assert not any(points(way, 0.5, certain=True) for way in range(8))
    assert WAYS[2] == "right"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 119), st.integers(0, 10_000))
def test_a_caption_holds_and_its_negatives_are_false_in_exactly_one_attribute(row: int, seed: int) -> None:
    frame = scene(frames(), row)
    own, *others = captions_with_negatives(true_claim(frame, Dice(seed)), frame, Dice(seed), negatives=3)
    assert holds(own.claim, frame)
    for other in others:
        assert not may_hold(other.claim, frame)
        assert differences(own.claim, other.claim) == [other.changed]
        assert other.text != own.text


def differences(one: Claim, other: Claim) -> list[str]:
    """Attributes in which two claims differ."""
    found = [field.name for field in fields(Claim) if field.name != "mentions" and getattr(one, field.name) != getattr(other, field.name)]
    for a, b in zip(one.mentions, other.mentions, strict=True):
        found += [field.name for field in fields(Mention) if getattr(a, field.name) != getattr(b, field.name)]
    return found


def test_most_frames_give_sixty_negatives_of_one_change() -> None:
    counts = []
    for row in range(120):
        frame, dice = scene(frames(), row), Dice("many", row)
        claim = replace(full_claim(frame, dice), backdrop=frame.backdrop)
        if len(claim.mentions) == 2:
            counts.append(len(all_negatives(claim, frame, wording_of(dice))))
    assert np.mean(np.array(counts) >= 60) > 0.5


def test_a_negative_keeps_the_wording() -> None:
    dice = Dice("wording")
    claim, changed = (Claim((Mention(colour=colour, shape=CIRCLE, size=0), Mention(colour=BLUE)), 0) for colour in (RED, 2))
    for _ in range(50):
        wording = wording_of(dice)
        one, other = phrase(claim, wording).split(), phrase(changed, wording).split()
        assert [(a, b) for a, b in zip(one, other, strict=True) if a != b] == [("red", "yellow")]


def test_wordings_are_many() -> None:
    dice = Dice("many wordings")
    claim = Claim((Mention(colour=RED, shape=CIRCLE, size=0, texture=1, place=0, way=1),))
    assert len({phrase(claim, wording_of(dice)) for _ in range(300)}) > 200


@pytest.mark.parametrize(
    ("claim", "text"),
    [
        (Claim((Mention(colour=1, shape=CIRCLE),)), "an orange circle"),
        (Claim((Mention(colour=RED, size=0), Mention(colour=BLUE, shape=STAR)), 0), "a small red thing left of a blue star"),
        (Claim(count=1), "there is one thing"),
        (Claim(count=2, counted=4), "there are two crosses"),
        (Claim(backdrop=1), "things on a fading background"),
    ],
)
def test_the_plainest_wording_is_among_many(claim: Claim, text: str) -> None:
    assert text in {phrase(claim, wording_of(Dice("plain", n))) for n in range(4000)}


def test_captions_use_no_word_that_is_not_listed() -> None:
    known = language_words() | words()
    said = words_in(caption(scene(frames(), row), Dice("words", row, n)).text for row in range(120) for n in range(8))
    assert said - known == set()


def test_the_same_dice_give_the_same_captions() -> None:
    frame = scene(frames(), 3)
    claim = true_claim(frame, Dice("a"))
    assert captions_with_negatives(claim, frame, Dice("a"), negatives=3) == captions_with_negatives(claim, frame, Dice("a"), negatives=3)


def test_a_whole_batch_is_judged_as_each_pair_is() -> None:
    batch = frames()[np.arange(30)]
    claims = []
    for row in range(30):
        frame, dice = scene(batch, row), Dice("batch", row)
        claims += [other.claim for other in captions_with_negatives(true_claim(frame, dice), frame, dice, negatives=3)]
    claims = [replace(claim, relation=None) for claim in claims]  # a batch lets relations pass
    each = [[may_hold(claim, scene(batch, row)) for row in range(30)] for claim in claims]
    np.testing.assert_array_equal(possible(claims, batch), each)
