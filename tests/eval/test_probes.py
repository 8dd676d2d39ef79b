"""Linear probes against what a straight map can and cannot do."""

from __future__ import annotations

import numpy as np
import pytest

from vlm.errors import InputError
from vlm.eval.probes import fit_ridge, r_squared


def test_a_linear_target_is_read_in_full() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 6))
    targets = vectors @ rng.normal(size=(6, 2)) + [3.0, -1.0]
    probe = fit_ridge(vectors[:100], targets[:100])
    np.testing.assert_allclose(r_squared(probe(vectors[100:]), targets[100:]), 1, atol=1e-6)


def test_what_is_not_in_the_vector_is_not_read() -> None:
    rng = np.random.default_rng(0)
    vectors, targets = rng.normal(size=(400, 6)), rng.normal(size=(400, 1))
    assert r_squared(fit_ridge(vectors[:200], targets[:200])(vectors[200:]), targets[200:])[0] < 0.05


def test_ridge_is_the_minimum_of_its_own_objective() -> None:
    rng = np.random.default_rng(1)
    vectors, targets = rng.normal(size=(30, 4)), rng.normal(size=(30, 1))
    probe = fit_ridge(vectors, targets, penalty=0.1)

    def objective(weight: np.ndarray, offset: np.ndarray) -> float:
        return float(((vectors @ weight + offset - targets) ** 2).sum() + 0.1 * 30 * (weight**2).sum())

    best = objective(probe.weight, probe.offset)
    for _ in range(20):
        assert objective(probe.weight + 0.01 * rng.normal(size=(4, 1)), probe.offset + 0.01 * rng.normal(size=1)) >= best


def test_r_squared_of_the_mean_is_zero() -> None:
    targets = np.array([[1.0], [2.0], [3.0]])
    assert r_squared(np.full((3, 1), 2.0), targets).tolist() == [0.0]


def test_a_constant_target_has_no_r_squared() -> None:
    with pytest.raises(InputError, match="vary"):
        r_squared(np.zeros((3, 1)), np.ones((3, 1)))


def test_a_probe_wants_as_many_targets_as_vectors() -> None:
    with pytest.raises(InputError, match="3 and 2"):
        fit_ridge(np.zeros((3, 2)), np.zeros((2, 1)))
