"""Average precision and recall of keypoints as COCO defines them (Lin et al., ECCV 2014)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.metrics.coco_files import Content, Results, read_results, read_truth
from fastpose.metrics.matching import Matches
from fastpose.metrics.metric import Metric, Scores
from fastpose.metrics.results import PoseResults
from fastpose.metrics.similarity import match_poses
from fastpose.metrics.truth import Truth
from fastpose.skeletons import COCO17, Skeleton

__all__ = ["AP_NAMES", "COCO_AP", "by_threshold", "coco_ap", "coco_figures", "measured_skeleton"]

AP_NAMES = ("AP", "AP50", "AP75", "AP_medium", "AP_large", "AR", "AR50", "AR75", "AR_medium", "AR_large")
"""The ten figures in the order of COCO's own summary."""


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
    truth = read_truth(annotations, measured_skeleton(COCO17, sigmas))
    truth = truth if use_area else truth.with_box_areas()
    poses = read_results(results, truth.skeleton.num_keypoints, category_id=int(truth.category_ids[0]))
    return COCO_AP.score(truth, poses).figures(None)


def measured_skeleton(skeleton: Skeleton, sigmas: ArrayLike | None) -> Skeleton:
    """A skeleton for these sigmas: the one given where they are not, else one of as many keypoints without names."""
    if sigmas is None:
        return skeleton
    values = np.asarray(sigmas, np.float64).ravel().tolist()
    return Skeleton(f"{len(values)} keypoints", tuple(str(place) for place in range(len(values))), sigmas=tuple(values))


def coco_figures(matches: Matches, weights: ArrayLike | None = None) -> dict[str, float]:
    """The figures named in ``AP_NAMES``.

    Args:
        matches: Of poses, by :func:`fastpose.metrics.similarity.match_poses`.
        weights: [I], how often each photo counts; once where not given.

    Returns:
        Between 0 and 1; -1 where there is nothing to find.
    """
    precision, recall = matches.average(weights)
    values = [
        figure for table in (precision, recall) for figure in (*by_threshold(table), table[1].mean(), table[2].mean())
    ]
    return {name: float(value) for name, value in zip(AP_NAMES, values, strict=True)}


def by_threshold(table: NDArray[np.float64]) -> tuple[float, float, float]:
    """Over all thresholds, at 0.5 and at 0.75, of people of all sizes; of [A, T]."""
    return table[0].mean(), table[0, 0], table[0, 5]


def _compare(truth: Truth, results: PoseResults) -> Scores:
    matches = match_poses(truth, results)
    return Scores(lambda times: coco_figures(matches, times), len(truth.image_ids))


COCO_AP = Metric("coco_ap", "AP", _compare, ranks_poses=True, similarity=True)
