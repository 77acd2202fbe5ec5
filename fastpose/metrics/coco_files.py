"""COCO's annotation and results files, checked, to arrays and back: the one place where metrics meet JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastpose.files import parse_json, read_file
from fastpose.metrics.results import BoxResults, PoseResults
from fastpose.metrics.truth import AREA_OF_BOX, BoxTruth, Truth, positions
from fastpose.metrics.wholebody_files import join_parts
from fastpose.skeletons import Skeleton

__all__ = [
    "Content",
    "Results",
    "read_box_results",
    "read_box_truth",
    "read_content",
    "read_results",
    "read_truth",
    "result_entries",
]

Content = str | Path | Mapping[str, Any]
Results = str | Path | Sequence[Mapping[str, Any]]

_HEAD_OF_DIAGONAL = 0.6


def read_content(content: Any) -> Any:
    """What a JSON file holds; anything that is not a path is passed through.

    Raises:
        ValueError: The file cannot be read or is not JSON.
    """
    if not isinstance(content, str | Path):
        return content
    try:
        return parse_json(read_file(content), content)
    except OSError as error:
        raise ValueError(f"{content}: cannot be read as JSON ({error.strerror})") from None
    except ValueError as error:
        reason = str(error).removeprefix(f"{content}: ")
        raise ValueError(f"{content}: cannot be read as JSON ({reason})") from None


def read_truth(content: Content, skeleton: Skeleton, *, optional: Iterable[str] = ()) -> Truth:
    """The people with keypoints of an annotation file.

    Args:
        content: The file, or what it holds.
        skeleton: What the K keypoints are.
        optional: Which of the arrays that :class:`Truth` may lack are wanted too: ``head_sizes`` (``bbox_head`` of
            each person), ``crowd_index`` (``crowdIndex`` of each photo), ``ignored_regions`` (``ignore_regions_x`` and
            ``ignore_regions_y`` of a photo), ``track_ids`` (``track_id`` of each person).

    Returns:
        The people in the file's order; the area of one without is 0.53 of the box.

    Raises:
        ValueError: Not such a file, nobody has keypoints, an id occurs twice, or an entry lacks something.
    """
    listed, joints = _Listed.read(content), skeleton.num_keypoints
    photos, people = listed.photos, [entry for entry in listed.annotations if entry.get("keypoints")]
    if not people:
        raise ValueError("annotations: none of them has keypoints")
    ids = _ids("annotations", people, "id")
    _check_distinct("annotations", ids)
    image = listed.positions(people)
    people = list(join_parts(people, joints, "annotations"))

    def wrong(name: Any, got: Any) -> str:
        return f"sigmas: expected one per annotated keypoint ({_thirds(got)}, annotation {name}), got {joints}"

    points = _table("annotations:", ids, [entry["keypoints"] for entry in people], 3 * joints, wrong)
    points = points.reshape(-1, joints, 3)
    boxes = _boxes(people, ids)
    visible = np.clip(np.ceil(points[..., 2]), 0, 255).astype(np.uint8)
    crowd, annotated = _crowds(people), _annotated(people, visible)
    category_ids, category = np.unique(_ids("annotations", people, "category_id", missing=1), return_inverse=True)
    wanted = set(optional)
    return Truth(
        skeleton=skeleton,
        image_ids=listed.image_ids,
        category_ids=category_ids,
        ids=ids,
        image=image,
        category=category.reshape(-1),
        keypoints=np.ascontiguousarray(points[..., :2]),
        visible=visible,
        boxes_xywh=boxes,
        areas=_areas(people, ids, boxes),
        ignore=crowd | ~annotated,
        crowd=crowd,
        head_sizes=_head_sizes(people, ids) if "head_sizes" in wanted else None,
        crowd_index=_crowd_index(photos) if "crowd_index" in wanted else None,
        ignored_regions=[_regions(photo) for photo in photos] if "ignored_regions" in wanted else None,
        track_ids=_ids("annotations", people, "track_id") if "track_ids" in wanted else None,
        source=listed.source,
    )


def read_box_truth(content: Content, *, category_id: int | None = None) -> BoxTruth:
    """Everybody who has a box in an annotation file; keypoints are not asked for, and nobody has to be there.

    Args:
        content: The file, or what it holds.
        category_id: Of the people to read; those of all categories where not given, to be averaged over.

    Returns:
        The people in the file's order; the area of one without is 0.53 of the box. Crowds need not be found.

    Raises:
        ValueError: Not such a file, an id occurs twice, or an entry lacks something.
    """
    listed = _Listed.read(content)
    number = _ids("annotations", listed.annotations, "category_id", missing=1 if category_id is None else category_id)
    kept = np.arange(len(number)) if category_id is None else np.flatnonzero(number == category_id)
    people = [listed.annotations[row] for row in kept.tolist()]
    ids = _ids("annotations", people, "id")
    _check_distinct("annotations", ids)
    boxes, crowd = _boxes(people, ids), _crowds(people)
    category_ids, category = np.unique(number[kept], return_inverse=True)
    return BoxTruth(
        image_ids=listed.image_ids,
        category_ids=category_ids if len(people) else np.array([1 if category_id is None else category_id]),
        ids=ids,
        image=listed.positions(people),
        category=category.reshape(-1),
        boxes_xywh=boxes,
        areas=_areas(people, ids, boxes),
        ignore=crowd,
        crowd=crowd,
        source=listed.source,
    )


@dataclass(frozen=True)
class _Listed:
    """What an annotation file lists: I photos by ascending id, and all annotations."""

    source: str
    image_ids: NDArray[np.int64]
    photos: list[Mapping[str, Any]]
    annotations: list[Mapping[str, Any]]

    @classmethod
    def read(cls, content: Content) -> _Listed:
        source = str(content) if isinstance(content, str | Path) else ""
        content = read_content(content)
        if not isinstance(content, Mapping) or "images" not in content or "annotations" not in content:
            raise ValueError("annotations: expected an object with images and annotations")
        photos = _objects("images", content["images"])
        image_ids = _ids("images", photos, "id")
        _check_distinct("images", image_ids)
        order = np.argsort(image_ids)
        ordered = [photos[place] for place in order.tolist()]
        return cls(source, image_ids[order], ordered, _objects("annotations", content["annotations"]))

    def positions(self, people: Sequence[Mapping[str, Any]]) -> NDArray[np.int64]:
        """Positions of the photos of some of the annotations, [G]."""
        image = positions(self.image_ids, _ids("annotations", people, "image_id"))
        if (image < 0).any():
            lost = people[int(np.argmax(image < 0))]
            raise ValueError(f"annotations: {lost['id']} is of image_id {lost['image_id']}, which images does not list")
        return image


def _boxes(people: Sequence[Mapping[str, Any]], ids: NDArray[np.int64]) -> NDArray[np.float64]:
    def wrong(name: Any, got: Any) -> str:
        return f"annotations: {name}: bbox: expected 4 numbers, got {got!r:.80}"

    return _table("annotations:", ids, [entry.get("bbox") for entry in people], 4, wrong)


def _areas(
    people: Sequence[Mapping[str, Any]], ids: NDArray[np.int64], boxes: NDArray[np.float64]
) -> NDArray[np.float64]:
    areas = boxes[:, 2] * boxes[:, 3] * AREA_OF_BOX
    stated = [entry.get("area") for entry in people]
    given = np.array([area is not None for area in stated], np.bool_)
    areas[given] = _numbers("annotations:", ids[given], [area for area in stated if area is not None])
    return areas


def _crowds(people: Sequence[Mapping[str, Any]]) -> NDArray[np.bool_]:
    """[G] whether an entry is a crowd."""
    for entry in people:
        if (flag := entry.get("iscrowd")) not in (None, 0, 1):  # "0" would be taken for true
            raise ValueError(f"annotations: {entry['id']}: iscrowd: expected 0 or 1, got {flag!r:.80}")
    return np.array([bool(entry.get("iscrowd")) for entry in people], np.bool_)


def _annotated(people: Sequence[Mapping[str, Any]], visible: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """[G] whether an entry has annotated keypoints."""
    counted = [entry.get("num_keypoints") for entry in people]
    for entry, number in zip(people, counted, strict=True):  # "0" would be taken for some
        if type(number) is not int and not isinstance(number, int | float | np.number | None):
            raise ValueError(f"annotations: {entry['id']}: num_keypoints: expected a number, got {number!r:.80}")
    some: list[bool] = np.asarray(visible.any(1)).tolist()
    return np.array([seen if number is None else number != 0 for number, seen in zip(counted, some, strict=True)])


def _head_sizes(people: Sequence[Mapping[str, Any]], ids: NDArray[np.int64]) -> NDArray[np.float64]:
    def wrong(name: Any, got: Any) -> str:
        return f"annotations: {name}: expected bbox_head, x, y, width and height, got {got!r:.80}"

    boxes = _table("annotations: bbox_head of", ids, [entry.get("bbox_head") for entry in people], 4, wrong)
    return np.asarray(_HEAD_OF_DIAGONAL * np.hypot(boxes[:, 2], boxes[:, 3]))


def _crowd_index(photos: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    for photo in photos:
        if not isinstance(photo.get("crowdIndex"), int | float):
            raise ValueError(f"annotations: image {photo['id']} has no crowdIndex")
    return np.array([photo["crowdIndex"] for photo in photos], np.float64)


def _regions(photo: Mapping[str, Any]) -> list[NDArray[np.float64]]:
    """The polygons of a photo that are not looked at, each [V, 2]."""
    xs, ys = photo.get("ignore_regions_x") or [], photo.get("ignore_regions_y") or []
    try:
        regions = [np.stack([x, y], 1).astype(np.float64) for x, y in zip(xs, ys, strict=True) if len(x) > 2]
    except (TypeError, ValueError, IndexError):
        regions = [np.full((1, 2), np.nan)]
    if not all(region.shape[1:] == (2,) and np.isfinite(region).all() for region in regions):
        raise ValueError(f"annotations: image {photo['id']}: ignore_regions: expected polygons, xs and ys of each")
    return regions


def read_results(
    content: Results,
    num_keypoints: int,
    *,
    category_id: int = 1,
    with_ids: bool = False,
    with_track_ids: bool = False,
) -> PoseResults:
    """The poses of a results file.

    Args:
        content: The file, or what it holds: ``image_id``, ``keypoints`` (x, y, score of each), ``score``.
        num_keypoints: K.
        category_id: Of entries that state none.
        with_ids: Read the ``id`` of each, the annotated person that it is of; either all or none have one.
        with_track_ids: Read the ``track_id`` of each, which all have.

    Returns:
        The poses in the file's order.

    Raises:
        ValueError: There are none, or one lacks something, has the wrong length or a value that is not finite.
    """
    entries = join_parts(_result_list(content, "poses", ("image_id", "keypoints", "score")), num_keypoints, "results")
    if not entries:
        raise ValueError("results: empty, there is nothing to evaluate")
    numbers = np.arange(len(entries))

    def wrong(name: Any, got: Any) -> str:
        length = len(got) if isinstance(got, Sequence) else type(got).__name__
        return f"results: number {name}: expected {3 * num_keypoints} keypoint values, got {length}"

    rows = [entry["keypoints"] for entry in entries]
    points = _table("results: number", numbers, rows, 3 * num_keypoints, wrong).reshape(-1, num_keypoints, 3)
    scores = _numbers("results: number", numbers, [entry["score"] for entry in entries])
    ids = None
    if with_ids and any("id" in entry for entry in entries):
        ids = _ids("results", entries, "id")
    return PoseResults(
        image_ids=_ids("results", entries, "image_id"),
        keypoints=np.ascontiguousarray(points[..., :2]),
        keypoint_scores=np.ascontiguousarray(points[..., 2]),
        scores=scores,
        ids=ids,
        category_ids=_ids("results", entries, "category_id", missing=category_id),
        track_ids=_ids("results", entries, "track_id") if with_track_ids else None,
    )


def read_box_results(content: Results, *, category_id: int = 1) -> BoxResults:
    """The boxes of a results file; it may be empty.

    Args:
        content: The file, or what it holds: ``image_id``, ``bbox`` (xywh), ``score``.
        category_id: Of entries that state none.

    Returns:
        The boxes in the file's order.

    Raises:
        ValueError: One lacks something, has the wrong length or a value that is not finite.
    """

    def wrong(name: Any, got: Any) -> str:
        return f"results: number {name}: bbox: expected 4 numbers, got {got!r:.80}"

    entries = _result_list(content, "boxes", ("image_id", "bbox", "score"))
    numbers = np.arange(len(entries))
    return BoxResults(
        image_ids=_ids("results", entries, "image_id"),
        boxes_xywh=_table("results: number", numbers, [entry["bbox"] for entry in entries], 4, wrong),
        scores=_numbers("results: number", numbers, [entry["score"] for entry in entries]),
        category_ids=_ids("results", entries, "category_id", missing=category_id),
    )


def _result_list(content: Results, what: str, keys: Sequence[str]) -> list[Mapping[str, Any]]:
    """The entries of a results file, each with these keys."""
    entries = read_content(content)
    if isinstance(entries, Mapping | str) or not isinstance(entries, Sequence):
        raise ValueError(f"results: expected a list of {what}, got {type(entries).__name__}")
    entries = _objects("results", entries)
    for key in keys:
        lacking = next((number for number, entry in enumerate(entries) if entry.get(key) is None), None)
        if lacking is not None:
            raise ValueError(f"results: number {lacking} has no {key}")
    return entries


def result_entries(results: PoseResults, *, category_id: int = 1) -> list[dict[str, Any]]:
    """The poses in COCO's results format, ready for JSON.

    Args:
        results: The poses.
        category_id: Written to poses that state none.

    Returns:
        One dict a pose: ``image_id``, ``category_id``, ``keypoints`` (x, y, score of each), ``score``, and ``id`` and
        ``track_id`` where the poses say of whom they are.
    """
    count = len(results)
    points = np.concatenate([results.keypoints, results.keypoint_scores[..., None]], -1, dtype=np.float64)
    categories = [category_id] * count if results.category_ids is None else results.category_ids.tolist()
    entries: list[dict[str, Any]] = [
        {"image_id": image, "category_id": category, "keypoints": values, "score": score}
        for image, category, values, score in zip(
            results.image_ids.tolist(),
            categories,
            points.reshape(count, 3 * points.shape[1]).tolist(),
            results.scores.tolist(),
            strict=True,
        )
    ]
    for key, identities in (("id", results.ids), ("track_id", results.track_ids)):
        if identities is not None:
            for entry, identity in zip(entries, identities.tolist(), strict=True):
                entry[key] = identity
    return entries


def _check_distinct(what: str, ids: NDArray[np.int64]) -> None:
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{what}: id {values[counts > 1][0]} occurs twice")


def _objects(what: str, values: Any) -> list[Mapping[str, Any]]:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ValueError(f"{what}: expected a list, got {type(values).__name__}")
    if set(map(type, values)) <= {dict}:  # as JSON's are; the test for any mapping takes ten times as long
        return list(values)
    for number, entry in enumerate(values):
        if not isinstance(entry, Mapping):
            raise ValueError(f"{what}: number {number}: expected an object, got {type(entry).__name__}")
    return list(values)


def _ids(what: str, entries: Sequence[Mapping[str, Any]], key: str, *, missing: int | None = None) -> NDArray[np.int64]:
    """The integers of one key, int64 [N].

    Raises:
        ValueError: One is absent and nothing stands for it, or is no integer of 64 bits; the message names the entry.
    """
    values = [entry.get(key, missing) for entry in entries]
    if set(map(type, values)) <= {int}:
        try:
            return np.array(values, np.int64)
        except OverflowError:
            pass
    for number, value in enumerate(values):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or not -(2**63) <= value < 2**63:
            name = f"number {number}" if key == "id" else entries[number].get("id", f"number {number}")
            raise ValueError(f"{what}: {name}: {key}: expected an integer, got {value!r:.80}")
    return np.array(values, np.int64)


def _thirds(values: Any) -> Any:
    return len(values) // 3 if isinstance(values, Sequence) else type(values).__name__


def _table(
    what: str, names: NDArray[np.int64], rows: Sequence[Any], length: int, wrong: Callable[[Any, Any], str]
) -> NDArray[np.float64]:
    """Rows of so many finite numbers as float64 [N, length].

    Args:
        what: What the rows are, for messages.
        names: [N], what a message calls each.
        rows: N lists of numbers.
        length: Of each.
        wrong: The message about a row that is no list of this length, from its name and the row.

    Raises:
        ValueError: A row is not such a list; the message names it.
    """
    if set(map(type, rows)) != {list} or set(map(len, rows)) != {length}:
        for name, row in zip(names, rows, strict=True):
            if not isinstance(row, Sequence) or isinstance(row, str) or len(row) != length:
                raise ValueError(wrong(name, row))
    try:
        table = np.fromiter(chain.from_iterable(rows), np.float64, length * len(rows)).reshape(-1, length)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(_without_number(what, names, rows)) from None
    _check_finite(what, names, np.asarray(np.isfinite(table).all(1)))
    return table


def _numbers(what: str, names: NDArray[np.int64], values: Sequence[Any]) -> NDArray[np.float64]:
    """Finite numbers as float64 [N]; arguments and error as for :func:`_table`."""
    try:
        column = np.fromiter(values, np.float64, len(values))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(_without_number(what, names, [[value] for value in values])) from None
    _check_finite(what, names, np.isfinite(column))
    return column


def _check_finite(what: str, names: NDArray[np.int64], finite: NDArray[np.bool_]) -> None:
    if not finite.all():
        raise ValueError(f"{what} {names[np.argmin(finite)]} has a value that is not finite")


def _without_number(what: str, names: NDArray[np.int64], rows: Sequence[Any]) -> str:
    """What is said of the first row that is no vector of numbers."""
    for name, row in zip(names.tolist(), rows, strict=True):
        try:
            if np.array(row, np.float64).ndim == 1:
                continue
        except (TypeError, ValueError, OverflowError):
            pass
        return f"{what} {name} has a value that is not a number"
    raise AssertionError("every row is a vector of numbers")
