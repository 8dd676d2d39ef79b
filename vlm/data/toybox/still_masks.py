"""Which of many claims may hold of which of many frames, for whole batches at once: so that no true caption is taken for a negative."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.still_facts import BANDS, PLACE_MARGIN, PLACES, WAY_POSSIBLE, WAYS, Claim, Mention
from vlm.data.toybox.stills import ABSENT, CLEAR, Stills
from vlm.data.toybox.vocabulary import COLOURS, SHAPES, SIZES, TEXTURES

MENTIONS = 3


def possible(claims: Sequence[Claim], batch: Stills) -> NDArray[np.bool_]:
    """Whether claim i may hold of frame j: (claims, frames) bool. Agrees with ``may_hold`` but for relations, which it lets pass."""
    tables = _tables(batch)
    result = np.ones((len(batch), len(claims)), np.bool_)
    for number in range(MENTIONS):
        rows = [claim.mentions[number] if number < len(claim.mentions) else None for claim in claims]
        spoken = np.array([mention is not None for mention in rows])
        if not spoken.any():
            break
        given = [mention or Mention() for mention in rows]
        fits = np.broadcast_to((batch.clarity != ABSENT)[..., None], (*batch.clarity.shape, len(claims)))  # (n, 8, claims)
        for name, table in tables.items():
            # None is the last column of each table, which fits everything.
            values = np.array([-1 if (value := getattr(mention, name)) is None else value for mention in given])
            fits = fits & table[..., values]
        result &= fits.any(axis=1) | ~spoken
    result &= _backdrops(claims, batch) & _counts(claims, batch)
    return result.T


def _tables(batch: Stills) -> dict[str, NDArray[np.bool_]]:
    """For each attribute, whether a thing may have each value: (n, 8, values + 1), the last always True."""
    unclear = (batch.clarity != CLEAR)[..., None]
    x, y = batch.x.astype(np.float64), batch.y.astype(np.float64)
    across, down = _thirds(x), _thirds(y)  # (n, 8, 3)
    cells = (down[..., :, None] & across[..., None, :]).reshape(*x.shape, len(PLACES))
    bands = np.stack([across[..., 0], across[..., 2], down[..., 0], down[..., 2]], axis=-1)
    assert bands.shape[-1] == len(BANDS)
    eighths = batch.angle.astype(np.float64)[..., None] * 4 / np.pi - np.arange(len(WAYS))
    ways = np.abs((eighths + 4) % 8 - 4) <= WAY_POSSIBLE
    size = batch.size[..., None]
    found = {
        "colour": np.broadcast_to(np.eye(len(COLOURS), dtype=np.bool_), (len(batch), len(COLOURS), len(COLOURS))),
        "shape": batch.shape[..., None] == np.arange(len(SHAPES)),
        "texture": batch.texture[..., None] == np.arange(len(TEXTURES)),
        "size": (size == np.arange(len(SIZES))) | (size == -1) | unclear,
        "place": np.concatenate([cells, bands], axis=-1) | unclear,
        "way": ways | unclear,
    }
    return {name: np.concatenate([table, np.ones((*table.shape[:2], 1), np.bool_)], axis=-1) for name, table in found.items()}


def _thirds(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    low, high = 1 / 3, 2 / 3
    return np.stack(
        [
            values < low + PLACE_MARGIN,
            (values > low - PLACE_MARGIN) & (values < high + PLACE_MARGIN),
            values > high - PLACE_MARGIN,
        ],
        axis=-1,
    )


def _backdrops(claims: Sequence[Claim], batch: Stills) -> NDArray[np.bool_]:
    said = np.array([-1 if claim.backdrop is None else claim.backdrop for claim in claims])
    fits: NDArray[np.bool_] = (batch.backdrop[:, None] == said) | (said == -1)
    return fits


def _counts(claims: Sequence[Claim], batch: Stills) -> NDArray[np.bool_]:
    """Whether the number of things may be the one said: those in doubt may count or not."""
    shapes = np.concatenate([batch.shape[..., None] == np.arange(len(SHAPES)), np.ones((*batch.shape.shape, 1), np.bool_)], axis=-1)
    most = ((batch.clarity != ABSENT)[..., None] & shapes).sum(axis=1)  # (n, shapes + 1)
    least = ((batch.clarity == CLEAR)[..., None] & shapes).sum(axis=1)
    counted = np.array([-1 if claim.counted is None else claim.counted for claim in claims])
    count = np.array([-1 if claim.count is None else claim.count for claim in claims])
    fits: NDArray[np.bool_] = ((least[:, counted] <= count) & (count <= most[:, counted])) | (count == -1)
    return fits
