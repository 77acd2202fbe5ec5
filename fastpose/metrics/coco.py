"""Average precision and recall of keypoints as COCO and CrowdPose define them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.metrics.coco_files import Content, Results, read_content, read_results, read_truth
from fastpose.metrics.matching import PoseMatches, match_poses
from fastpose.skeletons import COCO17, CROWDPOSE14

__all__ = [
    "AP_NAMES",
    "CROWD_LIMITS",
    "CROWD_NAMES",
    "coco_ap",
    "coco_figures",
    "coco_matches",
    "crowd_figures",
    "crowdpose_ap",
]

AP_NAMES = ("AP", "AP50", "AP75", "AP_medium", "AP_large", "AR", "AR50", "AR75", "AR_medium", "AR_large")
"""The ten figures in the order of COCO's own summary."""

CROWD_NAMES = ("AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP_easy", "AP_medium", "AP_hard")
"""The nine figures of CrowdPose; medium is the crowding here, not the size."""

CROWD_LIMITS = (0.2, 0.8)
"""Crowd index from which a photo is medium, and from which it is hard, in CrowdPose's own evaluation."""


def coco_ap(
    annotations: Content, results: Results, *, sigmas: ArrayLike | None = None, use_area: bool = True
) -> dict[str, float]:
    """Average precision and recall as COCO's keypoint challenge defines them.

    The figures of pycocotools to the last few bits. One thing is read otherwise: an annotation of id 0 is a person
    like any other, where pycocotools takes one that was found for one that was not.

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
    return coco_figures(coco_matches(annotations, results, sigmas=sigmas, use_area=use_area))


def coco_matches(
    annotations: Content, results: Results, *, sigmas: ArrayLike | None = None, use_area: bool = True
) -> PoseMatches:
    """The matches that :func:`coco_figures` and :func:`crowd_figures` summarise; arguments as for :func:`coco_ap`."""
    deviations = np.asarray(COCO17.sigmas if sigmas is None else sigmas, np.float64)
    truth = read_truth(annotations, len(deviations), use_area=use_area)
    return match_poses(truth, read_results(results, truth), deviations)


def coco_figures(matches: PoseMatches, weights: ArrayLike | None = None) -> dict[str, float]:
    """The figures named in ``AP_NAMES``.

    Args:
        matches: From :func:`coco_matches`.
        weights: [I], how often each photo counts; once where not given.

    Returns:
        Between 0 and 1; -1 where there is nothing to find.
    """
    precision, recall = matches.average(weights)
    values = [
        figure for table in (precision, recall) for figure in (*_by_threshold(table), table[1].mean(), table[2].mean())
    ]
    return {name: float(value) for name, value in zip(AP_NAMES, values, strict=True)}


def crowdpose_ap(
    annotations: Content,
    results: Results,
    *,
    sigmas: ArrayLike | None = None,
    limits: tuple[float, float] = CROWD_LIMITS,
) -> dict[str, float]:
    """Average precision and recall by how crowded a photo is (Li et al., "CrowdPose", CVPR 2019).

    COCO's evaluation with 0.53 of the box for the area, without classes of size, and once more on the photos of each
    class of crowding.

    Args:
        annotations: CrowdPose annotation file, or what it holds; ``images`` state their ``crowdIndex``.
        results: COCO results file, or what it holds.
        sigmas: [K] of the OKS; by default CrowdPose's 14.
        limits: Crowd index from which a photo is medium, and from which it is hard. The paper divides at 0.1 and 0.8;
            the evaluation published with it, and every figure since, at 0.2 and 0.8.

    Returns:
        The figures named in ``CROWD_NAMES``, between 0 and 1; -1 where there is nothing to find.

    Raises:
        ValueError: As for :func:`coco_ap`, or a photo states no crowd index.
    """
    content = read_content(annotations)
    matches = coco_matches(content, results, sigmas=CROWDPOSE14.sigmas if sigmas is None else sigmas, use_area=False)
    return crowd_figures(matches, limits=limits)


def crowd_figures(
    matches: PoseMatches, weights: ArrayLike | None = None, *, limits: tuple[float, float] = CROWD_LIMITS
) -> dict[str, float]:
    """The figures named in ``CROWD_NAMES``.

    Args:
        matches: From :func:`coco_matches`; the photos' entries have a ``crowdIndex``.
        weights: [I], how often each photo counts; once where not given.
        limits: See :func:`crowdpose_ap`.

    Returns:
        Between 0 and 1; -1 where there is nothing to find.

    Raises:
        ValueError: A photo states no crowd index.
    """
    index = _crowd_index(matches)
    photos = np.ones(len(index)) if weights is None else np.asarray(weights, np.float64)
    precision, recall = matches.average(photos)
    values = [*_by_threshold(precision), *_by_threshold(recall)]
    levels = np.digitize(index, limits)
    values += [matches.average(photos * (levels == level))[0][0].mean() for level in range(3)]
    return {name: float(value) for name, value in zip(CROWD_NAMES, values, strict=True)}


def _crowd_index(matches: PoseMatches) -> NDArray[np.float64]:
    for entry in matches.truth.entries:
        if not isinstance(entry.get("crowdIndex"), int | float):
            raise ValueError(f"annotations: image {entry['id']} has no crowdIndex")
    return np.array([entry["crowdIndex"] for entry in matches.truth.entries], np.float64)


def _by_threshold(table: NDArray[np.float64]) -> tuple[float, float, float]:
    """Over all thresholds, at 0.5 and at 0.75, of people of all sizes; of [A, T]."""
    return table[0].mean(), table[0, 0], table[0, 5]
