"""Annotated people of a data set as flat arrays.

One object per person would be copied into every loader worker, page by page, as soon as Python touches its reference
count; a few flat arrays stay shared by all of them. Even the paths of the photos stand in one array of bytes.

Threads share the records as they are: nothing here changes after it was made. A forked process shares their pages with
its parent, as nobody writes to them. A spawned process gets its own copy by pickle, about 230 bytes a person of COCO;
where that is too much, ``numpy.save`` the large arrays and ``numpy.load(..., mmap_mode="r")`` them in each process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.files import printable
from fastpose.metrics.truth import AREA_OF_BOX
from fastpose.skeletons import Skeleton, match_skeletons

__all__ = ["DataError", "PathTable", "PoseRecord", "PoseRecords", "concatenate"]


_LONGEST = 1000  # characters of a message


class DataError(ValueError):
    """An annotation file that cannot be used; the message, one line, names file, entry and what is wrong with it."""

    def __init__(self, message: str) -> None:
        text = printable(message)  # what a file holds may stand in it
        super().__init__(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 200]} … {text[-200:]}")


class PathTable(Sequence[Path]):
    """Paths in one array of bytes: reads like a list of paths, costs no Python object per entry.

    Args:
        paths: The paths in order.

    Raises:
        DataError: There is a character in one that no name can have.
    """

    def __init__(self, paths: Iterable[str | Path]) -> None:
        try:
            encoded = [str(path).encode("utf-8", "surrogateescape") for path in paths]
        except UnicodeEncodeError as error:
            raise DataError(f"{error.object}: is no file name ({error.reason})") from None
        self._bytes = np.frombuffer(b"".join(encoded), np.uint8)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    @classmethod
    def join(cls, tables: Sequence[PathTable]) -> PathTable:
        """The paths of several tables, one after the other."""
        joined = cls(())
        joined._bytes = np.concatenate([table._bytes for table in tables])
        starts = np.cumsum([0, *(len(table._bytes) for table in tables)])
        ends = [table._ends[1:] + start for table, start in zip(tables, starts[:-1], strict=True)]
        joined._ends = np.concatenate([[0], *ends]).astype(np.int64)
        return joined

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
        visible: [N, K] uint8: 0 not annotated, 1 hidden (or annotated, in sets that do not tell), 2 seen.
        areas: [N] float32, square pixels.
        ids: [N] int64.
        scores: [N] float32; 1 for annotated people.
        ignore: [N] bool.
        source: The file that this was read from.
        skipped: How many entries of the file were left out, by reason.
        annotated: [N, K] bool: whether the source labels this keypoint at all; where it does not, ``visible`` 0 says
            nothing about the person. True everywhere where not given.
        head_boxes: [N, 4] float32, xyxy in pixels, NaN where unknown; None in sets without.
        head_sizes: [N] float32, the length in pixels that PCKh divides by: 0.6 of the head box's diagonal; NaN where
            unknown; None in sets without.
        track_ids: [N] int64, the same number for the same person throughout a video, -1 where unknown; None in sets
            without.
        weights: [N, K] float32, 0 to 1: how much a visible keypoint counts in training, in sets that say so by flags
            between 0 and 1 (labels that a network has made); None in sets without: each counts fully.
        crowd_index: [I] float32, how much the people of a photo overlap (0 to 1); NaN where unknown; None in sets
            without.

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
    annotated: NDArray[np.bool_] = None  # type: ignore[assignment]  # an array once __post_init__ has run
    head_boxes: NDArray[np.float32] | None = None
    head_sizes: NDArray[np.float32] | None = None
    track_ids: NDArray[np.int64] | None = None
    weights: NDArray[np.float32] | None = None
    crowd_index: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.image_paths, PathTable):
            object.__setattr__(self, "image_paths", PathTable(self.image_paths))
        images, people, joints = len(self.image_paths), len(self.image_index), self.skeleton.num_keypoints
        given: Any = self.annotated
        if given is None:
            object.__setattr__(self, "annotated", np.ones((people, joints), np.bool_))
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
            "annotated": (np.bool_, (people, joints)),
            "head_boxes": (np.float32, (people, 4)),
            "head_sizes": (np.float32, (people,)),
            "track_ids": (np.int64, (people,)),
            "weights": (np.float32, (people, joints)),
            "crowd_index": (np.float32, (images,)),
        }
        for name, (dtype, shape) in layout.items():
            if name in _MISSING and getattr(self, name) is None:
                continue
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
        if which.size == 0 and which.dtype != np.bool_:
            which = which.astype(np.int64)
        present = (name for name in _PER_PERSON if getattr(self, name) is not None)
        return replace(self, **{name: getattr(self, name)[which] for name in present})

    def with_boxes(
        self, image_index: ArrayLike, boxes: ArrayLike, scores: ArrayLike, *, skipped: Mapping[str, int] | None = None
    ) -> PoseRecords:
        """The same photos with other people: those whom a detector has found, without keypoints.

        Args:
            image_index: [M] int, on which photo each stands.
            boxes: [M, 4], xyxy in pixels.
            scores: [M].
            skipped: How many boxes were left out, by reason.

        Returns:
            Records of M people, whose ``ids`` count from 0.
        """
        found = np.asarray(boxes, np.float32).reshape(-1, 4)
        people, joints = len(found), self.skeleton.num_keypoints
        sides = (found[:, 2:] - found[:, :2]).astype(np.float64)
        arrays: dict[str, Any] = {
            "image_index": image_index,
            "boxes": found,
            "keypoints": np.zeros((people, joints, 2)),
            "visible": np.zeros((people, joints)),
            "areas": sides[:, 0] * sides[:, 1] * AREA_OF_BOX,
            "ids": np.arange(people),
            "scores": scores,
            "ignore": np.zeros(people),
        }
        unknown: dict[str, Any] = dict.fromkeys(name for name in _PER_PERSON if name not in arrays)
        return replace(self, **arrays, **unknown, skipped=dict(skipped or {}))

    def to_skeleton(
        self, skeleton: Skeleton, mapping: Mapping[str, str | tuple[str, str]] | None = None
    ) -> PoseRecords:
        """The same people with the keypoints of another skeleton.

        Args:
            skeleton: The K' keypoints wanted.
            mapping: Keypoint of ``skeleton`` → keypoint of these records, or two of them, whose middle it is. One that
                is not in it is what :func:`fastpose.skeletons.match_skeletons` finds for it.

        Returns:
            Records of the same N people. What these records do not have is neither visible nor ``annotated``; a middle
            is as visible as the less visible of the two.

        Raises:
            ValueError: The mapping names an unknown keypoint, or nothing of the skeleton is here.
        """
        mapping = mapping or {}
        own = set(self.skeleton.keypoints)
        pairs: dict[str, tuple[str, str]] = {}
        for name, origin in (match_skeletons(self.skeleton, skeleton) | dict(mapping)).items():
            pairs[name] = (origin, origin) if isinstance(origin, str) else (origin[0], origin[1])
        unknown = sorted(set(pairs) - set(skeleton.keypoints))
        missing = sorted({name for pair in pairs.values() for name in pair} - own)
        if unknown or missing:
            where = skeleton.name if unknown else self.skeleton.name
            raise ValueError(f"mapping: skeleton {where!r} has no keypoint named {', '.join(unknown or missing)}")
        if not pairs:
            raise ValueError(f"skeleton: {self.skeleton.name!r} and {skeleton.name!r} have no keypoint name in common")
        columns = list(skeleton.indices(pairs))
        first, second = (list(self.skeleton.indices(pair[side] for pair in pairs.values())) for side in (0, 1))
        people, joints = len(self), skeleton.num_keypoints
        keypoints = np.zeros((people, joints, 2), np.float32)
        visible = np.zeros((people, joints), np.uint8)
        annotated = np.zeros((people, joints), np.bool_)
        keypoints[:, columns] = (self.keypoints[:, first] + self.keypoints[:, second]) / 2
        visible[:, columns] = np.minimum(self.visible[:, first], self.visible[:, second])
        annotated[:, columns] = self.annotated[:, first] & self.annotated[:, second]
        arrays: dict[str, Any] = {"keypoints": keypoints, "visible": visible, "annotated": annotated}
        if self.weights is not None:
            arrays["weights"] = np.zeros((people, joints), np.float32)
            arrays["weights"][:, columns] = np.minimum(self.weights[:, first], self.weights[:, second])
        return replace(self, skeleton=skeleton, **arrays)


# What a set that has such values puts where another has none, when the two are concatenated.
_MISSING: dict[str, float] = {
    "head_boxes": np.nan,
    "head_sizes": np.nan,
    "track_ids": -1,
    "weights": 1,
    "crowd_index": np.nan,
}
_PER_PERSON = (
    *("image_index", "boxes", "keypoints", "visible", "areas", "ids", "scores", "ignore"),
    *("annotated", "head_boxes", "head_sizes", "track_ids", "weights"),
)


def concatenate(records: Sequence[PoseRecords]) -> PoseRecords:
    """The people of several data sets, one set after the other.

    Args:
        records: Records with the same keypoints (see :meth:`PoseRecords.to_skeleton`).

    Returns:
        All of them. Ids of photos and people are those of their files and may occur twice; a value that one set has and
        another has not is NaN, or -1 for ``track_ids``, or 1 for ``weights``, in the latter.

    Raises:
        ValueError: There are none, or their keypoints differ.
    """
    if not records:
        raise ValueError("records: expected at least one set, got none")
    names = records[0].skeleton.keypoints
    for other in records[1:]:
        if other.skeleton.keypoints != names:
            raise ValueError(
                f"records: expected equal keypoints, got {records[0].skeleton.name!r} and {other.skeleton.name!r}; "
                "to_skeleton gives both the same"
            )
    starts = np.cumsum([0, *(len(part.image_paths) for part in records)])
    arrays: dict[str, Any] = {"image_index": [r.image_index + s for r, s in zip(records, starts[:-1], strict=True)]}
    for name in ("image_ids", "image_sizes", *_PER_PERSON[1:], "crowd_index"):
        parts = [getattr(part, name) for part in records]
        given = next((part for part in parts if part is not None), None)
        if given is not None:
            lengths = [len(part.image_paths) if name == "crowd_index" else len(part) for part in records]
            arrays[name] = [
                np.full((length, *given.shape[1:]), _MISSING[name], given.dtype) if part is None else part
                for part, length in zip(parts, lengths, strict=True)
            ]
    skipped: dict[str, int] = {}
    for part in records:
        for reason, count in part.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + count
    tables = [p if isinstance(p := part.image_paths, PathTable) else PathTable(p) for part in records]
    return PoseRecords(
        skeleton=records[0].skeleton,
        image_paths=PathTable.join(tables),
        source=" + ".join(dict.fromkeys(part.source for part in records if part.source)),
        skipped=skipped,
        **{name: np.concatenate(parts) for name, parts in arrays.items()},
    )
