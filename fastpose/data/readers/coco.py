"""COCO's format for keypoint annotations, with COCO's own or any other skeleton, and its format for detected boxes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastpose.data.records import DataError, PathTable, PoseRecords
from fastpose.skeletons import Skeleton, get_skeleton, list_skeletons

__all__ = ["read_coco", "read_json"]

# A person fills about this share of its box: stands in for the area of the outline where the file does not state one.
AREA_OF_BOX = 0.53


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Args:
        path: The file.

    Returns:
        What it holds.

    Raises:
        DataError: It is missing, not readable, cut short or not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a JSON text file ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not valid JSON ({error.msg}, line {error.lineno} column {error.colno})") from None
    except RecursionError:
        raise DataError(f"{path}: not an annotation file (nested too deeply)") from None


def read_coco(
    annotation_file: str | Path,
    image_root: str | Path | None = None,
    *,
    skeleton: Skeleton | None = None,
    detections: str | Path | None = None,
    category: str | None = None,
    keep_ignored: bool = False,
) -> PoseRecords:
    """Read people from a COCO keypoint file.

    Left out and counted in ``skipped``, as COCO's training does: people without keypoints, crowds, boxes that are empty
    once they are cut to the photo, annotations without a box or of a photo that the file does not list, other
    categories.

    Args:
        annotation_file: JSON with ``images``, ``annotations`` and ``categories``; boxes are xywh in pixels, keypoints
            are x, y, visible (0 not annotated, 1 hidden, 2 seen).
        image_root: Folder that the file names start from; by default that of the annotation file.
        skeleton: What the keypoints are. The file's keypoints are put into its order by name, and may be more. By
            default the known skeleton of exactly the file's names, else one made of them.
        detections: JSON list of ``image_id``, ``category_id``, ``bbox`` (xywh), ``score``. With it the people are these
            boxes in the order of that file, with ``visible`` 0 everywhere, and the annotations are not used.
        category: Name of the category to read; by default the one that has keypoints ("person" among several).
        keep_ignored: Keep crowds and people without keypoints, marked in ``ignore``.

    Returns:
        N people, by photo in the file's order. Boxes are xyxy, annotated ones cut to 0 … width - 1 and 0 … height - 1.
        Areas are the annotated ones, else 0.53 of the box.

    Raises:
        DataError: The file is missing, cut short or not of this format, an id occurs twice, a value is not finite, a
            list has the wrong length, or a detection names an unknown photo.
    """
    path = Path(annotation_file)
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object with images and annotations, got {_kind(content)}")
    images = _Images.parse(path, content, Path(image_root) if image_root is not None else path.parent)
    chosen = _category(path, content, category)
    length, columns, skeleton = _match_skeleton(path, chosen, skeleton)
    category_id = chosen.get("id") if chosen else None
    people = _People(images, skeleton)
    if detections is not None:
        _read_detections(Path(detections), people, category_id)
    else:
        _read_annotations(path, content, people, category_id, length, columns, keep_ignored)
    return people.records(str(detections if detections is not None else path))


@dataclass
class _Images:
    ids: list[int]
    paths: PathTable
    sizes: NDArray[np.int32]
    position: dict[int, int]

    @classmethod
    def parse(cls, path: Path, content: Mapping[str, Any], root: Path) -> _Images:
        ids: list[int] = []
        names: list[Path] = []
        sizes: list[list[int]] = []
        position: dict[int, int] = {}
        for index, entry in enumerate(_entries(path, content, "images")):
            where = f"{path}: image {entry.get('id', f'number {index}')}"
            image_id = _integer(where, entry, "id")
            if image_id in position:
                raise DataError(f"{where}: the id occurs twice")
            if not isinstance(entry.get("file_name"), str):
                raise DataError(f"{where}: file_name: expected a string, got {_kind(entry.get('file_name'))}")
            size = []
            for key in ("height", "width"):
                value = entry.get(key, 0)
                if not isinstance(value, int) or not 0 <= value < 2**31:
                    raise DataError(f"{where}: {key}: expected a number of pixels, got {value!r}")
                size.append(value)
            position[image_id] = len(ids)
            ids.append(image_id)
            names.append(root / entry["file_name"])
            sizes.append(size)
        return cls(ids, PathTable(names), np.array(sizes, np.int32).reshape(-1, 2), position)


class _People:
    """The columns of the records while they grow."""

    def __init__(self, images: _Images, skeleton: Skeleton) -> None:
        self.images = images
        self.skeleton = skeleton
        self.skipped: Counter[str] = Counter()
        self.rows: list[tuple[int, int, float, float, bool]] = []  # photo, id, area, score, ignore
        self.boxes: list[tuple[float, ...]] = []
        self.keypoints: list[NDArray[np.float32]] = []  # [K, 3] x, y, visible

    def records(self, source: str) -> PoseRecords:
        joints = self.skeleton.num_keypoints
        points = np.array(self.keypoints, np.float32).reshape(len(self.rows), joints, 3)
        image_index, ids, areas, scores, ignore = zip(*self.rows, strict=True) if self.rows else ((), (), (), (), ())
        return PoseRecords(
            skeleton=self.skeleton,
            image_paths=self.images.paths,
            image_ids=np.array(self.images.ids, np.int64),
            image_sizes=self.images.sizes,
            image_index=np.array(image_index, np.int32),
            boxes=np.array(self.boxes, np.float32),
            keypoints=points[..., :2],
            visible=np.clip(np.ceil(points[..., 2]), 0, 2).astype(np.uint8),
            areas=np.array(areas, np.float32),
            ids=np.array(ids, np.int64),
            scores=np.array(scores, np.float32),
            ignore=np.array(ignore, np.bool_),
            source=source,
            skipped=dict(self.skipped),
        )


def _read_annotations(
    path: Path,
    content: Mapping[str, Any],
    people: _People,
    category_id: int | None,
    length: int,
    columns: NDArray[np.int64],
    keep_ignored: bool,
) -> None:
    seen: set[int] = set()
    found: list[tuple[int, dict[str, Any], str]] = []
    for index, entry in enumerate(_entries(path, content, "annotations")):
        where = f"{path}: annotation {entry.get('id', f'number {index}')}"
        identity = _integer(where, entry, "id")
        if identity in seen:
            raise DataError(f"{where}: the id occurs twice")
        seen.add(identity)
        image = people.images.position.get(_integer(where, entry, "image_id"))
        if image is None:
            people.skipped["unknown image"] += 1
        elif category_id is not None and entry.get("category_id", category_id) != category_id:
            people.skipped["other category"] += 1
        elif entry.get("bbox") is None:
            people.skipped["no box"] += 1
        elif entry.get("keypoints") is None:
            people.skipped["no keypoints"] += 1
        else:
            found.append((image, entry, where))
    found.sort(key=lambda item: item[0])  # stable: by photo, and within a photo in the file's order
    for image, entry, where in found:
        x, y, w, h = _numbers(where, "bbox", entry["bbox"], 4).tolist()
        points = _numbers(where, "keypoints", entry["keypoints"], 3 * length).reshape(length, 3)
        height, width = people.images.sizes[image].tolist()
        x1, x2 = (min(max(value, 0), width - 1) if width else value for value in (x, x + w))
        y1, y2 = (min(max(value, 0), height - 1) if height else value for value in (y, y + h))
        empty = not np.all(np.array([x2 - x1, y2 - y1], np.float32) > 0)
        annotated = entry.get("num_keypoints", np.count_nonzero(points[:, 2] > 0)) and points[:, :2].max() > 0
        if empty:
            people.skipped["empty box"] += 1
        elif entry.get("iscrowd") and not keep_ignored:
            people.skipped["crowd"] += 1
        elif not annotated and not keep_ignored:
            people.skipped["no keypoints"] += 1
        else:
            area = entry.get("area")
            if area is None:
                area = max((x2 - x1) * (y2 - y1) * AREA_OF_BOX, 1.0)
            area = float(_numbers(where, "area", [area], 1)[0])
            people.rows.append((image, entry["id"], area, 1.0, bool(entry.get("iscrowd")) or not annotated))
            people.boxes.append((x1, y1, x2, y2))
            people.keypoints.append(points[columns].astype(np.float32))


def _read_detections(path: Path, people: _People, category_id: int | None) -> None:
    content = read_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path}: expected a list of detections, got {_kind(content)}")
    nothing = np.zeros((people.skeleton.num_keypoints, 3), np.float32)
    for index, entry in enumerate(_entries(path, {"detections": content}, "detections")):
        where = f"{path}: detection number {index}"
        if category_id is not None and entry.get("category_id", category_id) != category_id:
            people.skipped["other category"] += 1
            continue
        image_id = _integer(where, entry, "image_id")
        if image_id not in people.images.position:
            raise DataError(f"{where}: image_id {image_id} is not in the annotation file")
        x, y, w, h = _numbers(where, "bbox", entry.get("bbox"), 4).tolist()
        if not np.all(np.array([w, h], np.float32) > 0):
            people.skipped["empty box"] += 1
            continue
        score = float(_numbers(where, "score", [entry.get("score")], 1)[0])
        identity = len(people.rows)
        people.rows.append((people.images.position[image_id], identity, w * h * AREA_OF_BOX, score, False))
        corner, size = np.array([[x, y], [w, h]], np.float32)
        people.boxes.append((*corner, *(corner + size)))
        people.keypoints.append(nothing)


def _category(path: Path, content: Mapping[str, Any], name: str | None) -> dict[str, Any] | None:
    """The category to read; None where the file describes none."""
    categories = list(_entries(path, content, "categories")) if content.get("categories") else []
    if name is not None:
        for entry in categories:
            if entry.get("name") == name:
                return entry
        raise DataError(f"{path}: no category is named {name!r}; there are {[c.get('name') for c in categories]}")
    with_keypoints = [entry for entry in categories if entry.get("keypoints")]
    if len(with_keypoints) > 1:
        with_keypoints = [entry for entry in with_keypoints if entry.get("name") == "person"]
        if len(with_keypoints) != 1:
            raise DataError(
                f"{path}: several categories have keypoints; choose one of {[c.get('name') for c in categories]}"
            )
    if with_keypoints:
        return with_keypoints[0]
    return categories[0] if len(categories) == 1 else None


def _match_skeleton(
    path: Path, category: Mapping[str, Any] | None, skeleton: Skeleton | None
) -> tuple[int, NDArray[np.int64], Skeleton]:
    """How many keypoints the file has, which of them is each of the skeleton's ([K] indices), and the skeleton."""
    names = (category or {}).get("keypoints") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: categories: keypoints: expected a list of names, got {names!r:.80}")
    if not names:  # nothing to go by but the order
        if skeleton is None:
            raise DataError(f"{path}: the categories do not name the keypoints; pass the skeleton")
        return skeleton.num_keypoints, np.arange(skeleton.num_keypoints), skeleton
    if skeleton is None:
        known = (get_skeleton(name) for name in list_skeletons())
        skeleton = next((s for s in known if list(s.keypoints) == names), None)
    if skeleton is None:
        links = (category or {}).get("skeleton") or []
        try:
            pairs = [(names[a - 1], names[b - 1]) for a, b in links if a >= 1 and b >= 1]
            skeleton = Skeleton.from_names(str((category or {}).get("name", "custom")), names, links=pairs)
        except (IndexError, TypeError, ValueError) as error:
            raise DataError(f"{path}: categories: not a skeleton ({error})") from None
    missing = [name for name in skeleton.keypoints if name not in names]
    if missing:
        raise DataError(f"{path}: the file has no keypoint named {', '.join(missing)}; it has {', '.join(names)}")
    return len(names), np.array([names.index(name) for name in skeleton.keypoints]), skeleton


def _entries(path: Path, content: Mapping[str, Any], key: str) -> Iterator[dict[str, Any]]:
    entries = content.get(key)
    if not isinstance(entries, list):
        raise DataError(f"{path}: {key}: expected a list, got {_kind(entries)}")
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise DataError(f"{path}: {key}: number {index}: expected an object, got {_kind(entry)}")
        yield entry


def _integer(where: str, entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise DataError(f"{where}: {key}: expected an integer, got {_kind(value) if value is None else repr(value)}")
    return value


def _numbers(where: str, key: str, values: Any, count: int) -> NDArray[np.float64]:
    if not isinstance(values, list) or len(values) != count:
        got = f"{len(values)}" if isinstance(values, list) else _kind(values)
        raise DataError(f"{where}: {key}: expected {count} numbers, got {got}")
    try:
        array = np.array(values, np.float64)
    except (OverflowError, TypeError, ValueError):
        raise DataError(f"{where}: {key}: expected numbers, got {values!r:.80}") from None
    if array.shape != (count,) or not np.isfinite(array).all():
        raise DataError(f"{where}: {key}: expected finite numbers, got {values!r:.80}")
    return array


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", type(None): "nothing"}.get(type(value), type(value).__name__)
