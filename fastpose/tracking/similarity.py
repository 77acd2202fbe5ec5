"""How much poses and boxes of two frames look like the same people."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import box_ious
from ..ops import oks

__all__ = ["AREA_OF_BOX", "close_pairs", "person_sizes", "similarities"]

Floats = NDArray[np.float32]

AREA_OF_BOX = 0.53
"""A person's area by that of the box, as COCO's people have it."""

_POSES = 0.5  # share that the poses have in a similarity; the boxes have the rest
_VAGUENESS = 3.0  # by how much the deviations of an OKS grow a second: one knows less of where somebody hidden is
_BLOCK = 50  # tracks that are compared at once with whoever is near them


def similarities(
    poses: Floats,
    sure: NDArray[np.bool_],
    boxes: Floats,
    elapsed: NDArray[np.float64],
    others: Floats,
    other_boxes: Floats,
    sigmas: NDArray[Any],
) -> Floats:
    """How much expected people look like those of a frame: OKS and overlap of the boxes, half and half.

    Args:
        poses: [M, K, 2] px, where each keypoint is expected.
        sure: [M, K], which of them count.
        boxes: [M, 4] xyxy px, likewise expected.
        elapsed: [M] seconds since they were seen.
        others: [N, K, 2] px, of the frame.
        other_boxes: [N, 4].
        sigmas: [K].

    Returns:
        [M, N] between 0 and 1; 0 also of people so far apart from left to right that there is next to nothing.
    """
    vague = 1 + _VAGUENESS * elapsed
    areas = AREA_OF_BOX * (person_sizes(boxes) * vague) ** 2
    margin = 0.5 * np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) * vague
    left, right = boxes[:, 0] - margin, boxes[:, 2] + margin
    # From left to right, so that a block of tracks looks at a stretch of people.
    order, columns = np.argsort(left), np.argsort(other_boxes[:, 0])
    poses, sure, boxes, areas = poses[order], sure[order], boxes[order], areas[order]
    others, other_boxes = others[columns], other_boxes[columns]
    widest = (other_boxes[:, 2] - other_boxes[:, 0]).max(initial=0)
    result = np.zeros((len(poses), len(others)), np.float32)
    for start in range(0, len(order), _BLOCK):
        rows = slice(start, start + _BLOCK)
        ends = left[order[start]] - widest, right[order[rows]].max()
        near = slice(*np.searchsorted(other_boxes[:, 0], ends))
        block = result[rows, near]
        if block.size:
            block += oks(poses[rows], others[near], areas[rows], sigmas, visible=sure[rows])
            block *= _POSES
            block += (1 - _POSES) * box_ious(boxes[rows], other_boxes[near])
    return result[np.argsort(order)][:, np.argsort(columns)]


def person_sizes(boxes: Floats) -> Floats:
    """The square root of the boxes' areas, [N] px."""
    return np.sqrt(np.maximum((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), 1.0))


def close_pairs(boxes: Floats) -> NDArray[np.intp]:
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
