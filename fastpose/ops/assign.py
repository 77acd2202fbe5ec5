"""Pairs of least cost."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._native import C

__all__ = ["assign"]


def assign(costs: ArrayLike, most: float) -> NDArray[np.int64]:
    """The pairs of rows and columns whose costs, with ``most`` for every row left alone, are least in sum.

    Exact: shortest augmenting paths, over the pairs that cost at most ``most``.

    Args:
        costs: [N,M], finite or infinite: no NaN, no minus infinity. Float32 and float64 are read as they are.
        most: What a pair may cost. A dearer one is none.

    Returns:
        int64 [P,2], row and column of each pair, by row.

    Raises:
        TypeError: ``costs`` are no numbers.
        ValueError: ``costs`` has not two dimensions or holds NaN or minus infinity, or ``most`` is not finite.

    Example:
        >>> assign([[1.0, 2.0], [1.5, 9.0]], most=5.0).tolist()
        [[0, 1], [1, 0]]
        >>> assign([[1.0, 2.0], [1.5, 9.0]], most=1.2).tolist()
        [[0, 0]]

    Source: Jonker and Volgenant, "A shortest augmenting path algorithm for dense and sparse linear assignment
    problems", Computing 38 (1987).
    """
    table: NDArray[Any] = np.asarray(costs)
    if table.dtype.kind in "iub":
        table = table.astype(float)
    column_of = C.assign(np.ascontiguousarray(table), float(most), None)
    rows = np.flatnonzero(column_of >= 0)
    return np.stack([rows, column_of[rows]], axis=1)
