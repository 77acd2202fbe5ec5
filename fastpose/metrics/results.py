"""What is predicted, as flat arrays: scored poses, doubles suppressed. JSON is made of it only for a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.metrics.truth import Truth, positions

__all__ = ["PoseResults"]


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

    Raises:
        ValueError: Shapes do not agree.
    """

    image_ids: NDArray[np.int64]
    keypoints: NDArray[Any]
    keypoint_scores: NDArray[Any]
    scores: NDArray[np.float64]
    ids: NDArray[np.int64] | None = None
    category_ids: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        count, joints = len(self.image_ids), self.keypoint_scores.shape[-1]
        for name, shape in (
            ("image_ids", (count,)),
            ("keypoints", (count, joints, 2)),
            ("keypoint_scores", (count, joints)),
            ("scores", (count,)),
            ("ids", (count,)),
            ("category_ids", (count,)),
        ):
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise ValueError(f"results: {name}: expected shape {shape}, got {value.shape}")

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
        image = positions(truth.image_ids, self.image_ids)
        if (image < 0).any():
            row = int(np.argmax(image < 0))
            raise ValueError(f"results: number {row} is of image_id {self.image_ids[row]}, which is not annotated")
        return image
