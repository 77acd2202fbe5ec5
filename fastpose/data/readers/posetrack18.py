"""PoseTrack 2018 (Andriluka et al., CVPR 2018): frames of videos, 17 keypoints and who is who, in COCO's format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastpose.data.readers.coco import read_coco_style
from fastpose.data.readers.files import JsonFile, numbers, open_json
from fastpose.data.records import DataError, PoseRecords, concatenate
from fastpose.geometry import boxes_xywh_to_xyxy
from fastpose.skeletons import POSETRACK18_17

__all__ = ["read_posetrack18"]

# Of the head box's diagonal: what PoseTrack's own evaluation divides by, as PCKh does.
HEAD_OF_DIAGONAL = 0.6


def read_posetrack18(
    annotations: str | Path | JsonFile,
    image_root: str | Path | None = None,
    *,
    detections: str | Path | None = None,
    keep_ignored: bool = False,
) -> PoseRecords:
    """Read people from PoseTrack 2018.

    Args:
        annotations: One file, of one video or of all of them (``posetrack18_val.json``), or a folder with one a video.
        image_root: The folder that holds ``images``; else as :func:`fastpose.data.readers.read_coco`.
        detections: As there; with one file only.
        keep_ignored: As there.

    Returns:
        N people with 17 keypoints, of which the ears are never annotated, by frame in the file's order; a frame's id is
        1, the video's number and the frame's four digits. ``track_ids``, ``head_boxes`` and ``head_sizes`` are set.

    Raises:
        DataError: As :func:`fastpose.data.readers.read_coco`, the folder holds no annotations, or two of its files have
            an image id in common.
    """
    if isinstance(annotations, (str, Path)) and Path(annotations).is_dir():
        files = sorted(Path(annotations).glob("*.json"))
        if not files:
            raise DataError(f"{annotations}: no annotation file (.json) is in this folder")
        if detections is not None:
            raise DataError(f"{annotations}: detections go with one annotation file, got a folder")
        records = concatenate([read_posetrack18(f, image_root, keep_ignored=keep_ignored) for f in files])
        ids, times = np.unique(records.image_ids, return_counts=True)
        if (times > 1).any():
            # Results name photos by id alone: those of one would count as those of another.
            raise DataError(f"{annotations}: image id {ids[times > 1][0]} occurs in two files, or twice in one")
        return replace(records, source=str(annotations))
    file = open_json(annotations)
    records, people = read_coco_style(
        file,
        image_root,
        skeleton=POSETRACK18_17,
        names=POSETRACK18_17.keypoints,
        detections=detections,
        keep_ignored=keep_ignored,
    )
    if detections is not None:
        return records
    # Its own list of keypoints has the ears, which were never annotated.
    annotated = records.annotated.copy()
    annotated[:, list(POSETRACK18_17.indices(("left_ear", "right_ear")))] = False
    heads = _head_boxes(file, people)
    sizes = HEAD_OF_DIAGONAL * np.linalg.norm(heads[:, 2:] - heads[:, :2], axis=1)
    return replace(records, annotated=annotated, head_boxes=heads, head_sizes=sizes)


def _head_boxes(file: JsonFile, people: list[dict[str, Any]]) -> NDArray[Any]:
    """[N, 4] xyxy, NaN where a person has none."""
    heads = np.full((len(people), 4), np.nan)
    rows = [row for row, entry in enumerate(people) if entry.get("bbox_head")]
    boxes = numbers(
        lambda i: f"{file.path}: annotation {people[rows[i]]['id']}",
        "bbox_head",
        [people[row]["bbox_head"] for row in rows],
        4,
    )
    heads[rows] = boxes_xywh_to_xyxy(boxes)
    return heads
