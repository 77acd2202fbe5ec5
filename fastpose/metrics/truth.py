"""What is annotated, as flat arrays: the side of a comparison that is taken for right."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastpose.skeletons import Skeleton

__all__ = ["AREA_OF_BOX", "BoxTruth", "Truth", "positions"]

AREA_OF_BOX = 0.53
"""What a person's outline fills of the box, where a data set has no outlines (CrowdPose, AI Challenger, PoseTrack)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class BoxTruth:
    """G annotated people on I photos, of whom no more than boxes are known.

    Attributes:
        image_ids: int64 [I], ascending; photos without anybody are among them.
        category_ids: int64 [C], ascending: the categories that are measured.
        ids: int64 [G].
        image: int64 [G], positions in ``image_ids``.
        category: int64 [G], positions in ``category_ids``.
        boxes_xywh: float64 [G, 4] in pixels.
        areas: float64 [G], square pixels.
        ignore: bool [G], people that nobody has to find: crowds, and with keypoints those without annotated ones.
        crowd: bool [G], people that any number of predictions may be matched to.
        crowd_index: float64 [I], how much the people of a photo overlap (0 to 1), NaN where unknown; None in sets
            without.
        source: Where this was read from, for messages.
    """

    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    ids: NDArray[np.int64]
    image: NDArray[np.int64]
    category: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    areas: NDArray[np.float64]
    ignore: NDArray[np.bool_]
    crowd: NDArray[np.bool_]
    crowd_index: NDArray[np.float64] | None = None
    source: str = ""

    @property
    def boxes_xyxy(self) -> NDArray[np.float64]:
        """[G, 4] pixels."""
        return np.concatenate([self.boxes_xywh[:, :2], self.boxes_xywh[:, :2] + self.boxes_xywh[:, 2:]], 1)


@dataclass(frozen=True, eq=False, kw_only=True)
class Truth(BoxTruth):
    """G annotated people on I photos, K keypoints each, beside what :class:`BoxTruth` says of them.

    Attributes:
        skeleton: What the keypoints are, and the sigmas of their similarity (OKS).
        keypoints: float64 [G, K, 2] (x, y) in pixels.
        visible: uint8 [G, K]; 0 where there is no annotation, 1 hidden, 2 seen.
        head_sizes: float64 [G], 0.6 of the head box's diagonal in pixels, NaN where unknown; None in sets without.
        ignored_regions: Of each photo the polygons [V, 2] in which nothing is looked at; None in sets without.
        track_ids: int64 [G], the same number for the same person throughout a video; None in sets without.
    """

    skeleton: Skeleton
    keypoints: NDArray[np.float64]
    visible: NDArray[np.uint8]
    head_sizes: NDArray[np.float64] | None = None
    ignored_regions: list[list[NDArray[np.float64]]] | None = None
    track_ids: NDArray[np.int64] | None = None

    def with_box_areas(self) -> Truth:
        """The same people, each of 0.53 of the annotated box instead of the annotated area."""
        return replace(self, areas=self.boxes_xywh[:, 2] * self.boxes_xywh[:, 3] * AREA_OF_BOX)

    def of_one_category(self) -> Truth:
        """The same people, all of the first category."""
        return replace(self, category_ids=self.category_ids[:1], category=np.zeros_like(self.category))

    def times(self, photos: ArrayLike | None) -> NDArray[np.int64] | None:
        """How often each person counts ([G]), from how often each photo does ([I]); None is once for all."""
        return None if photos is None else np.asarray(photos, np.int64)[self.image]


def positions(ascending: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each wanted value stands in an ascending array; -1 where it does not."""
    if not len(ascending):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return np.where(ascending[place] == wanted, place, -1)
