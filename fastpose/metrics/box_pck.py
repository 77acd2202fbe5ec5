"""PCK by the longer side of the box, with AUC and EPE: hands, animals, clothes, and bodies with feet."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.metrics.metric import Metric, by_person, predicted_people
from fastpose.metrics.pck import auc, epe, pck
from fastpose.metrics.truth import Truth
from fastpose.skeletons import Skeleton, get_skeleton

__all__ = ["BOX_PCK", "BOX_PCK_5", "BOX_PCK_10", "box_pck"]

_THRESHOLDS = (0.2, 0.1, 0.05)


def box_pck(
    predicted: ArrayLike,
    truth: ArrayLike,
    visible: ArrayLike,
    boxes: ArrayLike,
    *,
    weights: ArrayLike | None = None,
) -> dict[str, float]:
    """Share of keypoints within a part of the box's longer side, area under the curve, and error in pixels.

    Args:
        predicted: [N, K, 2] (x, y) in pixels.
        truth: [N, K, 2] (x, y) in pixels.
        visible: [N, K]; a keypoint counts where this is above 0.
        boxes: [N, 4] xyxy in pixels.
        weights: [N] int, how often each instance counts; once where not given.

    Returns:
        ``PCK@0.2``, ``PCK@0.1``, ``PCK@0.05``, and ``AUC`` over 20 limits from 0 to 30 pixels: means over the
        keypoints, between 0 and 1. ``EPE``: mean distance in pixels, which is NaN where a counted keypoint is not
        finite. NaN where nothing is annotated.

    Raises:
        ValueError: Shapes do not agree.

    Example:
        >>> truth = np.zeros((1, 21, 2))
        >>> box_pck(truth + (6, 0), truth, np.ones((1, 21)), [[0, 0, 50, 100]])
        {'PCK@0.2': 1.0, 'PCK@0.1': 1.0, 'PCK@0.05': 0.0, 'AUC': 0.75, 'EPE': 6.0}
    """
    rectangles = np.asarray(boxes, np.float64)
    if rectangles.shape != (len(np.asarray(visible)), 4):
        raise ValueError(f"boxes: expected shape {(len(np.asarray(visible)), 4)}, got {rectangles.shape}")
    sides = (rectangles[:, 2:] - rectangles[:, :2]).max(1, initial=0)
    shares = {t: pck(predicted, truth, visible, sides, t, weights=weights) for t in _THRESHOLDS}
    return {
        **{f"PCK@{t}": result.mean_of_joints for t, result in shares.items()},
        "AUC": auc(predicted, truth, visible, weights=weights),
        "EPE": epe(predicted, truth, visible, weights=weights),
    }


def _figures(truth: Truth, points: NDArray[np.float64], times: NDArray[np.int64] | None) -> dict[str, float]:
    figures = box_pck(points, truth.keypoints, truth.visible, truth.boxes_xyxy, weights=times)
    # Nobody has a distance from nothing: shares call that wrong, a mean is of the others.
    known = predicted_people(points, times)
    return figures | {"EPE": epe(points, truth.keypoints, truth.visible, weights=known)}


def _metric(name: str, threshold: float, *skeletons: str) -> Metric:
    published: tuple[Skeleton, ...] = tuple(map(get_skeleton, skeletons))
    return Metric(name, f"PCK@{threshold}", by_person(_figures), skeletons=published)


BOX_PCK = _metric(
    "box_pck",
    0.2,
    *("coco_wholebody_hand21", "freihand21", "onehand10k21", "rhd21"),
    *("fly32", "locust35", "zebra9"),
    *("deepfashion_full8", "deepfashion_upper6", "deepfashion_lower4", "deepfashion2_294"),
    "halpe136",
)
"""Hands, insects, zebras, clothes."""

BOX_PCK_10 = _metric("box_pck_10", 0.1, "halpe26")
"""Bodies with feet, as the body8 mixture is measured."""

BOX_PCK_5 = _metric("box_pck_5", 0.05, "animalkingdom23")
"""Animal Kingdom."""
