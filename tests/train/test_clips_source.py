"""Clips out of real files: the right pictures at the right moments, and batches that are functions of their number."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.media import scene_video
from vlm.errors import InputError, VideoError
from vlm.train.clips_source import Clip, ClipsConfig, ClipSource, clip_frames, may_be_true, read_clips
from vlm.types import Framing, Span

FRAMING = Framing(height=32, width=32)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scene_video(tmp_path_factory.mktemp("scenes") / "scenes.mp4", [("red", 2), ("green", 2), ("blue", 2)])


def colours(pixels: np.ndarray) -> str:
    """The strongest channel of each picture: r, g or b."""
    return "".join("rgb"[channel] for channel in pixels.mean(axis=(1, 2)).argmax(axis=1))


@pytest.mark.parametrize(
    ("span", "count", "seen"),
    [
        (None, 6, "rrggbb"),
        (Span(2, 4), 4, "gggg"),
        (Span(1, 5), 4, "rggb"),
        (Span(0, 6), 3, "rgb"),
        (Span(3.95, 4.06), 4, "gbbb"),  # two frames, one in each scene
    ],
)
def test_pictures_are_those_of_the_span_in_order(span: Span | None, count: int, seen: str, scenes: Path) -> None:
    pixels = clip_frames(Clip(scenes, "x", span), FRAMING, count)
    assert pixels.shape == (count, 32, 32, 3)
    found = colours(pixels)
    assert found == seen or (span == Span(3.95, 4.06) and set(found) <= {"g", "b"})


def test_a_video_with_fewer_frames_than_asked_for_shows_some_twice(tmp_path: Path) -> None:
    short = scene_video(tmp_path / "short.mp4", [("red", 0.1), ("blue", 0.1)])
    assert colours(clip_frames(Clip(short, "x"), FRAMING, 4)) == "rrbb"


def test_a_span_behind_the_end_names_the_clip(scenes: Path) -> None:
    with pytest.raises(InputError, match=r"scenes\.mp4.*holds no frame"):
        clip_frames(Clip(scenes, "x", Span(50, 60)), FRAMING, 4)


def test_a_file_that_is_no_video_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"broken\.mp4"):
        clip_frames(Clip(tmp_path / "broken.mp4", "x"), FRAMING, 4)


def source(scenes: Path, count: int = 7, batch: int = 3) -> ClipSource:
    clips = tuple(Clip(scenes, f"caption {number}", Span(number / 2, number / 2 + 0.5)) for number in range(count))
    return ClipSource(clips, ClipsConfig(batch=batch, frames=2), FRAMING)


def test_a_batch_is_the_same_whenever_and_in_whatever_process_it_is_asked_for(scenes: Path) -> None:
    one, other = source(scenes), pickle.loads(pickle.dumps(source(scenes)))
    late = one.batch(5)
    assert torch.equal(late.pixels, other.batch(5).pixels)
    assert late.captions == other.batch(5).captions


def test_each_clip_comes_at_most_once_an_epoch_and_epochs_differ(scenes: Path) -> None:
    made = source(scenes)
    epochs = [[number for index in (2 * epoch, 2 * epoch + 1) for number in made.numbers(index)] for epoch in range(4)]
    assert all(max(Counter(epoch).values()) == 1 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_parts_together_are_the_batch(scenes: Path) -> None:
    made = source(scenes, batch=4)
    whole, parts = made.batch(0), [made.part(0, rank, 2) for rank in (0, 1)]
    assert torch.equal(torch.cat([part.pixels for part in parts]), whole.pixels)
    assert parts[0].captions + parts[1].captions == whole.captions
    assert all(torch.equal(part.excluded, whole.excluded) for part in parts)


def test_equal_words_and_overlapping_stretches_are_no_negatives() -> None:
    a, b = Path("a.mp4"), Path("b.mp4")
    clips = [Clip(a, "A dog", Span(0, 2)), Clip(b, "a  dog"), Clip(a, "cat", Span(1, 3)), Clip(a, "cow", Span(2, 3)), Clip(a, "hen")]
    expected = [
        [1, 1, 1, 0, 1],
        [1, 1, 0, 0, 0],
        [1, 0, 1, 1, 1],
        [0, 0, 1, 1, 1],
        [1, 0, 1, 1, 1],
    ]
    assert may_be_true(clips).astype(int).tolist() == expected


def test_captions_are_read_beside_their_videos(scenes: Path) -> None:
    file = scenes.parent / "captions.csv"
    file.write_text("path,start,end,caption\nscenes.mp4,0,2,red\nscenes.mp4,,,all\n")
    assert read_clips(file) == (Clip(scenes, "red", Span(0, 2)), Clip(scenes, "all"))
    file.write_text("path,caption\nscenes.mp4,red\ngone.mp4,blue\naway.mp4,green\n")
    with pytest.raises(InputError, match=r"away\.mp4' and 1 more.*relative"):
        read_clips(file)
    file.write_text("path,caption\n")
    with pytest.raises(InputError, match="holds no captions"):
        read_clips(file)


def test_a_batch_larger_than_the_data_is_refused(scenes: Path) -> None:
    with pytest.raises(InputError, match="batch = 9 is more than the 7 clips"):
        source(scenes, batch=9)
