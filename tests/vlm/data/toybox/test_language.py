"""Names and clauses: what they say is what they were made from."""

from __future__ import annotations

import pytest

from vlm.data.toybox import language
from vlm.data.toybox.dice import Dice
from vlm.data.toybox.vocabulary import ACTIONS, ACTIONS_ON_ANOTHER
from vlm.data.toybox.world import Event, Look
from vlm.errors import InputError
from vlm.types import Span

SMALL_RED_CIRCLE = Look("circle", "red", "small", "plain")
LARGE_GREEN_SQUARE = Look("square", "green", "large", "striped")


def event_of(action: str, way: str = "") -> Event:
    target = {"target": 1, "target_look": LARGE_GREEN_SQUARE} if action in ACTIONS_ON_ANOTHER else {}
    return Event(id=0, action=action, way=way, span=Span(1.0, 4.0), subject=0, look=SMALL_RED_CIRCLE, **target)


ALL_EVENTS = [event_of(action, way) for action, ways in ACTIONS.items() for way in ways or ("",)]


def test_the_plainest_caption_is_the_issues_own_example() -> None:
    captions = [language.event_caption(event_of("bounce"), Dice("caption", i), article="a") for i in range(50)]
    assert "a small red circle bounces" in captions


@pytest.mark.parametrize("mention", [("colour",), ("colour", "shape"), ("size", "colour"), language.ATTRIBUTES])
def test_a_name_says_what_it_is_asked_to_and_no_more(mention: tuple[str, ...]) -> None:
    said = {
        "size": language.SIZE_WORDS["large"],
        "colour": ("green",),
        "texture": ("strip",),
        "shape": language.SHAPE_WORDS["square"],
    }
    for i in range(40):
        name = language.name_of(LARGE_GREEN_SQUARE, Dice("name", i), mention=mention)
        assert {attribute for attribute, forms in said.items() if any(form in name for form in forms)} == set(mention), name


def test_a_name_that_the_dice_choose_always_says_the_colour() -> None:
    assert all("red" in language.name_of(SMALL_RED_CIRCLE, Dice("any", i)).split() for i in range(100))


def test_a_name_with_an_unknown_attribute_is_refused() -> None:
    with pytest.raises(InputError, match="'weight'"):
        language.name_of(SMALL_RED_CIRCLE, Dice(0), mention=("weight",))


def test_an_orange_thing_takes_an() -> None:
    name = language.name_of(Look("star", "orange", "small", "plain"), Dice(1), mention=("colour", "shape"))
    assert name == "an orange star"


@pytest.mark.parametrize("event", ALL_EVENTS, ids=lambda event: event.label)
def test_captions_of_an_event_use_only_the_listed_words(event: Event) -> None:
    known = language.words()
    for i in range(60):
        for detail in ("full", "short"):
            caption = language.event_caption(event, Dice("words", i), detail=detail)
            assert language.words_in([caption]) <= known, caption
            assert not any(mark in caption for mark in ("{", "}", "*", ".", "  "))
            assert caption == caption.lower()


def test_captions_of_different_events_never_coincide() -> None:
    seen: dict[str, str] = {}
    for event in ALL_EVENTS:
        for i in range(200):
            caption = language.event_caption(event, Dice("apart", i), detail="short")
            assert seen.setdefault(caption, event.label) == event.label, caption


def test_every_event_has_several_phrasings() -> None:
    for event in ALL_EVENTS:
        assert len({language.event_caption(event, Dice("many", i), detail="short", article="a") for i in range(100)}) >= 3, event.label


def test_a_pattern_fits_its_own_event_and_no_other_action() -> None:
    for event in ALL_EVENTS:
        pattern = language.pattern_of(event, language.ATTRIBUTES)
        assert [other.label for other in ALL_EVENTS if pattern.fits(other)] == [event.label]


def test_words_are_well_below_a_thousand() -> None:
    assert len(language.words()) < 200
