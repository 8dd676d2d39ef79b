"""Made-up footage for tests of what needs vectors alone: films as functions of time, and libraries of them."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np

from vlm.index.store import FileStamp, Store
from vlm.types import Clock, Features, Segment, Span, VideoInfo

DIM = 48
SCENE_SECONDS = 8.0
KNOT_SECONDS = 2.0  # from one place to the next


class Film:
    """A film of scenes, each about a point of its own, around which something moves; unless it is a still."""

    def __init__(self, seed: int, *, still: bool = False) -> None:
        self._seed, self._still = seed, still

    def at(self, times: np.ndarray) -> np.ndarray:
        """Unit vectors (t, DIM) at some seconds (t,)."""
        rows = []
        for time in times:
            scene = 0 if self._still else int(time // SCENE_SECONDS)
            rng = np.random.default_rng([self._seed, scene])
            centre, knots = rng.normal(size=DIM), rng.normal(size=(int(SCENE_SECONDS / KNOT_SECONDS) + 1, DIM))
            place, share = divmod((time - scene * SCENE_SECONDS) / KNOT_SECONDS, 1)
            rows.append(centre if self._still else centre + (1 - share) * knots[int(place)] + share * knots[int(place) + 1])
        found = np.stack(rows)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def cut(*parts: tuple[Film, float, float], phase: float = 0.0, noise: float = 0.0, seed: int = 0) -> Features:
    """The features of a video of parts (film, from, to), sampled once a second from ``phase`` on."""
    bounds = np.concatenate([[0.0], np.cumsum([end - start for _, start, end in parts])])
    times = np.arange(phase, bounds[-1], 1.0)
    vectors = np.empty((len(times), DIM))
    for (film, start, _), begin, end in zip(parts, bounds[:-1], bounds[1:], strict=True):
        inside = (times >= begin) & (times < end)
        if inside.any():
            vectors[inside] = film.at(times[inside] - begin + start)
    vectors += noise / np.sqrt(DIM) * np.random.default_rng(seed).normal(size=vectors.shape)
    return Features((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), times, float(bounds[-1]))


def library_of(folder: Path, videos: Mapping[str, Features]) -> dict[str, int]:
    """Makes a library of features in ``folder``; the ids of its videos by their paths."""
    folder.mkdir()
    store = Store.create(folder)
    ids = {path: _put(store, path, features) for path, features in videos.items()}
    store.close()
    return ids


def _put(store: Store, path: str, features: Features) -> int:
    facts = VideoInfo(
        container="mp4",
        codec="h264",
        width=64,
        height=48,
        rotation_degrees=0,
        frame_rate=None,
        clock=Clock(Fraction(1, 1000)),
        promised_seconds=features.end,
        digest=path,
        num_bytes=1,
    )
    with store.transaction():
        video_id = store.begin_video(facts)
        store.append_rows(video_id, np.rint(features.times * 1000).astype(np.int64), features.vectors)
        whole = Segment(0, 0, len(features.times), Span(0.0, features.end))
        store.finish_video(
            video_id,
            end_seconds=features.end,
            num_rows=len(features.times),
            coverage=1.0,
            reason="",
            segments=[whole],
            vectors=features.vectors[:1],
        )
        store.set_location(path.encode(), video_id, FileStamp(1, 1))
    return video_id
