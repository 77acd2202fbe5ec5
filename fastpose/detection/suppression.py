"""Which boxes of many photos are people, where several lie on one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastpose.ops import box_nms

from .detections import Detections

__all__ = ["best_boxes"]

Array = npt.NDArray[Any]


def best_boxes(boxes: Array, scores: Array, index: Array, count: int, *, overlap: float, most: int) -> list[Detections]:
    """The boxes of each photo that greedy suppression leaves (`fastpose.ops.box_nms`).

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
    kept = box_nms(boxes, scores, image_index=index, threshold=overlap, most=most)
    photo = index[kept]
    return [Detections(boxes[rows], scores[rows]) for rows in (kept[photo == number] for number in range(count))]
