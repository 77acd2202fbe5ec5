"""Average precision by how crowded a photo is, as CrowdPose defines it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastpose.metrics.coco import by_threshold, measured_skeleton
from fastpose.metrics.coco_files import Content, Results, read_results, read_truth
from fastpose.metrics.matching import Matches
from fastpose.metrics.metric import Metric, Scores
from fastpose.metrics.results import PoseResults
from fastpose.metrics.similarity import match_poses
from fastpose.metrics.truth import Truth
from fastpose.skeletons import CROWDPOSE14

__all__ = ["CROWDPOSE_AP", "CROWD_LIMITS", "CROWD_NAMES", "crowd_figures", "crowdpose_ap"]

CROWD_NAMES = ("AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP_easy", "AP_medium", "AP_hard")
"""The nine figures of CrowdPose; medium is the crowding here, not the size."""

CROWD_LIMITS = (0.2, 0.8)
"""Crowd index from which a photo is medium, and from which it is hard, in CrowdPose's own evaluation."""


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
        ValueError: As for :func:`fastpose.metrics.coco_ap`, or a photo states no crowd index.
    """
    truth = read_truth(annotations, measured_skeleton(CROWDPOSE14, sigmas), optional=CROWDPOSE_AP.optional)
    poses = read_results(results, truth.skeleton.num_keypoints, category_id=int(truth.category_ids[0]))
    return crowd_figures(match_poses(truth.with_box_areas(), poses), limits=limits)


def crowd_figures(
    matches: Matches, weights: ArrayLike | None = None, *, limits: tuple[float, float] = CROWD_LIMITS
) -> dict[str, float]:
    """The figures named in ``CROWD_NAMES``.

    Args:
        matches: Of poses, by :func:`fastpose.metrics.similarity.match_poses`; their photos have a crowd index.
        weights: [I], how often each photo counts; once where not given.
        limits: See :func:`crowdpose_ap`.

    Returns:
        Between 0 and 1; -1 where there is nothing to find.

    Raises:
        ValueError: A photo has no crowd index.
    """
    truth = matches.truth
    index = np.full(len(truth.image_ids), np.nan) if truth.crowd_index is None else truth.crowd_index
    if np.isnan(index).any():
        raise ValueError(f"annotations: image {truth.image_ids[np.argmax(np.isnan(index))]} has no crowdIndex")
    photos = np.ones(len(index)) if weights is None else np.asarray(weights, np.float64)
    precision, recall = matches.average(photos)
    values = [*by_threshold(precision), *by_threshold(recall)]
    levels = np.digitize(index, limits)
    values += [matches.average(photos * (levels == level))[0][0].mean() for level in range(3)]
    return {name: float(value) for name, value in zip(CROWD_NAMES, values, strict=True)}


def _compare(truth: Truth, results: PoseResults) -> Scores:
    matches = match_poses(truth.with_box_areas(), results)
    return Scores(lambda times: crowd_figures(matches, times), len(truth.image_ids))


CROWDPOSE_AP = Metric("crowdpose_ap", "AP", _compare, ranks_poses=True, similarity=True, needs=("crowd_index",))
