from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from vlm.errors import InputError
from vlm.eval.segmentation import Run, edit_score, hits, runs_of, segmentation_figures


def naive_distance(one: str, other: str) -> int:
    @cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (one[i - 1] != other[j - 1]))

    return distance(len(one), len(other))


def naive_hits(true: list[Run], guessed: list[Run], overlap: float) -> tuple[int, int, int]:
    """The public scorer: the hull stands for the union, and the overlap with another label is 0."""
    taken, right = set(), 0
    for run in guessed:
        best, where = -np.inf, -1
        for place, other in enumerate(true):
            inside = min(run.last, other.last) - max(run.first, other.first)
            hull = max(run.last, other.last) - min(run.first, other.first)
            share = inside / hull * (run.label == other.label)
            if share > best:
                best, where = share, place
        if best >= overlap and where not in taken:
            taken.add(where)
            right += 1
    return right, len(guessed) - right, len(true) - len(taken)


@pytest.mark.parametrize("seed", range(40))
def test_edit_and_hits_are_those_of_plain_loops(seed: int):
    random = np.random.default_rng(seed)
    true, guessed = ("".join(random.choice(list("aabbc_"), size=random.integers(1, 30))) for _ in range(2))
    runs = runs_of(true, "_"), runs_of(guessed, "_")
    one, other = ("".join(run.label for run in some) for some in runs)
    if one or other:
        assert edit_score(one, other) == pytest.approx(1 - naive_distance(one, other) / max(len(one), len(other)))
    for overlap in (0.1, 0.25, 0.5):
        assert hits(*runs, overlap) == naive_hits(*runs, overlap)


def test_runs_are_told_apart_and_background_is_left_out():
    assert runs_of("aab__ba", "_") == [Run("a", 0, 2), Run("b", 2, 3), Run("b", 5, 6), Run("a", 6, 7)]
    assert runs_of("", "_") == []


def test_a_case_by_hand():
    figures = segmentation_figures(["aaaabbbb__"], ["aabbbbbb_a"], background=("_",))
    assert figures.accuracy == 0.7
    assert figures.edit == pytest.approx(1 - 1 / 3)  # ab against aba
    # a: 2 of 4 frames, IoU 0.5; b: 4 of 6, IoU 0.67; the last a overlaps none.
    assert figures.f1[0.5] == pytest.approx(2 * 2 / (2 * 2 + 1 + 0))


def test_segments_that_are_cut_cost_f1_and_edit_but_hardly_accuracy():
    whole, cut = "a" * 50 + "b" * 50, "a" * 20 + "b" + "a" * 29 + "b" * 50
    figures = segmentation_figures([whole], [cut])
    assert figures.accuracy == 0.99
    assert figures.edit == 0.5
    assert figures.f1[0.5] == pytest.approx(2 * 2 / (2 * 2 + 2 + 0))


def test_f1_counts_over_all_videos_and_edit_is_the_mean_of_them():
    figures = segmentation_figures(["aa", "bbcc"], ["aa", "bbbb"], background=())
    assert figures.f1[0.1] == pytest.approx(2 * 2 / (2 * 2 + 0 + 1))
    assert figures.edit == pytest.approx((1 + 0.5) / 2)
    assert figures.accuracy == pytest.approx(4 / 6)


def test_nothing_found_where_nothing_is_has_the_full_edit_score():
    figures = segmentation_figures([["nothing"] * 4], [["nothing"] * 4], background=("nothing",))
    assert (figures.accuracy, figures.edit, figures.f1[0.5]) == (1.0, 1.0, 0.0)


def test_bad_input_is_refused_by_name():
    with pytest.raises(InputError, match="at least one, got 0 and 0"):
        segmentation_figures([], [])
    with pytest.raises(InputError, match="got 1 and 2"):
        segmentation_figures(["a"], ["a", "a"])
    with pytest.raises(InputError, match="video 1 has 2 frames and 3 predictions"):
        segmentation_figures(["a", "aa"], ["a", "aaa"])
