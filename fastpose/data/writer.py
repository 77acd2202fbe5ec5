"""People of any data set, written as COCO's JSON: a set converted, cut down, or rendered."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..files import atomic_write, read_file
from ..geometry import boxes_xyxy_to_xywh
from .images import read_image_size
from .photos import load_image
from .records import PoseRecords
from .synthetic import is_scene

__all__ = ["write_coco"]


def write_coco(
    records: PoseRecords, file: str | os.PathLike[str], images: str | os.PathLike[str] | None = None
) -> None:
    """Write people in COCO's format for keypoints; `read_annotations` gives them back.

    The format has no place for flip pairs, sigmas and joint weights: a skeleton that the package does not know comes
    back with the flip pairs that follow from its names.

    Args:
        records: The people. Those to ``ignore`` are written as crowds.
        file: The JSON file; its folder is made if it is not there.
        images: Folder to put the photos into: files are copied, rendered scenes painted (PNG); those that lie there
            already stay as they are. Not given: photos stay where they are, and the file names them by absolute path.

    Raises:
        ImageError: A scene cannot be painted, or a photo whose size the records do not know cannot be read.
        OSError: A photo cannot be read, or a file cannot be written; an old ``file`` is then still whole.
        ValueError: Scenes are nowhere unless they are painted, and ``images`` is not given; a photo would replace
            another one of the set; or a box or an area is not finite.
    """
    file = Path(file)
    numbers = _distinct(records.image_ids.tolist())
    names = [str(path) for path in records.image_paths]
    if images is not None:
        names = _put_photos(names, Path(images), file.parent)
    elif any(map(is_scene, names)):
        raise ValueError("images: expected a folder to paint the rendered scenes into, got none")
    else:
        names = [os.path.abspath(name) for name in names]
    sizes = [
        size if min(size) > 0 else read_image_size(path)
        for path, size in zip(records.image_paths, records.image_sizes.tolist(), strict=True)
    ]
    skeleton = records.skeleton
    category = {
        "id": 1,
        "name": skeleton.name,
        "keypoints": list(skeleton.keypoints),
        "skeleton": [[first + 1, second + 1] for first, second in skeleton.link_indices],
    }
    content = {
        "images": [
            {"id": number, "file_name": name, "height": height, "width": width}
            for number, name, (height, width) in zip(numbers, names, sizes, strict=True)
        ],
        "annotations": _people(records, numbers),
        "categories": [category],
    }
    text = json.dumps(content, allow_nan=False) + "\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(file, text.encode())


def _people(records: PoseRecords, numbers: list[int]) -> list[dict[str, Any]]:
    """COCO's entries, one a person; ``numbers`` are the photos' ids."""
    people = []
    boxes = boxes_xyxy_to_xywh(records.boxes.astype(np.float64)).tolist()
    for row, identity in enumerate(_distinct(records.ids.tolist())):
        points = [
            value
            for point, seen in zip(records.keypoints[row].tolist(), records.visible[row].tolist(), strict=True)
            for value in ((*point, seen) if seen else (0, 0, 0))
        ]
        entry = {
            "id": identity,
            "image_id": numbers[records.image_index[row]],
            "category_id": 1,
            "iscrowd": int(records.ignore[row]),
            "bbox": boxes[row],
            "area": float(records.areas[row]),
            "num_keypoints": int((records.visible[row] > 0).sum()),
            "keypoints": points,
        }
        if records.track_ids is not None and records.track_ids[row] >= 0:
            entry["track_id"] = int(records.track_ids[row])
        people.append(entry)
    return people


def _distinct(ids: list[int]) -> list[int]:
    """The ids, or numbers from 1 where sets were put together and an id occurs twice."""
    return ids if len(set(ids)) == len(ids) else list(range(1, len(ids) + 1))


def _put_photos(names: list[str], folder: Path, start: Path) -> list[str]:
    """Copy or paint the photos into a folder; their names from ``start``, with slashes."""
    import cv2

    targets: dict[Path, str] = {}  # what goes where
    for number, name in enumerate(names, 1):
        target = folder / (f"{number:06}.png" if is_scene(name) else Path(name).name)
        while target in targets:
            target = folder / f"{number:06}_{target.name}"
        targets[target] = name
    sources = {os.path.realpath(name) for name in names if not is_scene(name)}
    stay = {target for target, name in targets.items() if os.path.realpath(target) == os.path.realpath(name)}
    for target, name in targets.items():
        if target not in stay and os.path.realpath(target) in sources:
            raise ValueError(f"images: {name} would replace {target}, which is another photo of the set")
    folder.mkdir(parents=True, exist_ok=True)
    for target, name in targets.items():
        if is_scene(name):
            atomic_write(target, cv2.imencode(".png", load_image(name))[1].tobytes())
        elif target not in stay:
            atomic_write(target, read_file(name))
    return [Path(os.path.relpath(target, start)).as_posix() for target in targets]
