"""What becomes of predicted poses before they are measured: one score each, doubles suppressed."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.metrics.coco_files import result_entries
from fastpose.metrics.results import PoseResults

__all__ = ["NmsMode", "ScoreMode", "coco_results", "distinct_poses", "rank_poses", "score_poses"]

ScoreMode = Literal["bbox", "keypoint", "bbox_keypoint", "bbox_rle"]
NmsMode = Literal["none", "oks_nms", "soft_oks_nms"]


def score_poses(
    keypoint_scores: ArrayLike, box_scores: ArrayLike, mode: ScoreMode = "bbox_keypoint", *, threshold: float = 0.2
) -> NDArray[np.float64]:
    """One score per pose, from those of its keypoints and of its box.

    Args:
        keypoint_scores: [N, K].
        box_scores: [N].
        mode: "bbox": that of the box. "keypoint": mean of the keypoints. "bbox_keypoint": box times the mean of the
            keypoints above ``threshold`` (0 if there is none). "bbox_rle": box plus mean plus highest of the keypoints.
        threshold: Keypoints above it count in "bbox_keypoint".

    Returns:
        [N] float64.

    Raises:
        ValueError: Unknown mode, or shapes do not agree.
    """
    points, boxes = np.asarray(keypoint_scores, np.float64), np.asarray(box_scores, np.float64)
    if points.ndim != 2 or boxes.shape != points.shape[:1]:
        raise ValueError(
            f"keypoint_scores, box_scores: expected shapes [N, K] and [N], got {points.shape} and {boxes.shape}"
        )
    if mode == "bbox":
        return boxes.copy()
    if points.shape[1] == 0:
        raise ValueError(f"keypoint_scores: mode {mode!r} needs at least one keypoint")
    if mode == "keypoint":
        return points.mean(1)
    if mode == "bbox_rle":
        return boxes + points.mean(1) + points.max(1)
    if mode == "bbox_keypoint":
        sure = points > threshold
        return boxes * np.where(sure, points, 0).sum(1) / np.maximum(sure.sum(1), 1)
    raise ValueError(f"mode: expected bbox, keypoint, bbox_keypoint or bbox_rle, got {mode!r}")


def rank_poses(
    image_ids: ArrayLike,
    keypoints: ArrayLike,
    keypoint_scores: ArrayLike,
    box_scores: ArrayLike,
    areas: ArrayLike,
    sigmas: ArrayLike,
    *,
    ids: ArrayLike | None = None,
    category_ids: ArrayLike | None = None,
    score_mode: ScoreMode = "bbox_keypoint",
    score_threshold: float = 0.2,
    nms: NmsMode = "oks_nms",
    nms_threshold: float = 0.9,
    soft_nms_limit: int = 20,
) -> PoseResults:
    """Score predicted poses and suppress doubles.

    Args:
        image_ids: [N] int, the photo of each pose.
        keypoints: [N, K, 2] (x, y) in pixels of the photo.
        keypoint_scores: [N, K].
        box_scores: [N].
        areas: [N] area of each pose in square pixels, for the suppression: of the padded box in published figures.
        sigmas: [K] of the OKS.
        ids: [N] int, the box that each pose comes from; of several with one id on one photo the first is kept, since
            samplers of several processes repeat some. By default all are kept.
        category_ids: [N] int, where several categories are measured (AP-10K's species); poses of different ones are
            doubles of each other all the same.
        score_mode: See :func:`score_poses`.
        score_threshold: Its threshold.
        nms: "none", "oks_nms" or "soft_oks_nms" (which limits the number; scores stay as they were).
        nms_threshold: See :func:`fastpose.ops.oks_nms`.
        soft_nms_limit: How many poses a photo may have after "soft_oks_nms".

    Returns:
        The poses that are left, with their scores.

    Raises:
        ValueError: Shapes do not agree or a mode is unknown.
    """
    photos = np.asarray(image_ids, np.int64)
    points, point_scores = np.asarray(keypoints), np.asarray(keypoint_scores)
    if photos.ndim != 1 or points.shape != (*photos.shape, *point_scores.shape[1:], 2):
        raise ValueError(
            "image_ids, keypoints, keypoint_scores: expected shapes [N], [N, K, 2], [N, K], got "
            f"{photos.shape}, {points.shape}, {point_scores.shape}"
        )
    sizes = np.asarray(areas, np.float64)
    if sizes.shape != photos.shape:
        raise ValueError(f"areas: expected shape {photos.shape}, got {sizes.shape}")
    scores = score_poses(point_scores, box_scores, score_mode, threshold=score_threshold)
    categories = None if category_ids is None else np.asarray(category_ids, np.int64)
    results = PoseResults(photos, points, point_scores, scores, category_ids=categories)
    kept = np.arange(len(photos))
    if ids is not None:
        identities = np.asarray(ids, np.int64)
        if identities.shape != photos.shape:
            raise ValueError(f"ids: expected shape {photos.shape}, got {identities.shape}")
        kept = np.unique(np.stack([photos, identities], 1), axis=0, return_index=True)[1]
    left = results.select(kept)
    distinct = distinct_poses(left, sizes[kept], sigmas, nms=nms, threshold=nms_threshold, soft_limit=soft_nms_limit)
    return left.select(distinct)


def distinct_poses(
    results: PoseResults,
    areas: ArrayLike,
    sigmas: ArrayLike,
    *,
    nms: NmsMode = "oks_nms",
    threshold: float = 0.9,
    soft_limit: int = 20,
) -> NDArray[np.int64]:
    """Which poses are left once doubles are suppressed.

    Args:
        results: D poses with their scores.
        areas: [D] square pixels.
        sigmas: [K] of the OKS.
        nms: "none", "oks_nms" or "soft_oks_nms" (which limits the number; scores stay as they were).
        threshold: See :func:`fastpose.ops.oks_nms`.
        soft_limit: How many poses a photo may have after "soft_oks_nms".

    Returns:
        [M] positions.

    Raises:
        ValueError: A mode is unknown.
    """
    if nms not in ("none", "oks_nms", "soft_oks_nms"):
        raise ValueError(f"nms: expected none, oks_nms or soft_oks_nms, got {nms!r}")
    if nms == "none":
        return np.arange(len(results))
    from fastpose.ops import oks_nms  # here, so that the other metrics need no torch

    soft = nms == "soft_oks_nms"
    chosen = oks_nms(
        results.keypoints.astype(np.float64),
        results.scores,
        np.asarray(areas, np.float64),
        np.asarray(sigmas, np.float64),
        threshold,
        image_index=np.unique(results.image_ids, return_inverse=True)[1].reshape(-1),
        soft=soft,
        max_per_image=soft_limit if soft else None,
    )
    return np.asarray(chosen[0] if soft else chosen)


def coco_results(*poses: ArrayLike, category_id: int = 1, **options: Any) -> list[dict[str, Any]]:
    """Score predicted poses, suppress doubles and write them in COCO's results format.

    Args:
        *poses: Arguments of :func:`rank_poses`, in its order or by name.
        category_id: Written to entries where ``category_ids`` is not among the options.
        **options: Those of :func:`rank_poses`.

    Returns:
        One dict a pose, ready for JSON: ``image_id``, ``category_id``, ``keypoints`` (x, y, score of each), ``score``.

    Raises:
        ValueError: Shapes do not agree or a mode is unknown.
    """
    return result_entries(rank_poses(*poses, **options), category_id=category_id)
