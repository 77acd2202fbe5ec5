"""Average precision and recall of boxes as COCO defines them (Lin et al., ECCV 2014), and false boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.metrics.coco import by_threshold
from fastpose.metrics.coco_files import Content, Results, read_box_results, read_box_truth
from fastpose.metrics.matching import AREA_RANGES, Candidates, Matches, Similarity, match
from fastpose.metrics.metric import Scores
from fastpose.metrics.results import BoxResults
from fastpose.metrics.truth import BoxTruth

__all__ = ["BOX_NAMES", "FALSE_BOXES", "box_ap", "box_figures", "false_boxes", "match_boxes", "score_boxes"]

BOX_NAMES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR@1", "AR@10", "AR@100", "AR_small", "AR_medium", "AR_large"),
)
"""The twelve figures in the order of COCO's own summary; AR@10 is the recall of the ten best boxes of each photo."""

FALSE_BOXES = "false_boxes"
"""Name of the figure of :func:`false_boxes`."""

_BOXES_OF_A_PHOTO = 100  # those with the highest scores count


def box_ap(annotations: Content, results: Results | BoxResults, *, category_id: int | None = None) -> dict[str, float]:
    """Average precision and recall of boxes as COCO's detection challenge defines them.

    The figures of pycocotools to the last few bits. Two things are read otherwise: an annotation of id 0 is one like
    any other, and an annotation without ``area`` fills 0.53 of its box.

    Args:
        annotations: COCO annotation file, or what it holds; crowds are matched, but need not be found.
        results: COCO results file, or what it holds: ``image_id``, ``bbox`` (xywh), ``score`` of each box; or arrays.
            There may be none.
        category_id: The category that is measured; the average over all of them where not given.

    Returns:
        The figures named in ``BOX_NAMES``, between 0 and 1; -1 where there is nothing to find.

    Raises:
        ValueError: A result is of an unknown photo, lacks something or has a value that is not finite; or a file cannot
            be read.

    Example:
        >>> person = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [10, 20, 100, 200], "area": 11000.0}
        >>> found = [{"image_id": 7, "category_id": 1, "bbox": [12, 21, 98, 200], "score": 0.9}]
        >>> round(box_ap({"images": [{"id": 7}], "annotations": [person]}, found)["AP"], 4)
        1.0
    """
    truth = read_box_truth(annotations, category_id=category_id)
    if not isinstance(results, BoxResults):
        results = read_box_results(results, category_id=int(truth.category_ids[0]))
    return score_boxes(truth, results).figures(None)


def match_boxes(truth: BoxTruth, results: BoxResults) -> Matches:
    """Match boxes to people by what they have in common; the 100 best of each photo and category count.

    Args:
        truth: The annotated people.
        results: The boxes.

    Returns:
        The matches, of people of all sizes and of each.

    Raises:
        ValueError: A box is of an unknown photo.
    """
    areas = results.boxes_xywh[:, 2:].prod(1)
    candidates = Candidates(results.photos(truth), results.categories(truth), results.scores, areas)
    similarity = _overlap(truth, results.boxes_xywh)
    return match(truth, candidates, similarity, per_photo=_BOXES_OF_A_PHOTO, areas=tuple(AREA_RANGES))


def _overlap(truth: BoxTruth, found: NDArray[np.float64]) -> Similarity:
    """Intersection over union; of crowds over the found box, which may be anywhere in them."""

    def similarity(of: NDArray[np.int64], person: NDArray[np.int64]) -> NDArray[np.float64]:
        a, b = found[of], truth.boxes_xywh[person]
        sides = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
        common = np.where((sides > 0).all(1), sides.prod(1), 0.0)
        area = a[:, 2] * a[:, 3]
        total = np.where(truth.crowd[person], area, area + b[:, 2] * b[:, 3] - common)
        return np.divide(common, total, out=np.zeros_like(common), where=common > 0)

    return similarity


def box_figures(matches: Matches, weights: ArrayLike | None = None) -> dict[str, float]:
    """The figures named in ``BOX_NAMES``.

    Args:
        matches: Of boxes, by :func:`match_boxes`.
        weights: [I], how often each photo counts; once where not given.

    Returns:
        Between 0 and 1; -1 where there is nothing to find.
    """
    precision, recall = matches.average(weights)
    few = [matches.first(count).average(weights)[1][0].mean() for count in (1, 10)]
    by_size = (table[area].mean() for table in (precision, recall) for area in range(1, len(AREA_RANGES)))
    small, medium, large, *recalls = by_size
    values = (*by_threshold(precision), small, medium, large, *few, recall[0].mean(), *recalls)
    return {name: float(value) for name, value in zip(BOX_NAMES, values, strict=True)}


def false_boxes(truth: BoxTruth, results: BoxResults, threshold: float, weights: ArrayLike | None = None) -> float:
    """Boxes a photo, of the photos on which nobody is annotated.

    Args:
        truth: The annotated people.
        results: The boxes.
        threshold: Boxes with a lower score do not count.
        weights: [I], how often each photo counts; once where not given.

    Returns:
        Their number a photo; NaN where there is somebody on every photo.

    Raises:
        ValueError: A box is of an unknown photo.
    """
    photos = len(truth.image_ids)
    counted = (results.scores >= threshold) & (results.categories(truth) >= 0)
    boxes = np.bincount(results.photos(truth)[counted], minlength=photos)
    times = np.ones(photos) if weights is None else np.asarray(weights, np.float64)
    times = times * (np.bincount(truth.image, minlength=photos) == 0)
    return float((boxes * times).sum() / times.sum()) if times.any() else float("nan")


def score_boxes(truth: BoxTruth, results: BoxResults, threshold: float | None = None) -> Scores:
    """The figures of boxes.

    Args:
        truth: The annotated people.
        results: The boxes, also those with low scores.
        threshold: From which score on a box is a person's in use; where given, :func:`false_boxes` is among the
            figures as ``FALSE_BOXES``.

    Returns:
        The scores: the figures named in ``BOX_NAMES``.

    Raises:
        ValueError: A box is of an unknown photo.
    """
    matches = match_boxes(truth, results)

    def figures(times: NDArray[np.int64] | None) -> dict[str, float]:
        wrong = {} if threshold is None else {FALSE_BOXES: false_boxes(truth, results, threshold, times)}
        return box_figures(matches, times) | wrong

    return Scores(figures, len(truth.image_ids))
