"""Matching by another similarity than that of poses: boxes by the share that they have in common."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastpose.metrics import read_truth
from fastpose.metrics.matching import Candidates, match
from fastpose.skeletons import Skeleton

POINT = Skeleton("point", ("point",))


def draw(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Crowded boxes of all sizes, and detections near them with tied scores, more than 100 on one photo."""
    rng = np.random.default_rng(seed)
    people: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for photo in range(12):
        for _ in range(rng.integers(0, 60 if photo == 3 else 12)):
            corner, size = rng.uniform(0, 200, 2), np.exp(rng.uniform(3, 5.5, 2))
            people.append(
                {"id": len(people) + 1, "image_id": photo, "category_id": 1, "iscrowd": 0, "keypoints": [1, 1, 2]}
                | {"bbox": [*corner.tolist(), *size.tolist()], "area": float(size.prod())}
            )
            for _ in range(rng.integers(0, 4)):
                moved = np.r_[corner, size] + rng.normal(0, 0.05, 4) * np.r_[size, size]
                score = round(float(rng.random()), 1)
                found.append({"image_id": photo, "category_id": 1, "bbox": moved.tolist(), "score": score})
    images = [{"id": photo} for photo in range(12)]
    return {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}]}, found


def overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of boxes xywh [P, 4] twice."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    common = np.maximum(high - low, 0).prod(1)
    return np.asarray(common / (a[:, 2:].prod(1) + b[:, 2:].prod(1) - common))


@pytest.mark.parametrize("seed", range(4))
def test_boxes_equal_pycocotools(seed: int) -> None:
    tools, evaluations = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    content, found = draw(seed)
    boxes = np.array([entry["bbox"] for entry in found])
    candidates = Candidates(
        image=np.array([entry["image_id"] for entry in found]),
        category=np.zeros(len(found), np.int64),
        scores=np.array([entry["score"] for entry in found]),
        areas=boxes[:, 2:].prod(1),
    )
    truth = read_truth(content, POINT)
    matches = match(truth, candidates, lambda of, who: overlap(boxes[of], truth.boxes_xywh[who]), per_photo=100)
    precision, recall = matches.average()
    with contextlib.redirect_stdout(io.StringIO()):
        known = tools.COCO()
        known.dataset = content
        known.createIndex()
        evaluation = evaluations.COCOeval(known, known.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # AP, AP50, AP75, of small, medium, large people, then AR at most 1, 10, 100 on a photo, of small, medium, large.
    stats = evaluation.stats
    assert 0.2 < stats[0] < 0.9
    ours = [precision[0].mean(), precision[0, 0], precision[0, 5], precision[1].mean(), precision[2].mean()]
    ours += [recall[0].mean(), recall[1].mean(), recall[2].mean()]
    assert ours == pytest.approx(stats[[0, 1, 2, 4, 5, 8, 10, 11]].tolist(), abs=1e-9)
