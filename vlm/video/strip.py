"""A few pictures of a video: of a stretch for people to look at, or at given moments for a model to read."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError
from vlm.types import Frames, Framing, Span, VideoInfo
from vlm.video.files import PathLike
from vlm.video.sample import Moments, Sampling
from vlm.video.supervise import DecodeRequest, SupervisedDecoder

# Frames looked at for each picture that is kept: the one nearest to the wanted moment.
_CHOICE = 4
# A frame's time is a rounded float: one that begins within so many seconds after a moment is on screen at it.
_SAME_TIME = 1e-6


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


def frames_at(path: PathLike, seconds: Sequence[float], decoder: SupervisedDecoder, *, longest_side: int | None = None) -> list[Picture]:
    """The pictures on screen at ``seconds``, in order of time, each once, upright and all of one size.

    ``longest_side`` bounds the longer edge in pixels, at the video's own aspect; None keeps the full size. A moment before the first frame
    shows the first, one after the end the last. Only what the moments need is decoded, in the child of ``decoder``.

    Raises:
        InputError: no moment, one that is negative or not finite, or longest_side below 1. VideoError: the file gives no frame there.
    """
    _check_moments(seconds)
    if longest_side is not None and longest_side < 1:
        raise InputError(f"longest_side must be at least 1 pixel, or None for the full size, got {longest_side}")
    name = os.fsencode(path)
    info = decoder.probe(name)
    edge = max(info.width, info.height)
    scale = 1.0 if longest_side is None else min(1.0, longest_side / edge)
    framing = Framing(height=max(1, round(scale * info.height)), width=max(1, round(scale * info.width)), resize="squash")
    return _frames_until(decoder, _moments_request(name, seconds, framing), math.inf, info)


def clip_at(path: PathLike, seconds: Sequence[float], decoder: SupervisedDecoder, framing: Framing) -> NDArray[np.uint8]:
    """The pictures (t, h, w, 3) on screen at ``seconds`` (t,), which must not fall, framed for a model; one may come twice.

    Raises:
        InputError: no moment, one that is negative or not finite, or one before another. VideoError: the file gives no frame there.
    """
    _check_moments(seconds)
    if any(later < sooner for sooner, later in itertools.pairwise(seconds)):
        raise InputError("seconds must not fall: a clip is read in the order of time")
    name = os.fsencode(path)
    pictures = _frames_until(decoder, _moments_request(name, seconds, framing), math.inf, decoder.probe(name))
    times = np.array([picture.seconds for picture in pictures])
    shown = np.searchsorted(times, np.asarray(seconds) + _SAME_TIME, side="right") - 1
    return np.stack([pictures[place].pixels for place in shown.clip(0)])


def _check_moments(seconds: Sequence[float]) -> None:
    wrong = [second for second in seconds if not math.isfinite(second) or second < 0]
    if wrong or not len(seconds):
        raise InputError(f"seconds must be at least one moment, finite and not negative, got {wrong[0] if wrong else 'none'}")


def _moments_request(name: bytes, seconds: Sequence[float], framing: Framing) -> DecodeRequest:
    moments = Moments(tuple(Fraction(float(second)) for second in seconds))
    return DecodeRequest(path=name, digest="", sampling=moments, framing=framing, thumbnail_seconds=0, batch_rows=8)


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
