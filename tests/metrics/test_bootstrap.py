"""Intervals: of a figure whose spread is known, by their seed, and of real metrics."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from fastpose.metrics.bootstrap import bootstrap_intervals


def share(values: NDArray[np.float64]) -> object:
    def figures(times: NDArray[np.int64]) -> Mapping[str, float]:
        return {"share": float(times @ values / times.sum()), "never": float("nan"), "none": -1.0}

    return figures


def test_width_is_that_of_the_binomial_distribution() -> None:
    values = (np.arange(400) % 5 == 0).astype(float)
    low, high = bootstrap_intervals(share(values), 400, samples=2000)["share"]  # type: ignore[arg-type]
    deviation = np.sqrt(0.2 * 0.8 / 400)
    assert low == pytest.approx(0.2 - 1.96 * deviation, abs=0.005)
    assert high == pytest.approx(0.2 + 1.96 * deviation, abs=0.005)


def test_the_seed_decides() -> None:
    figures = share(np.random.default_rng(0).random(30))
    one, two, three = (bootstrap_intervals(figures, 30, samples=50, seed=s)["share"] for s in (0, 0, 1))  # type: ignore[arg-type]
    assert one == two
    assert one != three


def test_unknown_figures_have_no_interval() -> None:
    intervals = bootstrap_intervals(share(np.ones(3)), 3, samples=5)  # type: ignore[arg-type]
    assert np.isnan(intervals["never"]).all()
    assert np.isnan(intervals["none"]).all()
    assert intervals["share"] == (1.0, 1.0)


@pytest.mark.parametrize("change", [{"photos": 0}, {"samples": 0}, {"level": 1.0}])
def test_errors(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="bootstrap: expected at least 1 photo"):
        bootstrap_intervals(share(np.ones(3)), **({"photos": 3} | change))  # type: ignore[arg-type]
