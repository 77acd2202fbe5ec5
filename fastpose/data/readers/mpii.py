"""MPII Human Pose (Andriluka et al., CVPR 2014), 16 keypoints: MATLAB's structure and the JSON made of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.data.readers.coco import area_of_boxes
from fastpose.data.readers.files import (
    JsonFile,
    check_split,
    entries,
    kind,
    matlab_numbers,
    numbers,
    open_json,
    read_mat,
    usable,
)
from fastpose.data.records import DataError, PathTable, PoseRecords
from fastpose.skeletons import MPII16

__all__ = ["HEAD_OF_DIAGONAL", "boxes_of_scales", "read_mpii"]

HEAD_OF_DIAGONAL = 0.6
"""PCKh divides by this share of the head box's diagonal (the evaluation's ``SC_BIAS``)."""

# A person's "scale" is its height in units of so many pixels.
_SCALE = 200.0


def read_mpii(
    annotation_file: str | Path | JsonFile,
    image_root: str | Path | None = None,
    *,
    head_boxes: str | Path | None = None,
    split: str | None = None,
) -> PoseRecords:
    """Read people from an MPII file.

    Args:
        annotation_file: JSON list of ``image``, ``center``, ``scale``, ``joints``, ``joints_vis`` (``mpii_val.json``),
            or the set's own ``mpii_human_pose_v1_u12_1.mat``.
        image_root: Folder of the photos; by default that of the annotation file.
        head_boxes: With JSON: the ``mpii_gt_val.mat`` that belongs to ``mpii_val.json``; by default the file of that
            name beside it, if there is one.
        split: With the ``.mat``: ``train``, which is also the default, as the others are not annotated.

    Returns:
        N people with 16 keypoints. Boxes are squares of 200 pixels times the scale about a centre moved down by 15
        pixels times the scale, as everybody crops this set, not cut to the photo. Boxes count pixels from 0 and
        keypoints from 1, as they do in the figures published for this set: its evaluation adds 1 to what is predicted.
        ``head_sizes`` and ``head_boxes`` where head boxes are known.

    Raises:
        DataError: The file is missing, cut short or not of this format, a value is not finite, a list has the wrong
            length, or SciPy is needed and missing.
    """
    if not isinstance(annotation_file, JsonFile) and Path(annotation_file).suffix.lower() == ".mat":
        path = Path(annotation_file)
        check_split(path, split, ["train"])
        people = _read_structure(path, read_mat(path))
    else:
        file = open_json(annotation_file)
        path = file.path
        check_split(path, split, [])
        people = _read_list(file)
        people.heads = _read_heads(path, head_boxes, len(people.photos))
    return people.records(path, Path(image_root) if image_root is not None else path.parent)


def boxes_of_scales(center: ArrayLike, scale: ArrayLike) -> NDArray[np.float32]:
    """Squares of 200 times ``scale`` [N] pixels about ``center`` [N, 2]: float32 [N, 4] xyxy.

    In float32 throughout, because that is how the published figures were made.
    """
    middle = np.asarray(center, np.float32)
    side = (np.asarray(scale, np.float32) * np.float32(_SCALE))[:, None]
    corner = middle - np.float32(0.5) * side
    return np.concatenate([corner, corner + side], 1)


@dataclass
class _People:
    """Columns of everybody in a file, in its order."""

    where: Callable[[int], str]
    photos: list[str]  # [N] file names
    center: NDArray[np.float64]  # [N, 2]
    scale: NDArray[np.float64]  # [N]
    points: NDArray[np.float64]  # [N, 16, 2]
    visible: NDArray[np.uint8]  # [N, 16]
    heads: NDArray[np.float64] | None = None  # [N, 4]
    skipped: Counter[str] = field(default_factory=Counter)

    def records(self, path: Path, root: Path) -> PoseRecords:
        center = self.center.astype(np.float32)
        scale = self.scale.astype(np.float32) * np.float32(_SCALE)
        # Down a little, so that no foot is cut off; a centre of -1 stands for an unknown one.
        center[:, 1] += np.where(center[:, 0] != -1, np.float32(15 / _SCALE) * scale, np.float32(0))
        boxes = boxes_of_scales(center - 1, self.scale)
        empty = (boxes[:, 2:] <= boxes[:, :2]).any(1)
        unlabelled = self.points.max((1, 2), initial=0) <= 0
        self.skipped += Counter({"empty box": int(empty.sum()), "no keypoints": int((unlabelled & ~empty).sum())})
        rows = np.flatnonzero(~empty & ~unlabelled)
        names = list(dict.fromkeys(self.photos))
        position = {name: number for number, name in enumerate(names)}
        stems = [Path(name).stem for name in names]
        numbered = all(stem.isascii() and stem.isdigit() and len(stem) < 19 for stem in stems)
        numbered = numbered and len(set(map(int, stems))) == len(stems)  # not frames of several folders
        heads = None if self.heads is None else self.heads[rows]
        arrays: dict[str, Any] = {
            "image_ids": [int(stem) for stem in stems] if numbered else np.arange(len(names)),
            "image_sizes": np.zeros((len(names), 2)),
            "image_index": [position[self.photos[row]] for row in rows],
            "boxes": boxes[rows],
            "keypoints": self.points[rows],
            "visible": self.visible[rows],
            "areas": area_of_boxes(boxes[rows]),
            "ids": rows,
            "scores": np.ones(len(rows)),
            "ignore": np.zeros(len(rows)),
            "head_boxes": heads,
            "head_sizes": None
            if heads is None
            else HEAD_OF_DIAGONAL * np.linalg.norm(heads[:, 2:] - heads[:, :2], axis=1),
        }
        paths = PathTable(os.path.join(root, name) for name in names)
        left_out = {reason: count for reason, count in self.skipped.items() if count}
        return PoseRecords(MPII16, paths, **arrays, source=str(path), skipped=left_out)


def _read_list(file: JsonFile) -> _People:
    if not isinstance(file.content, list):
        raise DataError(f"{file.path}: expected a list of people, got {kind(file.content)}")
    people = list(entries(file.path, {"people": file.content}, "people"))
    joints = MPII16.num_keypoints

    def where(row: int) -> str:
        return f"{file.path}: person number {row}"

    flat: list[Any] = []
    for row, entry in enumerate(people):
        if not isinstance(entry.get("image"), str):
            raise DataError(f"{where(row)}: image: expected a string, got {kind(entry.get('image'))}")
        points = entry.get("joints")
        if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
            raise DataError(f"{where(row)}: joints: expected {joints} pairs, got {points!r:.80}")
        flat.append([value for point in points for value in point])
    flags = numbers(where, "joints_vis", [entry.get("joints_vis") for entry in people], joints)
    return _People(
        where=where,
        photos=[entry["image"] for entry in people],
        center=numbers(where, "center", [entry.get("center") for entry in people], 2),
        scale=numbers(where, "scale", [[entry.get("scale")] for entry in people], 1)[:, 0],
        points=numbers(where, "joints", flat, 2 * joints).reshape(-1, joints, 2),
        visible=np.clip(flags, 0, 2).astype(np.uint8),
    )


def _read_heads(path: Path, head_boxes: str | Path | None, count: int) -> NDArray[np.float64] | None:
    """[N, 4] xyxy of ``mpii_gt_PART.mat``."""
    beside = path.with_name(f"mpii_gt_{path.stem.removeprefix('mpii_')}.mat")
    if head_boxes is None and not beside.is_file():
        return None
    source = Path(head_boxes) if head_boxes is not None else beside
    boxes = matlab_numbers(source, "headboxes_src", read_mat(source).get("headboxes_src"))
    if boxes.ndim == 2:  # one person, whose axis MATLAB drops
        boxes = boxes[..., None]
    if boxes.shape != (2, 2, count):
        raise DataError(f"{source}: headboxes_src: expected shape (2, 2, {count}) for {path}, got {boxes.shape}")
    return boxes.transpose(2, 0, 1).reshape(count, 4)


def _read_structure(path: Path, variables: dict[str, Any]) -> _People:
    release: Any = variables.get("RELEASE")
    if not hasattr(release, "annolist"):
        raise DataError(f"{path}: expected a structure RELEASE with annolist, got {', '.join(variables) or 'nothing'}")
    photos: list[str] = []
    values: list[list[float]] = []  # center, scale, head box
    points: list[NDArray[np.float64]] = []
    visible: list[NDArray[np.uint8]] = []
    skipped: Counter[str] = Counter()
    for number, photo in enumerate(np.atleast_1d(release.annolist)):
        try:
            name, rectangles = str(photo.image.name), np.atleast_1d(photo.annorect)
        except AttributeError as error:
            raise DataError(f"{path}: annolist: number {number}: not a photo ({error})") from None
        for person in rectangles:
            if not getattr(getattr(person, "annopoints", None), "_fieldnames", None):
                skipped["no keypoints"] += hasattr(person, "_fieldnames")
                continue
            try:
                place = person.objpos
                head = [float(getattr(person, key, np.nan)) for key in ("x1", "y1", "x2", "y2")]
                values.append([float(place.x), float(place.y), float(person.scale), *head])
            except (AttributeError, TypeError, ValueError):  # without a position and scale nobody can be cropped
                skipped["no box"] += 1
                continue
            found, seen = _points(path, name, getattr(person.annopoints, "point", None))
            photos.append(name)
            points.append(found)
            visible.append(seen)
    table = np.array(values, np.float64).reshape(-1, 7)
    bad = np.flatnonzero(~usable(table[:, :3]).all(1) | ~(usable(table) | np.isnan(table)).all(1))
    if len(bad):
        raise DataError(
            f"{path}: {photos[bad[0]]}: objpos, scale, x1 to y2: expected finite numbers, got {table[bad[0]]}"
        )
    joints = MPII16.num_keypoints
    return _People(
        where=lambda row: f"{path}: person number {row}",
        photos=photos,
        center=table[:, :2],
        scale=table[:, 2],
        points=np.array(points, np.float64).reshape(-1, joints, 2),
        visible=np.array(visible, np.uint8).reshape(-1, joints),
        heads=table[:, 3:],
        skipped=skipped,
    )


def _points(path: Path, photo: str, entries_: Any) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """[16, 2] and [16] of one person; head top and neck carry no flag and count as seen."""
    points = np.zeros((MPII16.num_keypoints, 2))
    visible = np.zeros(MPII16.num_keypoints, np.uint8)
    for point in np.atleast_1d(entries_):
        try:
            joint, x, y = int(point.id), float(point.x), float(point.y)
            flag = np.atleast_1d(getattr(point, "is_visible", []))
        except (AttributeError, OverflowError, TypeError, ValueError) as error:
            raise DataError(f"{path}: {photo}: annopoints: not a keypoint ({error})") from None
        if not 0 <= joint < len(points):
            raise DataError(f"{path}: {photo}: annopoints: id: expected 0 to {len(points) - 1}, got {joint}")
        points[joint] = x, y
        if not usable(points[joint]).all():
            raise DataError(f"{path}: {photo}: annopoints: expected finite numbers, got {points[joint]}")
        visible[joint] = 1 if flag.size and str(flag[0]) == "0" else 2
    return points, visible
