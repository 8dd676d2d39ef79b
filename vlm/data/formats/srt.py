"""Results of one video as SubRip subtitles (``vlm.data.formats.cues`` says what a cue holds).

SubRip has no escapes: an arrow ``-->`` in a query becomes ``->``, and the rest stands as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from vlm.data.formats.cues import cue_blocks, moments_of_cues
from vlm.data.formats.files import PathLike, write_text
from vlm.data.formats.found import FoundMoment


def srt_text(found: Iterable[FoundMoment]) -> str:
    """The text of a file."""
    return "".join(f"{block}\n\n" for block in cue_blocks(found, decimal=",", escape=lambda words: words.replace("-->", "->")))


def write_srt(path: PathLike, found: Iterable[FoundMoment]) -> None:
    """Writes the moments of one video."""
    write_text(path, srt_text(found))


def read_srt(path: PathLike, *, video: str = "") -> tuple[FoundMoment, ...]:
    """The moments of a file that ``write_srt`` made; which ``video`` they lie in is not in it."""
    return moments_of_cues(path, video=video, unescape=str)
