"""Human-Art (Ju et al., CVPR 2023): people in photos, paintings and sculptures, in COCO's format with 17 keypoints."""

from __future__ import annotations

from pathlib import Path

from fastpose.data.readers.coco import read_coco_style
from fastpose.data.readers.files import JsonFile, open_json
from fastpose.data.records import PoseRecords
from fastpose.skeletons import HUMANART17

__all__ = ["read_humanart"]


def read_humanart(
    annotation_file: str | Path | JsonFile,
    image_root: str | Path | None = None,
    *,
    detections: str | Path | None = None,
    keep_ignored: bool = False,
) -> PoseRecords:
    """Read people from a Human-Art file.

    Args:
        annotation_file: E.g. ``validation_humanart.json``.
        image_root: The folder that holds ``HumanArt``, with which the file names start; else as
            :func:`fastpose.data.readers.read_coco`.
        detections: As there.
        keep_ignored: As there.

    Returns:
        N people with COCO's 17 keypoints; fingers and toes (``keypoints_21``) are not read.

    Raises:
        DataError: As :func:`fastpose.data.readers.read_coco`.
    """
    # The categories name 21 keypoints, of which the annotations' "keypoints" are the first 17.
    records, _ = read_coco_style(
        open_json(annotation_file),
        image_root,
        skeleton=HUMANART17,
        names=HUMANART17.keypoints,
        detections=detections,
        keep_ignored=keep_ignored,
    )
    return records
