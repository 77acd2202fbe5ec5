"""Average precision of whole bodies: body, feet, face, both hands and all together, in one pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastpose.metrics.coco import coco_figures
from fastpose.metrics.coco_files import Content, Results, read_results, read_truth
from fastpose.metrics.matching import Candidates, Similarity, match, photo_pairs
from fastpose.metrics.metric import Metric, Scores, Times
from fastpose.metrics.results import PoseResults
from fastpose.metrics.similarity import POSE_AREAS, POSES_OF_A_PHOTO, keypoint_similarity
from fastpose.metrics.truth import Truth
from fastpose.metrics.wholebody_files import WHOLEBODY_PARTS
from fastpose.skeletons.wholebody import COCO_WHOLEBODY133

__all__ = ["WHOLEBODY_AP", "wholebody_ap"]

_STARTS = np.cumsum([0, *WHOLEBODY_PARTS.values()])[:-1]
_BODY = WHOLEBODY_PARTS["body"]
_LENGTHS = np.array([sum(WHOLEBODY_PARTS.values()), *WHOLEBODY_PARTS.values()])
_PAIRS_AT_ONCE = 1 << 8  # of 133 keypoints: keeps them in the cache


def wholebody_ap(annotations: Content, results: Results, *, use_area: bool = True) -> dict[str, float]:
    """Average precision and recall of COCO-WholeBody (Jin et al., ECCV 2020): six evaluations.

    COCO's evaluation of all 133 keypoints, and of those of each part alone. People without annotated keypoints of a
    part need not be found there, and a pose of which no keypoint of a part has a score above 0 says nothing of it. All
    six take the area of the person, and for a pose that of its body's keypoints.

    Args:
        annotations: COCO-WholeBody's annotation file, or what it holds.
        results: Results file, or what it holds: ``keypoints``, ``foot_kpts``, ``face_kpts``, ``lefthand_kpts``,
            ``righthand_kpts`` and ``score`` of each pose, or all 133 under ``keypoints``.
        use_area: Take the annotated areas; otherwise 0.53 of the annotated box.

    Returns:
        The figures named in ``AP_NAMES`` of all keypoints (``AP`` …), then of the parts (``body AP``, ``foot AP``,
        ``face AP``, ``left hand AP``, ``right hand AP`` …), between 0 and 1; -1 where there is nothing to find.

    Raises:
        ValueError: As for :func:`fastpose.metrics.coco_ap`.
    """
    truth = read_truth(annotations, COCO_WHOLEBODY133)
    truth = truth if use_area else truth.with_box_areas()
    poses = read_results(results, COCO_WHOLEBODY133.num_keypoints, category_id=int(truth.category_ids[0]))
    return WHOLEBODY_AP.score(truth, poses).figures(None)


def _compare(truth: Truth, results: PoseResults) -> Scores:
    if truth.skeleton.keypoints != COCO_WHOLEBODY133.keypoints:
        raise ValueError(f"wholebody_ap: expected the keypoints of coco_wholebody133, got {truth.skeleton.name!r}")
    image, category = results.photos(truth), results.categories(truth)
    body = results.keypoints[:, :_BODY].astype(np.float64)
    width, height = (body.max(1) - body.min(1)).T
    said = _by_part(results.keypoint_scores > 0) > 0
    annotated = _by_part(truth.visible > 0) > 0
    near = _Similarities(truth, results, image, category)
    matches = {}
    for part, name in enumerate(("", *(f"{name} " for name in WHOLEBODY_PARTS))):
        candidates = Candidates(image, np.where(said[:, part], category, -1), results.scores, width * height)
        asked = replace(truth, ignore=truth.crowd | ~annotated[:, part])
        matches[name] = match(asked, candidates, near.of_part(part), per_photo=POSES_OF_A_PHOTO, areas=POSE_AREAS)

    def figures(times: Times) -> dict[str, float]:
        return {
            name + figure: value
            for name, found in matches.items()
            for figure, value in coco_figures(found, times).items()
        }

    return Scores(figures, len(truth.image_ids))


class _Similarities:
    """How similar each pose is to everybody on its photo, by part: each keypoint is compared once for all six."""

    def __init__(
        self, truth: Truth, results: PoseResults, image: NDArray[np.int64], category: NDArray[np.int64]
    ) -> None:
        everything = Candidates(image, category, results.scores, results.scores)
        rows = np.flatnonzero(category >= 0)
        of, person = photo_pairs(truth, everything, rows)
        of = rows[of]
        self._people = len(truth.ids)
        keys = of * self._people + person
        order = np.argsort(keys)
        self._keys = keys[order]
        of, person = of[order], person[order]
        known = truth.visible > 0
        counts = _by_part(known)
        self._close = np.empty((1 + len(WHOLEBODY_PARTS), len(of)))
        for start in range(0, len(of), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            self._close[:, part] = _part_similarity(truth, results.keypoints[of[part]], person[part], known, counts).T

    def of_part(self, part: int) -> Similarity:
        """What :func:`fastpose.metrics.matching.match` asks of a part; 0 is all of them."""

        def similarity(of: NDArray[np.int64], person: NDArray[np.int64]) -> NDArray[np.float64]:
            return np.asarray(self._close[part, np.searchsorted(self._keys, of * self._people + person)])

        return similarity


def _part_similarity(
    truth: Truth,
    points: NDArray[np.float64],
    person: NDArray[np.int64],
    known: NDArray[np.bool_],
    counts: NDArray[np.int64],
) -> NDArray[np.float64]:
    """[P, 6] OKS of P poses [P, 133, 2] with these people, of all keypoints and of each part."""
    sigmas, areas = np.asarray(truth.skeleton.sigmas, np.float64), truth.areas[person]
    near = keypoint_similarity(points, truth.keypoints[person], areas, sigmas)
    near *= known[person]
    count = counts[person]
    total = _by_part(near)
    blank = count == 0
    some = np.flatnonzero(blank.any(1))
    if len(some):
        # Of a part without annotated keypoints: how far it lies outside of the box, three times as large.
        corner, size = np.split(truth.boxes_xywh[person[some], None], 2, -1)
        goal = np.clip(points[some], corner - size, corner + 2 * size)
        inside = _by_part(keypoint_similarity(points[some], goal, areas[some], sigmas))
        total[some] = np.where(blank[some], inside, total[some])
    return np.asarray(total / np.where(blank, _LENGTHS, count))


def _by_part(values: NDArray[Any]) -> NDArray[Any]:
    """[N, 133] added up: [N, 6] of all of them and of each part."""
    numbers = values.astype(np.int64) if values.dtype == np.bool_ else values
    parts = np.add.reduceat(numbers, _STARTS, axis=1)
    return np.concatenate([parts.sum(1, keepdims=True), parts], 1)


WHOLEBODY_AP = Metric("wholebody_ap", "AP", _compare, ranks_poses=True, similarity=True, skeletons=(COCO_WHOLEBODY133,))
