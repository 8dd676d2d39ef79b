"""A contact sheet: hits as rows of pictures, in one PNG."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vlm.app.out import write_new
from vlm.app.render import order_of, shorten_path, stretch
from vlm.errors import InputError, VideoError
from vlm.types import Hit
from vlm.video.strip import Picture, filmstrip
from vlm.video.supervise import SupervisedDecoder

_HEIGHT = 96
_GAP = 6
# As many as fill a row when they are square; wide ones are fewer.
_PICTURES = 6
_STRIP_WIDTH = _PICTURES * _HEIGHT + (_PICTURES - 1) * _GAP
_LINE = 22
_PAPER, _INK, _FAINT, _MARK = (250, 250, 248), (20, 20, 20), (120, 120, 120), (200, 40, 40)


@dataclass(frozen=True, slots=True)
class Row:
    """One query and its hits, best first."""

    query: str
    hits: tuple[Hit, ...]


def check_free(path: Path) -> None:
    """Raise unless a PNG can be made at ``path``.

    Raises:
        InputError: it exists, its folder does not, or its name does not end in .png.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"pictures are drawn as PNG, got {str(path)!r}: give it a name that ends in .png")
    if path.exists():
        raise InputError(f"{str(path)!r} exists and is never overwritten: name another file, or remove it first")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {str(path.parent)!r} to put {path.name!r} in")


def write_sheet(path: Path, rows: Sequence[Row]) -> None:
    """Draws each query with its hits, a strip of pictures over the stretch of each, and writes the PNG. A file that has gone is said so."""
    with SupervisedDecoder(deadline_seconds=20) as decoder:
        strips = [[_strip(hit, decoder) for hit in row.hits] for row in rows]
    height = _GAP + sum(_LINE + _GAP + len(row.hits) * (_HEIGHT + _LINE + _GAP) + _GAP for row in rows)
    sheet = Image.new("RGB", (_STRIP_WIDTH + 2 * _GAP, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    title, small = ImageFont.load_default(17), ImageFont.load_default(13)
    y = _GAP
    for row, pictures in zip(rows, strips, strict=True):
        draw.text((_GAP, y), row.query, _INK, font=title)
        y += _LINE + _GAP
        by, values = order_of(row.hits)
        for hit, value, strip in zip(row.hits, values, pictures, strict=True):
            draw.text((_GAP, y), f"{hit.rank}.", _MARK, font=small)
            words = f"{stretch(hit.span.start, hit.span.end)}   {by.title} {value}   {shorten_path(hit.path, 58)}"
            draw.text((_GAP + 22, y), words, _FAINT, font=small)
            y += _LINE
            _paste(sheet, draw, strip, y)
            y += _HEIGHT + _GAP
        y += _GAP
    content = io.BytesIO()
    sheet.save(content, "PNG")
    write_new(path, content.getvalue())


def _strip(hit: Hit, decoder: SupervisedDecoder) -> list[Picture]:
    path = next((place for place in hit.locations if os.path.isfile(place)), None)
    if path is None:
        return []
    try:
        return filmstrip(path, hit.span, decoder, count=_PICTURES, height=_HEIGHT)
    except VideoError:
        return []


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, strip: list[Picture], y: int) -> None:
    if not strip:
        draw.text((_GAP + 22, y + _HEIGHT // 2), "(no picture: the file has gone or cannot be decoded any more)", _FAINT)
        return
    x = _GAP
    # Wide pictures are fewer, so that none is cut.
    width = strip[0].pixels.shape[1]
    fitting = max(1, (_STRIP_WIDTH + _GAP) // (width + _GAP))
    for place in np.unique(np.linspace(0, len(strip) - 1, min(fitting, len(strip))).round().astype(int)):
        sheet.paste(Image.fromarray(strip[place].pixels), (x, y))
        x += width + _GAP
