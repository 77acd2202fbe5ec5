"""Average precision of single keypoints, as PoseTrack 2018 measures poses frame by frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.metrics.coco_files import Content, Results, read_results, read_truth
from fastpose.metrics.metric import Metric, Scores
from fastpose.metrics.results import PoseResults
from fastpose.metrics.truth import Truth
from fastpose.skeletons import POSETRACK18_17

__all__ = [
    "POSETRACK_AP",
    "POSETRACK_JOINTS",
    "POSETRACK_PARTS",
    "PoseTrackFrame",
    "PoseTrackMatches",
    "posetrack_ap",
    "posetrack_figures",
    "posetrack_frames",
    "posetrack_matches",
]

POSETRACK_PARTS = {
    "head": ("head_top", "head_bottom", "nose"),
    **{part: (f"right_{part}", f"left_{part}") for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")},
}
"""The columns of PoseTrack's table and their keypoints; the ears are not measured."""

POSETRACK_JOINTS = tuple(name for part in POSETRACK_PARTS.values() for name in part)
"""The 15 that are measured."""

_COLUMNS = np.array(POSETRACK18_17.indices(POSETRACK_JOINTS))
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

    @classmethod
    def of(cls, frames: Iterable[PoseTrackFrame], truth: Truth, results: PoseResults) -> PoseTrackMatches:
        """Those of some frames."""
        annotated = np.zeros((len(truth.image_ids), len(POSETRACK_JOINTS)), np.int64)
        nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool))
        parts: list[tuple[NDArray[Any], ...]] = []
        for frame in frames:
            annotated[frame.number] = frame.wanted.sum(0)
            parts.append(frame.ranked(results))
        frame_of, joint_of, score_of, right_of = (np.concatenate(part) for part in zip(nothing, *parts, strict=True))
        return cls(frame_of, joint_of, score_of, right_of, annotated)

    @classmethod
    def join(cls, parts: Sequence[PoseTrackMatches]) -> PoseTrackMatches:
        """Those of all, the frames of one after the frames of the other."""
        starts = np.cumsum([0, *(len(part.annotated) for part in parts)])
        frame = np.concatenate([part.frame + start for part, start in zip(parts, starts[:-1], strict=True)])
        others = ("joint", "score", "right", "annotated")
        return cls(frame, *(np.concatenate([getattr(part, name) for part in parts]) for name in others))


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
    truth = read_truth(annotations, POSETRACK18_17, optional=POSETRACK_AP.optional)
    poses = read_results(results, POSETRACK18_17.num_keypoints, category_id=int(truth.category_ids[0]))
    return POSETRACK_AP.score(truth, poses).figures(None)


def posetrack_matches(truth: Truth, results: PoseResults) -> PoseTrackMatches:
    """What :func:`posetrack_figures` summarises.

    Args:
        truth: The annotated people, with their head sizes and the photos' ignored regions.
        results: The predicted poses; a keypoint of three zeros counts as not predicted.

    Returns:
        The joints that count.

    Raises:
        ValueError: There are no results, one is of an unknown photo, or a person has no head box.
    """
    return PoseTrackMatches.of(posetrack_frames(truth, results, results.photos(truth)), truth, results)


@dataclass(frozen=True, eq=False)
class PoseTrackFrame:
    """A frame on which somebody is annotated: G people and D poses with joints that count, J joints each.

    Attributes:
        number: Position in the truth's ``image_ids``.
        people: int64 [G], positions in the truth.
        poses: int64 [D], positions in the results.
        wanted: bool [G, J], joints that are annotated and not in an ignored region.
        said: bool [D, J], joints that are predicted and not in an ignored region.
        near: bool [D, G, J], whether both are there and at most half a head apart.
        away: float64 [D, G, J], their distance in heads; without meaning where one of the two is not there.
    """

    number: int
    people: NDArray[np.int64]
    poses: NDArray[np.int64]
    wanted: NDArray[np.bool_]
    said: NDArray[np.bool_]
    near: NDArray[np.bool_]
    away: NDArray[np.float64]

    def shares(self) -> NDArray[np.float64]:
        """[D, G] share of a person's annotated joints that a pose has."""
        return self.near.sum(2) / np.maximum(self.wanted.sum(1), 1)

    def ranked(self, results: PoseResults) -> tuple[NDArray[Any], ...]:
        """Frame, joint, score and whether it is right of every joint that counts."""
        pose, joint = np.nonzero(self.said)
        scores = results.keypoint_scores[self.poses[pose], _COLUMNS[joint]]
        return np.full(len(pose), self.number), joint, scores, _right(self)[pose, joint]


def posetrack_frames(truth: Truth, results: PoseResults, image: NDArray[np.int64]) -> Iterator[PoseTrackFrame]:
    """The frames with annotated people, in order.

    Args:
        truth: The annotated people, with their head sizes and the photos' ignored regions.
        results: The predicted poses; a keypoint of three zeros counts as not predicted.
        image: [D], positions of the poses' photos in the truth's ``image_ids``.

    Yields:
        Each frame.

    Raises:
        ValueError: A person has no head box.
    """
    if truth.head_sizes is None or np.isnan(truth.head_sizes).any():
        raise ValueError(f"posetrack: a person has no head box ({truth.source})")
    goal, known = truth.keypoints[:, _COLUMNS], truth.visible[:, _COLUMNS] > 0
    points, scores = results.keypoints[:, _COLUMNS], results.keypoint_scores[:, _COLUMNS]
    given = (points != 0).any(-1) | (scores != 0)
    sides = (_by_frame(of, len(truth.image_ids)) for of in (truth.image, image))
    for number, (people, poses) in enumerate(zip(*sides, strict=True)):
        if not len(people):
            continue
        wanted, said = known[people], given[poses]
        regions = truth.ignored_regions[number] if truth.ignored_regions else []
        if regions:
            wanted = wanted & ~_inside(goal[people], regions)
            said = said & ~_inside(points[poses], regions)
        people, wanted = people[wanted.any(1)], wanted[wanted.any(1)]
        poses, said = poses[said.any(1)], said[said.any(1)]
        with np.errstate(divide="ignore", invalid="ignore"):  # a head box of no size: near only to what is exact
            offset = points[poses][:, None] - goal[people]
            away = np.sqrt(offset[..., 0] ** 2 + offset[..., 1] ** 2)
            away /= truth.head_sizes[people][:, None]
        near = (away <= _NEAR) & said[:, None] & wanted
        yield PoseTrackFrame(number, people, poses, wanted, said, near, away)


def _by_frame(image: NDArray[np.int64], frames: int) -> list[NDArray[np.int64]]:
    """Of each frame the positions of those on it, in order."""
    order = np.argsort(image, kind="stable")
    return np.split(order, np.searchsorted(image[order], np.arange(1, frames)))


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
    for joint, name in enumerate(POSETRACK_JOINTS):
        own = np.flatnonzero((matches.joint == joint) & (frames[matches.frame] > 0))
        own = own[np.argsort(-matches.score[own], kind="stable")]
        times = frames[matches.frame[own]]
        joints[name] = _area(np.cumsum(times * matches.right[own]), np.cumsum(times), total[joint])
    parts = {part: _mean([joints[name] for name in names]) for part, names in POSETRACK_PARTS.items()}
    return {"AP": _mean(list(joints.values())), **parts, **joints}


def _right(frame: PoseTrackFrame) -> NDArray[np.bool_]:
    """[D, J] whether the joints of the poses are those of the people that the poses belong to."""
    right = np.zeros(frame.said.shape, bool)
    share = frame.shares()
    if not share.size:
        return right
    own = share.argmax(1)
    share *= own[:, None] == np.arange(share.shape[1])
    best = share.argmax(0)
    for person in np.flatnonzero(share.max(0) > 0):
        right[best[person]] = frame.near[best[person], person]
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


def _compare(truth: Truth, results: PoseResults) -> Scores:
    matches = posetrack_matches(truth, results)
    return Scores(lambda times: posetrack_figures(matches, times), len(truth.image_ids))


POSETRACK_AP = Metric(
    "posetrack_ap",
    "AP",
    _compare,
    ranks_poses=True,
    skeletons=(POSETRACK18_17,),
    needs=("head_sizes",),
    uses=("ignored_regions",),
)
