"""The causal rules of the world: what follows upon what, so that the next event can be foreseen.

    a collides with b           b rotates clockwise
    a hides behind b            b rotates anticlockwise
    a changes its colour        a bounces
    a grows                     the thing nearest to a blinks

The consequence starts 1.5 to 2.5 s after the end of its cause. In ``plan.make_world`` a rule always holds; clips of one event and order
twins show their events alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlm.data.toybox.stage import Act, Actor, Stage
from vlm.data.toybox.world import Event

CAUSES = ("collide", "hide", "recolour", "grow")
# Ticks between the end of a cause and the start of its consequence.
LAG = (15, 25)


@dataclass(frozen=True, slots=True)
class Consequence:
    """What will happen, and to whom."""

    action: str
    way: str
    actor: Actor


def consequence(act: Act, stage: Stage) -> Consequence | None:
    """What must follow ``act``, which has just been performed on ``stage``; None for an action without a rule."""
    match act.action:
        case "collide":
            assert act.target is not None
            return Consequence("rotate", "clockwise", stage.actors[act.target])
        case "hide":
            assert act.target is not None
            return Consequence("rotate", "anticlockwise", stage.actors[act.target])
        case "recolour":
            return Consequence("bounce", "", stage.actors[act.subject])
        case "grow":
            return Consequence("blink", "", stage.nearest(stage.actors[act.subject]))
        case _:
            return None


def also_seen(event: Event) -> dict[int, frozenset[str]]:
    """Actions that a viewer may also see in ``event``, by thing: what comes in, bumps, hides or follows moves as well.

    No text may say that they do not happen.
    """
    moves = frozenset({"move"})
    match event.action:
        case "enter" | "leave" | "hide":
            return {event.subject: moves}
        case "collide" | "follow":
            assert event.target is not None
            return {event.subject: moves, event.target: moves}
        case _:
            return {}
