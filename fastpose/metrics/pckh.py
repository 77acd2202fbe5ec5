"""PCK as MPII, its contours (TRB) and Sub-JHMDB are measured: by the head, by the person's box and by the torso."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.metrics.pck import mean_of_parts, pck
from fastpose.skeletons import JHMDB15, MPII16, MPII_TRB40

__all__ = ["jhmdb_pck", "mpii_pckh", "trb_accuracy"]

_LIMBS = {part: (f"left_{part}", f"right_{part}") for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")}
_MPII_PARTS = {"head": ("head_top",), **_LIMBS}
_MPII_LEFT_OUT = ("pelvis", "thorax")
_JHMDB_PARTS = {"head": ("head",), **_LIMBS}
_TRB_JOINTS = 14  # the first of TRB's 40 points are the skeleton


def mpii_pckh(
    predicted: ArrayLike,
    truth: ArrayLike,
    visible: ArrayLike,
    head_sizes: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    origin: float = 1.0,
) -> dict[str, float]:
    """PCKh of MPII Human Pose (Andriluka et al., CVPR 2014): within 0.5 and within 0.1 of the head's length.

    Args:
        predicted: [N, 16, 2] (x, y) in pixels.
        truth: [N, 16, 2] (x, y) in pixels.
        visible: [N, 16]; a keypoint counts where this is above 0.
        head_sizes: [N] pixels: 0.6 of the head box's diagonal; people without (NaN) are left out.
        weights: [N] int, how often each person counts; once where not given.
        origin: Number of the first pixel in ``truth``. MPII's files count from 1, and predictions from 0.

    Returns:
        ``PCKh@0.5`` and ``PCKh@0.1``: of all annotated keypoints counted together, pelvis and thorax left out. Then
        parts of the body (``head@0.5`` …), left and right averaged. Between 0 and 1; NaN where nothing is annotated.

    Raises:
        ValueError: Shapes do not agree.
    """
    points = np.asarray(predicted, np.float64) + origin
    counted = _columns("visible", visible, MPII16.num_keypoints).copy()
    counted[:, list(MPII16.indices(_MPII_LEFT_OUT))] = 0
    results = {t: pck(points, truth, counted, head_sizes, t, weights=weights) for t in (0.5, 0.1)}
    figures = {f"PCKh@{t}": result.mean for t, result in results.items()}
    for t, result in results.items():
        parts = mean_of_parts(result, MPII16, _MPII_PARTS)
        figures.update({f"{part}@{t}": share for part, share in parts.items()})
    return figures


def trb_accuracy(
    predicted: ArrayLike,
    truth: ArrayLike,
    visible: ArrayLike,
    head_sizes: ArrayLike,
    *,
    weights: ArrayLike | None = None,
) -> dict[str, float]:
    """Accuracy of skeleton and contour on MPII-TRB (Duan et al., "TRB", ICCV 2019).

    Args:
        predicted: [N, 40, 2] (x, y) in pixels.
        truth: [N, 40, 2] (x, y) in pixels.
        visible: [N, 40]; a point counts where this is above 0.
        head_sizes: [N] pixels: 0.6 of the head box's diagonal; half of it, 0.3 of the diagonal, is the limit.
        weights: [N] int, how often each person counts; once where not given.

    Returns:
        ``mean``, ``skeleton`` and ``contour``: of all annotated points of that kind counted together, between 0 and 1;
        NaN where nothing is annotated.

    Raises:
        ValueError: Shapes do not agree.
    """
    counted = _columns("visible", visible, MPII_TRB40.num_keypoints)
    kinds = {"mean": slice(None), "skeleton": slice(_TRB_JOINTS), "contour": slice(_TRB_JOINTS, None)}
    result = pck(predicted, truth, counted, head_sizes, 0.5, weights=weights)
    figures = {}
    for kind, part in kinds.items():
        annotated = int(result.annotated[part].sum())
        figures[kind] = float(result.correct[part].sum() / annotated) if annotated else float("nan")
    return figures


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
    counted = _columns("visible", visible, JHMDB15.num_keypoints)
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
        parts = mean_of_parts(result, JHMDB15, _JHMDB_PARTS)
        figures.update({f"{part} {name}": share for part, share in parts.items()})
    return figures


def _columns(name: str, values: ArrayLike, count: int) -> NDArray[np.int64]:
    array = np.asarray(values).astype(np.int64)
    if array.ndim != 2 or array.shape[1] != count:
        raise ValueError(f"{name}: expected shape [N, {count}], got {array.shape}")
    return array
