"""Nested stretches: a tree over the rows, made by always joining the neighbours that are most alike."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm.ward import nested_ranges


def naive(vectors: np.ndarray) -> list[tuple[int, int]]:
    """The same by looking at every pair of neighbours every time."""
    parts = [(row, row + 1) for row in range(len(vectors))]
    made = list(parts)
    while len(parts) > 1:
        costs = []
        for place, ((a, b), (_, d)) in enumerate(itertools.pairwise(parts)):
            left, right = vectors[a:b].astype(np.float64), vectors[b:d].astype(np.float64)
            weight = len(left) * len(right) / (len(left) + len(right))
            costs.append((weight * float(((left.mean(axis=0) - right.mean(axis=0)) ** 2).sum()), d - a, place))
        _, _, place = min(costs)
        parts[place : place + 2] = [(parts[place][0], parts[place + 1][1])]
        made.append(parts[place])
    return made


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 25), st.integers(0, 2**32 - 1))
def test_unions_are_those_of_a_naive_loop(t: int, seed: int):
    vectors = np.random.default_rng(seed).normal(size=(t, 4)).astype(np.float32)
    assert [tuple(one) for one in nested_ranges(vectors, np.arange(t + 1.0)).tolist()] == naive(vectors)


@given(st.integers(1, 40))
def test_there_are_as_many_as_a_tree_has_nodes_and_the_whole_is_last(t: int):
    found = nested_ranges(np.ones((t, 2), np.float32), np.arange(t + 1.0))
    assert found.shape == (2 * t - 1, 2)
    assert found[-1].tolist() == [0, t]
