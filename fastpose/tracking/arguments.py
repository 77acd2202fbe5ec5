"""Checks of the arrays that tracker and smoothers take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["check_time", "take_people"]


def take_people(given: Mapping[str, ArrayLike], shapes: Mapping[str, tuple[int, ...]]) -> list[NDArray[np.float32]]:
    """Arrays of N people each as float32.

    Args:
        given: By name.
        shapes: What each should have after its N, which the last one decides.

    Raises:
        ValueError: A shape is wrong, or a number is not finite.
    """
    arrays: dict[str, NDArray[Any]] = {name: np.asarray(values, np.float32) for name, values in given.items()}
    *_, last = arrays.values()
    count = len(last) if last.ndim else -1
    for name, array in arrays.items():
        if count == 0 and array.size == 0:
            arrays[name] = array = array.reshape(0, *shapes[name])
        if array.shape != (count, *shapes[name]):
            raise ValueError(f"{name}: expected shape {[max(count, 0), *shapes[name]]}, got {list(array.shape)}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: expected finite numbers")
    return list(arrays.values())


def check_time(time: float, last: float) -> float:
    """Seconds that do not go back behind the last frame's.

    Raises:
        ValueError: They do, or are not finite.
    """
    if not (math.isfinite(time) and time >= last):
        raise ValueError(f"time: expected a finite number, at least the last frame's {last:g}, got {time!r}")
    return float(time)
