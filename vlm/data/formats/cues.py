"""What SubRip and WebVTT have in common: cues in order of time, each the query on one line and a line of figures below.

The figures are ``#RANK score=NUMBER``, then ``id=NUMBER`` and ``confidence=NUMBER`` where there are such. Times are rounded to the
millisecond, and a cue lasts at least one. White space of a query becomes single spaces. The video is not in the file.

pysubs2 was tried for this and left: it takes ``{`` in a text for markup of its own, and a query is any text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from vlm.data.formats.fields import number_of
from vlm.data.formats.files import PathLike, read_text
from vlm.data.formats.found import FoundMoment
from vlm.errors import InputError
from vlm.types import Span

_TIMES = re.compile(r"(?:(\d+):)?(\d\d):(\d\d)[.,](\d{3}) --> (?:(\d+):)?(\d\d):(\d\d)[.,](\d{3})(?: .*)?")
_FIGURES = re.compile(r"#(\d+) score=(\S+)(?: id=(\d+))?(?: confidence=(\S+))?")


def cue_blocks(found: Iterable[FoundMoment], *, decimal: str, escape: Callable[[str], str]) -> Iterator[str]:
    """The numbered cues of one video's moments in order of time, each without the blank line behind it."""
    ordered = sorted(found, key=lambda moment: (moment.span, moment.rank))
    for number, moment in enumerate(ordered, start=1):
        start = round(moment.span.start * 1000)
        end = max(round(moment.span.end * 1000), start + 1)
        words = escape(" ".join(moment.query.split()))
        times = f"{_clock(start, decimal)} --> {_clock(end, decimal)}"
        yield "\n".join(line for line in (str(number), times, words, _figures(moment)) if line)


def moments_of_cues(path: PathLike, *, video: str, unescape: Callable[[str], str]) -> tuple[FoundMoment, ...]:
    """The moments of a file that ``cue_blocks`` made; raises ``InputError`` for a cue without its line of figures."""
    blocks = re.split(r"\n{2,}", read_text(path).replace("\r\n", "\n").strip("\n"))
    cues = (block for block in blocks if block and not block.startswith("WEBVTT"))
    return tuple(_moment(block, f"{path}, cue {number}", video, unescape) for number, block in enumerate(cues, start=1))


def _moment(block: str, place: str, video: str, unescape: Callable[[str], str]) -> FoundMoment:
    lines = block.split("\n")
    times = _TIMES.fullmatch(lines[1]) if len(lines) in (3, 4) else None
    figures = _FIGURES.fullmatch(lines[-1])
    score = None if figures is None else number_of(figures[2])
    if times is None or figures is None or score is None:
        raise InputError(f"{place}: must be a number, times, a query and '#RANK score=NUMBER', as vlm writes them, got {block!r}")
    start, end = (
        (int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)) * 1000 + int(milliseconds)
        for hours, minutes, seconds, milliseconds in (times.groups()[:4], times.groups()[4:])
    )
    return FoundMoment(
        query=unescape(lines[2]) if len(lines) == 4 else "",
        video=video,
        span=Span(start / 1000, end / 1000),
        score=float(score),
        rank=int(figures[1]),
        video_id=None if figures[3] is None else int(figures[3]),
        confidence=None if figures[4] is None else number_of(figures[4]),
    )


def _figures(moment: FoundMoment) -> str:
    identity = "" if moment.video_id is None else f" id={moment.video_id}"
    confidence = "" if moment.confidence is None else f" confidence={moment.confidence!r}"
    return f"#{moment.rank} score={moment.score!r}{identity}{confidence}"


def _clock(milliseconds: int, decimal: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{decimal}{rest:03}"
