"""What a trained reader says of rows takes the place of what frames say, in the likeliest videos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from vlm.index.presence import Seen
from vlm.index.temporal import read_through
from vlm.intervals import Intervals
from vlm.temporal.meaning import Rows
from vlm.types import Features

LENGTHS = {3: 4, 5: 6, 8: 2}


class Told:
    """Says of every row the number of its text, and a hundredth of the row's own value."""

    def __init__(self) -> None:
        self.seen: list[Features] = []

    def holds(self, texts: Sequence[str], videos: Sequence[Features]) -> list[list[NDArray[np.float32]]]:
        self.seen += videos
        return [[number + one.vectors[:, 0] / 100 for one in videos] for number, _ in enumerate(texts)]


class Untold:
    def holds(self, texts: Sequence[str], videos: Sequence[Features]) -> None:
        return None


def seen() -> Seen:
    video = np.repeat(list(LENGTHS), list(LENGTHS.values()))
    start = np.concatenate([np.arange(length) * 1.0 for length in LENGTHS.values()])
    whole = Intervals.of([(number, 0.0, float(length)) for number, length in LENGTHS.items()])
    vectors = np.stack([np.arange(len(video)), np.ones(len(video))], axis=1).astype(np.float32)
    return Seen(Rows(video, start, start + 1.0, whole), vectors)


def frames() -> NDArray[np.float64]:
    """Of two sentences: the last video is the likeliest for both together, then the first."""
    told = np.zeros((2, 12))
    told[0, [1, 5, 11]] = 0.5, 0.9, 0.8
    told[1, [2, 10]] = 0.5, 0.7
    return told


@pytest.mark.parametrize(("most", "read"), [(1000, {3, 5, 8}), (24, {3, 5, 8}), (12, {3, 8}), (5, {8}), (1, {8})])
def test_the_likeliest_videos_are_read_while_there_is_room(most: int, read: set[int]) -> None:
    told, rows, reader = frames(), seen(), Told()
    number = read_through(reader, ["a", "b"], rows, told, most=most)  # type: ignore[arg-type]
    is_read = np.isin(rows.rows.video, list(read))
    assert number == is_read.sum()
    np.testing.assert_array_equal(told[:, ~is_read], frames()[:, ~is_read])
    expected = np.arange(2)[:, None] + np.arange(12) / 100
    np.testing.assert_allclose(told[:, is_read], expected[:, is_read], rtol=1e-6)
    lengths = [len(one.times) for one in reader.seen]
    assert lengths == sorted(lengths)
    assert [one.end for one in reader.seen] == [float(length) for length in lengths]
    assert all(one.times[0] == 0.0 for one in reader.seen)


def test_without_training_frames_alone_tell() -> None:
    told = frames()
    assert read_through(Untold(), ["a", "b"], seen(), told) == 0  # type: ignore[arg-type]
    np.testing.assert_array_equal(told, frames())
