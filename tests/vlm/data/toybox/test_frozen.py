"""toybox-1 is frozen: 1,000 truths and 64 frames. A change of either is toybox-2, and every figure measured on toybox-1 is measured again.

`python -m tests.vlm.data.toybox.test_frozen` writes frozen.npz anew and prints the digest, for a new version.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlm.data.toybox.plan import event_clip, make_world, order_twins
from vlm.data.toybox.render import render
from vlm.data.toybox.truth import digest
from vlm.data.toybox.vocabulary import VERSION
from vlm.data.toybox.world import World

TRUTHS = "c22d452e8de1e322ad257c8a8674eb0382746e39a21a7077a48f5f3202d24950"
FRAMES = Path(__file__).with_name("frozen.npz")
SIZE = 32


def thousand() -> list[World]:
    """400 whole videos, 300 clips, 150 pairs of twins, of all splits."""
    splits = ("train", "val", "test")
    whole = [make_world(1, number, split=splits[number % 3]) for number in range(400)]
    clips = [event_clip(1, number, split=splits[number % 3]) for number in range(300)]
    twins = [world for number in range(150) for world in order_twins(1, number, split=splits[number % 3])]
    return [*whole, *clips, *twins]


def frames() -> NDArray[np.uint8]:
    """(64, 32, 32, 3): one frame of each of 64 worlds of the test split."""
    worlds = [make_world(2, number, split="test", seconds=20.0) for number in range(64)]
    return np.concatenate([render(world, np.array([0.3 * number % 20]), size=SIZE) for number, world in enumerate(worlds)])


def test_the_truths_of_a_thousand_worlds_are_those_of_toybox_1():
    assert VERSION == "toybox-1"
    assert digest(thousand()) == TRUTHS


def test_64_frames_are_those_of_toybox_1_within_one_grey_level():
    with np.load(FRAMES) as frozen:
        assert np.abs(frames().astype(int) - frozen["frames"].astype(int)).max() <= 1


if __name__ == "__main__":
    np.savez_compressed(FRAMES, frames=frames())
    print(digest(thousand()))
