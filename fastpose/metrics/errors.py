"""What is wrong with predicted keypoints: near misses, left taken for right, another person's joint, or lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastpose.metrics.matching import AREA_RANGES
from fastpose.metrics.results import PoseResults
from fastpose.metrics.similarity import POSE_AREAS, keypoint_similarity, match_poses
from fastpose.metrics.truth import Truth
from fastpose.skeletons import Skeleton

__all__ = ["ERROR_KINDS", "PoseErrors", "pose_errors"]

ERROR_KINDS = ("good", "jitter", "inversion", "swap", "miss")
"""From right to lost: the columns of :attr:`PoseErrors.counts`."""

# Similarities of single keypoints: the error that people make when they annotate, and the end of what is near.
_GOOD, _NEAR = 0.85, 0.5
_MATCH = 0.1  # of the whole pose: low, so that bad poses are looked at too
_GOOD_, _JITTER, _INVERSION, _SWAP, _MISS = range(5)


@dataclass(frozen=True, eq=False)
class PoseErrors:
    """Predicted keypoints by what is wrong with them.

    Attributes:
        skeleton: The K keypoints.
        counts: int64 [K, 5], annotated keypoints of matched people, by ``ERROR_KINDS``.
        by_size: Name of a size (medium, large) → the same [K, 5] of people of that size.
        similarity: float64 [K], mean similarity to the true keypoint; NaN where none is annotated.
        matched: People to whom a pose was matched.
        missed: People to whom none was: nothing is said of their keypoints.
        surplus: Poses that were matched to nobody.
    """

    skeleton: Skeleton
    counts: NDArray[np.int64]
    by_size: Mapping[str, NDArray[np.int64]]
    similarity: NDArray[np.float64]
    matched: int
    missed: int
    surplus: int

    def shares(self) -> dict[str, dict[str, float]]:
        """Share of each kind: for ``all`` keypoints, for each size, and for each keypoint by name."""
        rows = {"all": self.counts.sum(0), **{size: table.sum(0) for size, table in self.by_size.items()}}
        rows |= dict(zip(self.skeleton.keypoints, self.counts, strict=True))
        return {
            name: dict(zip(ERROR_KINDS, (row / row.sum()).tolist(), strict=True))
            for name, row in rows.items()
            if row.sum()
        }


def pose_errors(truth: Truth, results: PoseResults) -> PoseErrors:
    """Tell the errors of poses apart (Ronchi and Perona, "Benchmarking and Error Diagnosis", ICCV 2017).

    Poses are matched to people as for average precision, from an OKS of 0.1 on. An annotated keypoint of a matched
    person is then, by COCO's similarity of single keypoints,

    - good: 0.85 or more,
    - jitter: 0.5 or more, near and not exact,
    - inversion: nearer to the same person's opposite keypoint (left for right), and that by 0.5 or more,
    - swap: nearer to that keypoint, or its opposite, of another person on the photo, by 0.5 or more,
    - miss: near to none of these.

    Args:
        truth: The annotated people: their skeleton says the opposites and the sigmas of its K keypoints.
        results: The predicted poses.

    Returns:
        The counts.

    Raises:
        ValueError: As for :func:`fastpose.metrics.coco_ap`.
    """
    skeleton = truth.skeleton
    sigmas = np.asarray(skeleton.sigmas, np.float64)
    matches = match_poses(truth, results, thresholds=[_MATCH], areas=["all"])
    asked = ~truth.ignore
    person = matches.person[0, 0]
    rows = np.flatnonzero((person >= 0) & asked[np.maximum(person, 0)])
    person, points = person[rows].astype(np.int64), results.keypoints[matches.rows[rows]]
    known = truth.visible > 0
    flip = np.array(skeleton.flip_index)
    sided = flip != np.arange(len(flip))

    def similarity(of: NDArray[np.int64], to: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """[n, K] of poses ``of`` to keypoints ``columns`` of people ``to``; 0 where those are not annotated."""
        # The person in question sets the scale of its own keypoints.
        near = keypoint_similarity(points[of], truth.keypoints[to][:, columns], truth.areas[to], sigmas[columns])
        return near * known[to][:, columns]

    everyone, straight = np.arange(len(rows)), np.arange(len(flip))
    right = similarity(everyone, person, straight)
    opposite = similarity(everyone, person, flip) * sided
    other = np.zeros_like(right)
    first, others = _others(truth.image, person, asked)
    for columns in (straight, flip):
        np.maximum.at(other, first, similarity(first, others, columns))
    kind = np.full(right.shape, _MISS)
    kind[(other >= _NEAR) & (other >= opposite)] = _SWAP
    kind[(opposite >= _NEAR) & (opposite > other)] = _INVERSION
    kind[right >= _NEAR] = _JITTER
    kind[right >= _GOOD] = _GOOD_
    counted = known[person]
    counts = np.stack([((kind == k) & counted).sum(0) for k in range(len(ERROR_KINDS))], 1)
    sizes = {}
    for size in POSE_AREAS[1:]:
        low, high = AREA_RANGES[size]
        inside = (truth.areas[person] >= low) & (truth.areas[person] <= high)
        table = (kind[inside][..., None] == np.arange(len(ERROR_KINDS))) & counted[inside][..., None]
        sizes[size] = table.sum(0)
    total = counted.sum(0)
    return PoseErrors(
        skeleton=skeleton,
        counts=counts,
        by_size=sizes,
        similarity=np.divide((right * counted).sum(0), total, out=np.full(len(total), np.nan), where=total > 0),
        matched=len(rows),
        missed=int(asked.sum()) - len(np.unique(person)),
        surplus=int((matches.person[0, 0] < 0).sum()),
    )


def _others(
    image: NDArray[np.int64], person: NDArray[np.int64], asked: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a matched pose (position in ``person``) and somebody else on its photo."""
    everyone = np.flatnonzero(asked)
    everyone = everyone[np.argsort(image[everyone], kind="stable")]
    low = np.searchsorted(image[everyone], image[person], side="left")
    count = np.searchsorted(image[everyone], image[person], side="right") - low
    pose = np.repeat(np.arange(len(person)), count)
    start = np.repeat(np.cumsum(count) - count, count)
    other = everyone[np.arange(len(pose)) - start + np.repeat(low, count)]
    apart = other != person[pose]
    return pose[apart], other[apart]
