"""The exact assignment, held against all pairings and against SciPy's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from fastpose.tracking import assign


def total(costs: NDArray[np.float64], pairs: NDArray[np.int64], most: float) -> float:
    """The sum that is to be least, less what leaving everybody alone costs."""
    return float((costs[pairs[:, 0], pairs[:, 1]] - most).sum())


def least_by_trying(costs: NDArray[np.float64], most: float) -> float:
    rows, columns = costs.shape
    spare = [None] * rows
    best = 0.0
    for chosen in set(itertools.permutations([*range(columns), *spare], rows)):
        pairs = [(i, j) for i, j in enumerate(chosen) if j is not None and costs[i, j] <= most]
        best = min(best, sum(costs[i, j] - most for i, j in pairs))
    return best


def expect_pairing(costs: NDArray[np.float64], pairs: NDArray[np.int64], most: float) -> None:
    assert pairs.dtype == np.int64
    assert np.array_equal(pairs[:, 0], np.unique(pairs[:, 0])), "by row, each once"
    assert len(np.unique(pairs[:, 1])) == len(pairs)
    assert np.all(costs[pairs[:, 0], pairs[:, 1]] <= most)


@pytest.mark.parametrize("seed", range(60))
def test_no_pairing_is_cheaper(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = rng.integers(0, 5, 2)
    # A few different costs make ties; infinity forbids.
    costs = rng.integers(0, 4, shape) / 4 if seed % 2 else rng.uniform(0, 1, shape)
    costs[rng.uniform(size=shape) < 0.15] = np.inf
    most = float(rng.choice([0.25, 0.6, 0.75, 1.0]))
    pairs = assign(costs, most)
    expect_pairing(costs, pairs, most)
    assert total(costs, pairs, most) == pytest.approx(least_by_trying(costs, most))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("most", [0.02, 0.2, 0.9, 5.0])
@pytest.mark.parametrize("seed", range(6))
def test_scipy_finds_nothing_cheaper(seed: int, most: float, dtype: type) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(1, 120, 2)
    if seed % 2:  # people in a row: chains of neighbours
        costs = np.abs(np.sort(rng.uniform(0, 5, rows))[:, None] - rng.uniform(0, 5, columns))
    else:
        costs = rng.uniform(0, 1, (rows, columns))
    costs = costs.astype(dtype)
    pairs = assign(costs, most)
    expect_pairing(costs, pairs, most)
    alone = np.full((rows, rows), 1e6)
    np.fill_diagonal(alone, 0.0)
    table = np.concatenate([np.where(costs <= most, costs.astype(float) - most, 1e6), alone], axis=1)
    theirs = table[optimize.linear_sum_assignment(table)].sum()
    assert total(costs.astype(float), pairs, most) == pytest.approx(theirs, abs=1e-5)


def test_negative_costs_and_whole_numbers() -> None:
    assert assign([[-5, -1], [-6, -2]], most=0).tolist() == [[0, 0], [1, 1]]
    assert assign(np.array([[3, 1], [1, 3]]), most=3).tolist() == [[0, 1], [1, 0]]


def test_a_pair_may_cost_just_what_is_allowed() -> None:
    assert assign([[0.5]], most=0.5).tolist() == [[0, 0]]
    assert assign([[np.nextafter(0.5, 1)]], most=0.5).tolist() == []


def test_nobody_on_one_side() -> None:
    for shape in [(0, 0), (0, 3), (3, 0)]:
        assert assign(np.zeros(shape), most=1.0).shape == (0, 2)


def test_any_layout() -> None:
    costs = np.random.default_rng(0).uniform(0, 1, (6, 8))
    assert np.array_equal(assign(costs.T, 1.0), assign(costs.T.copy(), 1.0))
    assert np.array_equal(assign(costs[::2, ::2], 1.0), assign(costs[::2, ::2].copy(), 1.0))


@pytest.mark.parametrize(
    ("costs", "most", "message"),
    [
        ([1.0, 2.0], 1.0, r"costs: expected shape \[N, M\]"),
        ([[np.nan]], 1.0, "costs: expected numbers"),
        ([[-np.inf]], 1.0, "costs: expected numbers"),
        ([[1.0]], np.inf, "most: expected a finite number"),
        ([[1.0]], np.nan, "most: expected a finite number"),
    ],
)
def test_bad_costs(costs: object, most: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assign(costs, most)  # type: ignore[arg-type]


def test_costs_that_are_no_numbers() -> None:
    with pytest.raises(TypeError, match="costs: expected dtype"):
        assign(np.ones((2, 2), complex), 1.0)
