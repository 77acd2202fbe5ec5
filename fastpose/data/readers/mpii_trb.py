"""MPII with body contours (Duan et al., "TRB", ICCV 2019): 14 joints and 26 points of the outline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fastpose.data.readers.coco import read_coco_style
from fastpose.data.readers.files import JsonFile, entries, integer, kind, numbers, open_json
from fastpose.data.readers.mpii import HEAD_OF_DIAGONAL, boxes_of_scales
from fastpose.data.records import DataError, PoseRecords
from fastpose.geometry import boxes_xyxy_to_xywh
from fastpose.skeletons import MPII_TRB40

__all__ = ["read_mpii_trb"]

# Crops that the set's authors scale people to, and how much wider than the person they are.
_CROP, _PADDING = 256.0, 1.25


def read_mpii_trb(
    annotation_file: str | Path | JsonFile,
    image_root: str | Path | None = None,
    *,
    scale_is_factor: bool = False,
) -> PoseRecords:
    """Read people from an MPII-TRB file.

    Args:
        annotation_file: E.g. ``mpii_trb_train.json``.
        image_root: Folder of MPII's photos; else as :func:`fastpose.data.readers.read_coco`.
        scale_is_factor: What ``scale`` means. By default, as in MMPose 1.x, a fraction of 200 pixels: the side of the
            box. True: the factor that brings the person to a crop of 256 pixels, as in MMPose 0.x and, by their size,
            in the published files; the box is that crop without its padding of 1.25.

    Returns:
        N people with 40 keypoints, by id; square boxes about ``center``, not cut to the photo. ``head_sizes`` where the
        file has head boxes (the part to validate on): 0.6 of the diagonal, so PCKh at 0.5 is the set's own measure,
        0.3 of the diagonal.

    Raises:
        DataError: As :func:`fastpose.data.readers.read_coco`.
    """
    file = open_json(annotation_file)
    if not isinstance(file.content, dict):
        raise DataError(f"{file.path}: expected an object with images and annotations, got {kind(file.content)}")
    people = list(entries(file.path, file.content, "annotations"))

    def where(row: int) -> str:
        return f"{file.path}: annotation {people[row].get('id', f'number {row}')}"

    for row in range(len(people)):
        integer(lambda row=row: where(row), people[row], "id")  # type: ignore[misc]
    people.sort(key=lambda entry: entry["id"])
    center = numbers(where, "center", [entry.get("center") for entry in people], 2)
    scale = numbers(where, "scale", [[entry.get("scale")] for entry in people], 1)[:, 0]
    if scale_is_factor:
        scale = _CROP / _PADDING / 200 / np.where(scale > 0, scale, np.inf)
    boxes = boxes_xyxy_to_xywh(boxes_of_scales(center, scale).astype(np.float64))
    annotations = [entry | {"bbox": box} for entry, box in zip(people, boxes.tolist(), strict=True)]
    records, kept = read_coco_style(
        JsonFile(file.path, file.content | {"annotations": annotations}),
        image_root,
        skeleton=MPII_TRB40,
        names=MPII_TRB40.keypoints,
        cut=False,
    )
    records = records.select(order := np.argsort(records.ids))
    return _with_heads(file, records, [kept[row] for row in order])


def _with_heads(file: JsonFile, records: PoseRecords, people: list[dict[str, Any]]) -> PoseRecords:
    rows = [row for row, entry in enumerate(people) if entry.get("headbox")]
    if not rows:
        return records
    heads = np.full((len(people), 4), np.nan)
    heads[rows] = numbers(
        lambda i: f"{file.path}: annotation {people[rows[i]]['id']}",
        "headbox",
        [people[row]["headbox"] for row in rows],
        4,
    )
    sizes = HEAD_OF_DIAGONAL * np.linalg.norm(heads[:, 2:] - heads[:, :2], axis=1)
    return replace(records, head_boxes=heads, head_sizes=sizes)
