"""Average precision of single keypoints, as PoseTrack 2018 measures poses frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.metrics.coco_files import CocoTruth, Content, Results, number_table, read_results, read_truth
from fastpose.skeletons import POSETRACK18_17

__all__ = ["POSETRACK_PARTS", "PoseTrackMatches", "posetrack_ap", "posetrack_figures", "posetrack_matches"]

POSETRACK_PARTS = {
    "head": ("head_top", "head_bottom", "nose"),
    **{part: (f"right_{part}", f"left_{part}") for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")},
}
"""The columns of PoseTrack's table and their keypoints; the ears are not measured."""

_NAMES = tuple(name for part in POSETRACK_PARTS.values() for name in part)
_HEAD_OF_DIAGONAL = 0.6
_NEAR = 0.5  # of the head, up to and including


@dataclass(frozen=True, eq=False)
class PoseTrackMatches:
    """Predicted keypoints and whether they are right: P of them, of J joints on I frames.

    Attributes:
        frame: int64 [P], positions in the frames by ascending id.
        joint: int64 [P].
        score: float64 [P].
        right: bool [P].
        annotated: int64 [I, J], keypoints that are to be found.
    """

    frame: NDArray[np.int64]
    joint: NDArray[np.int64]
    score: NDArray[np.float64]
    right: NDArray[np.bool_]
    annotated: NDArray[np.int64]


def posetrack_ap(annotations: Content, results: Results) -> dict[str, float]:
    """Average precision by joint (Andriluka et al., "PoseTrack", CVPR 2018), the figures of its ``poseval``.

    On each frame a pose belongs to the person of whom it has the largest share of joints within half a head, and a
    person to the best of these poses. Joints of all frames are then ranked by their scores. Not counted: frames without
    annotated people, and what lies in a region that is marked to be ignored.

    Args:
        annotations: PoseTrack18 file in COCO's format, or what it holds; people have ``bbox_head`` (x, y, width,
            height), photos may have ``ignore_regions_x`` and ``ignore_regions_y``.
        results: COCO results file, or what it holds: ``image_id``, ``keypoints`` (x, y, score of 17), ``score``. A
            keypoint of three zeros counts as not predicted.

    Returns:
        ``AP``: mean over the 15 joints. Then the parts of ``POSETRACK_PARTS`` and the joints. Between 0 and 1; NaN for
        a joint that is never annotated, which no mean takes in.

    Raises:
        ValueError: As for :func:`fastpose.metrics.coco_ap`, or a person has no head box.
    """
    return posetrack_figures(posetrack_matches(annotations, results))


def posetrack_matches(annotations: Content, results: Results) -> PoseTrackMatches:
    """What :func:`posetrack_figures` summarises; arguments as for :func:`posetrack_ap`."""
    truth = read_truth(annotations, POSETRACK18_17.num_keypoints, use_area=False)
    poses = read_results(results, truth)
    columns = list(POSETRACK18_17.indices(_NAMES))
    heads = _head_sizes(truth)
    goal, known = truth.keypoints[:, columns], truth.visible[:, columns] > 0
    points, scores = poses.keypoints[:, columns], poses.point_scores[:, columns]
    given = (points != 0).any(-1) | (scores != 0)
    annotated = np.zeros((len(truth.image_ids), len(columns)), np.int64)
    nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool))
    parts: list[tuple[NDArray[Any], ...]] = []
    for frame, entry in enumerate(truth.entries):
        people, found = np.flatnonzero(truth.image == frame), np.flatnonzero(poses.image == frame)
        if not len(people):
            continue
        wanted, said = known[people], given[found]
        regions = _regions(entry)
        if regions:
            wanted = wanted & ~_inside(goal[people], regions)
            said = said & ~_inside(points[found], regions)
            people, wanted = people[wanted.any(1)], wanted[wanted.any(1)]
            found, said = found[said.any(1)], said[said.any(1)]
        annotated[frame] = wanted.sum(0)
        right = _right(points[found], said, goal[people], wanted, heads[people])
        pose, joint = np.nonzero(said)
        parts.append((np.full(len(pose), frame), joint, scores[found[pose], joint], right[pose, joint]))
    frame_of, joint_of, score_of, right_of = (np.concatenate(part) for part in zip(nothing, *parts, strict=True))
    return PoseTrackMatches(frame_of, joint_of, score_of, right_of, annotated)


def posetrack_figures(matches: PoseTrackMatches, weights: ArrayLike | None = None) -> dict[str, float]:
    """The figures of :func:`posetrack_ap`.

    Args:
        matches: From :func:`posetrack_matches`.
        weights: [I], how often each frame counts; once where not given.

    Returns:
        Between 0 and 1; NaN where nothing is annotated.
    """
    frames = np.ones(len(matches.annotated)) if weights is None else np.asarray(weights, np.float64)
    total = frames @ matches.annotated
    joints = {}
    for joint, name in enumerate(_NAMES):
        own = np.flatnonzero((matches.joint == joint) & (frames[matches.frame] > 0))
        own = own[np.argsort(-matches.score[own], kind="stable")]
        times = frames[matches.frame[own]]
        joints[name] = _area(np.cumsum(times * matches.right[own]), np.cumsum(times), total[joint])
    parts = {part: _mean([joints[name] for name in names]) for part, names in POSETRACK_PARTS.items()}
    return {"AP": _mean(list(joints.values())), **parts, **joints}


def _right(
    points: NDArray[np.float64],
    said: NDArray[np.bool_],
    goal: NDArray[np.float64],
    wanted: NDArray[np.bool_],
    heads: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """[D, J] whether the joints of D poses of a frame are those of the people that the poses belong to."""
    if not len(points) or not len(goal):
        return np.zeros(said.shape, bool)
    with np.errstate(divide="ignore", invalid="ignore"):  # a head box of no size: near only to what is exact
        away = np.linalg.norm(points[:, None] - goal[None], axis=-1) / heads[None, :, None]
    near = (away <= _NEAR) & said[:, None] & wanted[None]
    share = near.sum(2) / np.maximum(wanted.sum(1), 1)
    own = share.argmax(1)
    share[np.arange(len(points))[:, None], np.arange(len(goal))] *= own[:, None] == np.arange(len(goal))
    best = share.argmax(0)
    right = np.zeros(said.shape, bool)
    for person in np.flatnonzero(share.max(0) > 0):
        right[best[person]] = near[best[person], person]
    return right


def _area(right: NDArray[np.float64], said: NDArray[np.float64], total: float) -> float:
    """Area under the curve of precision over recall, precision being the best at this recall or a higher one."""
    if total == 0:
        return float("nan")
    best = np.maximum.accumulate((right / np.maximum(said, 1))[::-1])[::-1]
    return float((np.diff(right, prepend=0.0) / total * best).sum())


def _mean(values: list[float]) -> float:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float("nan")


def _head_sizes(truth: CocoTruth) -> NDArray[np.float64]:
    rows = []
    for person in truth.people:
        box = person.get("bbox_head")
        if not isinstance(box, list | tuple) or len(box) != 4:
            raise ValueError(
                f"annotations: {person['id']}: expected bbox_head, x, y, width and height, got {box!r:.80}"
            )
        rows.append(box)
    sides = number_table("annotations: bbox_head of", truth.ids, rows)[:, 2:]
    return np.asarray(_HEAD_OF_DIAGONAL * np.hypot(sides[:, 0], sides[:, 1]))


def _regions(entry: Mapping[str, Any]) -> list[NDArray[np.float64]]:
    """The polygons of a frame that are not looked at, each [V, 2]."""
    xs, ys = entry.get("ignore_regions_x") or [], entry.get("ignore_regions_y") or []
    try:
        regions = [np.stack([x, y], 1).astype(np.float64) for x, y in zip(xs, ys, strict=True) if len(x) > 2]
    except (TypeError, ValueError, IndexError):
        regions = [np.full((1, 2), np.nan)]
    if not all(region.shape[1:] == (2,) and np.isfinite(region).all() for region in regions):
        raise ValueError(f"annotations: image {entry['id']}: ignore_regions: expected polygons, xs and ys of each")
    return regions


def _inside(points: NDArray[np.float64], regions: list[NDArray[np.float64]]) -> NDArray[np.bool_]:
    """[..., 2] points → [...] whether a polygon holds them (an odd number of its edges lies to their right)."""
    inside = np.zeros(points.shape[:-1], bool)
    x, y = points[..., 0], points[..., 1]
    for region in regions:
        odd = np.zeros(inside.shape, bool)
        for (x1, y1), (x2, y2) in zip(region, np.roll(region, -1, 0), strict=True):
            if y1 != y2:
                odd ^= ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
        inside |= odd
    return inside
