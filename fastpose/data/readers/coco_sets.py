"""Data sets that are in COCO's format but for a detail or two, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastpose.data.readers.categories import category_with_keypoints, keypoint_names
from fastpose.data.readers.coco import read_coco_style
from fastpose.data.readers.files import JsonFile, Where, kind, numbers, open_json
from fastpose.data.readers.mpii import boxes_of_scales
from fastpose.data.records import DataError, PoseRecords
from fastpose.skeletons import Skeleton, animals, faces, fashion, hands, wholebody

__all__ = ["COCO_SETS", "CocoSet", "read_coco_set"]


@dataclass(frozen=True)
class CocoSet:
    """How the annotations of a data set differ from COCO's.

    Attributes:
        skeleton: The keypoints.
        names: Those of the file in order, whatever its categories call them; the skeleton's where not given.
        keypoints: The list in which they stand.
        box: What the box is: ``bbox``, cut to the photo; ``scale``: the square of 200 times ``scale`` about ``center``
            (of a face, where ``bbox`` is that of its keypoints); or the whole photo, a square of so many pixels.
        by_name: Whether the names in the file's categories say which keypoints these are, where it has any.
    """

    skeleton: Skeleton
    names: tuple[str, ...] = ()
    keypoints: str = "keypoints"
    box: Literal["bbox", "scale"] | int = "bbox"
    by_name: bool = False

    def fits(self, annotation: Mapping[str, Any], photo: Mapping[str, Any]) -> bool:
        """Whether an annotation and its photo have what the box is made of."""
        if self.box == "scale":
            return "center" in annotation and "scale" in annotation
        return self.box == "bbox" or photo.get("width") == photo.get("height") == self.box

    def boxes(self, where: Where, people: list[dict[str, Any]]) -> NDArray[np.float64]:
        """Boxes [N, 4] xyxy of N annotations, where they are not in ``bbox``."""
        if isinstance(self.box, int):
            return np.tile(np.array([0, 0, self.box, self.box], np.float64), (len(people), 1))
        center = numbers(where, "center", [entry.get("center") for entry in people], 2)
        scale = numbers(where, "scale", [[entry.get("scale")] for entry in people], 1)[:, 0]
        return boxes_of_scales(center, scale).astype(np.float64)


COCO_SETS: Mapping[str, CocoSet] = {
    "300w": CocoSet(faces.W300_68, box="scale"),
    "300wlp": CocoSet(faces.W300LP68),
    "aflw": CocoSet(faces.AFLW19, box="scale"),
    "animalkingdom": CocoSet(animals.ANIMALKINGDOM23),
    "animalpose": CocoSet(animals.ANIMALPOSE20),
    "ap10k": CocoSet(animals.AP10K17),
    "atrw": CocoSet(animals.ATRW15),
    "cofw": CocoSet(faces.COFW29),
    "deepfashion2": CocoSet(fashion.DEEPFASHION2_294),
    "deepfashion_full": CocoSet(fashion.DEEPFASHION_FULL8, by_name=True),
    "deepfashion_lower": CocoSet(fashion.DEEPFASHION_LOWER4, by_name=True),
    "deepfashion_upper": CocoSet(fashion.DEEPFASHION_UPPER6, by_name=True),
    "fly": CocoSet(animals.FLY32),
    "freihand": CocoSet(hands.FREIHAND21, box=224),
    "halpe": CocoSet(wholebody.HALPE136),
    "halpe26": CocoSet(wholebody.HALPE26, names=wholebody.HALPE136.keypoints),
    "horse10": CocoSet(animals.HORSE22),
    "humanart21": CocoSet(wholebody.HUMANART21, keypoints="keypoints_21"),
    "lapa": CocoSet(faces.LAPA106),
    "locust": CocoSet(animals.LOCUST35, box=160),
    "macaque": CocoSet(animals.MACAQUE17),
    "mhp": CocoSet(wholebody.MHP16),
    "ochuman": CocoSet(wholebody.OCHUMAN17),
    "onehand10k": CocoSet(hands.ONEHAND10K21),
    "rhd2d": CocoSet(hands.RHD21),
    "wflw": CocoSet(faces.WFLW98, box="scale"),
    "zebra": CocoSet(animals.ZEBRA9, box=160),
}
"""The data sets by the name of their format."""


def read_coco_set(
    name: str,
    annotation_file: str | Path | JsonFile,
    image_root: str | Path | None = None,
    *,
    detections: str | Path | None = None,
    category: int | str | None = None,
    keep_ignored: bool = False,
) -> PoseRecords:
    """Read a data set of the table.

    Args:
        name: One of :data:`COCO_SETS`.
        annotation_file: Its file, as MMPose's documentation offers or makes it.
        image_root: As :func:`fastpose.data.readers.read_coco`.
        detections: As there.
        category: As there, but by default all of them: they have the same keypoints.
        keep_ignored: As there.

    Returns:
        N people, hands, faces, animals or pieces of clothing, by photo in the file's order. Boxes are those that
        published figures were made with: of faces with ``center`` and ``scale`` (300W, AFLW, WFLW) squares about them;
        in FreiHAND, of locusts and of zebras the whole photo; else ``bbox``, cut to the photo.

    Raises:
        DataError: As :func:`fastpose.data.readers.read_coco`.
    """
    layout, file = COCO_SETS[name], open_json(annotation_file)
    if not isinstance(file.content, dict):
        raise DataError(f"{file.path}: expected an object with images and annotations, got {kind(file.content)}")
    names = layout.names or layout.skeleton.keypoints
    category = "all" if category is None else category
    if layout.by_name:
        names = keypoint_names(file.path, category_with_keypoints(file.path, file.content, category)) or names
    records, _ = read_coco_style(
        file,
        image_root,
        skeleton=layout.skeleton,
        names=names,
        detections=detections,
        category=category,
        keep_ignored=keep_ignored,
        cut=layout.box == "bbox",
        parts={layout.keypoints: len(names)},
        boxes_of=None if layout.box == "bbox" else layout.boxes,
    )
    return records
