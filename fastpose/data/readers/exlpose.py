"""ExLPose (Lee et al., CVPR 2023): people in extremely low light, in COCO's format with 14 keypoints."""

from __future__ import annotations

from pathlib import Path

from fastpose.data.readers.coco import read_coco_style
from fastpose.data.readers.files import JsonFile, open_json
from fastpose.data.records import PoseRecords
from fastpose.skeletons import EXLPOSE14

__all__ = ["read_exlpose"]


def read_exlpose(
    annotation_file: str | Path | JsonFile,
    image_root: str | Path | None = None,
    *,
    detections: str | Path | None = None,
    keep_ignored: bool = False,
) -> PoseRecords:
    """Read people from an ExLPose file.

    Args:
        annotation_file: E.g. ``ExLPose_test_LL-A.json``: one file each for the degrees of darkness.
        image_root: As :func:`fastpose.data.readers.read_coco`.
        detections: As there.
        keep_ignored: As there.

    Returns:
        N people with 14 keypoints.

    Raises:
        DataError: As :func:`fastpose.data.readers.read_coco`.
    """
    records, _ = read_coco_style(
        open_json(annotation_file),
        image_root,
        skeleton=EXLPOSE14,
        names=EXLPOSE14.keypoints,
        detections=detections,
        keep_ignored=keep_ignored,
    )
    return records
