"""Pairs of least cost."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["assign"]


def assign(costs: ArrayLike, most: float) -> NDArray[np.int64]:
    """The pairs of rows and columns whose costs, with ``most`` for every row left alone, are least in sum.

    Exact: shortest augmenting paths (Jonker and Volgenant, Computing 38, 1987). A pair dearer than ``most`` is none.

    Args:
        costs: [N,M] finite or infinite, no NaN.
        most: Cost that a pair may have.

    Returns:
        int64 [P,2], row and column of each pair, by row.

    Raises:
        ValueError: ``costs`` is not two-dimensional or holds NaN or -inf, or ``most`` is not finite.

    Example:
        >>> assign([[1.0, 2.0], [1.5, 9.0]], most=5.0).tolist()
        [[0, 1], [1, 0]]
    """
    table: NDArray[Any] = np.asarray(costs, dtype=float)
    if table.ndim != 2:
        raise ValueError(f"costs: expected shape [N,M], got {list(table.shape)}")
    if not np.isfinite(most):
        raise ValueError(f"most: expected a finite number, got {most}")
    if np.isnan(table).any() or np.isneginf(table).any():
        raise ValueError("costs: expected numbers, got NaN or -inf")
    rows, columns = table.shape
    # One spare column a row: who stays alone. What is dearer than `most` never beats it.
    padded = np.full((rows, columns + rows), np.inf)
    padded[:, :columns] = np.where(table <= most, table - most, np.inf)
    padded[np.arange(rows), columns + np.arange(rows)] = 0.0
    owner = np.full(columns + rows, -1)
    price = np.zeros(columns + rows)
    dual = padded.min(axis=1, initial=np.inf) if rows else np.zeros(0)
    for row in range(rows):
        _augment(padded, row, owner, price, dual)
    taken = np.flatnonzero(owner[:columns] >= 0)
    pairs = np.stack([owner[taken], taken], axis=1)
    return pairs[np.argsort(pairs[:, 0])]


def _augment(costs: NDArray[Any], row: int, owner: NDArray[Any], price: NDArray[Any], dual: NDArray[Any]) -> None:
    """Give a row its column, by the shortest path over the columns that others hold."""
    count = costs.shape[1]
    shortest, before, done = np.full(count, np.inf), np.full(count, -1), np.zeros(count, bool)
    current, length = row, 0.0
    visited = [row]
    while True:
        reach = length + costs[current] - dual[current] - price
        nearer = (reach < shortest) & ~done
        shortest[nearer], before[nearer] = reach[nearer], current
        column = int(np.where(done, np.inf, shortest).argmin())
        length = shortest[column]
        done[column] = True
        if owner[column] < 0:
            break
        current = int(owner[column])
        visited.append(current)
    held = {int(owner[j]): j for j in np.flatnonzero(done) if owner[j] >= 0}
    for r in visited:
        dual[r] += length - (shortest[held[r]] if r in held else 0.0)
    price[done] -= length - shortest[done]
    while True:
        r = int(before[column])
        owner[column] = r
        if r == row:
            return
        column = int(held[r])
