"""What is predicted, as flat arrays: scored poses, doubles suppressed, or boxes. JSON is made of it only for a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.metrics.truth import BoxTruth, Truth, positions

__all__ = ["BoxResults", "PoseResults", "by_name"]


def by_name(
    keypoints: NDArray[Any], scores: NDArray[Any], own: Sequence[str], wanted: Sequence[str]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Keypoints in another order, found by their names.

    Args:
        keypoints: [D, K, 2].
        scores: [D, K].
        own: The K names.
        wanted: The K' names that are asked for.

    Returns:
        [D, K', 2] and [D, K'], of the same dtypes; zeros where a name is not among the K.
    """
    columns = [place for place, name in enumerate(wanted) if name in own]
    theirs = [list(own).index(wanted[place]) for place in columns]
    points = np.zeros((len(keypoints), len(wanted), 2), keypoints.dtype)
    sureness = np.zeros((len(scores), len(wanted)), scores.dtype)
    points[:, columns], sureness[:, columns] = keypoints[:, theirs], scores[:, theirs]
    return points, sureness


@dataclass(frozen=True, eq=False)
class PoseResults:
    """D predicted poses of K keypoints.

    Attributes:
        image_ids: int64 [D], the photo of each.
        keypoints: float32 or float64 [D, K, 2] (x, y) in pixels of the photo.
        keypoint_scores: float32 or float64 [D, K].
        scores: float64 [D], by which poses are ranked.
        ids: int64 [D], the annotated person that each pose is of; None where they do not say.
        category_ids: int64 [D]; None where all are of the category that is measured.
        track_ids: int64 [D], the same number for the same person throughout a video; None where they do not say.

    Raises:
        ValueError: Shapes do not agree.
    """

    image_ids: NDArray[np.int64]
    keypoints: NDArray[Any]
    keypoint_scores: NDArray[Any]
    scores: NDArray[np.float64]
    ids: NDArray[np.int64] | None = None
    category_ids: NDArray[np.int64] | None = None
    track_ids: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        count, joints = len(self.image_ids), self.keypoint_scores.shape[-1]
        _check_shapes(
            self,
            keypoints=(count, joints, 2),
            keypoint_scores=(count, joints),
            **dict.fromkeys(("image_ids", "scores", "ids", "category_ids", "track_ids"), (count,)),
        )

    def __len__(self) -> int:
        return len(self.image_ids)

    def select(self, index: ArrayLike) -> PoseResults:
        """The poses at these positions, or where a mask is true."""
        kept: NDArray[Any] = np.asarray(index)
        return PoseResults(
            self.image_ids[kept],
            self.keypoints[kept],
            self.keypoint_scores[kept],
            self.scores[kept],
            None if self.ids is None else self.ids[kept],
            None if self.category_ids is None else self.category_ids[kept],
            None if self.track_ids is None else self.track_ids[kept],
        )

    def photos(self, truth: Truth) -> NDArray[np.int64]:
        """Positions of the poses' photos in ``truth.image_ids``, [D].

        Raises:
            ValueError: There are no poses, their keypoints are not as many as the truth's, or a photo is unknown.
        """
        if not len(self):
            raise ValueError("results: empty, there is nothing to evaluate")
        joints = truth.keypoints.shape[1]
        if self.keypoints.shape[1] != joints:
            raise ValueError(f"results: expected {joints} keypoints, got {self.keypoints.shape[1]}")
        return _photos(truth, self.image_ids)

    def categories(self, truth: BoxTruth) -> NDArray[np.int64]:
        """Positions of the poses' categories in ``truth.category_ids``, [D]; -1 of others."""
        return _categories(truth, self.category_ids, len(self))


@dataclass(frozen=True, eq=False)
class BoxResults:
    """D boxes that a detector has found.

    Attributes:
        image_ids: int64 [D], the photo of each.
        boxes_xywh: float64 [D, 4] in pixels of the photo.
        scores: float64 [D], by which boxes are ranked.
        category_ids: int64 [D]; None where all are of the category that is measured.

    Raises:
        ValueError: Shapes do not agree.

    Example:
        >>> results = BoxResults(np.array([7]), np.array([[40.0, 20.0, 270.0, 440.0]]), np.array([0.9]))
        >>> len(results)
        1
    """

    image_ids: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    scores: NDArray[np.float64]
    category_ids: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        count = len(self.image_ids)
        flat = dict.fromkeys(("image_ids", "scores", "category_ids"), (count,))
        _check_shapes(self, boxes_xywh=(count, 4), **flat)

    def __len__(self) -> int:
        return len(self.image_ids)

    def photos(self, truth: BoxTruth) -> NDArray[np.int64]:
        """Positions of the boxes' photos in ``truth.image_ids``, [D].

        Raises:
            ValueError: A photo is unknown.
        """
        return _photos(truth, self.image_ids)

    def categories(self, truth: BoxTruth) -> NDArray[np.int64]:
        """Positions of the boxes' categories in ``truth.category_ids``, [D]; -1 of others."""
        return _categories(truth, self.category_ids, len(self))


def _check_shapes(results: PoseResults | BoxResults, **shapes: tuple[int, ...]) -> None:
    for name, shape in shapes.items():
        value = getattr(results, name)
        if value is not None and value.shape != shape:
            raise ValueError(f"results: {name}: expected shape {shape}, got {value.shape}")


def _photos(truth: BoxTruth, image_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    image = positions(truth.image_ids, image_ids)
    if (image < 0).any():
        row = int(np.argmax(image < 0))
        raise ValueError(f"results: number {row} is of image_id {image_ids[row]}, which is not annotated")
    return image


def _categories(truth: BoxTruth, category_ids: NDArray[np.int64] | None, count: int) -> NDArray[np.int64]:
    return np.zeros(count, np.int64) if category_ids is None else positions(truth.category_ids, category_ids)
