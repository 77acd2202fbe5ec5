"""PCK by the size of the person and by that of the torso, as Sub-JHMDB is measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.metrics.metric import Metric, by_person
from fastpose.metrics.pck import SIDED_PARTS, mean_of_parts, pck, visible_columns
from fastpose.metrics.truth import Truth
from fastpose.skeletons import JHMDB15

__all__ = ["JHMDB_PCK", "jhmdb_pck"]

_PARTS = {"head": ("head",), **SIDED_PARTS}


def jhmdb_pck(
    predicted: ArrayLike,
    truth: ArrayLike,
    visible: ArrayLike,
    boxes: ArrayLike,
    *,
    threshold: float = 0.2,
    weights: ArrayLike | None = None,
) -> dict[str, float]:
    """PCK of Sub-JHMDB (Jhuang et al., ICCV 2013) by the size of the person and by that of the torso.

    Args:
        predicted: [N, 15, 2] (x, y) in pixels.
        truth: [N, 15, 2] (x, y) in pixels.
        visible: [N, 15]; a keypoint counts where this is above 0.
        boxes: [N, 4] xyxy in pixels; the longer side is the size of the person.
        threshold: Fraction of the size.
        weights: [N] int, how often each person counts; once where not given.

    Returns:
        ``PCK@0.2`` by the box and ``tPCK@0.2`` by the torso (left shoulder to right hip; the predicted one where the
        true one is shorter than a pixel): means over the keypoints. Then parts of the body (``head PCK`` …, ``head
        tPCK`` …), left and right averaged. Between 0 and 1; NaN where nothing is annotated.

    Raises:
        ValueError: Shapes do not agree.
    """
    points, goal = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    counted = visible_columns(visible, JHMDB15.num_keypoints)
    rectangles = np.asarray(boxes, np.float64)
    if points.shape != goal.shape or goal.shape != (*counted.shape, 2) or rectangles.shape != (len(counted), 4):
        raise ValueError(
            f"predicted, truth, boxes: expected {(*counted.shape, 2)} twice and {(len(counted), 4)}, got "
            f"{points.shape}, {goal.shape}, {rectangles.shape}"
        )
    shoulder, hip = JHMDB15.indices(("left_shoulder", "right_hip"))
    torso = np.linalg.norm(goal[:, shoulder] - goal[:, hip], axis=-1)
    torso = np.where(torso < 1, np.linalg.norm(points[:, shoulder] - points[:, hip], axis=-1), torso)
    sizes = {"PCK": (rectangles[:, 2:] - rectangles[:, :2]).max(1, initial=0), "tPCK": torso}
    results = {n: pck(points, goal, counted, size, threshold, weights=weights) for n, size in sizes.items()}
    figures = {f"{name}@{threshold}": result.mean_of_joints for name, result in results.items()}
    for name, result in results.items():
        parts = mean_of_parts(result, JHMDB15, _PARTS)
        figures.update({f"{part} {name}": share for part, share in parts.items()})
    return figures


def _figures(truth: Truth, points: NDArray[np.float64], times: NDArray[np.int64] | None) -> dict[str, float]:
    return jhmdb_pck(points, truth.keypoints, truth.visible, truth.boxes_xyxy, weights=times)


JHMDB_PCK = Metric("jhmdb_pck", "PCK@0.2", by_person(_figures), skeletons=(JHMDB15,))
