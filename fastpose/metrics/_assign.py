"""An exact assignment; stands here until ``fastpose.ops`` has one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["assign"]


def assign(costs: ArrayLike, most: float) -> NDArray[np.int64]:
    """Pairs of rows and columns, each in one pair at most: as many as there can be, then of the least sum.

    Args:
        costs: [N, M]; a pair whose cost is not finite is none.
        most: Nor is one whose cost is above it.

    Returns:
        int64 [P, 2], by ascending row.
    """
    table = np.asarray(costs, np.float64)
    turned = table.shape[0] > table.shape[1]
    table = table.T if turned else table
    with np.errstate(invalid="ignore"):
        allowed = np.isfinite(table) & (table <= most)
    if not allowed.any():
        return np.zeros((0, 2), np.int64)
    low, high = table[allowed].min(), table[allowed].max()
    dear = (high - low) * (len(table) + 1) + 1.0  # one that is forbidden costs more than all that are not
    row_of = _columns(np.where(allowed, table - low, dear))
    columns = np.flatnonzero(row_of >= 0)
    pairs = np.stack([row_of[columns], columns], 1)
    pairs = pairs[allowed[pairs[:, 0], pairs[:, 1]]]
    pairs = pairs[:, ::-1] if turned else pairs
    return np.ascontiguousarray(pairs[np.argsort(pairs[:, 0])])


def _columns(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """[M] the row of each column, -1 of those without; N <= M, and every row has one (shortest augmenting paths)."""
    rows, count = costs.shape
    row_price, price = np.zeros(rows), np.zeros(count)
    row_of = np.full(count, -1)
    for start in range(rows):
        shortest, before = np.full(count, np.inf), np.full(count, -1)
        seen, row, column, length = np.zeros(count, bool), start, -1, 0.0
        path_rows, path_lengths = [], []
        while True:
            path_rows.append(row)
            path_lengths.append(length)
            through = length + costs[row] - row_price[row] - price
            nearer = ~seen & (through < shortest)
            shortest[nearer], before[nearer] = through[nearer], column
            column = int(np.where(seen, np.inf, shortest).argmin())
            length = float(shortest[column])
            seen[column] = True
            row = int(row_of[column])
            if row < 0:
                break
        row_price[path_rows] += length - np.array(path_lengths)
        price[seen] -= length - shortest[seen]
        while column >= 0:
            previous = int(before[column])
            row_of[column] = row_of[previous] if previous >= 0 else start
            column = previous
    return row_of
