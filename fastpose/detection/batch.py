"""What a detector is that takes many photos at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from .detections import Detections

__all__ = ["BatchDetector", "PendingDetections"]

Photo = npt.NDArray[np.uint8] | torch.Tensor


class PendingDetections(Protocol):
    """The people of some photos, which a detector is looking for."""

    def read(self) -> list[Detections]:
        """The people of each photo, best first; waits until they are found."""


class BatchDetector(ABC):
    """Finds the people of many photos of any sizes in one pass.

    Attributes:
        threshold: Least score of a box, unless a call says another.
        device: Where it wants photos; those that lie elsewhere are copied there.
    """

    threshold: float
    device: torch.device = torch.device("cpu")

    @abstractmethod
    def submit(self, images: Sequence[Photo], threshold: float | None = None) -> PendingDetections:
        """Begin to look for people; on a GPU without waiting for it.

        Args:
            images: uint8 [H, W, 3] BGR each, arrays or tensors; those on the detector's device are used where they are.
            threshold: Least score of a box; the detector's own where not given.

        Raises:
            TypeError: A photo is not uint8.
            ValueError: A photo has another shape.
        """

    def detect(self, images: Sequence[Photo], threshold: float | None = None) -> list[Detections]:
        """The people of each photo, best first: `submit` and wait.

        Args:
            images: As for `submit`.
            threshold: As for `submit`.

        Returns:
            Boxes within each photo with their scores.
        """
        return self.submit(images, threshold).read()

    def __call__(self, image: Photo) -> Detections:
        """The people of one photo, uint8 [H, W, 3] BGR."""
        return self.detect([image])[0]
