"""How far a figure would move on another sample of photos: intervals by drawing the photos again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["bootstrap_intervals"]


def bootstrap_intervals(
    figures: Callable[[NDArray[np.int64]], Mapping[str, float]],
    photos: int,
    *,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Confidence intervals of figures, by the percentiles of a bootstrap (Efron, Annals of Statistics 1979).

    Photos are drawn and not people: those of one photo are not independent of each other.

    Args:
        figures: Called with [I] int64, how often each photo was drawn; returns the figures of that sample.
        photos: I.
        samples: How many samples to draw.
        level: Share of the samples that lies in the interval.
        seed: Of the drawing: the same seed, the same intervals.

    Returns:
        Lower and upper end by name; NaN where a figure is never known. Samples in which it is not (NaN, or -1 as COCO's
        evaluation says) are left out of its interval.

    Raises:
        ValueError: There are no photos, or a parameter is out of range.
    """
    if photos < 1 or samples < 1 or not 0 < level < 1:
        raise ValueError(
            "bootstrap: expected at least 1 photo, at least 1 sample and a level between 0 and 1, got "
            f"{photos}, {samples}, {level}"
        )
    generator = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(samples):
        times = np.bincount(generator.integers(0, photos, photos), minlength=photos)
        for name, value in figures(times).items():
            drawn.setdefault(name, []).append(value)
    ends = ((1 - level) / 2, (1 + level) / 2)
    intervals = {}
    for name, values in drawn.items():
        known = [value for value in values if value >= 0]
        low, high = np.quantile(known, ends).tolist() if known else (float("nan"), float("nan"))
        intervals[name] = (low, high)
    return intervals
