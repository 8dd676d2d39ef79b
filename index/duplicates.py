"""Stretches that videos of a library share, from stored rows alone; nothing is decoded.

All rows are compared with all others, a block at a time. Rows that are more alike than footage is vote for how far the clocks of their
videos are apart; where many agree, the videos are aligned (vlm.align).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm.align import COMMON_LEVEL, WORTH, Alignment, Track, align
from vlm.errors import InputError, UnknownVideo
from vlm.index.likeness import SAMPLE, Likeness, Surroundings
from vlm.index.store import Store
from vlm.types import Features, Span

# How many comparisons of how many are done.
Progress = Callable[[int, int], None]

# What one stage at two times, or backwards, seldom reaches, and copies do unless nothing happens; chosen on files of another seed than
# those of docs/results.md.
LEAST_INFORMATION = 1.0
LEAST_LIVE_ROWS = 3
GROUP_ROWS = 16_384  # videos are read in groups of so many rows: two groups are in memory, 64 MiB at 512 values
BLOCK_ROWS = 1024  # compared at once with a group
MOST_SHIFTS = 5  # tried for two videos


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of a video of the library; ``path`` is its first location, empty where none is left."""

    video_id: int
    path: str
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedStretch:
    """Two stretches, as long, that show the same, at the same pace.

    ``similarity`` is the mean over their rows, 0 for footage that is not the same and 1 for equal rows; ``information`` as in Alignment.
    """

    one: Stretch
    other: Stretch
    similarity: float
    information: float


def find_duplicates(
    store: Store,
    *,
    video_id: int | None = None,
    min_seconds: float = 5.0,
    repeats: bool = False,
    on_progress: Progress | None = None,
) -> list[SharedStretch]:
    """All that videos share for at least ``min_seconds``, the longest first.

    Args:
        video_id: only what this one shares.
        repeats: also what a video shows twice.

    Raises:
        InputError: ``min_seconds`` is not positive and finite, or the library is empty. UnknownVideo: no such video.
    """
    if not 0 < min_seconds < math.inf:
        raise InputError(f"min_seconds must be positive and finite, got {min_seconds:g}")
    sizes = dict(store.query("SELECT id, num_rows FROM videos WHERE ready AND num_rows > 0 ORDER BY id"))
    if not sizes:
        raise _empty(store)
    if video_id is not None and video_id not in sizes:
        raise store.unknown(video_id)
    tracks = _Tracks(store, sizes)
    found: list[tuple[int, int, Alignment]] = []
    groups = list(_groups(sizes))
    jobs = [(first, second) for first, _ in enumerate(groups) for second in range(first, len(groups))]
    if video_id is not None:
        groups.append([video_id])
        jobs = [(len(groups) - 1, second) for second in range(len(groups) - 1)]
    total, done = sum(len(groups[first]) for first, _ in jobs), 0
    for first, second in jobs:
        there = Group(tracks.of(groups[second]))
        mine = there.tracks if first == second else tracks.of(groups[first])
        for one, track in mine.items():
            shared = shared_with(one, track, there, min_seconds=min_seconds, repeats=repeats, both_ways=video_id is not None)
            found += [(one, other, alignment) for other, alignment in shared]
            done += 1
            if on_progress is not None:
                on_progress(done, total)
    return _told(store, found)


def _empty(store: Store) -> InputError:
    return InputError(f"library {str(store.folder)!r} holds no video yet: vlm add VIDEOS --library {store.folder}")


class Group:
    """Tracks side by side: rows (n, d), what each must be more alike than (n,), its time, and the place of its video in the group."""

    def __init__(self, tracks: dict[int, Track]) -> None:
        self.tracks = tracks
        self.ids = np.array(list(tracks), np.int64)
        if tracks:
            self.vectors = np.concatenate([track.vectors for track in tracks.values()])
            self.least = np.concatenate([_least(track) for track in tracks.values()])
            self.times = np.concatenate([track.times for track in tracks.values()])
            self.owners = np.repeat(self.ids, [len(track.times) for track in tracks.values()])


def shared_with(
    one: int, track: Track, there: Group, *, min_seconds: float, repeats: bool = False, both_ways: bool = False
) -> list[tuple[int, Alignment]]:
    """What a video shares with those of a group, for at least ``min_seconds``: the other's id and how they are aligned.

    Only with those of a higher id, or, ``both_ways``, with any other; with ``repeats`` also with itself.
    """
    found: list[tuple[int, Alignment]] = []
    for other, shifts in _shifts(one, track, there, min_seconds, repeats=repeats, both_ways=both_ways):
        aligned = [a for shift in shifts for a in align(track, there.tracks[other], shift) if _counts(a, min_seconds)]
        found += [(other, alignment) for alignment in _best(aligned, apart=one == other)]
    return found


def _counts(alignment: Alignment, min_seconds: float) -> bool:
    return (
        alignment.one.seconds >= min_seconds
        and alignment.live_seconds >= max(min_seconds / 2, LEAST_LIVE_ROWS * alignment.step)
        and alignment.information >= LEAST_INFORMATION
    )


def _best(found: Sequence[Alignment], *, apart: bool) -> list[Alignment]:
    """Those that do not overlap a better one in both videos; ``apart``: nor their own other stretch."""
    kept: list[Alignment] = []
    for one in sorted(found, key=lambda one: -one.gain):
        if apart and one.one.end > one.other.start:
            continue
        if not any(_overlap(one.one, other.one) and _overlap(one.other, other.other) for other in kept):
            kept.append(one)
    return kept


def _overlap(one: Span, other: Span) -> bool:
    return one.start < other.end and other.start < one.end


def _told(store: Store, found: Sequence[tuple[int, int, Alignment]]) -> list[SharedStretch]:
    """What was found with the places of the videos; those that were removed meanwhile are left out."""
    held = {row[0] for row in store.query("SELECT id FROM videos WHERE ready")}
    paths = store.hit_rows({video for one, other, _ in found for video in (one, other) if video in held})
    names = {video: os.fsdecode(places[0]) if places else "" for video, (places, _, _) in paths.items()}
    shared = [
        SharedStretch(
            one=Stretch(one, names[one], alignment.one),
            other=Stretch(other, names[other], alignment.other),
            similarity=alignment.worth,
            information=alignment.information,
        )
        for one, other, alignment in found
        if one in names and other in names
    ]
    return sorted(shared, key=lambda one: (-one.one.span.seconds, one.one.video_id, one.other.video_id, one.one.span))


def _groups(sizes: dict[int, int]) -> Iterator[list[int]]:
    """The videos in order, in groups of about ``GROUP_ROWS`` rows."""
    group: list[int] = []
    rows = 0
    for video_id, num_rows in sizes.items():
        if group and rows + num_rows > GROUP_ROWS:
            yield group
            group, rows = [], 0
        group.append(video_id)
        rows += num_rows
    yield group


class _Tracks:
    """Reads videos as tracks; what is costly to know of a row is kept."""

    def __init__(self, store: Store, sizes: dict[int, int]) -> None:
        self._store = store
        self._surroundings: dict[int, Surroundings] = {}
        self._likeness = Likeness.of(self._sample(sizes), len(sizes))

    def of(self, videos: Sequence[int]) -> dict[int, Track]:
        """Tracks by id; a video that was removed meanwhile is left out."""
        found: dict[int, Track] = {}
        for video_id in videos:
            try:
                features = self._store.features(video_id)
            except UnknownVideo:
                continue
            vectors = self._likeness.spread(features.vectors)
            if video_id not in self._surroundings:
                self._surroundings[video_id] = self._likeness.surroundings(video_id, vectors)
            around = self._surroundings[video_id]
            found[video_id] = Track(vectors, features.times, features.end, around.levels, around.is_live)
        return found

    def _sample(self, sizes: dict[int, int]) -> list[tuple[int, NDArray[np.float32]]]:
        """Evenly spaced rows of all videos, about ``SAMPLE`` in all and of each at least one."""
        every = max(1, sum(sizes.values()) // SAMPLE)
        found: list[tuple[int, NDArray[np.float32]]] = []
        for video_id in sizes:
            try:
                features: Features = self._store.features(video_id)
            except UnknownVideo:
                continue
            first = min(every // 2, len(features.times) - 1)
            found.append((video_id, features.vectors[first::every]))
        if not found:  # all were removed meanwhile
            raise _empty(self._store)
        return found


def _least(track: Track) -> NDArray[np.float32]:
    """The likeness (t,) at which a row is worth ``WORTH``; nothing is so like a row that is like everything."""
    least: NDArray[np.float32] = np.where(track.levels > COMMON_LEVEL, 2.0, WORTH + (1 - WORTH) * track.levels).astype(np.float32)
    return least


def _shifts(
    one: int, track: Track, there: Group, min_seconds: float, *, repeats: bool, both_ways: bool
) -> Iterator[tuple[int, list[float]]]:
    """Other videos with the shifts for which enough rows vote, the best first."""
    if not there.tracks:
        return
    rows: list[NDArray[np.int64]] = []
    columns: list[NDArray[np.int64]] = []
    votes: list[NDArray[np.float32]] = []
    least = _least(track)
    begin = 0 if both_ways else int(np.searchsorted(there.owners, one, side="left" if repeats else "right"))  # owners are in order
    for first in range(0, len(track.times), BLOCK_ROWS):
        block = slice(first, first + BLOCK_ROWS)
        excess = track.vectors[block] @ there.vectors[begin:].T - np.maximum(least[block, None], there.least[begin:])
        row, column = np.nonzero(excess > 0)
        rows.append(row + first)
        columns.append(column + begin)
        votes.append(excess[row, column])
    row, column, vote = np.concatenate(rows), np.concatenate(columns), np.concatenate(votes)
    apart = there.times[column] - track.times[row]
    for other in np.unique(there.owners[column]).tolist():
        mine = there.owners[column] == other
        if other == one:
            if not repeats:
                continue
            mine &= apart >= min_seconds  # a video is like itself a little later, and nothing is learnt from that
        step = max(track.step, there.tracks[other].step)
        found = _peaks(apart[mine] / step, vote[mine], least_votes=0.5 * min_seconds / step)
        if found:
            yield other, [step * peak for peak in found]


def _peaks(shifts: NDArray[np.float64], votes: NDArray[np.float32], *, least_votes: float) -> list[float]:
    """Whole shifts about which votes gather, the heaviest first: as many votes as needed, and more weight than on either side."""
    if not len(shifts):
        return []
    places = np.rint(shifts).astype(np.int64)
    lowest = int(places.min()) - 2
    size = int(places.max()) - lowest + 3
    near = np.array([1.0, 1.0, 1.0])
    count = np.convolve(np.bincount(places - lowest, minlength=size), near, "same")
    weight = np.convolve(np.bincount(places - lowest, weights=votes, minlength=size), near, "same")
    inner = weight[1:-1]
    at = np.flatnonzero((inner >= weight[:-2]) & (inner > weight[2:]) & (count[1:-1] >= least_votes)) + 1
    return [float(place + lowest) for place in at[np.argsort(-weight[at], kind="stable")][:MOST_SHIFTS]]
