"""Annotated people of a data set as flat arrays.

One object per person would be copied into every loader worker, page by page, as soon as Python touches its reference
count; a few flat arrays stay shared by all of them. Even the paths of the photos stand in one array of bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.skeletons import Skeleton

__all__ = ["DataError", "PathTable", "PoseRecord", "PoseRecords"]


class DataError(ValueError):
    """An annotation file that cannot be used; the message names the file, the entry and what is wrong with it."""


class PathTable(Sequence[Path]):
    """Paths in one array of bytes: reads like a list of paths, costs no Python object per entry.

    Args:
        paths: The paths in order.
    """

    def __init__(self, paths: Iterable[str | Path]) -> None:
        encoded = [str(path).encode("utf-8", "surrogateescape") for path in paths]
        self._bytes = np.frombuffer(b"".join(encoded), np.uint8)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = int(index)
        position += len(self) if position < 0 else 0
        if not 0 <= position < len(self):
            raise IndexError(f"path {index} of {len(self)}")
        part = self._bytes[self._ends[position] : self._ends[position + 1]]
        return Path(part.tobytes().decode("utf-8", "surrogateescape"))

    def __repr__(self) -> str:
        return f"PathTable({len(self)} paths)"


@dataclass(frozen=True, eq=False)
class PoseRecord:
    """One person of a data set.

    Attributes:
        image_path: The photo.
        image_id: Its id in the annotation file.
        box: [4] float32, xyxy in pixels.
        keypoints: [K, 2] float32, (x, y) in pixels of the photo; without meaning where ``visible`` is 0.
        visible: [K] uint8: 0 not annotated, 1 hidden, 2 seen.
        area: Area of the person in square pixels, for the OKS.
        id: Id of the annotation, or position in the detections file.
        score: 1 for an annotated person, the detector's score for a detection.
        ignore: Whether a metric neither asks for this person nor counts it as wrong.
    """

    image_path: Path
    image_id: int
    box: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    visible: NDArray[np.uint8]
    area: float
    id: int
    score: float
    ignore: bool


@dataclass(frozen=True, eq=False)
class PoseRecords:
    """The people of a data set: N people on I photos, K keypoints each.

    Attributes:
        skeleton: What the keypoints are.
        image_paths: I distinct photos, also those on which nobody is annotated.
        image_ids: [I] int64, their ids.
        image_sizes: [I, 2] int32, (height, width) as the annotation file states them; 0 where it does not.
        image_index: [N] int32: person i stands on photo ``image_paths[image_index[i]]``.
        boxes: [N, 4] float32, xyxy in pixels.
        keypoints: [N, K, 2] float32, (x, y) in pixels of the photo.
        visible: [N, K] uint8: 0 not annotated, 1 hidden, 2 seen.
        areas: [N] float32, square pixels.
        ids: [N] int64.
        scores: [N] float32; 1 for annotated people.
        ignore: [N] bool.
        source: The file that this was read from.
        skipped: How many entries of the file were left out, by reason.

    Raises:
        ValueError: An array has not the shape that the others ask for.
    """

    skeleton: Skeleton
    image_paths: Sequence[Path]
    image_ids: NDArray[np.int64]
    image_sizes: NDArray[np.int32]
    image_index: NDArray[np.int32]
    boxes: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    visible: NDArray[np.uint8]
    areas: NDArray[np.float32]
    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    ignore: NDArray[np.bool_]
    source: str = ""
    skipped: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.image_paths, PathTable):
            object.__setattr__(self, "image_paths", PathTable(self.image_paths))
        images, people, joints = len(self.image_paths), len(self.image_index), self.skeleton.num_keypoints
        layout: dict[str, tuple[Any, tuple[int, ...]]] = {
            "image_ids": (np.int64, (images,)),
            "image_sizes": (np.int32, (images, 2)),
            "image_index": (np.int32, (people,)),
            "boxes": (np.float32, (people, 4)),
            "keypoints": (np.float32, (people, joints, 2)),
            "visible": (np.uint8, (people, joints)),
            "areas": (np.float32, (people,)),
            "ids": (np.int64, (people,)),
            "scores": (np.float32, (people,)),
            "ignore": (np.bool_, (people,)),
        }
        for name, (dtype, shape) in layout.items():
            array = np.ascontiguousarray(getattr(self, name), dtype=dtype)
            if array.shape != shape and array.size == 0 == int(np.prod(shape)):
                array = array.reshape(shape)
            if array.shape != shape:
                raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
            object.__setattr__(self, name, array)
        if people and (self.image_index.min() < 0 or self.image_index.max() >= images):
            got = f"{self.image_index.min()} to {self.image_index.max()}"
            raise ValueError(f"image_index: expected 0 to {images - 1}, got {got}")

    def __len__(self) -> int:
        return len(self.image_index)

    def __getitem__(self, index: int) -> PoseRecord:
        if not -len(self) <= index < len(self):
            raise IndexError(f"person {index} of {len(self)}")
        image = int(self.image_index[index])
        return PoseRecord(
            image_path=self.image_paths[image],
            image_id=int(self.image_ids[image]),
            box=self.boxes[index],
            keypoints=self.keypoints[index],
            visible=self.visible[index],
            area=float(self.areas[index]),
            id=int(self.ids[index]),
            score=float(self.scores[index]),
            ignore=bool(self.ignore[index]),
        )

    def __iter__(self) -> Iterator[PoseRecord]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        left_out = f", skipped {self.skipped}" if self.skipped else ""
        return f"PoseRecords({len(self)} people, {len(self.image_paths)} photos, {self.skeleton.name}{left_out})"

    def select(self, people: ArrayLike) -> PoseRecords:
        """Some of the people, in the order asked for; the photos stay as they are.

        Args:
            people: [M] int indices or [N] bool mask.

        Returns:
            Records of M people.
        """
        which = np.asarray(people)
        names = ("image_index", "boxes", "keypoints", "visible", "areas", "ids", "scores", "ignore")
        if which.size == 0 and which.dtype != np.bool_:
            which = which.astype(np.int64)
        return replace(self, **{name: getattr(self, name)[which] for name in names})
