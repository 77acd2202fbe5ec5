"""Boxes that come with photos: written out on the command line, or in one of the JSON forms that people have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

__all__ = ["BoxFile", "parse_boxes", "photo_id"]

Boxes = list[list[float]]


class BoxFile:
    """Boxes of photos, from a JSON file.

    Its forms:
        a list of boxes ``[x1, y1, x2, y2]``, for the only photo;
        an object: file name → list of boxes;
        a list of objects with ``file`` and ``boxes``, or with ``file`` and ``people`` as ``fastpose predict`` writes;
        COCO annotations (``images``, ``annotations``), or COCO results with ``image_id`` and ``bbox`` (xywh), where the
        photo's name is made of that number.

    Photos are found by their path as given, else by their file name; of several with that name, the one in folders of
    the same names.

    Args:
        path: The file.
        min_score: COCO results below it are left out.

    Raises:
        ValueError: It cannot be read, is no JSON, or has none of these forms; the message names it.
    """

    def __init__(self, path: Path, min_score: float = 0.0) -> None:
        self.path = path
        self._any: Boxes | None = None
        self._by_name: dict[str, Boxes] = {}
        self._by_id: dict[int, Boxes] = {}
        self._ids: dict[str, int] = {}
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise ValueError(f"{path}: is no JSON ({error})") from None
        try:
            self._take(data, min_score)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{path}: is no file of boxes ({what}); see fastpose predict --help") from None
        self._alike: dict[str, list[str]] = {}  # names that end in the same file name
        for name in {**self._by_name, **self._ids}:
            self._alike.setdefault(Path(name).name, []).append(name)

    def _take(self, data: Any, min_score: float) -> None:
        if isinstance(data, dict) and "annotations" in data and "images" in data:
            self._ids = {image["file_name"]: int(image["id"]) for image in data["images"]}
            self._by_id = {number: [] for number in self._ids.values()}
            for entry in data["annotations"]:
                count = entry.get("num_keypoints")
                if not int(entry.get("iscrowd") or 0) and (count is None or int(count)):
                    self._by_id.setdefault(int(entry["image_id"]), []).append(_corners(entry["bbox"]))
        elif isinstance(data, dict):
            self._by_name = {str(name): _checked(boxes) for name, boxes in data.items()}
        elif isinstance(data, list) and data and isinstance(data[0], dict) and "image_id" in data[0]:
            for entry in data:
                boxes = self._by_id.setdefault(int(entry["image_id"]), [])
                if float(entry.get("score", 1.0)) >= min_score:
                    boxes.append(_corners(entry["bbox"]))
        elif isinstance(data, list) and data and isinstance(data[0], dict):
            for entry in data:
                boxes = [person["box"] for person in entry["people"]] if "people" in entry else entry["boxes"]
                self._by_name[str(entry["file"])] = _checked(boxes)
        elif isinstance(data, list):
            self._any = _checked(data)
        else:
            raise ValueError(f"a list or an object was expected, got {type(data).__name__}")

    def find(self, photo: Path, *, only: bool) -> Boxes:
        """The boxes of a photo.

        Args:
            photo: Its path.
            only: Whether it is the only photo that is asked for.

        Raises:
            ValueError: The file says nothing about it, or names several photos that it may be.
        """
        if self._any is not None:
            if not only:
                raise ValueError(f"{self.path}: is a list of boxes for one photo; for several it must name them")
            return self._any
        name = self._named(photo)
        if name in self._by_name:
            return self._by_name[name]
        # The number in a file name says which photo it is only where the file states no names.
        number = self._ids[name] if name is not None else None if self._ids else photo_id(photo)
        if number is not None and number in self._by_id:
            return self._by_id[number]
        raise ValueError(f"{photo}: {self.path} has no boxes for it")

    def image_id(self, photo: Path) -> int | None:
        """The photo's COCO id, if the file states it."""
        name = self._named(photo)
        return None if name is None else self._ids.get(name)

    def _named(self, photo: Path) -> str | None:
        """What the file calls a photo: its path as given, else the name that shares the most folders with it."""
        if str(photo) in self._by_name or str(photo) in self._ids:
            return str(photo)
        alike: dict[tuple[int, bool], list[str]] = {}
        for name in self._alike.get(photo.name, ()):
            alike.setdefault(_shared_folders(Path(name), photo.absolute()), []).append(name)
        best = alike[max(alike)] if alike else []
        if len(best) > 1:
            raise ValueError(f"{photo}: {self.path} names several photos that it may be ({', '.join(best[:2])}, …)")
        return best[0] if best else None


def _shared_folders(name: Path, photo: Path) -> tuple[int, bool]:
    """How many folders above the file are the same, and whether those are all that the name has."""
    folders = name.parts[:-1]
    pairs = zip(reversed(folders), reversed(photo.parts[:-1]), strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return shared, shared == len(folders)


def photo_id(photo: Path) -> int | None:
    """The number that a COCO file name is made of, e.g. 785 of 000000000785.jpg."""
    return int(photo.stem) if photo.stem.isascii() and photo.stem.isdigit() else None


def parse_boxes(values: Sequence[str]) -> Boxes | BoxFile | None:
    """What ``--boxes`` said: boxes, a file of them, or nothing.

    Args:
        values: Each ``x1,y1,x2,y2``, or one name of a JSON file.

    Raises:
        ValueError: A value is neither.
    """
    if not values:
        return None
    if len(values) == 1 and ("," not in values[0] or Path(values[0]).is_file()):
        if not Path(values[0]).suffix and not Path(values[0]).exists():
            raise ValueError(f"--boxes: expected x1,y1,x2,y2 or a JSON file, got {values[0]!r}")
        return BoxFile(Path(values[0]))
    boxes = []
    for value in values:
        try:
            box = [float(part) for part in value.split(",")]
        except ValueError:
            box = []
        if len(box) != 4:
            raise ValueError(f"--boxes: expected x1,y1,x2,y2 in pixels, got {value!r}")
        boxes.append(box)
    return boxes


def _checked(boxes: Any) -> Boxes:
    if not isinstance(boxes, list):
        raise ValueError(f"a list of boxes was expected, got {type(boxes).__name__}")
    for row, box in enumerate(boxes):
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, int | float) for value in box):
            raise ValueError(f"box {row} is not [x1, y1, x2, y2]: {json.dumps(box)[:60]}")
    return boxes


def _corners(box: Any) -> list[float]:
    [[x, y, width, height]] = _checked([box])
    return [x, y, x + width, y + height]
