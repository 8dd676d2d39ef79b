"""What is true of one world, asked in patterns. Truth has three values: what a viewer could argue about is neither true nor false."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from vlm.data.toybox.language import Description, EventPattern
from vlm.data.toybox.rules import also_seen
from vlm.data.toybox.splits import is_held_out_action, is_held_out_look
from vlm.data.toybox.vocabulary import ACTIONS, SIZES
from vlm.data.toybox.world import Event, Look, World

# Besides ``rules.also_seen``: what hops goes up and down, and who moves may seem to follow.
ALSO_ARGUABLE = {"move": ("bounce",), "follow": ("move",)}


@dataclass(frozen=True)
class Facts:
    """The events of a world as the answers to patterns."""

    world: World

    @cached_property
    def looks(self) -> tuple[tuple[Look, ...], ...]:
        """How each thing looks at one time or another, in the order of ``World.things``."""
        found: list[list[Look]] = [[thing.look] for thing in self.world.things]
        for event in self.world.events:
            later = found[event.subject]
            later.append(event.look)
            if event.action == "recolour":
                later.append(replace(event.look, colour=event.way))
            elif event.action in ("grow", "shrink"):
                at = SIZES.index(event.look.size)
                sizes = SIZES[at + 1 :] if event.action == "grow" else SIZES[:at]
                later.extend(replace(event.look, size=size) for size in sizes)
        return tuple(tuple(dict.fromkeys(looks)) for looks in found)

    @cached_property
    def _by_action(self) -> dict[str, list[Event]]:
        found: dict[str, list[Event]] = {action: [] for action in ACTIONS}
        for event in self.world.events:
            found[event.action].append(event)
        return found

    @cached_property
    def _also_seen(self) -> dict[str, set[int]]:
        """By action, the things of which it can also be seen, in events of other actions."""
        found: dict[str, set[int]] = {action: set() for action in ACTIONS}
        for event in self.world.events:
            for thing, actions in also_seen(event).items():
                for action in actions:
                    found[action].add(thing)
            for action, alike in ALSO_ARGUABLE.items():
                if event.action in alike:
                    found[action].add(event.subject)
        return found

    def things(self, description: Description) -> list[int]:
        """The things that fit at some time."""
        return [thing.id for thing in self.world.things if any(description.fits(look) for look in self.looks[thing.id])]

    def events(self, pattern: EventPattern) -> list[Event]:
        """All events that fit, in order."""
        return [event for event in self._by_action[pattern.action] if pattern.fits(event)]

    def happens(self, pattern: EventPattern) -> bool | None:
        """Whether such an event happens; None where only an arguable one does."""
        if self.events(pattern):
            return True
        return False if self.is_clear(pattern) else None

    def is_clear(self, pattern: EventPattern) -> bool:
        """Whether no event fits arguably: the events that fit are all there is to say."""
        if any(self._might_be(pattern.subject, thing) for thing in self._also_seen[pattern.action]):
            return False
        return not any(self._might_fit(pattern, event) and not pattern.fits(event) for event in self._by_action[pattern.action])

    def comes_before(self, one: EventPattern, other: EventPattern) -> bool | None:
        """True if all events of ``one`` end before any of ``other`` starts, False if the other way round, else None."""
        first, second = self.events(one), self.events(other)
        if not (first and second and self.is_clear(one) and self.is_clear(other)):
            return None
        if max(event.span.end for event in first) <= min(event.span.start for event in second):
            return True
        return False if max(event.span.end for event in second) <= min(event.span.start for event in first) else None

    def _might_fit(self, pattern: EventPattern, event: Event) -> bool:
        """Whether somebody could say that this event of the pattern's action fits: with its things in any of their looks."""
        if pattern.way not in (None, event.way):
            return False
        if self._might_be(pattern.subject, event.subject) and self._might_be(pattern.target, event.target):
            return True
        # Of two things that collide either can be said to bump into the other.
        is_mutual = event.action == "collide"
        return is_mutual and self._might_be(pattern.subject, event.target) and self._might_be(pattern.target, event.subject)

    def _might_be(self, description: Description | None, thing: int | None) -> bool:
        return description is None or thing is None or any(description.fits(look) for look in self.looks[thing])


def keeps_split(split: str, pattern: EventPattern, *, event_level: bool = True) -> bool:
    """Whether a text of this split may say ``pattern``.

    In train and val a text that names shape, colour and action, or shape, colour and texture, names nothing held out. In test an
    event-level text that names the triple names a held-out one, be it true or false: else the words would tell which.
    """
    subject = pattern.subject
    triple = subject.shape is not None and subject.colour is not None
    held_out = triple and is_held_out_action(subject.shape or "", subject.colour or "", pattern.action)
    if split == "test":
        return not (event_level and triple) or held_out
    return not held_out and keeps_look(split, subject) and (pattern.target is None or keeps_look(split, pattern.target))


def keeps_look(split: str, description: Description) -> bool:
    """Whether a text of this split may name this look: a held-out one only in test."""
    if split == "test" or description.shape is None or description.colour is None or description.texture is None:
        return True
    return not is_held_out_look(description.shape, description.colour, description.texture)
