"""Leeds Sports Pose and its extension (Johnson and Everingham, BMVC 2010 and CVPR 2011), 14 keypoints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastpose.data.readers.coco import area_of_boxes, boxes_of_keypoints, read_coco_style
from fastpose.data.readers.files import JsonFile, check_split, matlab_numbers, open_json, read_mat, usable
from fastpose.data.records import DataError, PathTable, PoseRecords
from fastpose.skeletons import LSP14

__all__ = ["read_lsp"]


def read_lsp(
    annotation_file: str | Path | JsonFile,
    image_root: str | Path | None = None,
    *,
    split: str | None = None,
    detections: str | Path | None = None,
    keep_ignored: bool = False,
) -> PoseRecords:
    """Read people from LSP or LSP-extended.

    Args:
        annotation_file: ``joints.mat`` of either set (LSP is [3, 14, N], the extension [14, 3, N]), or COCO-style JSON.
        image_root: Folder that holds ``images`` of a ``joints.mat``; else as :func:`fastpose.data.readers.read_coco`.
        split: With LSP's ``joints.mat``: ``train`` (the first half) or ``test`` (the second); by default both.
        detections: As :func:`fastpose.data.readers.read_coco`; with JSON only.
        keep_ignored: As there; with JSON only.

    Returns:
        N people with 14 keypoints, one a photo. From a ``joints.mat``: photos and people are numbered from 1, keypoints
        are as they stand there, boxes are those of the annotated joints and a tenth plus 4 pixels more on every side.

    Raises:
        DataError: As :func:`fastpose.data.readers.read_coco`, or SciPy is needed and missing.
    """
    if isinstance(annotation_file, JsonFile) or Path(annotation_file).suffix.lower() != ".mat":
        file = open_json(annotation_file)
        check_split(file.path, split, [])
        records, _ = read_coco_style(file, image_root, skeleton=LSP14, detections=detections, keep_ignored=keep_ignored)
        return records
    path = Path(annotation_file)
    if detections is not None:
        raise DataError(f"{path}: detections go with a COCO-style file, got a MATLAB file")
    joints, extended = _joints(path, read_mat(path).get("joints"))
    check_split(path, split, [] if extended else ["train", "test"])
    return _records(path, Path(image_root) if image_root is not None else path.parent, joints, extended, split)


def _joints(path: Path, values: Any) -> tuple[NDArray[np.float64], bool]:
    """[N, 14, 3] x, y, flag, and whether it is the extension."""
    array = matlab_numbers(path, "joints", values)
    shape = array.shape
    if len(shape) == 3 and shape[:2] in ((3, 14), (14, 3)):
        extended = shape[0] == 14
        joints = array.transpose((2, 0, 1) if extended else (2, 1, 0))
        bad = np.flatnonzero(~usable(joints).all((1, 2)))
        if not len(bad):
            return joints, extended
        raise DataError(f"{path}: person number {bad[0]}: joints: expected finite numbers")
    raise DataError(
        f"{path}: joints: expected an array of shape (3, 14, N) or (14, 3, N), got {shape if array.size else 'none'}"
    )


def _records(path: Path, root: Path, joints: NDArray[np.float64], extended: bool, split: str | None) -> PoseRecords:
    count = len(joints)
    # LSP flags the joints that are hidden, the extension those that are annotated.
    visible = np.where(joints[..., 2] > 0, 2, 0) if extended else np.where(joints[..., 2] > 0, 1, 2)
    points = joints[..., :2]
    kept = (visible > 0).any(1)
    people = np.arange(count)
    if split is not None:
        kept &= people < count // 2 if split == "train" else people >= count // 2
    wanted = people if split is None else people[: count // 2] if split == "train" else people[count // 2 :]
    rows = np.flatnonzero(kept)
    boxes = boxes_of_keypoints(points, visible > 0)[rows]
    digits = 5 if extended else 4
    arrays: dict[str, Any] = {
        "image_ids": wanted + 1,
        "image_sizes": np.zeros((len(wanted), 2)),
        "image_index": rows - (wanted[0] if len(wanted) else 0),
        "boxes": boxes,
        "keypoints": np.where((visible > 0)[..., None], points, 0)[rows],
        "visible": visible[rows],
        "areas": area_of_boxes(boxes),
        "ids": rows + 1,
        "scores": np.ones(len(rows)),
        "ignore": np.zeros(len(rows)),
    }
    paths = PathTable(os.path.join(root, "images", f"im{number + 1:0{digits}d}.jpg") for number in wanted)
    skipped = {"no keypoints": len(wanted) - len(rows)} if len(wanted) > len(rows) else {}
    return PoseRecords(LSP14, paths, **arrays, source=str(path), skipped=skipped)
