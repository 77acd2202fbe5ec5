"""COCO-WholeBody (Jin et al., ECCV 2020): COCO's people with feet, face and hands, as whole people or their parts.

UBody (Lin et al., CVPR 2023) is in the same format.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastpose.data.readers.categories import is_crowd
from fastpose.data.readers.coco import read_coco_style
from fastpose.data.readers.files import JsonFile, Where, entries, integer, kind, numbers, open_json
from fastpose.data.records import DataError, PoseRecords
from fastpose.skeletons import COCO17, Skeleton
from fastpose.skeletons.faces import COCO_WHOLEBODY_FACE68
from fastpose.skeletons.hands import COCO_WHOLEBODY_HAND21
from fastpose.skeletons.wholebody import COCO_WHOLEBODY133

__all__ = ["read_coco_wholebody", "read_wholebody_faces", "read_wholebody_hands"]

_HAND, _FACE = COCO_WHOLEBODY_HAND21.num_keypoints, COCO_WHOLEBODY_FACE68.num_keypoints
# Keypoints by the list that they stand in, in the order of the 133.
_PARTS = {
    "keypoints": COCO17.num_keypoints,
    "foot_kpts": 6,
    "face_kpts": _FACE,
    "lefthand_kpts": _HAND,
    "righthand_kpts": _HAND,
}


def read_coco_wholebody(
    annotation_file: str | Path | JsonFile,
    image_root: str | Path | None = None,
    *,
    detections: str | Path | None = None,
    keep_ignored: bool = False,
) -> PoseRecords:
    """Read people from a COCO-WholeBody or UBody file.

    Args:
        annotation_file: E.g. ``coco_wholebody_val_v1.0.json``.
        image_root: As :func:`fastpose.data.readers.read_coco`.
        detections: As there.
        keep_ignored: As there.

    Returns:
        N people with 133 keypoints. ``annotated`` is false for feet, face and hands whose ``foot_valid``,
        ``face_valid``, ``lefthand_valid`` or ``righthand_valid`` is: nobody has labelled them, whatever is to be seen.
        Labels count fully, also where a network has made them; those of hands alone count as it was sure of them.

    Raises:
        DataError: As :func:`fastpose.data.readers.read_coco`, or such a flag is neither true nor false.
    """
    file = open_json(annotation_file)
    records, people = read_coco_style(
        file,
        image_root,
        skeleton=COCO_WHOLEBODY133,
        names=COCO_WHOLEBODY133.keypoints,
        detections=detections,
        keep_ignored=keep_ignored,
        parts=_PARTS,
    )
    if detections is not None:
        return records

    def where(row: int) -> str:
        return f"{file.path}: annotation {people[row]['id']}"

    annotated = records.annotated.copy()
    ends = np.cumsum(list(_PARTS.values()))
    for part, start, end in zip(list(_PARTS)[1:], ends[:-1], ends[1:], strict=True):
        annotated[:, start:end] = _flags(where, part.replace("_kpts", "_valid"), people)[:, None]
    return replace(records, annotated=annotated, weights=None)


def read_wholebody_hands(
    annotation_file: str | Path | JsonFile,
    image_root: str | Path | None = None,
    *,
    detections: str | Path | None = None,
) -> PoseRecords:
    """Read the hands from a COCO-WholeBody file.

    Args:
        annotation_file: As :func:`read_coco_wholebody`.
        image_root: As there.
        detections: Boxes of hands; else as there.

    Returns:
        N hands with 21 keypoints, of people who are no crowd: those that are ``lefthand_valid`` or ``righthand_valid``,
        the left one of a person first. Boxes are not cut to the photo. Hands are numbered from 0, by photo.

    Raises:
        DataError: As :func:`read_coco_wholebody`.
    """
    file = open_json(annotation_file)
    labelled, missing = _labelled_parts(file, ("lefthand", "righthand"), COCO_WHOLEBODY_HAND21)
    hands = [part for part in labelled if not part["iscrowd"]]
    missing |= {"crowd": len(labelled) - len(hands)}
    photos = enumerate(entries(file.path, file.content, "images"))
    position = {integer(lambda i=i: f"{file.path}: image number {i}", photo, "id"): i for i, photo in photos}  # type: ignore[misc]
    hands.sort(key=lambda part: position.get(part["image_id"], len(position)))
    hands = [part | {"id": number} for number, part in enumerate(hands)]
    return _read_parts(file, image_root, hands, missing, COCO_WHOLEBODY_HAND21, detections, cut=False)


def read_wholebody_faces(
    annotation_file: str | Path | JsonFile,
    image_root: str | Path | None = None,
    *,
    detections: str | Path | None = None,
) -> PoseRecords:
    """Read the faces from a COCO-WholeBody file.

    Args:
        annotation_file: As :func:`read_coco_wholebody`.
        image_root: As there.
        detections: Boxes of faces; else as there.

    Returns:
        N faces with 68 keypoints: those of people, no crowds, that are ``face_valid``. Boxes are cut to the photo, ids
        are those of the people.

    Raises:
        DataError: As :func:`read_coco_wholebody`.
    """
    file = open_json(annotation_file)
    faces, missing = _labelled_parts(file, ("face",), COCO_WHOLEBODY_FACE68)
    return _read_parts(file, image_root, faces, missing, COCO_WHOLEBODY_FACE68, detections, cut=True)


def _labelled_parts(
    file: JsonFile, names: tuple[str, ...], skeleton: Skeleton
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Annotations of the parts that are labelled, in COCO's format, and how many are not.

    Their values are checked here, where an error can still name them as the file does.
    """
    if not isinstance(file.content, dict):
        raise DataError(f"{file.path}: expected an object with images and annotations, got {kind(file.content)}")
    people = list(entries(file.path, file.content, "annotations"))

    def where(row: int) -> str:
        return f"{file.path}: annotation {people[row].get('id', f'number {row}')}"

    valid = np.stack([_flags(where, f"{name}_valid", people) for name in names], 1)
    points, boxes = np.zeros((*valid.shape, 3 * skeleton.num_keypoints)), np.zeros((*valid.shape, 4))
    for number, name in enumerate(names):
        rows = np.flatnonzero(valid[:, number])
        for values, key in ((points, f"{name}_kpts"), (boxes, f"{name}_box")):
            found = [people[row].get(key) for row in rows]
            values[rows, number] = numbers(lambda i, rows=rows: where(int(rows[i])), key, found, values.shape[-1])  # type: ignore[misc]
    labelled = points.max(2) > 0
    parts = [
        {
            "id": integer(partial(where, row), people[row], "id"),
            "image_id": integer(partial(where, row), people[row], "image_id"),
            "iscrowd": int(is_crowd(partial(where, row), people[row])),
            "bbox": boxes[row, number].tolist(),
            "keypoints": array("d", points[row, number]),
        }
        for row, number in np.argwhere(labelled).tolist()
    ]
    return parts, {"no keypoints": int((~labelled).sum())}


def _flags(where: Where, key: str, people: list[dict[str, Any]]) -> NDArray[np.bool_]:
    """[N], whether something is labelled."""
    values = [entry.get(key) for entry in people]
    for row, value in enumerate(values):
        if type(value) not in (bool, int) or value not in (0, 1):
            raise DataError(f"{where(row)}: {key}: expected true or false, got {value!r:.80}")
    return np.array(values, np.bool_)


def _read_parts(
    file: JsonFile,
    image_root: str | Path | None,
    parts: list[dict[str, Any]],
    missing: dict[str, int],
    skeleton: Skeleton,
    detections: str | Path | None,
    *,
    cut: bool,
) -> PoseRecords:
    records, _ = read_coco_style(
        JsonFile(file.path, file.content | {"annotations": parts}),
        image_root,
        skeleton=skeleton,
        names=skeleton.keypoints,
        detections=detections,
        cut=cut,
    )
    if detections is not None:
        return records
    skipped = Counter(records.skipped) + Counter(missing)
    return replace(records, skipped=dict(skipped))
