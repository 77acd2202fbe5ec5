"""People of a COCO annotation file and poses of a COCO results file, checked, as flat arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CocoPoses", "CocoTruth", "read_content", "read_results", "read_truth"]

# What a person's outline fills of the box, where a data set has no outlines (CrowdPose, AI Challenger, PoseTrack).
AREA_OF_BOX = 0.53

Content = str | Path | Mapping[str, Any]
Results = str | Path | Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class CocoTruth:
    """G annotated people on I photos, K keypoints each.

    Attributes:
        image_ids: int64 [I], ascending.
        category_ids: int64 [C], ascending: the categories that have annotated keypoints.
        ids: int64 [G].
        image: int64 [G], positions in ``image_ids``.
        category: int64 [G], positions in ``category_ids``.
        keypoints: float64 [G, K, 2] (x, y) in pixels.
        visible: uint8 [G, K]; 0 where there is no annotation.
        boxes: float64 [G, 4], x, y, width, height in pixels.
        areas: float64 [G], square pixels.
        ignore: bool [G], people that nobody has to find: crowds and those without annotated keypoints.
        crowd: bool [G], people that any number of poses may be matched to.
        entries: The photos' own entries in the file, in the order of ``image_ids``.
        people: Those of the people, in order.
    """

    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    ids: NDArray[np.int64]
    image: NDArray[np.int64]
    category: NDArray[np.int64]
    keypoints: NDArray[np.float64]
    visible: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    ignore: NDArray[np.bool_]
    crowd: NDArray[np.bool_]
    entries: list[Mapping[str, Any]]
    people: list[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class CocoPoses:
    """D predicted poses.

    Attributes:
        image: int64 [D], positions in the truth's ``image_ids``.
        category: int64 [D], positions in its ``category_ids``; -1 for any other category.
        keypoints: float64 [D, K, 2] (x, y) in pixels.
        point_scores: float64 [D, K].
        scores: float64 [D].
        ids: int64 [D], annotations that the poses are of; -1 where the file does not say.
    """

    image: NDArray[np.int64]
    category: NDArray[np.int64]
    keypoints: NDArray[np.float64]
    point_scores: NDArray[np.float64]
    scores: NDArray[np.float64]
    ids: NDArray[np.int64]


def read_content(content: Any) -> Any:
    """What a JSON file holds; anything that is not a path is passed through.

    Raises:
        ValueError: The file cannot be read or is not JSON.
    """
    if not isinstance(content, str | Path):
        return content
    try:
        return json.loads(Path(content).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{content}: cannot be read as JSON ({error})") from None


def read_truth(content: Content, joints: int, *, use_area: bool = True) -> CocoTruth:
    """The people with keypoints of an annotation file.

    Args:
        content: The file, or what it holds.
        joints: K.
        use_area: Take the annotated areas; otherwise, and where there is none, 0.53 of the annotated box.

    Returns:
        The people in the file's order.

    Raises:
        ValueError: Not such a file, nobody has keypoints, an id occurs twice, or an entry lacks something.
    """
    content = read_content(content)
    if not isinstance(content, Mapping) or "images" not in content or "annotations" not in content:
        raise ValueError("annotations: expected an object with images and annotations")
    photos = sorted(content["images"], key=lambda entry: entry["id"])
    image_ids = np.array([entry["id"] for entry in photos], np.int64)
    _check_distinct("images", image_ids)
    people = [entry for entry in content["annotations"] if entry.get("keypoints")]
    if not people:
        raise ValueError("annotations: none of them has keypoints")
    for entry in people:
        lacking = [key for key in ("id", "image_id", "bbox") if entry.get(key) is None]
        if lacking:
            raise ValueError(f"annotations: {entry.get('id', 'an entry')} has no {', '.join(lacking)}")
        if len(entry["keypoints"]) != 3 * joints:
            count = len(entry["keypoints"]) // 3
            raise ValueError(
                f"sigmas: expected one per annotated keypoint ({count}, annotation {entry['id']}), got {joints}"
            )
        if len(entry["bbox"]) != 4:
            raise ValueError(f"annotations: {entry['id']}: expected a bbox of 4 numbers, got {len(entry['bbox'])}")
    ids = np.array([entry["id"] for entry in people], np.int64)
    _check_distinct("annotations", ids)
    image = _positions(image_ids, np.array([entry["image_id"] for entry in people], np.int64))
    if (image < 0).any():
        lost = people[int(np.argmax(image < 0))]
        raise ValueError(f"annotations: {lost['id']} is of image_id {lost['image_id']}, which images does not list")
    points = _table("annotations", ids, [entry["keypoints"] for entry in people]).reshape(-1, joints, 3)
    boxes = _table("annotations", ids, [entry["bbox"] for entry in people])
    areas = boxes[:, 2] * boxes[:, 3] * AREA_OF_BOX
    if use_area:
        stated = [entry.get("area") for entry in people]
        areas = np.array([b if a is None else a for a, b in zip(stated, areas.tolist(), strict=True)], np.float64)
    visible = np.clip(np.ceil(points[..., 2]), 0, 255).astype(np.uint8)
    counted = [entry.get("num_keypoints") for entry in people]
    annotated = [bool(v.any()) if n is None else n != 0 for n, v in zip(counted, visible, strict=True)]
    crowd = np.array([bool(entry.get("iscrowd")) for entry in people])
    categories = np.array([entry.get("category_id", 1) for entry in people], np.int64)
    category_ids, category = np.unique(categories, return_inverse=True)
    return CocoTruth(
        image_ids=image_ids,
        category_ids=category_ids,
        ids=ids,
        image=image,
        category=category.reshape(-1),
        keypoints=points[..., :2],
        visible=visible,
        boxes=boxes,
        areas=areas,
        ignore=crowd | ~np.array(annotated),
        crowd=crowd,
        entries=photos,
        people=people,
    )


def read_results(content: Results, truth: CocoTruth) -> CocoPoses:
    """The poses of a results file, checked against the annotations that they will be compared with.

    Args:
        content: The file, or what it holds: ``image_id``, ``keypoints`` (x, y, score of each), ``score``.
        truth: The annotations.

    Returns:
        The poses in the file's order.

    Raises:
        ValueError: There are none, or one is of an unknown photo, has the wrong length or a value that is not finite.
    """
    entries = read_content(content)
    if isinstance(entries, Mapping | str) or not isinstance(entries, Sequence):
        raise ValueError(f"results: expected a list of poses, got {type(entries).__name__}")
    if not entries:
        raise ValueError("results: empty, there is nothing to evaluate")
    joints = truth.keypoints.shape[1]
    for index, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise ValueError(f"results: number {index}: expected an object, got {type(entry).__name__}")
        missing = [key for key in ("image_id", "keypoints", "score") if key not in entry]
        if missing:
            raise ValueError(f"results: number {index} has no {', '.join(missing)}")
        values = entry["keypoints"]
        if not isinstance(values, Sequence) or len(values) != 3 * joints:
            got = len(values) if isinstance(values, Sequence) else type(values).__name__
            raise ValueError(f"results: number {index}: expected {3 * joints} keypoint values, got {got}")
    image = _positions(truth.image_ids, _integers([entry["image_id"] for entry in entries]))
    if (image < 0).any():
        index = int(np.argmax(image < 0))
        raise ValueError(f"results: number {index} is of image_id {entries[index]['image_id']}, which is not annotated")
    numbers = np.arange(len(entries))
    rows = [[*entry["keypoints"], entry["score"]] for entry in entries]
    table = _table("results: number", numbers, rows)
    first = int(truth.category_ids[0])
    categories = np.array([entry.get("category_id", first) for entry in entries], np.int64)
    points = table[:, :-1].reshape(-1, joints, 3)
    return CocoPoses(
        image=image,
        category=_positions(truth.category_ids, categories),
        keypoints=points[..., :2],
        point_scores=points[..., 2],
        scores=table[:, -1],
        ids=_integers([entry.get("id", -1) for entry in entries]),
    )


def _check_distinct(what: str, ids: NDArray[np.int64]) -> None:
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{what}: id {values[counts > 1][0]} occurs twice")


def _integers(values: list[Any]) -> NDArray[np.int64]:
    """Ids; -1 for what is no integer, which is then the id of nothing."""
    return np.array([v if isinstance(v, int | np.integer) else -1 for v in values], np.int64)


def _positions(ascending: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each wanted value stands in an ascending array; -1 where it does not."""
    if not len(ascending):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return np.where(ascending[place] == wanted, place, -1)


def _table(what: str, names: NDArray[np.int64], rows: list[list[Any]]) -> NDArray[np.float64]:
    """Rows of finite numbers as one array; the error names the row."""
    try:
        table = np.array(rows, np.float64)
    except (TypeError, ValueError, OverflowError):
        for name, row in zip(names.tolist(), rows, strict=True):
            if not all(isinstance(value, int | float | np.number) for value in row):
                raise ValueError(f"{what} {name} has a value that is not a number") from None
        raise
    bad = ~np.isfinite(table).all(1)
    if bad.any():
        raise ValueError(f"{what} {names[np.argmax(bad)]} has a value that is not finite")
    return table
