"""The layout of Ultralytics' pose data sets: a YAML file, folders of photos, a text file of labels for each photo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastpose.data.readers.coco import area_of_boxes
from fastpose.data.readers.files import check_split, read_bytes, read_lines, usable
from fastpose.data.records import DataError, PathTable, PoseRecords
from fastpose.files import parse_yaml
from fastpose.skeletons import COCO17, Skeleton, find_skeleton

__all__ = ["read_ultralytics"]

_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))
_SPLITS = ("train", "val", "test")
_MOST_KEYPOINTS = 10_000


def read_ultralytics(
    file: str | Path,
    image_root: str | Path | None = None,
    *,
    split: str | None = None,
    skeleton: Skeleton | None = None,
    category: int | str | None = None,
) -> PoseRecords:
    """Read people from a data set in Ultralytics' layout.

    Photos that are missing or cannot be read are left out and counted in ``skipped``, as labels are fractions of their
    size; so are people without a box or keypoint.

    Args:
        file: YAML with ``kpt_shape`` ([K, 2] or [K, 3]), ``flip_idx``, ``names`` (classes), ``path``, and for each part
            a folder of photos, a text file that lists them, or several. Labels lie where ``images`` in a photo's path
            is ``labels``: a line a person, class, box (x, y of its centre, width, height), keypoints (x, y, visible),
            all as fractions.
        image_root: Instead of ``path``, which is relative to the YAML file.
        split: ``train``, ``val`` or ``test``.
        skeleton: What the K keypoints are. By default the known skeleton of exactly the names in ``kpt_names``; COCO's
            where there are none, K is 17 and left and right change places as in COCO; else one of the names that there
            are, or of numbers. Without ``flip_idx`` the flip pairs are those that the names say, or unknown.
        category: Name or number of the class to read; by default the only one, or ``person`` of several.

    Returns:
        N people in the order of the photos' names; photos are numbered from 1 and people are too. Boxes are cut to the
        photo.

    Raises:
        DataError: The YAML file or a line of a label file does not say this, ``split`` is not one of its parts, or two
            photos are one file.
    """
    path = Path(file)
    content = _read_yaml(path)
    parts = [name for name in _SPLITS if content.get(name)]
    check_split(path, split or "", parts)
    person = _person_class(path, content.get("names"), category)
    joints, columns, skeleton = _layout(path, content, skeleton, person)
    root = Path(image_root) if image_root is not None else path.parent / str(content.get("path") or ".")
    photos = _photos(path, root, content[split or ""])

    skipped: Counter[str] = Counter()
    people: list[tuple[int, NDArray[np.float64]]] = []
    sizes = np.zeros((len(photos), 2), np.int32)
    with ThreadPoolExecutor(4) as pool:
        for number, (photo, (size, lines)) in enumerate(zip(photos, pool.map(_read_photo, photos), strict=True)):
            if size is None:
                skipped["unreadable photo"] += 1
                continue
            sizes[number] = size
            for where, values in _rows(photo, lines, 5 + joints * columns):
                if person is not None and values[0] != person:
                    skipped["other category"] += 1
                    continue
                if values[1:5].min() < 0 or values[1:5].max() > 1:
                    raise DataError(f"{where}: expected a box in fractions between 0 and 1, got {values[1:5].tolist()}")
                people.append((number, values))
    table = np.array([values for _, values in people]).reshape(len(people), 5 + joints * columns)
    index = np.array([number for number, _ in people], np.int64)
    return _records(path, photos, sizes, skeleton, index, table, columns, skipped)


def _records(
    path: Path,
    photos: list[Path],
    sizes: NDArray[np.int32],
    skeleton: Skeleton,
    index: NDArray[np.int64],
    table: NDArray[np.float64],
    columns: int,
    skipped: Counter[str],
) -> PoseRecords:
    extent = sizes[index][:, [1, 0]].astype(np.float64)
    middle, sides = table[:, 1:3] * extent, table[:, 3:5] * extent
    corners = np.concatenate([middle - sides / 2, middle + sides / 2], 1)
    boxes = np.clip(corners, 0, np.maximum(extent[:, [0, 1, 0, 1]] - 1, 0))
    points = table[:, 5:].reshape(len(table), skeleton.num_keypoints, columns)
    # Without a third number a point is there unless it is negative.
    visible = np.clip(np.ceil(points[..., 2]), 0, 2) if columns == 3 else np.where((points >= 0).all(2), 2, 0)
    empty = (boxes[:, 2:] <= boxes[:, :2]).any(1)
    unlabelled = ~(visible > 0).any(1)
    skipped["empty box"], skipped["no keypoints"] = int(empty.sum()), int((unlabelled & ~empty).sum())
    rows = np.flatnonzero(~empty & ~unlabelled)
    pixels = np.where(visible[..., None] > 0, points[..., :2] * extent[:, None], 0)
    arrays: dict[str, Any] = {
        "image_ids": np.arange(1, len(photos) + 1),
        "image_sizes": sizes,
        "image_index": index[rows],
        "boxes": boxes[rows],
        "keypoints": pixels[rows],
        "visible": visible[rows],
        "areas": area_of_boxes(boxes[rows]),
        "ids": rows + 1,
        "scores": np.ones(len(rows)),
        "ignore": np.zeros(len(rows)),
    }
    left_out = {reason: count for reason, count in skipped.items() if count}
    return PoseRecords(skeleton, PathTable(photos), **arrays, source=str(path), skipped=left_out)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = parse_yaml(read_bytes(path), path)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(str(error)) from None
    if not isinstance(content, dict) or "kpt_shape" not in content:
        raise DataError(f"{path}: expected the YAML file of a pose data set, with kpt_shape")
    return content


def _layout(
    path: Path, content: Mapping[str, Any], skeleton: Skeleton | None, person: int | None
) -> tuple[int, int, Skeleton]:
    """K, the numbers of a keypoint, and what the keypoints are."""
    shape = content["kpt_shape"]
    whole = isinstance(shape, list) and len(shape) == 2 and all(type(number) is int for number in shape)
    if not whole or not 1 <= shape[0] <= _MOST_KEYPOINTS or shape[1] not in (2, 3):
        raise DataError(f"{path}: kpt_shape: expected [K, 2] or [K, 3], got {shape!r:.80}")
    joints: int = shape[0]
    if skeleton is not None:
        if skeleton.num_keypoints != joints:
            raise DataError(f"{path}: kpt_shape: expected {skeleton.num_keypoints} keypoints, got {joints}")
        return joints, shape[1], skeleton
    flip = content.get("flip_idx")
    known = isinstance(flip, list) and all(type(other) is int and 0 <= other < joints for other in flip)
    if flip is not None and (not known or len(flip) != joints or any(flip[flip[i]] != i for i in range(joints))):
        raise DataError(f"{path}: flip_idx: expected the numbers 0 to {joints - 1}, pairs exchanged, got {flip!r:.80}")
    names = _keypoint_names(path, content, joints, person)
    if not names and flip is not None and tuple(flip) == COCO17.flip_index:
        return joints, shape[1], COCO17
    skeleton = find_skeleton(names)
    if skeleton is None:
        skeleton = Skeleton.from_names(path.stem, names or [f"keypoint_{i}" for i in range(joints)])
        if flip is not None:
            points = skeleton.keypoints
            pairs = tuple((points[i], points[flip[i]]) for i in range(joints) if i < flip[i])
            skeleton = replace(skeleton, flip_pairs=pairs)
    return joints, shape[1], skeleton


def _keypoint_names(path: Path, content: Mapping[str, Any], joints: int, person: int | None) -> tuple[str, ...]:
    """``kpt_names``, a list or a list of each class; empty where there are none."""
    named = content.get("kpt_names")
    if isinstance(named, dict) and named:
        named = named.get(person, next(iter(named.values())))
    if named and (not isinstance(named, list) or len(named) != joints or len(set(map(str, named))) != joints):
        raise DataError(f"{path}: kpt_names: expected {joints} different names, got {named!r:.80}")
    return tuple(map(str, named or ()))


def _person_class(path: Path, names: Any, wanted: int | str | None) -> int | None:
    """The number of the class to read; None: there is only one."""
    classes = dict(enumerate(names)) if isinstance(names, list) else names if isinstance(names, dict) else {}
    if len(classes) < 2 and wanted is None:
        return None
    wanted = "person" if wanted is None else wanted
    for number, name in classes.items():
        if type(number) is int and (name == wanted or str(number) == str(wanted)):
            return number
    there = ", ".join(f"{name!r} ({number})" for number, name in classes.items()) or "none"
    raise DataError(f"{path}: names: no class is {wanted!r}; choose one with category: {there}")


def _photos(path: Path, root: Path, part: Any) -> list[Path]:
    found: list[Path] = []
    for place in part if isinstance(part, list) else [part]:
        source = root / str(place)
        if not source.exists() and str(place).startswith("../"):  # exporters write this beside folders that lie here
            source = root / str(place).removeprefix("../")
        if source.is_dir():
            found += sorted(photo for photo in source.rglob("*") if photo.suffix.lower() in _SUFFIXES)
        elif source.is_file():
            found += [source.parent / line.strip() for line in read_lines(source) if line.strip()]
        else:
            raise DataError(f"{path}: no folder or list of photos at {source}")
    if len(set(found)) != len(found):
        twice = next(photo for photo, count in Counter(found).items() if count > 1)
        raise DataError(f"{path}: {twice} is listed twice")
    return found


def _read_photo(photo: Path) -> tuple[tuple[int, int] | None, list[str]]:
    """(height, width), None where the photo cannot be read, and the lines of its labels."""
    from fastpose.data.images import ImageError, read_image_size

    try:
        size = read_image_size(photo)
    except ImageError:
        return None, []
    labels = _label_file(photo)
    return size, read_lines(labels) if labels.exists() else []  # else a photo of nobody


def _label_file(photo: Path) -> Path:
    parts = list(photo.parts)
    for i in reversed(range(len(parts) - 1)):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _rows(photo: Path, lines: list[str], count: int) -> Iterator[tuple[str, NDArray[np.float64]]]:
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        where = f"{_label_file(photo)}: line {number}"
        if len(words) != count:
            raise DataError(f"{where}: expected {count} numbers, got {len(words)}")
        try:
            values = np.array(words, np.float64)
        except ValueError:
            raise DataError(f"{where}: expected numbers, got {line!r:.80}") from None
        if not usable(values).all():
            raise DataError(f"{where}: expected finite numbers, got {line!r:.80}")
        yield where, values
