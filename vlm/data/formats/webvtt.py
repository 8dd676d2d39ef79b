"""Results of one video as WebVTT captions (``vlm.data.formats.cues`` says what a cue holds); ``&``, ``<`` and ``>`` are escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable

from vlm.data.formats.cues import cue_blocks, moments_of_cues
from vlm.data.formats.files import PathLike, write_text
from vlm.data.formats.found import FoundMoment


def webvtt_text(found: Iterable[FoundMoment]) -> str:
    """The text of a file."""
    blocks = cue_blocks(found, decimal=".", escape=lambda words: html.escape(words, quote=False))
    return "WEBVTT\n\n" + "".join(f"{block}\n\n" for block in blocks)


def write_webvtt(path: PathLike, found: Iterable[FoundMoment]) -> None:
    """Writes the moments of one video."""
    write_text(path, webvtt_text(found))


def read_webvtt(path: PathLike, *, video: str = "") -> tuple[FoundMoment, ...]:
    """The moments of a file that ``write_webvtt`` made; which ``video`` they lie in is not in it."""
    return moments_of_cues(path, video=video, unescape=html.unescape)
