"""Decoded frames to rows of a batch: single frames or overlapping windows, with the thumbnails that fall due."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from vlm.types import Frames, Thumbnail
from vlm.video.timeline import Timeline


class RowAssembler:
    """Takes wanted frames in the order of time and gives out Frames of at most ``batch_rows`` rows.

    It holds the frames of unfinished windows and of one batch, no more. A row that lacks a frame is left out.
    """

    def __init__(self, timeline: Timeline, rows: NDArray[np.int64], *, thumbnail_seconds: float, after_pts: int | None, batch_rows: int):
        self._timeline = timeline
        self._is_windowed = rows.ndim == 2
        table = rows if self._is_windowed else rows[:, None]
        self._due = _due_frames(timeline, table[:, 0], thumbnail_seconds)
        if after_pts is not None:
            table = table[timeline.pts[table[:, 0]] > after_pts]
            self._due = self._due[timeline.pts[self._due] > after_pts]
        self._rows = table
        self._batch_rows = batch_rows
        self._next_row = 0
        self._held: dict[int, NDArray[np.uint8]] = {}
        self._pixels: list[NDArray[np.uint8]] = []
        self._pts: list[NDArray[np.int64]] = []
        self._thumbnails: list[Thumbnail] = []

    @property
    def wanted(self) -> NDArray[np.int64]:
        """The frame indices that the rows are made of, ascending."""
        return np.unique(self._rows)

    def add(self, frame: int, pixels: NDArray[np.uint8], thumbnail: Callable[[], bytes]) -> Iterator[Frames]:
        """Takes the frame with this index; gives the batch that it fills. ``thumbnail`` is called where one is due."""
        if len(self._due) and self._due[0] <= frame:
            self._due = self._due[self._due > frame]
            self._thumbnails.append(Thumbnail(int(self._timeline.pts[frame]), thumbnail()))
        self._held[frame] = pixels
        while self._next_row < len(self._rows) and self._rows[self._next_row, -1] <= frame:
            self._take(self._rows[self._next_row])
            self._next_row += 1
            if len(self._pixels) == self._batch_rows:
                yield self._batch()
        needed_from = self._rows[self._next_row, 0] if self._next_row < len(self._rows) else frame + 1
        for index in [i for i in self._held if i < needed_from]:
            del self._held[index]

    def finish(self) -> Iterator[Frames]:
        """The last batch, where rows are left over."""
        if self._pixels:
            yield self._batch()

    def _take(self, row: NDArray[np.int64]) -> None:
        if all(i in self._held for i in row.tolist()):
            window = [self._held[i] for i in row.tolist()]
            self._pixels.append(np.stack(window) if self._is_windowed else window[0])
            self._pts.append(self._timeline.pts[row] if self._is_windowed else self._timeline.pts[row[0]])

    def _batch(self) -> Frames:
        batch = Frames(np.stack(self._pixels), np.stack(self._pts), tuple(self._thumbnails))
        self._pixels, self._pts, self._thumbnails = [], [], []
        return batch


def _due_frames(timeline: Timeline, firsts: NDArray[np.int64], thumbnail_seconds: float) -> NDArray[np.int64]:
    """The row starts at which a thumbnail falls due: the first, then each that lies ``thumbnail_seconds`` after the one before."""
    due: list[int] = []
    last = -np.inf
    if thumbnail_seconds > 0:
        seconds = timeline.clock.seconds(timeline.pts[firsts])
        for index, now in zip(firsts.tolist(), seconds.tolist(), strict=True):
            if now - last >= thumbnail_seconds:
                due.append(index)
                last = now
    return np.asarray(due, dtype=np.int64)
