"""Sub-JHMDB (Jhuang et al., ICCV 2013): frames of short videos with 15 joints, in three splits, in COCO's format."""

from __future__ import annotations

from pathlib import Path

from fastpose.data.readers.coco import read_coco_style
from fastpose.data.readers.files import JsonFile, check_split, open_json
from fastpose.data.records import PoseRecords
from fastpose.skeletons import JHMDB15

__all__ = ["JHMDB_SPLITS", "read_jhmdb"]

JHMDB_SPLITS = {f"sub{n}_{part}": f"Sub{n}_{part}.json" for n in (1, 2, 3) for part in ("train", "test")}
"""Part of the data set → its file in the folder of annotations. Published figures are means over the three tests."""


def read_jhmdb(
    annotations: str | Path | JsonFile,
    image_root: str | Path | None = None,
    *,
    split: str | None = None,
    detections: str | Path | None = None,
    keep_ignored: bool = False,
) -> PoseRecords:
    """Read people from a Sub-JHMDB file.

    Args:
        annotations: E.g. ``Sub1_train.json``, or the folder of the six.
        image_root: As :func:`fastpose.data.readers.read_coco`.
        split: With a folder: ``sub1_train``, ``sub1_test``, ``sub2_train``, …
        detections: As :func:`fastpose.data.readers.read_coco`.
        keep_ignored: As there.

    Returns:
        N people with 15 keypoints. MATLAB counts pixels from 1: boxes and keypoints are moved by one.

    Raises:
        DataError: As :func:`fastpose.data.readers.read_coco`, or there is no such split.
    """
    if isinstance(annotations, (str, Path)) and Path(annotations).is_dir():
        check_split(annotations, split or "", list(JHMDB_SPLITS))
        annotations = Path(annotations) / JHMDB_SPLITS[split or ""]
    elif split is not None:
        check_split(annotations.path if isinstance(annotations, JsonFile) else annotations, split, [])
    records, _ = read_coco_style(
        open_json(annotations),
        image_root,
        skeleton=JHMDB15,
        names=JHMDB15.keypoints,
        detections=detections,
        keep_ignored=keep_ignored,
        origin=1.0,
    )
    return records
