"""The object keypoint similarity (OKS), and poses matched by it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.metrics.matching import THRESHOLDS, Candidates, Matches, Similarity, match
from fastpose.metrics.results import PoseResults
from fastpose.metrics.truth import Truth

__all__ = ["POSES_OF_A_PHOTO", "POSE_AREAS", "keypoint_similarity", "match_poses"]

POSE_AREAS = ("all", "medium", "large")
"""Sizes of people of whom COCO measures keypoints; of small ones they are not annotated."""

POSES_OF_A_PHOTO = 20
"""Those with the highest scores count."""

_TINY = np.spacing(1)


def keypoint_similarity(
    predicted: NDArray[np.float64], truth: NDArray[np.float64], areas: NDArray[np.float64], sigmas: NDArray[np.float64]
) -> NDArray[np.float64]:
    """COCO's similarity of single keypoints, exp(-d² / (8 area sigma²)).

    Args:
        predicted: [..., K, 2] (x, y) in pixels.
        truth: [..., K, 2] (x, y) in pixels.
        areas: [...] square pixels.
        sigmas: [K].

    Returns:
        [..., K] between 0 and 1.
    """
    offset = predicted - truth
    offset *= offset
    exponent = offset[..., 0] + offset[..., 1]
    exponent *= -0.125 / sigmas**2
    exponent /= (areas + _TINY)[..., None]
    return np.asarray(np.exp(exponent, out=exponent))


def match_poses(
    truth: Truth,
    results: PoseResults,
    *,
    thresholds: ArrayLike = THRESHOLDS,
    areas: Sequence[str] = POSE_AREAS,
) -> Matches:
    """Match poses to people by their OKS; the 20 of the highest scores of each photo and category count.

    Args:
        truth: The annotated people, with the sigmas of the OKS.
        results: The predicted poses.
        thresholds: [T] similarities from which on a pose may be matched.
        areas: Names in ``matching.AREA_RANGES``.

    Returns:
        The matches.

    Raises:
        ValueError: There are no results, or one is of an unknown photo or of other keypoints.
    """
    image = results.photos(truth)
    by_joint = np.ascontiguousarray(results.keypoints.transpose(1, 2, 0))  # [K, 2, D]: the way in which NumPy is fast
    width, height = by_joint.max(0).astype(np.float64) - by_joint.min(0)
    candidates = Candidates(image, results.categories(truth), results.scores, width * height)
    return match(
        truth, candidates, _oks(truth, results), per_photo=POSES_OF_A_PHOTO, thresholds=thresholds, areas=areas
    )


def _oks(truth: Truth, results: PoseResults) -> Similarity:
    sigmas = np.asarray(truth.skeleton.sigmas, np.float64)
    known = truth.visible > 0
    blank = np.asarray(~known.any(1))

    def similarity(of: NDArray[np.int64], person: NDArray[np.int64]) -> NDArray[np.float64]:
        counted, points, goal = known[person], results.keypoints[of], truth.keypoints[person]
        empty = blank[person]
        if empty.any():
            # Without annotated keypoints: how far the pose lies outside of the box, enlarged to three times its sides.
            corner, size = np.split(truth.boxes_xywh[person[empty], None], 2, -1)
            goal[empty] = np.clip(points[empty], corner - size, corner + 2 * size)
            counted[empty] = True
        near = keypoint_similarity(points, goal, truth.areas[person], sigmas)
        return np.asarray(np.einsum("pk,pk->p", near, counted) / np.count_nonzero(counted, axis=1))

    return similarity
