"""AI Challenger (Wu et al., ICME 2019), 14 keypoints: its own format and the COCO-style files made of it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from fastpose.data.readers.coco import area_of_boxes, read_coco_style
from fastpose.data.readers.files import JsonFile, entries, kind, numbers, open_json
from fastpose.data.records import DataError, PathTable, PoseRecords
from fastpose.skeletons import AIC14

__all__ = ["read_aic"]

# The set's own flags: 1 seen, 2 hidden, 3 not in the photo.
_VISIBLE = np.array([0, 2, 1, 0], np.uint8)


def read_aic(
    annotation_file: str | Path | JsonFile,
    image_root: str | Path | None = None,
    *,
    detections: str | Path | None = None,
    keep_ignored: bool = False,
) -> PoseRecords:
    """Read people from an AI Challenger file.

    Args:
        annotation_file: The set's own ``keypoint_train_annotations_20170902.json``, or COCO-style (``aic_train.json``).
        image_root: Folder of the photos; else as :func:`fastpose.data.readers.read_coco`.
        detections: As there; with a COCO-style file only, as the set's own format has no numbers for photos.
        keep_ignored: As there; the set's own format has nobody to ignore.

    Returns:
        N people with 14 keypoints. In the set's own format photos and people are numbered from 1 in the file's order.

    Raises:
        DataError: As :func:`fastpose.data.readers.read_coco`.
    """
    file = open_json(annotation_file)
    if isinstance(file.content, list):
        if detections is not None:
            raise DataError(f"{file.path}: detections go with a COCO-style file, got the data set's own format")
        return _read_own(file, image_root)
    records, _ = read_coco_style(
        file,
        image_root,
        skeleton=AIC14,
        names=AIC14.keypoints,
        detections=detections,
        keep_ignored=keep_ignored,
    )
    return records


def _read_own(file: JsonFile, image_root: str | Path | None) -> PoseRecords:
    folder = str(image_root if image_root is not None else file.path.parent)
    names: list[str] = []
    people: list[tuple[int, str, Any, Any]] = []  # photo, who, box, keypoints
    for index, entry in enumerate(entries(file.path, {"photos": file.content}, "photos")):
        name, points, boxes = (entry.get(k) for k in ("image_id", "keypoint_annotations", "human_annotations"))
        where = f"{file.path}: photo {name or f'number {index}'}"
        if not isinstance(name, str):
            raise DataError(f"{where}: image_id: expected a string, got {kind(name)}")
        if not isinstance(points, dict) or not isinstance(boxes, dict):
            raise DataError(f"{where}: expected keypoint_annotations and human_annotations, got {', '.join(entry)}")
        names.append(os.path.join(folder, f"{name}.jpg"))
        people += [(index, f"{where}: {who}", boxes.get(who), value) for who, value in points.items()]
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DataError(f"{file.path}: photo {Path(twice).stem}: the id occurs twice")

    def where_person(row: int) -> str:
        return people[row][1]

    joints = AIC14.num_keypoints
    points = numbers(where_person, "keypoint_annotations", [p[3] for p in people], 3 * joints).reshape(-1, joints, 3)
    wrong = np.flatnonzero(~np.isin(points[..., 2], (1, 2, 3)).all(1))
    if len(wrong):
        raise DataError(f"{where_person(int(wrong[0]))}: keypoint_annotations: expected flags 1, 2 or 3")
    box = numbers(where_person, "human_annotations", [p[2] for p in people], 4)
    visible = _VISIBLE[points[..., 2].astype(np.int64)]
    empty, unlabelled = (box[:, 2:] <= box[:, :2]).any(1), ~(visible > 0).any(1)
    rows = np.flatnonzero(~empty & ~unlabelled)
    skipped = {"empty box": int(empty.sum()), "no keypoints": int((unlabelled & ~empty).sum())}
    arrays: dict[str, Any] = {
        "image_ids": np.arange(1, len(names) + 1),
        "image_sizes": np.zeros((len(names), 2)),
        "image_index": np.array([person[0] for person in people], np.int32)[rows],
        "boxes": box[rows],
        "keypoints": np.where(visible[..., None] > 0, points[..., :2], 0)[rows],
        "visible": visible[rows],
        "areas": area_of_boxes(box[rows]),
        "ids": rows + 1,
        "scores": np.ones(len(rows)),
        "ignore": np.zeros(len(rows)),
    }
    left_out = {reason: count for reason, count in skipped.items() if count}
    return PoseRecords(AIC14, PathTable(names), **arrays, source=str(file.path), skipped=left_out)
