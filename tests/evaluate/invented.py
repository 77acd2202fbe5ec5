"""Invented people and their perfect predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fastpose.data.records import PoseRecords
from fastpose.evaluate import truth_of_records
from fastpose.metrics import METRICS, PoseResults, Scores
from fastpose.skeletons import Skeleton


def records(skeleton: Skeleton, people: int = 3, photos: int = 3, **more: Any) -> PoseRecords:
    rng = np.random.default_rng(0)
    return PoseRecords(
        skeleton=skeleton,
        image_paths=[Path(f"{i}.png") for i in range(photos)],
        image_ids=np.arange(photos) + 10,
        image_sizes=np.full((photos, 2), 100),
        image_index=np.arange(people) % photos,
        boxes=np.tile([0.0, 0.0, 90.0, 90.0], (people, 1)),
        keypoints=rng.uniform(0, 90, (people, skeleton.num_keypoints, 2)),
        visible=np.full((people, skeleton.num_keypoints), 2),
        areas=np.full(people, 4000.0),
        ids=np.arange(people) + 100,
        scores=np.ones(people),
        ignore=np.zeros(people, bool),
        **more,
    )


def results(data: PoseRecords, ids: bool = True) -> PoseResults:
    """The truth itself."""
    return PoseResults(
        data.image_ids[data.image_index],
        data.keypoints.copy(),
        np.ones(data.keypoints.shape[:2]),
        np.full(len(data), 0.5),
        data.ids if ids else None,
    )


def score(metric: str, data: PoseRecords, poses: PoseResults) -> Scores:
    return METRICS[metric].score(truth_of_records(data), poses)


def content(data: PoseRecords, **of_people: Any) -> dict[str, Any]:
    """The people as a COCO annotation file holds them, with more entries for each of them."""
    points = np.concatenate([data.keypoints, data.visible[..., None]], -1).reshape(len(data), -1).tolist()
    photos, boxes = data.image_ids[data.image_index].tolist(), data.boxes.tolist()
    people = [
        {"id": int(i), "image_id": photo, "category_id": 1, "area": 4000.0, "keypoints": values}
        | {"bbox": [x1, y1, x2 - x1, y2 - y1], **of_people}
        for i, photo, (x1, y1, x2, y2), values in zip(data.ids, photos, boxes, points, strict=True)
    ]
    return {"images": [{"id": i, "file_name": f"{i}.jpg"} for i in data.image_ids.tolist()], "annotations": people}
