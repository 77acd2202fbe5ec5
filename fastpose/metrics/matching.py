"""Which predicted pose is which annotated person, for all photos at once, and the precision and recall of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.metrics.coco_files import CocoPoses, CocoTruth

__all__ = ["AREA_RANGES", "OKS_THRESHOLDS", "PoseMatches", "keypoint_similarity", "match_poses"]

OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""From which object keypoint similarity on a pose counts as found: ten times over."""

AREA_RANGES = {"all": (0.0, 1e10), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Square pixels of the people that count, both ends included."""

_RECALLS = np.linspace(0.0, 1.0, 101)
_POSES_OF_A_PHOTO = 20  # those with the highest scores count
_PAIRS_AT_ONCE = 1 << 16  # bounds the memory for similarities
_TINY = np.spacing(1)


@dataclass(frozen=True, eq=False)
class PoseMatches:
    """Poses and the people that they were matched to, under A area ranges and T thresholds.

    Attributes:
        truth: The G people.
        poses: The D poses that count: at most 20 a photo and category, by photo and falling score.
        areas: Names of the A area ranges.
        thresholds: float64 [T].
        person: int64 [A, T, D], the person that the pose was matched to; -1 for none.
        similarity: float64 [D], to the person of the first area range and threshold; 0 for none.
        ignored: bool [A, T, D], poses that count neither as found nor as wrong.
        asked: bool [A, G], people that have to be found.
    """

    truth: CocoTruth
    poses: CocoPoses
    areas: tuple[str, ...]
    thresholds: NDArray[np.float64]
    person: NDArray[np.int64]
    similarity: NDArray[np.float64]
    ignored: NDArray[np.bool_]
    asked: NDArray[np.bool_]

    @cached_property
    def _by_score(self) -> list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]]:
        """Of each category: its poses by falling score, and [A, T, n] of them found and wrong, as 0 or 1."""
        result = []
        for category in range(len(self.truth.category_ids)):
            own = np.flatnonzero(self.poses.category == category)
            own = own[np.argsort(-self.poses.scores[own], kind="stable")]
            counted = ~self.ignored[..., own]
            matched = self.person[..., own] >= 0
            result.append((own, (counted & matched).astype(np.float64), (counted & ~matched).astype(np.float64)))
        return result

    def curves(self, weights: ArrayLike | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Precision at 101 recalls, and the recall reached.

        Args:
            weights: [I], how often each photo counts; once where not given.

        Returns:
            [A, T, C, 101] and [A, T, C] float64; -1 where nobody has to be found.
        """
        photos = np.ones(len(self.truth.image_ids)) if weights is None else np.asarray(weights, np.float64)
        shape = (len(self.areas), len(self.thresholds), len(self.truth.category_ids))
        precision, recall = np.full((*shape, len(_RECALLS)), -1.0), np.full(shape, -1.0)
        for category, (own, found, wrong) in enumerate(self._by_score):
            of_person = photos[self.truth.image] * (self.truth.category == category)
            people = (self.asked * of_person).sum(1)
            times = photos[self.poses.image[own]]
            hits, misses = np.cumsum(found * times, -1), np.cumsum(wrong * times, -1)
            # The best precision at this recall or any higher one.
            best = np.maximum.accumulate((hits / (hits + misses + _TINY))[..., ::-1], -1)[..., ::-1]
            for area in np.flatnonzero(people > 0):
                reached = hits[area] / people[area]
                recall[area, :, category] = reached[:, -1] if len(own) else 0.0
                for t in range(len(self.thresholds)):
                    place = np.searchsorted(reached[t], _RECALLS, side="left")
                    inside = place < len(own)
                    precision[area, t, category] = 0.0
                    precision[area, t, category, inside] = best[area, t, place[inside]]
        return precision, recall

    def average(self, weights: ArrayLike | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Average precision and recall by area range and threshold, over categories in which somebody is asked for.

        Args:
            weights: [I], how often each photo counts; once where not given.

        Returns:
            [A, T] and [A, T] float64; -1 where nobody has to be found.
        """
        precision, recall = self.curves(weights)
        known = recall > -1  # the same for all thresholds
        count = np.maximum(known.sum(-1), 1)
        some = known.any(-1)
        return (
            np.where(some, (precision.mean(-1) * known).sum(-1) / count, -1.0),
            np.where(some, (recall * known).sum(-1) / count, -1.0),
        )


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
    squared = offset[..., 0] ** 2 + offset[..., 1] ** 2
    return np.asarray(np.exp(-squared / (2 * sigmas) ** 2 / (areas + _TINY)[..., None] / 2))


def match_poses(
    truth: CocoTruth,
    poses: CocoPoses,
    sigmas: ArrayLike,
    *,
    thresholds: ArrayLike = OKS_THRESHOLDS,
    areas: Sequence[str] = tuple(AREA_RANGES),
) -> PoseMatches:
    """Give each pose, by falling score, the most similar person that is still free, as COCO's evaluation does.

    Args:
        truth: The annotated people.
        poses: The predicted poses.
        sigmas: [K] of the object keypoint similarity (OKS).
        thresholds: [T] similarities from which on a pose may be matched.
        areas: Names in ``AREA_RANGES``.

    Returns:
        The matches.
    """
    levels = np.minimum(np.asarray(thresholds, np.float64), 1 - 1e-10)
    # A group is a photo in one category; by group and falling score, equal scores in the file's order.
    photos = len(truth.image_ids)
    group = poses.category * photos + poses.image
    order = np.lexsort((-poses.scores, group))
    order = order[poses.category[order] >= 0]
    starts = np.searchsorted(group[order], group[order])
    rank = np.arange(len(order)) - starts
    kept, rank = order[rank < _POSES_OF_A_PHOTO], rank[rank < _POSES_OF_A_PHOTO]
    poses = CocoPoses(**{name: getattr(poses, name)[kept] for name in CocoPoses.__dataclass_fields__})

    # All pairs of a pose and a person of its group: those of pose d stand at first[d] … first[d] + count[d] - 1.
    person_group = truth.category * photos + truth.image
    by_group = np.argsort(person_group, kind="stable")
    low = np.searchsorted(person_group[by_group], group[kept], side="left")
    count = np.searchsorted(person_group[by_group], group[kept], side="right") - low
    first = np.cumsum(count) - count
    pose = np.repeat(np.arange(len(kept)), count)
    person = by_group[np.arange(len(pose)) - np.repeat(first, count) + np.repeat(low, count)]
    similarity = _similarities(truth, poses, pose, person, np.asarray(sigmas, np.float64))

    ranges = np.array([AREA_RANGES[name] for name in areas])
    ignore = truth.ignore | (truth.areas < ranges[:, :1]) | (truth.areas > ranges[:, 1:])  # [A, G]
    matched = np.full((len(ranges), len(levels), len(kept)), -1)
    ignored = np.zeros(matched.shape, bool)
    best = np.zeros(len(kept))
    free = np.ones((len(ranges), len(levels), len(truth.ids)), bool)
    for turn in range(_POSES_OF_A_PHOTO):
        # Of each photo the pose of this rank: they do not compete with each other.
        turns = np.flatnonzero((rank == turn) & (count > 0))
        if not len(turns):
            continue
        length = count[turns]
        begin = np.cumsum(length) - length
        pairs = np.arange(length.sum()) - np.repeat(begin, length) + np.repeat(first[turns], length)
        who, close = person[pairs], similarity[pairs]
        possible = free[..., who] & (close >= levels[:, None])
        # Someone who has to be found is preferred to anybody who has not, however similar.
        key = np.where(possible, close + 2.0 * ~ignore[:, None, who], -1.0)
        top = np.maximum.reduceat(key, begin, axis=-1)
        place = np.where(key == np.repeat(top, length, axis=-1), np.arange(len(pairs)), -1)
        chosen = np.where(top >= 0, who[np.maximum.reduceat(place, begin, axis=-1)], -1)  # the last of equals
        matched[..., turns] = chosen
        a, t, d = np.nonzero(chosen >= 0)
        taken = chosen[a, t, d]
        ignored[a, t, turns[d]] = ignore[a, taken]
        free[a, t, taken] = truth.crowd[taken]
        best[turns] = np.where(chosen[0, 0] >= 0, top[0, 0] % 2.0, 0.0)
    extent = poses.keypoints.max(1) - poses.keypoints.min(1)
    size = extent[:, 0] * extent[:, 1]
    outside = (size < ranges[:, :1]) | (size > ranges[:, 1:])
    ignored |= (matched < 0) & outside[:, None]
    return PoseMatches(
        truth=truth,
        poses=poses,
        areas=tuple(areas),
        thresholds=levels,
        person=matched,
        similarity=best,
        ignored=ignored,
        asked=~ignore,
    )


def _similarities(
    truth: CocoTruth,
    poses: CocoPoses,
    pose: NDArray[np.int64],
    person: NDArray[np.int64],
    sigmas: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The object keypoint similarity of pairs, [P]."""
    result = np.empty(len(pose))
    for start in range(0, len(pose), _PAIRS_AT_ONCE):
        d, g = pose[start : start + _PAIRS_AT_ONCE], person[start : start + _PAIRS_AT_ONCE]
        known = truth.visible[g] > 0
        points, goal = poses.keypoints[d], truth.keypoints[g]
        blank = ~known.any(1)
        if blank.any():
            # Without annotated keypoints: how far the pose lies outside of the box, enlarged to three times its sides.
            corner, size = truth.boxes[g[blank], None, :2], truth.boxes[g[blank], None, 2:]
            goal[blank] = np.clip(points[blank], corner - size, corner + 2 * size)
            known[blank] = True
        close = keypoint_similarity(points, goal, truth.areas[g], sigmas)
        result[start : start + _PAIRS_AT_ONCE] = (close * known).sum(1) / known.sum(1)
    return result
