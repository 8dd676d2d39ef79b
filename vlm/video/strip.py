"""A few pictures of a stretch of video, for people to look at."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError
from vlm.types import Frames, Framing, Span, VideoInfo
from vlm.video.files import PathLike
from vlm.video.sample import Sampling
from vlm.video.supervise import DecodeRequest, SupervisedDecoder

# Frames looked at for each picture that is kept: the one nearest to the wanted moment.
_CHOICE = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame: its presentation time in seconds, and its pixels (h, w, 3) uint8 RGB."""

    seconds: float
    pixels: NDArray[np.uint8]


def filmstrip(path: PathLike, span: Span, decoder: SupervisedDecoder, *, count: int = 4, height: int = 96) -> list[Picture]:
    """About ``count`` pictures spread evenly over ``span``, in order of time, each ``height`` pixels high at the video's own aspect.

    Fewer where the stretch has fewer frames. Only the stretch is decoded, in the child of ``decoder``.

    Raises:
        InputError: count or height below 1. VideoError: the file gives no frame there.
    """
    if count < 1 or height < 1:
        raise InputError(f"a filmstrip needs count >= 1 and height >= 1, got count={count}, height={height}")
    name = os.fsencode(path)
    info = decoder.probe(name)
    rate = max(1, math.ceil(_CHOICE * count / span.seconds))
    before = info.clock.pts_at(Fraction(span.start)) - 1
    request = DecodeRequest(
        path=name,
        digest="",
        sampling=Sampling.parse(f"every:{rate}"),
        framing=Framing(height=height, width=max(1, round(height * info.width / info.height)), resize="squash", interpolation="bilinear"),
        after_pts=before if before > 0 else None,
        thumbnail_seconds=0,
        batch_rows=8,
    )
    return _pick(_frames_until(decoder, request, span.end, info), span, count)


def _frames_until(decoder: SupervisedDecoder, request: DecodeRequest, end: float, info: VideoInfo) -> list[Picture]:
    pictures: list[Picture] = []
    for item in decoder.decode(request):
        if isinstance(item, Frames):
            seconds = info.clock.seconds(item.pts)
            pictures += [Picture(float(at), pixels) for at, pixels in zip(seconds, item.pixels, strict=True) if at < end]
            if seconds[-1] >= end:
                break
    return pictures


def _pick(pictures: list[Picture], span: Span, count: int) -> list[Picture]:
    """The pictures nearest to ``count`` moments in the middles of equal parts of ``span``, none twice."""
    if not pictures:
        return []
    times = np.array([picture.seconds for picture in pictures])
    moments = span.start + (np.arange(count) + 0.5) * span.seconds / count
    nearest = np.unique(np.abs(times[None, :] - moments[:, None]).argmin(axis=1))
    return [pictures[place] for place in nearest]
