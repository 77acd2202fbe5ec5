"""Normalised mean error, by which networks of faces are compared: a distance in lengths of the face."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.metrics.metric import Metric, by_person, predicted_people
from fastpose.metrics.pck import nme
from fastpose.metrics.truth import Truth
from fastpose.skeletons import Skeleton, get_skeleton

__all__ = ["FACE_NME", "face_nme", "face_sizes"]

_EYES: dict[str, tuple[int, int] | None] = {
    "300w68": (36, 45),
    "300wlp68": (36, 45),
    "coco_wholebody_face68": (36, 45),
    "cofw29": (8, 9),
    "wflw98": (60, 72),
    "lapa106": (66, 79),
    "horse22": (0, 1),
    "aflw19": None,
}
"""The two keypoints between which a face is measured: outer corners of the eyes (of a horse nose and eye); where there
are none, the longer side of its box."""

_SKELETONS = tuple(get_skeleton(name) for name in _EYES)
_ENDS = {skeleton.keypoints: _EYES[skeleton.name] for skeleton in _SKELETONS}


def face_sizes(truth: ArrayLike, visible: ArrayLike, boxes: ArrayLike, skeleton: Skeleton) -> NDArray[np.float64]:
    """The length by which errors on a face are divided, as the data set with these keypoints is published.

    Args:
        truth: [N, K, 2] (x, y) in pixels.
        visible: [N, K]; a keypoint is known where this is above 0.
        boxes: [N, 4] xyxy in pixels.
        skeleton: What the K keypoints are.

    Returns:
        [N] pixels: outer corner to outer corner of the eyes, for AFLW the longer side of the box, for Horse-10 nose to
        eye. NaN where one of the two is not known.

    Raises:
        ValueError: No length is known for such keypoints, or shapes do not agree.
    """
    if skeleton.keypoints not in _ENDS:
        raise ValueError(f"face_nme: knows by what to divide errors on {', '.join(_EYES)}, not on {skeleton.name!r}")
    points, known, rectangles = np.asarray(truth, np.float64), np.asarray(visible) > 0, np.asarray(boxes, np.float64)
    count = skeleton.num_keypoints
    if (points.shape, known.shape, rectangles.shape) != (
        (len(points), count, 2),
        (len(points), count),
        (len(points), 4),
    ):
        raise ValueError(
            f"truth, visible, boxes: expected [N, {count}, 2], [N, {count}] and [N, 4] ({skeleton.name}), got "
            f"{points.shape}, {known.shape}, {rectangles.shape}"
        )
    ends = _ENDS[skeleton.keypoints]
    if ends is None:
        return np.asarray((rectangles[:, 2:] - rectangles[:, :2]).max(1, initial=0))
    length = np.linalg.norm(points[:, ends[0]] - points[:, ends[1]], axis=-1)
    return np.where(known[:, ends].all(1), length, np.nan)


def face_nme(
    predicted: ArrayLike,
    truth: ArrayLike,
    visible: ArrayLike,
    boxes: ArrayLike,
    skeleton: Skeleton,
    *,
    weights: ArrayLike | None = None,
) -> dict[str, float]:
    """Normalised mean error of faces: WFLW, 300W, 300W-LP, COFW, AFLW, LaPa, COCO-WholeBody's faces.

    Args:
        predicted: [N, K, 2] (x, y) in pixels.
        truth: [N, K, 2] (x, y) in pixels.
        visible: [N, K]; a keypoint counts where this is above 0.
        boxes: [N, 4] xyxy in pixels.
        skeleton: What the K keypoints are, which says by what errors are divided (see :func:`face_sizes`).
        weights: [N] int, how often each face counts; once where not given.

    Returns:
        ``NME``: a share, where tables print percent (WFLW "4.01" is 0.0401); NaN where nothing is annotated.

    Raises:
        ValueError: No length is known for such keypoints, or shapes do not agree.

    Example:
        >>> from fastpose.skeletons import get_skeleton
        >>> face = np.zeros((1, 29, 2))
        >>> face[0, 9] = (100, 0)  # from eye to eye
        >>> found = face_nme(face + (3, 4), face, np.ones((1, 29)), [[0, 0, 200, 200]], get_skeleton("cofw29"))
        >>> round(found["NME"], 6)
        0.05
    """
    return {"NME": nme(predicted, truth, visible, face_sizes(truth, visible, boxes, skeleton), weights=weights)}


def _figures(truth: Truth, points: NDArray[np.float64], times: NDArray[np.int64] | None) -> dict[str, float]:
    known = predicted_people(points, times)
    return face_nme(points, truth.keypoints, truth.visible, truth.boxes_xyxy, truth.skeleton, weights=known)


FACE_NME = Metric("face_nme", "NME", by_person(_figures), skeletons=_SKELETONS, error=True)
