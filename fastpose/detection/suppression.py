"""Which boxes of many photos are people, where several lie on one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .detections import Detections

__all__ = ["best_boxes"]

Array = npt.NDArray[Any]


def best_boxes(boxes: Array, scores: Array, index: Array, count: int, *, overlap: float, most: int) -> list[Detections]:
    """The boxes of each photo that greedy suppression leaves.

    Args:
        boxes: [N, 4] xyxy; those that are not finite, or have no width or no height, are left out.
        scores: [N], 0 to 1.
        index: [N], the photo of each.
        count: Of the photos.
        overlap: Of two boxes of a photo that overlap more than this (intersection over union) the one with the lower
            score goes; 1 keeps all.
        most: Boxes of a photo, those with the highest scores.

    Returns:
        The boxes of each photo, best first.
    """
    whole = np.isfinite(boxes).all(1) & np.isfinite(scores)
    whole &= (boxes[:, 2:] > boxes[:, :2]).all(1)
    boxes, scores, index = boxes[whole], scores[whole], index[whole]
    found = []
    for number in range(count):
        rows = np.flatnonzero(index == number)
        kept = rows[_suppressed(torch.from_numpy(boxes[rows]), torch.from_numpy(scores[rows]), overlap).numpy()[:most]]
        found.append(Detections(boxes[kept], scores[kept]))
    return found


def _suppressed(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    """Indices of the boxes [N, 4] that greedy suppression leaves, best first."""
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes[order]
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    near = shared > overlap * (areas[:, None] + areas[None] - shared)
    gone = torch.zeros(len(boxes), dtype=torch.bool)
    for row in range(len(boxes)):
        if not gone[row]:
            gone[row + 1 :] |= near[row, row + 1 :]
    return order[~gone]
