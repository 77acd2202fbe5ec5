"""People of a COCO annotation file and poses of a COCO results file, checked, as flat arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CocoPoses", "CocoTruth", "id_column", "number_table", "read_content", "read_results", "read_truth"]

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
    """

    image: NDArray[np.int64]
    category: NDArray[np.int64]
    keypoints: NDArray[np.float64]
    point_scores: NDArray[np.float64]
    scores: NDArray[np.float64]


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
    photos = _objects("images", content["images"])
    image_ids = id_column("images", photos, "id")
    _check_distinct("images", image_ids)
    order = np.argsort(image_ids)
    image_ids, photos = image_ids[order], [photos[place] for place in order]
    people = [entry for entry in _objects("annotations", content["annotations"]) if entry.get("keypoints")]
    if not people:
        raise ValueError("annotations: none of them has keypoints")
    ids = id_column("annotations", people, "id")
    _check_distinct("annotations", ids)
    for entry in people:
        points, box = entry["keypoints"], entry.get("bbox")
        if not isinstance(points, Sequence) or len(points) != 3 * joints:
            count = len(points) // 3 if isinstance(points, Sequence) else type(points).__name__
            raise ValueError(
                f"sigmas: expected one per annotated keypoint ({count}, annotation {entry['id']}), got {joints}"
            )
        if not isinstance(box, Sequence) or len(box) != 4:
            raise ValueError(f"annotations: {entry['id']}: bbox: expected 4 numbers, got {box!r:.80}")
        number, flag = entry.get("num_keypoints"), entry.get("iscrowd")  # "0" would be taken for true
        if not isinstance(number, int | float | np.number | None):
            raise ValueError(f"annotations: {entry['id']}: num_keypoints: expected a number, got {number!r:.80}")
        if flag not in (None, 0, 1):
            raise ValueError(f"annotations: {entry['id']}: iscrowd: expected 0 or 1, got {flag!r:.80}")
    image = _positions(image_ids, id_column("annotations", people, "image_id"))
    if (image < 0).any():
        lost = people[int(np.argmax(image < 0))]
        raise ValueError(f"annotations: {lost['id']} is of image_id {lost['image_id']}, which images does not list")
    points = number_table("annotations:", ids, [entry["keypoints"] for entry in people]).reshape(-1, joints, 3)
    boxes = number_table("annotations:", ids, [entry["bbox"] for entry in people])
    areas = boxes[:, 2] * boxes[:, 3] * AREA_OF_BOX
    if use_area:
        stated = [entry.get("area") for entry in people]
        rows = [[b if a is None else a] for a, b in zip(stated, areas.tolist(), strict=True)]
        areas = number_table("annotations:", ids, rows)[:, 0]
    visible = np.clip(np.ceil(points[..., 2]), 0, 255).astype(np.uint8)
    counted = [entry.get("num_keypoints") for entry in people]
    annotated = [bool(v.any()) if n is None else n != 0 for n, v in zip(counted, visible, strict=True)]
    crowd = np.array([bool(entry.get("iscrowd")) for entry in people])
    categories = id_column("annotations", people, "category_id", missing=1)
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
    entries = _objects("results", entries)
    for index, entry in enumerate(entries):
        missing = [key for key in ("image_id", "keypoints", "score") if key not in entry]
        if missing:
            raise ValueError(f"results: number {index} has no {', '.join(missing)}")
        values = entry["keypoints"]
        if not isinstance(values, Sequence) or len(values) != 3 * joints:
            got = len(values) if isinstance(values, Sequence) else type(values).__name__
            raise ValueError(f"results: number {index}: expected {3 * joints} keypoint values, got {got}")
    image = _positions(truth.image_ids, id_column("results", entries, "image_id"))
    if (image < 0).any():
        index = int(np.argmax(image < 0))
        raise ValueError(f"results: number {index} is of image_id {entries[index]['image_id']}, which is not annotated")
    numbers = np.arange(len(entries))
    rows = [[*entry["keypoints"], entry["score"]] for entry in entries]
    table = number_table("results: number", numbers, rows)
    categories = id_column("results", entries, "category_id", missing=int(truth.category_ids[0]))
    points = table[:, :-1].reshape(-1, joints, 3)
    return CocoPoses(
        image=image,
        category=_positions(truth.category_ids, categories),
        keypoints=points[..., :2],
        point_scores=points[..., 2],
        scores=table[:, -1],
    )


def _check_distinct(what: str, ids: NDArray[np.int64]) -> None:
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{what}: id {values[counts > 1][0]} occurs twice")


def _objects(what: str, values: Any) -> list[Mapping[str, Any]]:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ValueError(f"{what}: expected a list, got {type(values).__name__}")
    for number, entry in enumerate(values):
        if not isinstance(entry, Mapping):
            raise ValueError(f"{what}: number {number}: expected an object, got {type(entry).__name__}")
    return list(values)


def id_column(
    what: str, entries: Sequence[Mapping[str, Any]], key: str, *, missing: int | None = None
) -> NDArray[np.int64]:
    """The integers of one key, int64 [N].

    Raises:
        ValueError: One is absent and nothing stands for it, or is no integer of 64 bits; the message names the entry.
    """
    values = [entry.get(key, missing) for entry in entries]
    for number, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not -(2**63) <= value < 2**63:
            name = entries[number].get("id", f"number {number}") if key != "id" else f"number {number}"
            raise ValueError(f"{what}: {name}: {key}: expected an integer, got {value!r:.80}")
    return np.array(values, np.int64)


def _positions(ascending: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each wanted value stands in an ascending array; -1 where it does not."""
    if not len(ascending):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return np.where(ascending[place] == wanted, place, -1)


def number_table(what: str, names: NDArray[np.int64], rows: Sequence[Sequence[Any]]) -> NDArray[np.float64]:
    """Rows of equally many finite numbers as float64 [N, n].

    Raises:
        ValueError: A value is not a finite number; the message names the row.
    """
    try:
        table = np.array(rows, np.float64)
    except (TypeError, ValueError, OverflowError):
        table = np.full((len(rows), 1), np.nan)
        for name, row in zip(names.tolist(), rows, strict=True):
            if not all(isinstance(value, int | float | np.number) for value in row):
                raise ValueError(f"{what} {name} has a value that is not a number") from None
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(table).all(1)
    if bad.any():
        raise ValueError(f"{what} {names[np.argmax(bad)]} has a value that is not finite")
    return table
