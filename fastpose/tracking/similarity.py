"""How much poses and boxes of two frames look like the same people."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["box_overlaps", "close_pairs", "person_sizes"]


def box_overlaps(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union [N, M] of boxes xyxy [N, 4] and [M, 4]; 0 where there is no area."""
    left, top, right, bottom = (b[:, side] for side in range(4))
    wide = np.minimum(a[:, 2, None], right) - np.maximum(a[:, 0, None], left)
    high = np.minimum(a[:, 3, None], bottom) - np.maximum(a[:, 1, None], top)
    shared = np.maximum(wide, 0) * np.maximum(high, 0)
    area_a, area_b = ((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) for box in (a, b))
    whole = area_a[:, None] + area_b - shared
    return np.asarray(np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0))


def person_sizes(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """The square root of the boxes' areas, [N] px."""
    return np.sqrt(np.maximum((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), 1.0))


def close_pairs(boxes: NDArray[np.float32]) -> NDArray[np.intp]:
    """The pairs [P, 2] of boxes [N, 4] whose centres are closer than a third of the lesser one's size, i < j."""
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, person_sizes(boxes)
    order = np.argsort(centres[:, 0])
    x, y, reach = centres[order, 0], centres[order, 1], sizes[order] / 3
    # Along the sorted x only neighbours are close; so one looks at a few diagonals, not at all pairs.
    found = []
    for step in range(1, len(order)):
        apart = x[step:] - x[:-step]
        near = apart < reach[step:]
        if not np.any(apart < reach.max()):
            break
        near &= (apart < reach[:-step]) & (np.abs(y[step:] - y[:-step]) < np.minimum(reach[step:], reach[:-step]))
        first = np.flatnonzero(near)
        found.append(np.stack([order[first], order[first + step]], axis=1))
    pairs = np.concatenate(found) if found else np.zeros((0, 2), np.intp)
    return np.sort(pairs, axis=1)
