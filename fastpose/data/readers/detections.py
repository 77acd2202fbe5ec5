"""Boxes that a detector, or somebody, has found on photos: every JSON form that people have, read in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastpose.data.readers.categories import category_number, is_counted, is_crowd
from fastpose.data.readers.files import entries, integer, kind, numbers, read_json
from fastpose.data.records import DataError
from fastpose.geometry import boxes_xywh_to_xyxy

__all__ = ["DetectionFile", "FoundBoxes", "photo_number"]

_UNSAID = -1  # of a box whose class the file does not say
_PERSON_CLASS = 0  # of the class column of detectors, which count from zero


@dataclass(frozen=True, eq=False)
class FoundBoxes:
    """The boxes of a photo.

    Attributes:
        boxes: [N, 4] float32, xyxy in pixels, each with a width and a height.
        scores: [N] float32, 1 where the file states none.
        classes: [N] int64, the category's id or the detector's class, -1 where the file states none.
        rows: [N] int64, the place of each box in the file.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.boxes)


class DetectionFile:
    """Boxes of photos, from a JSON file.

    Its forms:
        a list of boxes, for the only photo;
        an object: file name → list of boxes;
        a list of objects with ``file`` and ``boxes``, or with ``file`` and ``people`` as ``fastpose predict`` writes;
        COCO results: objects with ``image_id``, ``category_id``, ``bbox`` (xywh), ``score``;
        COCO annotations: ``images``, ``annotations``, ``categories``; crowds and people without any keypoint are not
        taken.

    A box of a list is [x1, y1, x2, y2], or has a score behind it, or a score and a class. Photos are found by their
    path as given, else by their file name; of several with that name, the one in folders of the same names. In COCO
    results the photo's name is made of its id (785 is 000000000785.jpg).

    Args:
        path: The file.
        category: Which boxes are taken: the id or, in COCO annotations, the name of a category. By default people:
            there the category "person", else the one with keypoints, else the only one; in COCO results `person_id`; of
            boxes with a class the class 0. Boxes that state none are always taken.
        min_score: Boxes below it are not taken.
        person_id: The id that people have in COCO results, where no category is asked for.

    Attributes:
        path: The file.
        skipped: How many boxes were not taken, by reason.

    Raises:
        DataError: It cannot be read, is no JSON, has none of these forms, or something in it is wrong; the message
            names the entry.

    Example:
        >>> from pathlib import Path
        >>> import json, tempfile
        >>> file = Path(tempfile.mkdtemp()) / "boxes.json"
        >>> _ = file.write_text(json.dumps({"a.jpg": [[10, 20, 50, 90, 0.75]]}))
        >>> DetectionFile(file).find(Path("photos/a.jpg")).scores.tolist()
        [0.75]
    """

    def __init__(
        self,
        path: str | Path,
        *,
        category: int | str | None = None,
        min_score: float = 0.0,
        person_id: int = 1,
    ) -> None:
        self.path = Path(path)
        self.skipped: dict[str, int] = {}
        self._ids: dict[str, int] = {}  # of photos whose names and ids the file states
        content = read_json(self.path)
        if isinstance(content, dict) and "file" in content and ("people" in content or "boxes" in content):
            content = [content]
        first = content[0] if isinstance(content, list) and content else None
        if isinstance(content, dict) and "annotations" in content and "images" in content:
            found = self._annotations(content, category)
        elif isinstance(first, dict) and "image_id" in first:
            found = self._results(content, self._number(category, person_id))
        else:
            found = self._lists(self._by_file(content), self._number(category, _PERSON_CLASS))
        self._take(*found, min_score)

    def _annotations(self, content: Mapping[str, Any], category: int | str | None) -> _Found:
        for index, entry in enumerate(entries(self.path, content, "images")):
            where = partial("{}: images: number {}".format, self.path, index)
            name = entry.get("file_name")
            if not isinstance(name, str):
                raise DataError(f"{where()}: file_name: expected a string, got {kind(name)}")
            self._ids[name] = integer(where, entry, "id")
        people, rows = [], []
        for row, entry in enumerate(entries(self.path, content, "annotations")):
            where = partial("{}: annotation {}".format, self.path, entry.get("id", f"number {row}"))
            if entry.get("bbox") is not None and not is_crowd(where, entry) and is_counted(where, entry):
                people.append(entry)
                rows.append(row)
        wanted = category_number(self.path, content, category)
        return self._coco(people, rows, "annotation", wanted, self._ids.values())

    def _number(self, category: int | str | None, default: int) -> int:
        """The category of a file that does not name any."""
        try:
            return default if category is None else int(category)
        except ValueError:
            raise DataError(f"{self.path}: category: names none; expected its number, got {category!r}") from None

    def _results(self, content: list[Any], category: int) -> _Found:
        found = list(entries(self.path, {"detections": content}, "detections"))
        return self._coco(found, range(len(found)), "detection", category, ())

    def _coco(
        self, found: list[dict[str, Any]], rows: Sequence[int], what: str, wanted: int | None, known: Iterable[int]
    ) -> _Found:
        def where(index: int) -> str:
            return f"{self.path}: {what} number {rows[index]}"

        keys, classes = [], []
        for index, entry in enumerate(found):
            here = partial(where, index)
            keys.append(integer(here, entry, "image_id"))
            classes.append(integer(here, entry, "category_id") if "category_id" in entry else _UNSAID)
        boxes = numbers(where, "bbox", [entry.get("bbox") for entry in found], 4)
        scores = numbers(where, "score", [[entry.get("score", 1.0)] for entry in found], 1)[:, 0]
        table = FoundBoxes(
            boxes_xywh_to_xyxy(boxes.astype(np.float32)),
            scores.astype(np.float32),
            np.array(classes, np.int64),
            np.array(rows, np.int64),
        )
        return keys, table, wanted, known

    def _by_file(self, content: Any) -> list[tuple[str | None, Callable[[], str], Any]]:
        """Name, place in the file and boxes of each photo; the name is None in a list for the only one."""
        listed: list[tuple[str | None, Callable[[], str], Any]] = []
        if isinstance(content, dict):
            listed += [(name, partial("{}: {}".format, self.path, name), boxes) for name, boxes in content.items()]
        elif isinstance(content, list) and content and isinstance(content[0], dict):
            for index, entry in enumerate(entries(self.path, {"photos": content}, "photos")):
                where = partial("{}: photo number {}".format, self.path, index)
                name = entry.get("file")
                if not isinstance(name, str):
                    raise DataError(f"{where()}: file: expected a string, got {kind(name)}")
                boxes = entry.get("boxes")
                if "people" in entry:
                    boxes = [_with_score(where, person) for person in entries(self.path, entry, "people")]
                listed.append((name, where, boxes))
        elif isinstance(content, list):
            listed.append((None, lambda: str(self.path), content))
        else:
            raise DataError(f"{self.path}: expected a list or an object of boxes, got {kind(content)}")
        return listed

    def _lists(self, listed: list[tuple[str | None, Callable[[], str], Any]], category: int | str | None) -> _Found:
        if isinstance(category, str):
            raise DataError(
                f"{self.path}: category: these boxes do not name any; expected its number, got {category!r}"
            )
        keys: list[str | None] = []
        parts: list[NDArray[np.float64]] = [np.zeros((0, 6))]
        for name, where, boxes in listed:
            if not isinstance(boxes, list):
                raise DataError(f"{where()}: expected a list of boxes, got {kind(boxes)}")
            length = len(boxes[0]) if boxes and isinstance(boxes[0], list) else 4
            if length not in (4, 5, 6):
                wanted = "x1, y1, x2, y2, and perhaps a score and a class"
                raise DataError(f"{where()}: box number 0: expected {wanted}, got {length} numbers")
            given = numbers(partial(_numbered, where), "box", boxes, length)
            part = np.full((len(boxes), 6), 1.0)
            part[:, 5] = _UNSAID
            part[:, :length] = given
            parts.append(part)
            keys += [name] * len(boxes)
        columns = np.concatenate(parts)
        table = FoundBoxes(
            columns[:, :4].astype(np.float32),
            columns[:, 4].astype(np.float32),
            columns[:, 5].astype(np.int64),
            np.arange(len(columns)),
        )
        return keys, table, category, [name for name, _, _ in listed]

    def _take(
        self, keys: Sequence[Any], table: FoundBoxes, wanted: int | None, known: Iterable[Any], min_score: float
    ) -> None:
        """Keep what is wanted, and which boxes are those of a photo."""
        other = (table.classes != wanted) & (table.classes != _UNSAID) & (wanted is not None)
        weak = ~other & (table.scores < min_score)
        flat = ~other & ~weak & ~(table.boxes[:, 2:] > table.boxes[:, :2]).all(1)
        counts = {"other category": other, "low score": weak, "empty box": flat}
        self.skipped = {reason: int(rows.sum()) for reason, rows in counts.items() if rows.any()}
        if other.all() and len(other):
            there = ", ".join(map(str, sorted(set(table.classes.tolist()))[:10]))
            raise DataError(f"{self.path}: category: no box is of category {wanted}; there are {there}")
        self._table = table
        self._rows: dict[Any, list[int]] = {key: [] for key in [*known, *keys]}
        for row in np.flatnonzero(~other & ~weak & ~flat).tolist():
            self._rows[keys[row]].append(row)
        self._alike: dict[str, list[str]] = {}  # names that end in the same file name
        for name in dict.fromkeys((*self._ids, *self._rows)):
            if isinstance(name, str):
                self._alike.setdefault(Path(name).name, []).append(name)

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    @property
    def names_photos(self) -> bool:
        """Whether the file says which photos its boxes are of by name; else by id, or not at all."""
        return bool(self._alike)

    def find(self, photo: Path, *, only: bool = True) -> FoundBoxes:
        """The boxes of a photo.

        Args:
            photo: Its path.
            only: Whether it is the only photo that is asked for: a list of boxes names none.

        Raises:
            DataError: The file says nothing about it, or names several photos that it may be.
        """
        if None in self._rows:
            if not only:
                raise DataError(f"{self.path}: is a list of boxes for one photo; for several it must name them")
            return self._found(None)
        found = self.get(photo)
        if found is None:
            raise DataError(f"{photo}: {self.path} has no boxes for it")
        return found

    def get(self, photo: Path) -> FoundBoxes | None:
        """The boxes of a photo, or None where the file says nothing about it.

        Raises:
            DataError: It names several photos that it may be.
        """
        name = self._named(photo)
        # The number in a file name says which photo it is only where the file states no names.
        number = photo_number(photo) if name is None and not self._alike else self._ids.get(name or "")
        for key in (name, number):
            if key is not None and key in self._rows:
                return self._found(key)
        return None

    def by_id(self) -> Iterator[tuple[int, FoundBoxes]]:
        """COCO id and boxes of each photo that has any, where the file states ids."""
        return ((key, self._found(key)) for key, rows in self._rows.items() if rows and isinstance(key, int))

    def image_id(self, photo: Path) -> int | None:
        """The photo's COCO id, if the file states it."""
        name = self._named(photo)
        return None if name is None else self._ids.get(name)

    def _found(self, key: Any) -> FoundBoxes:
        rows, table = self._rows[key], self._table
        return FoundBoxes(table.boxes[rows], table.scores[rows], table.classes[rows], table.rows[rows])

    def _named(self, photo: Path) -> str | None:
        """What the file calls a photo: its path as given, else the name that shares the most folders with it."""
        if str(photo) in self._rows or str(photo) in self._ids:
            return str(photo)
        alike: dict[tuple[int, bool], list[str]] = {}
        for name in self._alike.get(photo.name, ()):
            alike.setdefault(_shared_folders(Path(name), photo.absolute()), []).append(name)
        best = alike[max(alike)] if alike else []
        if len(best) > 1:
            raise DataError(f"{photo}: {self.path} names several photos that it may be ({', '.join(best[:2])}, …)")
        return best[0] if best else None


# Key of each box, all boxes, the category to take (None: all), keys of photos that may have no box.
_Found = tuple[Sequence[Any], FoundBoxes, "int | None", Iterable[Any]]


def _numbered(where: Callable[[], str], row: int) -> str:
    return f"{where()}: number {row}"


def _with_score(where: Callable[[], str], person: Mapping[str, Any]) -> list[Any]:
    """A person's box as ``fastpose predict`` wrote it, with the box's score, not the pose's."""
    box = person.get("box")
    if not isinstance(box, list) or len(box) != 4:
        raise DataError(f"{where()}: expected x1, y1, x2, y2 as the box of each of the people, got {box!r:.80}")
    return [*box, person.get("box_score", 1.0)]


def _shared_folders(name: Path, photo: Path) -> tuple[int, bool]:
    """How many folders above the file are the same, and whether those are all that the name has."""
    folders = name.parts[:-1]
    pairs = zip(reversed(folders), reversed(photo.parts[:-1]), strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return shared, shared == len(folders)


def photo_number(photo: Path) -> int | None:
    """The number that a COCO file name is made of, e.g. 785 of 000000000785.jpg."""
    return int(photo.stem) if photo.stem.isascii() and photo.stem.isdigit() and len(photo.stem) < 19 else None
