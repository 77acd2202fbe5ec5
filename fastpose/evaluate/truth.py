"""What the annotations of a data set say, as a metric takes it, and which metric belongs to a data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.readers.categories import category_number, category_with_keypoints
from ..data.records import PoseRecords
from ..metrics import METRICS, BoxTruth, Truth, read_box_truth, read_truth
from ..metrics.coco_files import read_content
from ..metrics.pck import LIMB_KEYPOINTS, LIMB_PCK
from ..skeletons import JHMDB15, Skeleton

__all__ = [
    "default_metric",
    "has_annotations",
    "read_annotated",
    "read_annotated_boxes",
    "truth_of_boxes",
    "truth_of_records",
]


def default_metric(records: PoseRecords, predicted: Skeleton | None = None) -> str:
    """The metric that is published for a data set.

    Args:
        records: The people.
        predicted: Keypoints of the network; where it lacks some of the data's, limbs are what is left to compare.

    Returns:
        A name of :data:`fastpose.metrics.METRICS`.

    Raises:
        ValueError: The network lacks some of the data's keypoints, and not all limbs are in both.
    """
    own = records.skeleton.keypoints
    lacking = [name for name in own if predicted is not None and name not in predicted.keypoints]
    if predicted is not None and lacking:
        if not set(LIMB_KEYPOINTS) <= set(own) & set(predicted.keypoints):
            raise ValueError(
                f"metric: the network ({predicted.name!r}) lacks {_some(lacking)} of the data "
                f"({records.skeleton.name!r}), and the two do not share the limbs that pck compares"
            )
        return LIMB_PCK.name
    for metric in METRICS.values():
        if any(skeleton.keypoints == own for skeleton in metric.skeletons):
            return metric.name
    for_any = [metric for metric in METRICS.values() if not metric.skeletons]
    fitting = [metric for metric in for_any if all(getattr(records, need) is not None for need in metric.needs)]
    return max(fitting, key=lambda metric: len(metric.needs)).name  # the one that makes most of the data


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def truth_of_records(records: PoseRecords) -> Truth:
    """The annotated people of records, as a metric takes them."""
    order = np.argsort(records.image_ids, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    boxes = records.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    ignore = records.ignore.astype(bool)

    def column(values: NDArray[Any] | None) -> NDArray[np.float64] | None:
        return None if values is None else values.astype(np.float64)

    return Truth(
        skeleton=records.skeleton,
        image_ids=records.image_ids[order].astype(np.int64),
        category_ids=np.ones(1, np.int64),
        ids=records.ids.astype(np.int64),
        image=rank[records.image_index],
        category=np.zeros(len(records), np.int64),
        keypoints=records.keypoints.astype(np.float64),
        visible=records.visible,
        boxes_xywh=boxes,
        areas=records.areas.astype(np.float64),
        ignore=ignore | ~(records.visible > 0).any(1),
        crowd=ignore,
        head_sizes=column(records.head_sizes),
        crowd_index=None if records.crowd_index is None else column(records.crowd_index[order]),
        source=records.source,
    )


def truth_of_boxes(records: PoseRecords) -> BoxTruth:
    """The annotated people of records, as boxes: those without annotated keypoints have to be found, too."""
    truth = truth_of_records(records)
    return dataclasses.replace(truth, ignore=truth.crowd)


def read_annotated(
    path: str | Path | None, records: PoseRecords, optional: Iterable[str] = (), category: int | str | None = None
) -> Truth:
    """Everybody on the photos, crowds and detected boxes' people included.

    Args:
        path: Annotation file or folder. Where it is in COCO's format it says more than the records, of several
            categories that of the one that is read; anything else gives what the records hold.
        records: What was read from it.
        optional: Arrays of :class:`fastpose.metrics.Truth` that are wanted where the file may state them.
        category: Name or id of the category that was read, where one was asked for.

    Returns:
        The people, with the records' skeleton.

    Raises:
        ValueError: The file cannot be used, or nobody has annotated keypoints.
    """
    content = _coco_content(path, records, category)
    if content is not None:
        return read_truth(content, records.skeleton, optional=optional)
    if not (records.visible > 0).any():
        raise ValueError(f"annotations: nobody has annotated keypoints in {path or records.source}")
    return truth_of_records(records)


def read_annotated_boxes(path: str | Path | None, records: PoseRecords, category: int | str | None = None) -> BoxTruth:
    """Everybody on the photos who has a box.

    Args:
        path: Annotation file or folder. Where it is in COCO's format it says more than the records: people without
            keypoints, and crowds. Anything else gives what the records hold.
        records: What was read from it.
        category: Name or id of the category that is measured; people where not given.

    Returns:
        The people; there may be none.

    Raises:
        ValueError: The file cannot be used, or states photos only (COCO's ``image_info``), which does not say that
            nobody is on them.
    """
    content = _coco_content(path, records, category)
    if path is not None and content is not None:
        return read_box_truth(content, category_id=category_number(Path(path), content, category))
    listed = _listed_photos(path)
    if (listed is not None and "annotations" not in listed) or (len(records) and not (records.visible > 0).any()):
        raise ValueError(f"annotations: {path or records.source} does not say who is on the photos")
    return truth_of_boxes(records)


def has_annotations(path: str | Path) -> bool:
    """Whether a data set states people, and not only photos, as COCO's ``image_info`` files do."""
    listed = _listed_photos(path)
    return listed is None or bool(listed.get("annotations"))


def _listed_photos(path: str | Path | None) -> Mapping[str, Any] | None:
    """What a file holds that lists photos as COCO's do."""
    if path is None or Path(path).is_dir() or Path(path).suffix.lower() != ".json":
        return None
    content = read_content(path)
    return content if isinstance(content, Mapping) and content.get("images") else None


def _coco_content(
    path: str | Path | None, records: PoseRecords, category: int | str | None
) -> Mapping[str, Any] | None:
    if path is None or (records.skeleton.keypoints == JHMDB15.keypoints and (records.visible > 0).any()):
        return None  # JHMDB's reader moves boxes and keypoints by one pixel
    path = Path(path)
    if path.is_dir():
        parts = [read_content(file) for file in sorted(path.glob("*.json"))]
        if not parts or not all(map(_is_coco, parts)):
            return None
        return {key: [entry for part in parts for entry in part[key]] for key in ("images", "annotations")}
    if path.suffix.lower() in (".mat", ".yaml", ".yml"):
        return None
    content = read_content(path)
    return _wanted(path, content, records, category) if _is_coco(content) else None


def _wanted(
    path: Path, content: Mapping[str, Any], records: PoseRecords, category: int | str | None
) -> Mapping[str, Any]:
    """The file with the annotations of the category that was read, or of several (AP-10K's species)."""
    with_keypoints = [
        entry for entry in content.get("categories") or () if isinstance(entry, Mapping) and entry.get("keypoints")
    ]
    several = len(with_keypoints) > 1 and all(entry.get("name") != "person" for entry in with_keypoints)
    if category is None and several and (records.visible > 0).any():
        read = set(records.ids.tolist())
        numbers = {entry.get("category_id") for entry in content["annotations"] if entry.get("id") in read}
        return {**content, "annotations": [e for e in content["annotations"] if e.get("category_id") in numbers]}
    chosen = category_with_keypoints(path, content, category)
    if chosen is None or "id" not in chosen:  # the only one, or all
        return content
    number = chosen["id"]
    own = [entry for entry in content["annotations"] if entry.get("category_id", number) == number]
    return {**content, "annotations": own}


def _is_coco(content: Any) -> bool:
    return isinstance(content, Mapping) and "images" in content and "annotations" in content
