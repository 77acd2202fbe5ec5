"""People to train or evaluate on: labels of all sources in flat arrays, and a store of their photos."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..skeletons import Skeleton
from .images import ImageError, read_orientation
from .labels import label_weights, match_keypoints
from .photos import load_image, load_reduced
from .records import PathTable, PoseRecords

__all__ = ["PhotoStore", "PoseDataset", "Source", "can_be_cropped"]

Array = NDArray[Any]

# Pixels. No one is smaller, and no float32 position is finer in a large photo.
_SMALLEST = 0.01


def can_be_cropped(boxes: Array) -> NDArray[np.bool_]:
    """Which of the boxes [N, 4] (xyxy, pixels) show anything: bool [N]."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.asarray(np.isfinite(boxes).all(1) & (sides > 0).all(1) & (sides >= _SMALLEST).any(1))


class PhotoStore:
    """Photos by number: decoded at first use and kept as long as they fit into the budget.

    A photo that was decoded when the budget was used up is decoded again the next time; its bytes are then in the
    operating system's file cache anyway. Safe to use from several threads.

    Args:
        photos: Files, or virtual paths of rendered scenes.
        budget: Bytes of decoded photos to keep.
        sizes: [I, 2] (height, width) that the annotations state, 0 where they do not.

    Attributes:
        failed: Photos that could not be read, or whose EXIF turns them by a quarter while the annotations are of the
            pixels as stored: number → reason, which names the file. They are not tried again until they are taken out
            of here.
    """

    def __init__(self, photos: Sequence[Path], budget: int, sizes: Array | None = None) -> None:
        self._photos = photos
        self._sizes = np.zeros((len(photos), 2), np.int32) if sizes is None else sizes
        self._decoded: dict[int, NDArray[np.uint8]] = {}
        self._budget = budget
        self._lock = threading.Lock()
        self.failed: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._photos)

    def read(self, number: int) -> NDArray[np.uint8] | None:
        """The photo, uint8 [H, W, 3] BGR, or None if it cannot be read (then it is in ``failed``)."""
        decoded = self._decoded.get(number)
        if decoded is not None or number in self.failed:
            return decoded
        try:
            decoded = load_image(self._photos[number])
            self._check_turn(number, decoded.shape)
        except Exception as error:
            self._note(number, error)
            return None
        with self._lock:
            if number not in self._decoded and decoded.nbytes <= self._budget:
                self._budget -= decoded.nbytes
                self._decoded[number] = decoded
        return decoded

    def read_reduced(self, number: int, step: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]] | None:
        """The photo decoded at 1/``step`` of its size, if it can be, and kept nowhere.

        Args:
            number: Of the photo.
            step: 1, 2, 4 or 8.

        Returns:
            Picture and matrix as ``images.read_reduced``; None if it cannot be read (then it is in ``failed``).
        """
        if number in self.failed:
            return None
        try:
            picture, matrix = load_reduced(self._photos[number], step)
            self._check_turn(number, picture.shape, int(matrix[0, 0]))
            return picture, matrix
        except Exception as error:
            self._note(number, error)
            return None

    def _check_turn(self, number: int, shape: tuple[int, ...], step: int = 1) -> None:
        """Refuse a photo of which the annotations state the size that it has before EXIF turns it by a quarter."""
        stated = self._sizes[number].tolist()
        found = [side * step for side in shape[:2]]
        if min(stated) < 1 or stated == found:
            return
        turned = all(abs(side - other) < step for side, other in zip(found, reversed(stated), strict=True))
        if turned and abs(stated[0] - stated[1]) >= step and read_orientation(self._photos[number]) >= 5:
            height, width = stated
            reason = f"is {height}x{width} once it is turned as its EXIF says; its annotations are of {width}x{height}"
            raise ImageError(str(self._photos[number]), reason)

    def _note(self, number: int, error: Exception) -> None:
        """Remember a photo that cannot be read: whatever is wrong with one does not end a run of hours."""
        known = isinstance(error, ImageError)
        reason = str(error) if known else f"{self._photos[number]}: {type(error).__name__}: {error}"
        with self._lock:
            self.failed[number] = reason

    def is_ready(self, number: int) -> bool:
        """Whether :meth:`read` returns at once."""
        return number in self._decoded or number in self.failed


@dataclass(frozen=True)
class Source:
    """The people of one data set and how often an epoch shows them.

    Attributes:
        records: The people.
        keypoints: float32 [N, K, 2] to train on instead of the records' own (e.g. corrected), or None.
        weights: float32 [N, K] weight of each label in the loss, or None: 1 where annotated.
        repeats: Times that each person is shown in an epoch; the fraction left over is a random part of them.
    """

    records: PoseRecords
    keypoints: Array | None = None
    weights: Array | None = None
    repeats: float = 1.0


class PoseDataset:
    """People of one or several sources, with keypoints in the order of one skeleton.

    Args:
        sources: Each with at least one name in common with the skeleton.
        skeleton: The model's skeleton.
        cache: Bytes of decoded photos to keep in memory.
        labelled_only: Leave out people without any label (training learns nothing from them).

    Attributes:
        boxes: float32 [N, 4] xyxy, pixels of the photo.
        keypoints: float32 [N, K, 2] (x, y), pixels of the photo.
        weights: float32 [N, K].
        annotated: bool [N, K], whether the person's source labels this keypoint at all.
        photo: int64 [N], the number of each person's photo in ``photos``.
        photos: The store.

    Raises:
        ValueError: No people are left, or a source shares no keypoint with the skeleton.
    """

    def __init__(
        self, sources: Sequence[Source], skeleton: Skeleton, *, cache: int = 0, labelled_only: bool = True
    ) -> None:
        self.skeleton = skeleton
        boxes, points, weights, annotated, photo = [], [], [], [], []
        photos: list[Path] = []
        sizes: list[Array] = []
        self._counts: list[int] = []
        self._repeats = [source.repeats for source in sources]
        for source in sources:
            records = source.records
            own = records.keypoints if source.keypoints is None else source.keypoints
            own_weights = label_weights(records) if source.weights is None else source.weights
            k, w = match_keypoints(own, own_weights, records.skeleton, skeleton)
            _, a = match_keypoints(own, records.annotated, records.skeleton, skeleton)
            keep = ~records.ignore & can_be_cropped(records.boxes)
            if labelled_only:
                keep &= (w > 0).any(1)
            boxes.append(records.boxes[keep])
            points.append(k[keep])
            weights.append(w[keep])
            annotated.append(a[keep] > 0)
            photo.append(records.image_index[keep].astype(np.int64) + len(photos))
            photos.extend(records.image_paths)
            sizes.append(records.image_sizes)
            self._counts.append(int(keep.sum()))
        if not sum(self._counts):
            named = ", ".join(source.records.source or "?" for source in sources)
            raise ValueError(f"data: nobody to show in {named or 'no source'}")
        self.boxes = np.concatenate(boxes)
        self.keypoints = np.concatenate(points)
        self.weights = np.concatenate(weights)
        self.annotated = np.concatenate(annotated)
        self.photo = np.concatenate(photo)
        self.photos = PhotoStore(PathTable(photos), cache, np.concatenate(sizes))

    def __len__(self) -> int:
        return len(self.photo)

    @property
    def epoch_length(self) -> int:
        """People that an epoch shows, repeats counted."""
        return sum(self._shown(count, repeats) for count, repeats in zip(self._counts, self._repeats, strict=True))

    @staticmethod
    def _shown(count: int, repeats: float) -> int:
        return max(1, round(count * repeats)) if count and repeats > 0 else 0

    def epoch_order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Whom an epoch shows, shuffled: int64 [epoch_length], a function of seed and epoch alone."""
        generator = np.random.default_rng((seed, epoch, 0))
        parts, first = [], 0
        for count, repeats in zip(self._counts, self._repeats, strict=True):
            wanted = self._shown(count, repeats)
            whole, rest = divmod(wanted, count) if count else (0, 0)
            everyone = np.arange(first, first + count)
            parts += [everyone] * whole
            if rest:
                parts.append(generator.choice(everyone, rest, replace=False))
            first += count
        order = np.concatenate(parts)
        generator.shuffle(order)
        return order
