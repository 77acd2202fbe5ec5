"""CrowdPose (Li et al., CVPR 2019): COCO's format, 14 keypoints, and a number that says how crowded a photo is."""

from __future__ import annotations

from pathlib import Path

from fastpose.data.readers.coco import read_coco_style
from fastpose.data.readers.files import JsonFile, open_json
from fastpose.data.records import PoseRecords
from fastpose.skeletons import CROWDPOSE14

__all__ = ["read_crowdpose"]


def read_crowdpose(
    annotation_file: str | Path | JsonFile,
    image_root: str | Path | None = None,
    *,
    detections: str | Path | None = None,
    keep_ignored: bool = False,
) -> PoseRecords:
    """Read people from a CrowdPose file.

    Args:
        annotation_file: E.g. ``mmpose_crowdpose_trainval.json``.
        image_root: As :func:`fastpose.data.readers.read_coco`.
        detections: As there.
        keep_ignored: As there.

    Returns:
        N people with 14 keypoints; ``crowd_index`` is the photos' ``crowdIndex``.

    Raises:
        DataError: As :func:`fastpose.data.readers.read_coco`.
    """
    file = open_json(annotation_file)
    # Its categories call the top of the head "head".
    records, _ = read_coco_style(
        file,
        image_root,
        skeleton=CROWDPOSE14,
        names=CROWDPOSE14.keypoints,
        detections=detections,
        keep_ignored=keep_ignored,
    )
    return records
