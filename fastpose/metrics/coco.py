"""COCO's average precision and recall of keypoints, and the scores and suppression that published figures use first."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["AP_NAMES", "coco_ap", "coco_results", "score_poses"]

AP_NAMES = ("AP", "AP50", "AP75", "AP_medium", "AP_large", "AR", "AR50", "AR75", "AR_medium", "AR_large")
"""The ten figures in the order of COCO's own summary."""

ScoreMode = Literal["bbox", "keypoint", "bbox_keypoint", "bbox_rle"]
NmsMode = Literal["none", "oks_nms", "soft_oks_nms"]

# What a person's outline fills of the box, where a data set has no outlines (CrowdPose, AI Challenger, PoseTrack).
AREA_OF_BOX = 0.53


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


def coco_results(
    image_ids: ArrayLike,
    keypoints: ArrayLike,
    keypoint_scores: ArrayLike,
    box_scores: ArrayLike,
    areas: ArrayLike,
    sigmas: ArrayLike,
    *,
    ids: ArrayLike | None = None,
    score_mode: ScoreMode = "bbox_keypoint",
    score_threshold: float = 0.2,
    nms: NmsMode = "oks_nms",
    nms_threshold: float = 0.9,
    soft_nms_limit: int = 20,
    category_id: int = 1,
) -> list[dict[str, Any]]:
    """Score predicted poses, suppress doubles and write them in COCO's results format.

    Args:
        image_ids: [N] int, the photo of each pose.
        keypoints: [N, K, 2] (x, y) in pixels of the photo.
        keypoint_scores: [N, K].
        box_scores: [N].
        areas: [N] area of each pose in square pixels, for the suppression: of the padded box in published figures.
        sigmas: [K] of the OKS.
        ids: [N] int, the box that each pose comes from; of several with one id on one photo the first is kept, since
            samplers of several processes repeat some. By default all are kept.
        score_mode: See :func:`score_poses`.
        score_threshold: Its threshold.
        nms: "none", "oks_nms" or "soft_oks_nms" (which limits the number; scores stay as they were).
        nms_threshold: See :func:`fastpose.ops.oks_nms`.
        soft_nms_limit: How many poses a photo may have after "soft_oks_nms".
        category_id: Written to every entry.

    Returns:
        One dict a pose, ready for JSON: ``image_id``, ``category_id``, ``keypoints`` (x, y, score of each), ``score``.

    Raises:
        ValueError: Shapes do not agree or a mode is unknown.
    """
    photos = np.asarray(image_ids, np.int64)
    points, point_scores = np.asarray(keypoints, np.float64), np.asarray(keypoint_scores, np.float64)
    if photos.ndim != 1 or points.shape != (*photos.shape, *point_scores.shape[1:], 2):
        raise ValueError(
            "image_ids, keypoints, keypoint_scores: expected shapes [N], [N, K, 2], [N, K], got "
            f"{photos.shape}, {points.shape}, {point_scores.shape}"
        )
    if nms not in ("none", "oks_nms", "soft_oks_nms"):
        raise ValueError(f"nms: expected none, oks_nms or soft_oks_nms, got {nms!r}")
    sizes = np.asarray(areas, np.float64)
    if sizes.shape != photos.shape:
        raise ValueError(f"areas: expected shape {photos.shape}, got {sizes.shape}")
    scores = score_poses(point_scores, box_scores, score_mode, threshold=score_threshold)
    kept = np.arange(len(photos))
    if ids is not None:
        identities = np.asarray(ids, np.int64)
        if identities.shape != photos.shape:
            raise ValueError(f"ids: expected shape {photos.shape}, got {identities.shape}")
        kept = np.unique(np.stack([photos, identities], 1), axis=0, return_index=True)[1]
    poses = np.concatenate([points, point_scores[..., None]], -1)
    if nms != "none":
        from fastpose.ops import oks_nms  # here, so that the other metrics need no torch

        soft = nms == "soft_oks_nms"
        result = oks_nms(
            poses[kept],
            scores[kept],
            sizes[kept],
            np.asarray(sigmas, np.float64),
            nms_threshold,
            image_index=np.unique(photos[kept], return_inverse=True)[1].reshape(-1),
            soft=soft,
            max_per_image=soft_nms_limit if soft else None,
        )
        kept = kept[result[0] if soft else result]
    return [
        {
            "image_id": int(photos[i]),
            "category_id": category_id,
            "keypoints": poses[i].reshape(-1).tolist(),
            "score": float(scores[i]),
        }
        for i in kept
    ]


def coco_ap(
    annotations: str | Path | Mapping[str, Any],
    results: str | Path | Sequence[Mapping[str, Any]],
    *,
    sigmas: ArrayLike | None = None,
    use_area: bool = True,
) -> dict[str, float]:
    """Average precision and recall as COCO's keypoint challenge defines them, by pycocotools.

    Args:
        annotations: COCO annotation file, or what it holds.
        results: COCO results file, or what it holds: ``image_id``, ``keypoints`` (3 K numbers), ``score`` of each pose.
        sigmas: [K] of the OKS; by default COCO's 17.
        use_area: Take the annotated areas; otherwise 0.53 of the annotated box.

    Returns:
        The figures named in ``AP_NAMES``, between 0 and 1; -1 where there is nothing to find.

    Raises:
        ValueError: There are no results, or one is of an unknown photo, has the wrong length or a value that is not
            finite; or a file cannot be read.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = _read(annotations) if isinstance(annotations, (str, Path)) else annotations
    entries = _read(results) if isinstance(results, (str, Path)) else results
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        known = COCO()
        known.dataset = _ground_truth(truth, use_area)
        known.createIndex()
        evaluation = COCOeval(known, None, "keypoints")
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
        joints = len(evaluation.params.kpt_oks_sigmas)
        _check_lengths(known.dataset["annotations"], joints)
        categories = sorted({entry["category_id"] for entry in known.dataset["annotations"]})
        evaluation.cocoDt = known.loadRes(_checked_results(entries, set(known.imgs), joints, categories[0]))
        evaluation.params.imgIds, evaluation.params.catIds = sorted(known.imgs), categories
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(AP_NAMES, evaluation.stats, strict=True)}


def _read(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error})") from None


def _ground_truth(content: Mapping[str, Any], use_area: bool) -> dict[str, Any]:
    """The annotations with keypoints, completed by what pycocotools needs."""
    if not isinstance(content, Mapping) or "images" not in content or "annotations" not in content:
        raise ValueError("annotations: expected an object with images and annotations")
    people = []
    for entry in content["annotations"]:
        if not entry.get("keypoints"):
            continue
        person = {"iscrowd": 0, "category_id": 1, **entry}
        if "num_keypoints" not in person:
            person["num_keypoints"] = sum(1 for v in person["keypoints"][2::3] if v > 0)
        if not use_area or person.get("area") is None:
            person["area"] = person["bbox"][2] * person["bbox"][3] * AREA_OF_BOX
        people.append(person)
    if not people:
        raise ValueError("annotations: none of them has keypoints")
    categories = content.get("categories") or [{"id": i} for i in sorted({p["category_id"] for p in people})]
    return {"images": list(content["images"]), "annotations": people, "categories": list(categories)}


def _check_lengths(people: list[dict[str, Any]], joints: int) -> None:
    for person in people:
        if len(person["keypoints"]) != 3 * joints:
            count, where = len(person["keypoints"]) // 3, f"annotation {person.get('id')}"
            raise ValueError(f"sigmas: expected one per annotated keypoint ({count}, {where}), got {joints}")


def _checked_results(entries: Any, images: set[int], joints: int, category: int) -> list[dict[str, Any]]:
    """Copies of the results, which pycocotools writes into."""
    if isinstance(entries, Mapping) or not isinstance(entries, Sequence):
        raise ValueError(f"results: expected a list of poses, got {type(entries).__name__}")
    if not entries:
        raise ValueError("results: empty, there is nothing to evaluate")
    checked = []
    for index, entry in enumerate(entries):
        missing = [key for key in ("image_id", "keypoints", "score") if key not in entry]
        if missing:
            raise ValueError(f"results: number {index} has no {', '.join(missing)}")
        if entry["image_id"] not in images:
            raise ValueError(f"results: number {index} is of image_id {entry['image_id']}, which is not annotated")
        if len(entry["keypoints"]) != 3 * joints:
            raise ValueError(
                f"results: number {index}: expected {3 * joints} keypoint values, got {len(entry['keypoints'])}"
            )
        if not all(map(math.isfinite, (*entry["keypoints"], entry["score"]))):
            raise ValueError(f"results: number {index} has a value that is not finite")
        # Only what the metric takes: with a bbox in it pycocotools would take the list for boxes.
        checked.append(
            {
                "image_id": entry["image_id"],
                "category_id": entry.get("category_id", category),
                "keypoints": list(entry["keypoints"]),
                "score": entry["score"],
            }
        )
    return checked
