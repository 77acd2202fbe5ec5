"""COCO's format for keypoint annotations, with COCO's own or any other skeleton, and its format for detected boxes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastpose.data.readers.categories import (
    category_number,
    category_with_keypoints,
    is_counted,
    is_crowd,
    keypoint_names,
)
from fastpose.data.readers.detections import DetectionFile, FoundBoxes
from fastpose.data.readers.files import JsonFile, Where, entries, integer, kind, numbers, open_json
from fastpose.data.records import DataError, PathTable, PoseRecords
from fastpose.geometry import boxes_xywh_to_xyxy
from fastpose.metrics.truth import AREA_OF_BOX
from fastpose.skeletons import COCO17, Skeleton, find_skeleton
from fastpose.skeletons.names import canonical_name

__all__ = [
    "area_of_boxes",
    "boxes_of_keypoints",
    "category_with_keypoints",
    "read_coco",
    "read_coco_style",
    "read_photos",
]

# A box that no file states is that of the keypoints, so much larger on every side (a share of it, and pixels).
_MARGIN, _MARGIN_PIXELS = 0.1, 4.0


def read_coco(
    annotation_file: str | Path | JsonFile,
    image_root: str | Path | None = None,
    *,
    skeleton: Skeleton | None = None,
    detections: str | Path | None = None,
    category: int | str | None = None,
    keep_ignored: bool = False,
) -> PoseRecords:
    """Read people from a COCO keypoint file.

    Left out and counted in ``skipped``, as COCO's training does: people without keypoints, crowds, boxes that are empty
    once they are cut to the photo, annotations of a photo that the file does not list, other categories. A person
    without a box gets that of the keypoints, and a tenth and 4 pixels more on every side.

    Args:
        annotation_file: JSON with ``images``, ``annotations`` and ``categories``; boxes are xywh in pixels, keypoints
            are x, y, visible (0 not annotated, 1 hidden, 2 seen).
        image_root: Folder that the file names start from; by default that of the annotation file, or the one of the
            two above it in which the first photo is.
        skeleton: What the keypoints are. The file's keypoints are put into its order by name, however it is spelled
            ("Left Eye" is ``left_eye``), and may be more. By default the known skeleton of exactly the file's names,
            else one made of them.
        detections: JSON list of ``image_id``, ``category_id``, ``bbox`` (xywh), ``score``, or any other form of
            :class:`fastpose.data.readers.DetectionFile`. With it the people are these boxes in the order of that file,
            with ``visible`` 0 everywhere, and the annotations are not used. A file without any (COCO's ``image_info``)
            can be read with detections only: then ``annotated`` is false everywhere, there is nothing to measure on.
        category: Name or id of the category to read, or ``all`` that have the same keypoints; by default the one that
            has keypoints ("person" among several).
        keep_ignored: Keep crowds and people without keypoints, marked in ``ignore``.

    Returns:
        N people, by photo in the file's order. Boxes are xyxy, annotated ones cut to 0 … width - 1 and 0 … height - 1.
        Areas are the annotated ones, else 0.53 of the box. ``track_ids`` and ``crowd_index`` where the file has them;
        ``weights`` where flags lie between 0 and 1.

    Raises:
        DataError: The file is missing, cut short or not of this format, an id occurs twice, a value is not finite, a
            list has the wrong length, or a detection names an unknown photo.
    """
    records, _ = read_coco_style(
        open_json(annotation_file),
        image_root,
        skeleton=skeleton,
        detections=detections,
        category=category,
        keep_ignored=keep_ignored,
    )
    return records


def read_coco_style(
    file: JsonFile,
    image_root: str | Path | None,
    *,
    skeleton: Skeleton | None = None,
    names: tuple[str, ...] | None = None,
    detections: str | Path | None = None,
    category: int | str | None = None,
    keep_ignored: bool = False,
    origin: float = 0.0,
    cut: bool = True,
    parts: Mapping[str, int] | None = None,
    boxes_of: Callable[[Where, list[dict[str, Any]]], NDArray[np.float64]] | None = None,
) -> tuple[PoseRecords, list[dict[str, Any]]]:
    """What the readers of COCO and of the data sets in its format share.

    Args:
        file: The annotation file.
        image_root: As :func:`read_coco`.
        skeleton: As :func:`read_coco`.
        names: The file's keypoints in order, where its categories call them otherwise or not at all.
        detections: As :func:`read_coco`.
        category: As :func:`read_coco`.
        keep_ignored: As :func:`read_coco`.
        origin: Coordinate of the centre of the first pixel in the file, 1 where MATLAB wrote it.
        cut: Whether boxes are cut to the photo.
        parts: Names of the lists that a person's keypoints stand in one after the other, and how many are in each; by
            default all are in ``keypoints``.
        boxes_of: Gives boxes [N, 4] xyxy of N entries where they are not those in ``bbox``.

    Returns:
        The records, and the file's entry of each of the N people (none for detections).

    Raises:
        DataError: As :func:`read_coco`.
    """
    if not isinstance(file.content, dict):
        raise DataError(f"{file.path}: expected an object with images and annotations, got {kind(file.content)}")
    photos = _Photos.parse(file, image_root)
    if "annotations" not in file.content and "images" in file.content:
        if detections is None:
            raise DataError(
                f"{file.path}: lists photos without annotations; give detections, which say where people are"
            )
        return read_photos(file, image_root, skeleton=skeleton, detections=detections, category=category), []
    chosen = category_with_keypoints(file.path, file.content, category)
    category_id = integer(lambda: f"{file.path}: categories", chosen, "id") if chosen and "id" in chosen else None
    in_file, skeleton = _match_skeleton(file.path, names or keypoint_names(file.path, chosen), chosen, skeleton)
    if detections is not None:
        person_id = 1 if category_id is None else category_id
        return _read_detections(DetectionFile(detections, person_id=person_id), photos, skeleton), []
    position = {name: column for column, name in reversed(list(enumerate(in_file)))}
    columns = [position[name] for name in skeleton.keypoints]

    length = len(in_file)
    parts = parts or {"keypoints": length}

    skipped: Counter[str] = Counter()
    found = _with_keypoints(file, photos, category_id, parts, skipped)

    def where(index: int) -> str:
        return f"{file.path}: annotation {found[index][1]['id']}"

    image = np.array([position for position, _ in found], np.int64)
    people = [entry for _, entry in found]
    boxes = (_boxes(where, people, parts) if boxes_of is None else boxes_of(where, people)) - origin
    if cut:
        limits = photos.sizes[image][:, [1, 0, 1, 0]]
        boxes = np.where(limits > 0, np.clip(boxes, 0, np.maximum(limits - 1, 0)), boxes)
    empty = ~((boxes[:, 2:] - boxes[:, :2]).astype(np.float32) > 0).all(1)
    crowd = np.array([is_crowd(partial(where, row), entry) for row, entry in enumerate(people)], np.bool_)
    counted = np.array([is_counted(partial(where, row), entry) for row, entry in enumerate(people)], np.bool_)
    keep = ~empty if keep_ignored else ~empty & ~crowd & counted

    rows = np.flatnonzero(keep)
    points = _points(lambda i: where(int(rows[i])), [people[row] for row in rows], parts)
    with_count = np.array([people[row].get("num_keypoints") is not None for row in rows], np.bool_)
    annotated = counted[rows] & (with_count | (points[..., 2] > 0).any(1))
    annotated &= points[..., :2].max((1, 2), initial=0) > 0
    if not keep_ignored:
        rows, points = rows[annotated], points[annotated]
    skipped += Counter(
        {
            "empty box": int(empty.sum()),
            "crowd": 0 if keep_ignored else int((crowd & ~empty).sum()),
            "no keypoints": 0 if keep_ignored else int((~crowd & ~empty).sum()) - len(rows),
        }
    )
    # By photo, and within a photo in the file's order.
    order = np.argsort(image[rows], kind="stable")
    rows, points = rows[order], points[order][:, columns]
    boxes, kept = boxes[rows], [people[row] for row in rows]
    arrays: dict[str, Any] = {
        "image_index": image[rows],
        "boxes": boxes,
        "keypoints": points[..., :2].astype(np.float32) - np.float32(origin),
        "visible": np.clip(np.ceil(points[..., 2]), 0, 2),
        "weights": _weights(points[..., 2]),
        "areas": _areas(lambda i: where(int(rows[i])), kept, boxes),
        "ids": [entry["id"] for entry in kept],
        "scores": np.ones(len(rows)),
        "ignore": crowd[rows] | ~annotated[order] if keep_ignored else np.zeros(len(rows), np.bool_),
        "track_ids": _track_ids(file.path, kept),
    }
    left_out = {reason: count for reason, count in skipped.items() if count}
    return PoseRecords(skeleton, **photos.columns(), **arrays, source=str(file.path), skipped=left_out), kept


def _points(where: Where, people: list[dict[str, Any]], parts: Mapping[str, int]) -> NDArray[np.float64]:
    """[N, K, 3] x, y, visible of the keypoints that stand in the lists of these names, so many in each."""
    found = [
        numbers(where, key, [entry[key] for entry in people], 3 * count).reshape(-1, count, 3)
        for key, count in parts.items()
    ]
    return found[0] if len(found) == 1 else np.concatenate(found, 1)


def _weights(flags: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Flags [N, K] between 0 and 1, where there are any, are how sure a network is of its label."""
    return np.clip(flags, 0, 1) if ((flags > 0) & (flags < 1)).any() else None


def _boxes(where: Where, people: list[dict[str, Any]], parts: Mapping[str, int]) -> NDArray[np.float64]:
    """[N, 4] xyxy as stated, else those of the labelled keypoints."""
    boxes = np.zeros((len(people), 4))
    stated = [row for row, entry in enumerate(people) if entry.get("bbox") is not None]
    values = [people[row]["bbox"] for row in stated]
    boxes[stated] = boxes_xywh_to_xyxy(numbers(lambda i: where(stated[i]), "bbox", values, 4))
    others = [row for row, entry in enumerate(people) if entry.get("bbox") is None]
    points = _points(lambda i: where(others[i]), [people[row] for row in others], parts)
    boxes[others] = boxes_of_keypoints(points[..., :2], points[..., 2] > 0)
    return boxes


def boxes_of_keypoints(points: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Boxes [N, 4] xyxy that stand in for unknown ones: the keypoints', and a tenth and 4 pixels more on every side.

    Args:
        points: [N, K, 2], pixels.
        known: [N, K]; where a row has none, its box is zeros.
    """
    low = np.where(known[..., None], points, np.inf).min(1, initial=np.inf)
    high = np.where(known[..., None], points, -np.inf).max(1, initial=-np.inf)
    margin = (high - low) * _MARGIN + _MARGIN_PIXELS
    boxes = np.concatenate([low - margin, high + margin], 1)
    return np.where(np.isfinite(boxes), boxes, 0.0)


@dataclass
class _Photos:
    """The photos of a file; ``position`` is id → number."""

    ids: list[int]
    paths: PathTable
    sizes: NDArray[np.int32]
    crowd_index: NDArray[np.float32] | None
    position: dict[int, int]

    @classmethod
    def parse(cls, file: JsonFile, root: str | Path | None) -> _Photos:
        names: list[str] = []
        sizes: list[tuple[int, int]] = []
        crowding: list[float] = []
        position: dict[int, int] = {}
        for index, entry in enumerate(entries(file.path, file.content, "images")):

            def where(index: int = index, entry: dict[str, Any] = entry) -> str:
                return f"{file.path}: image {entry.get('id', f'number {index}')}"

            image_id = integer(where, entry, "id")
            if image_id in position:
                raise DataError(f"{where()}: the id occurs twice")
            name = entry.get("file_name")
            if not isinstance(name, str):
                raise DataError(f"{where()}: file_name: expected a string, got {kind(name)}")
            size = entry.get("height", 0), entry.get("width", 0)
            for key, value in zip(("height", "width"), size, strict=True):
                if type(value) is not int or not 0 <= value < 2**31:
                    raise DataError(f"{where()}: {key}: expected a number of pixels, got {value!r}")
            crowded = entry.get("crowdIndex", np.nan)
            if not isinstance(crowded, (int, float)) or abs(crowded) > 1:
                raise DataError(f"{where()}: crowdIndex: expected a number from 0 to 1, got {crowded!r}")
            position[image_id] = index
            names.append(name)
            sizes.append(size)
            crowding.append(crowded)
        folder = str(root if root is not None else _default_root(file.path, names))
        return cls(
            ids=list(position),
            paths=PathTable(os.path.join(folder, name) for name in names),
            sizes=np.array(sizes, np.int32).reshape(-1, 2),
            crowd_index=None if np.isnan(crowding).all() else np.array(crowding, np.float32),
            position=position,
        )

    def columns(self) -> dict[str, Any]:
        """The photos' part of the records."""
        return {
            "image_paths": self.paths,
            "image_ids": self.ids,
            "image_sizes": self.sizes,
            "crowd_index": self.crowd_index,
        }


def _default_root(path: Path, names: list[str]) -> Path:
    """The annotation file's folder, or the one of the two above it in which the first photo is."""
    folders = path.resolve().parents[:3] if names else []
    for up, folder in enumerate(folders):
        if (folder / names[0]).is_file():
            return path.parent if up == 0 else folder
    return path.parent


def _with_keypoints(
    file: JsonFile, photos: _Photos, category_id: int | None, parts: Mapping[str, int], skipped: Counter[str]
) -> list[tuple[int, dict[str, Any]]]:
    """(number of the photo, entry) of each annotation that has keypoints; the others are counted."""
    seen: set[int] = set()
    found: list[tuple[int, dict[str, Any]]] = []
    for index, entry in enumerate(entries(file.path, file.content, "annotations")):

        def where(index: int = index, entry: dict[str, Any] = entry) -> str:
            return f"{file.path}: annotation {entry.get('id', f'number {index}')}"

        identity = integer(where, entry, "id")
        if identity in seen:
            raise DataError(f"{where()}: the id occurs twice")
        seen.add(identity)
        image = photos.position.get(integer(where, entry, "image_id"))
        if image is None:
            skipped["unknown image"] += 1
        elif _other_category(where, entry, category_id):
            skipped["other category"] += 1
        elif any(entry.get(key) is None for key in parts):
            skipped["no keypoints" if entry.get("bbox") is not None else "no box"] += 1
        else:
            found.append((image, entry))
    return found


def _other_category(where: Callable[[], str], entry: dict[str, Any], category_id: int | None) -> bool:
    if category_id is None or "category_id" not in entry:
        return False
    return integer(where, entry, "category_id") != category_id


def area_of_boxes(boxes: NDArray[Any]) -> NDArray[Any]:
    """Areas [N] that stand in for outlines, square pixels, of boxes [N, 4] xyxy."""
    return np.maximum((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) * AREA_OF_BOX, 1.0)


def _areas(where: Any, kept: list[dict[str, Any]], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    areas = area_of_boxes(boxes)
    stated = [row for row, entry in enumerate(kept) if entry.get("area") is not None]
    values = [[kept[row]["area"]] for row in stated]
    areas[stated] = numbers(lambda i: where(stated[i]), "area", values, 1)[:, 0]
    return areas


def _track_ids(path: Path, kept: list[dict[str, Any]]) -> NDArray[np.int64] | None:
    tracks = [entry.get("track_id") for entry in kept]
    if all(track is None for track in tracks):
        return None
    for track, entry in zip(tracks, kept, strict=True):
        if track is not None:
            integer(lambda entry=entry: f"{path}: annotation {entry['id']}", entry, "track_id")  # type: ignore[misc]
    return np.array([-1 if track is None else track for track in tracks], np.int64)


def read_photos(
    annotation_file: str | Path | JsonFile,
    image_root: str | Path | None = None,
    *,
    skeleton: Skeleton | None = None,
    detections: str | Path | None = None,
    category: int | str | None = None,
) -> PoseRecords:
    """The photos of a file in COCO's format, whatever it says of the people on them.

    Args:
        annotation_file: JSON with ``images``.
        image_root: As :func:`read_coco`.
        skeleton: Of the records; COCO's where not given.
        detections: As :func:`read_coco`: with them the people are these boxes, without them there are none.
        category: As :func:`read_coco`.

    Returns:
        The photos; ``annotated`` is false everywhere.

    Raises:
        DataError: As :func:`read_coco`.
    """
    file = annotation_file if isinstance(annotation_file, JsonFile) else open_json(annotation_file)
    photos, skeleton = _Photos.parse(file, image_root), skeleton or COCO17
    if detections is None:
        return _nobody(photos, skeleton, str(file.path))
    number = category_number(file.path, file.content, category)
    records = _read_detections(DetectionFile(detections, person_id=1 if number is None else number), photos, skeleton)
    return replace(records, annotated=np.zeros((len(records), skeleton.num_keypoints), np.bool_))


def _nobody(photos: _Photos, skeleton: Skeleton, source: str) -> PoseRecords:
    columns = ("image_index", "boxes", "keypoints", "visible", "areas", "ids", "scores", "ignore")
    arrays: dict[str, Any] = dict.fromkeys(columns, ())
    return PoseRecords(skeleton, **photos.columns(), **arrays, source=source)


def _read_detections(file: DetectionFile, photos: _Photos, skeleton: Skeleton) -> PoseRecords:
    """One person a box, in the order of its file."""
    skipped = Counter(file.skipped)
    found: list[tuple[int, FoundBoxes]] = []
    for image_id, part in () if file.names_photos else file.by_id():
        if image_id not in photos.position:
            row = int(part.rows[0])
            raise DataError(f"{file.path}: detection number {row}: image_id {image_id} is not in the annotation file")
        found.append((photos.position[image_id], part))
    if file.names_photos:
        for number, path in enumerate(photos.paths):
            of_photo = file.get(path)
            skipped["photo without boxes"] += of_photo is None
            if of_photo is not None:
                found.append((number, of_photo))
        if not found and len(photos.paths):
            raise DataError(f"{file.path}: names none of the photos of the annotation file ({photos.paths[0]}, …)")
    elif len(file) and not found:
        raise DataError(f"{file.path}: is a list of boxes for one photo; for a data set it must name them")
    parts = [boxes for _, boxes in found]
    rows = np.concatenate([np.zeros(0, np.int64), *(part.rows for part in parts)])
    order = np.argsort(rows, kind="stable")
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(part.boxes for part in parts)])[order]
    image_index = np.repeat([number for number, _ in found], [len(part) for part in parts]).astype(np.int32)[order]
    scores = np.concatenate([np.zeros(0, np.float32), *(part.scores for part in parts)])[order]
    left_out = {reason: count for reason, count in skipped.items() if count}
    return _nobody(photos, skeleton, str(file.path)).with_boxes(image_index, boxes, scores, skipped=left_out)


def _match_skeleton(
    path: Path, names: tuple[str, ...], category: Mapping[str, Any] | None, skeleton: Skeleton | None
) -> tuple[tuple[str, ...], Skeleton]:
    """The names of the file's keypoints in order, as the skeleton spells them, and the skeleton."""
    if not names:  # nothing to go by but the order
        if skeleton is None:
            raise DataError(
                f'{path}: the categories do not name the keypoints; expected "keypoints": [names] in the one to read, '
                "or, in Python, the skeleton"
            )
        return skeleton.keypoints, skeleton
    if skeleton is None:
        skeleton = find_skeleton(names)
    if skeleton is None:
        links = (category or {}).get("skeleton") or []
        try:
            pairs = [(names[a - 1], names[b - 1]) for a, b in links if a >= 1 and b >= 1]
            skeleton = Skeleton.from_names(str((category or {}).get("name", "custom")), names, links=pairs)
        except (IndexError, TypeError, ValueError) as error:
            raise DataError(f"{path}: categories: not a skeleton ({error})") from None
    # The file may spell them in another way.
    given, exact = set(names), set(skeleton.keypoints)
    wanted = {canonical_name(name): name for name in skeleton.keypoints if name not in given}
    spelled = tuple(wanted.get(canonical_name(name), name) if name not in exact else name for name in names)
    there = set(spelled)
    missing = [name for name in skeleton.keypoints if name not in there]
    if missing:
        raise DataError(f"{path}: the file has no keypoint named {', '.join(missing)}; it has {', '.join(names)}")
    return spelled, skeleton
