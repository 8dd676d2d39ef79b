"""Order figures against matrices made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vlm.errors import InputError
from vlm.eval.order import order_figures


def test_who_knows_the_order_is_always_right() -> None:
    found = order_figures(np.eye(6))
    assert (found.accuracy, found.recall_at_1, found.num_videos) == (1.0, 1.0, 6)


def test_who_sees_twins_alike_guesses_and_finds_nothing_first() -> None:
    pairs = np.kron(np.eye(3), np.ones((2, 2)))
    found = order_figures(pairs)
    assert (found.accuracy, found.recall_at_1) == (0.5, 0.0)  # ties count half, and against the model


def test_each_video_is_asked_about_its_own_twin_alone() -> None:
    #            videos: a    a'   b    b'
    similarity = np.array([[0.9, 0.8, 0.1, 0.0], [0.7, 0.6, 0.0, 0.0], [0.0, 0.0, 0.5, 0.9], [0.95, 0.0, 0.6, 0.8]])
    # Own over twin's text: a 0.9 > 0.7, a' 0.6 < 0.8, b 0.5 < 0.6, b' 0.8 < 0.9.
    found = order_figures(similarity)
    assert found.accuracy == 0.25
    assert found.recall_at_1 == 0.25  # only the first text finds its own first


@pytest.mark.parametrize("shape", [(2, 4), (3, 3), (0, 0)])
def test_what_is_no_table_of_twins_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="square, even and not empty"):
        order_figures(np.zeros(shape))
