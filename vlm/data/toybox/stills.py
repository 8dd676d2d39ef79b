"""What can be seen in single frames: for every colour the thing that wears it, where it is, and whether it may be spoken of.

The things of a scene never share a colour, so a colour names a row. still_captions.py puts rows into words; train and eval read labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.vocabulary import BACKDROPS, COLOURS, RADII
from vlm.data.toybox.world import States, World

ABSENT, UNCLEAR, CLEAR = 0, 1, 2

# Of a thing's circle this much must lie inside the frame and uncovered by nearer circles before anything is said of the thing.
SEEN_ENOUGH = 0.7
# A fading thing has a name for its colour while the other end of the fade makes up less than this.
PURE_ENOUGH = 0.2
# A radius nearer than this share of the gap to the middle between two named sizes has no name: a viewer could not tell.
SIZE_MARGIN = 0.2
# Points of the unit disc at which covering is tested: exact fractions, so that no rounding decides.
_LATTICE = np.array([(i / 4, j / 4) for i in range(-3, 4) for j in range(-3, 4) if i * i + j * j <= 10], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Stills:
    """What single frames show. Arrays for n frames; the second axis are the eight colours.

    Shapes:
        clarity: (n, 8) int8: ABSENT, UNCLEAR (partly covered, outside, or fading: nothing may be said of it) or CLEAR.
        shape, texture: (n, 8) int8 positions in the vocabulary; -1 where ABSENT.
        size: (n, 8) int8, the size that a viewer would name from the frame alone; -1 where none fits well, or ABSENT.
        x, y, radius: (n, 8) float32 in frame widths, (0, 0) top left; angle: (n, 8) float32 radians, clockwise from straight up.
        backdrop: (n,) int8, position in ``vocabulary.BACKDROPS``.
    """

    clarity: NDArray[np.int8]
    shape: NDArray[np.int8]
    texture: NDArray[np.int8]
    size: NDArray[np.int8]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    radius: NDArray[np.float32]
    angle: NDArray[np.float32]
    backdrop: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.backdrop)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Stills:
        """The chosen frames."""
        return Stills(*(getattr(self, field.name)[rows] for field in fields(self)))


def stills(world: World, states: States) -> Stills:
    """What the frames of ``world`` at ``states.times`` show."""
    clarity, named, mixed = _clarity(states)
    n = len(states.times)
    found = Stills(
        clarity=np.zeros((n, len(COLOURS)), np.int8),
        shape=np.full((n, len(COLOURS)), -1, np.int8),
        texture=np.full((n, len(COLOURS)), -1, np.int8),
        size=np.full((n, len(COLOURS)), -1, np.int8),
        x=np.zeros((n, len(COLOURS)), np.float32),
        y=np.zeros((n, len(COLOURS)), np.float32),
        radius=np.zeros((n, len(COLOURS)), np.float32),
        angle=np.zeros((n, len(COLOURS)), np.float32),
        backdrop=np.array([BACKDROPS.index(scene.backdrop.kind) for scene in world.scenes], np.int8)[states.scene],
    )
    frame, thing = np.nonzero(clarity)
    colour = named[frame, thing]
    found.clarity[frame, colour] = clarity[frame, thing]
    found.shape[frame, colour] = states.shape[thing]
    found.texture[frame, colour] = states.texture[thing]
    found.size[frame, colour] = size_names(states.radius[frame, thing])
    for name in ("x", "y", "radius", "angle"):
        getattr(found, name)[frame, colour] = getattr(states, name)[frame, thing]
    # The other end of a fade: somebody may call the thing so already, or still.
    frame, thing = np.nonzero(mixed)
    other = states.colour[frame, thing].sum(axis=-1) - named[frame, thing]
    free = found.clarity[frame, other] == ABSENT
    found.clarity[frame[free], other[free]] = UNCLEAR
    found.shape[frame[free], other[free]] = states.shape[thing[free]]
    found.texture[frame[free], other[free]] = states.texture[thing[free]]
    return found


def joined(parts: Sequence[Stills]) -> Stills:
    """All frames of ``parts``, in order."""
    return Stills(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Stills)))


def size_names(radius: NDArray[np.float64]) -> NDArray[np.int8]:
    """Positions in ``vocabulary.SIZES`` that a viewer would name for radii in frame widths; -1 near the middle between two."""
    names = np.zeros(radius.shape, np.int8)
    for number, (low, high) in enumerate(pairwise(RADII)):
        middle, margin = (low + high) / 2, SIZE_MARGIN * (high - low)
        names[radius >= middle - margin] = -1
        names[radius > middle + margin] = number + 1
    return names


def quarter_turned(batch: Stills, turns: NDArray[np.int64]) -> Stills:
    """The stills of frames turned clockwise by ``turns`` (n,) quarters: positions and angles turn along, names stay."""
    x, y = batch.x.copy(), batch.y.copy()
    for turn in (1, 2, 3):
        rows = turns == turn
        for _ in range(turn):
            x[rows], y[rows] = 1 - y[rows], x[rows].copy()
    angle = batch.angle + (turns[:, None] * (np.pi / 2)).astype(np.float32)
    return Stills(batch.clarity, batch.shape, batch.texture, batch.size, x, y, batch.radius, angle, batch.backdrop)


def _clarity(states: States) -> tuple[NDArray[np.int8], NDArray[np.int64], NDArray[np.bool_]]:
    """Clarity (t, k), the nearer colour (t, k), and which things (t, k) are somewhere inside a fade."""
    mixed = states.is_shown & (states.mix > 0) & (states.mix < 1) & (states.colour[..., 0] != states.colour[..., 1])
    pure = (states.mix <= PURE_ENOUGH) | (states.mix >= 1 - PURE_ENOUGH) | ~mixed
    seen = _seen_share(states) >= SEEN_ENOUGH
    clarity = np.where(states.is_shown, np.where(seen & pure, CLEAR, UNCLEAR), ABSENT).astype(np.int8)
    return clarity, states.colour_name_index(), mixed


def _seen_share(states: States) -> NDArray[np.float64]:
    """The share (t, k) of each thing's circle that is inside the frame and under no nearer circle."""
    px = states.x[..., None] + states.radius[..., None] * _LATTICE[:, 0]  # (t, k, p)
    py = states.y[..., None] + states.radius[..., None] * _LATTICE[:, 1]
    free = (px >= 0) & (px <= 1) & (py >= 0) & (py <= 1)
    for front in range(states.x.shape[1]):
        distance = (px - states.x[:, front, None, None]) ** 2 + (py - states.y[:, front, None, None]) ** 2
        covers = states.is_shown[:, front, None] & (states.depth[:, front, None] > states.depth)  # (t, k)
        free &= ~(covers[..., None] & (distance < states.radius[:, front, None, None] ** 2))
    share: NDArray[np.float64] = free.mean(axis=-1)
    return share
