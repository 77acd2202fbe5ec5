"""Where the people of one photo are, before or without their keypoints."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..detection import BatchDetector, Detections
from .draw import draw_boxes
from .results import coco_box, photo_entry, short

__all__ = ["People"]


@dataclass
class People:
    """The people of one photo as boxes; ``len(people)`` is their number.

    Attributes:
        detections: Their boxes.
        pixels: uint8 [H, W, 3] BGR, where crops are made; None where nobody is there.
        image_size: (height, width) of the photo.
        path: See `Poses`, as for the next ones.
        milliseconds: Of reading and detecting.
        dropped: Boxes that were left out.
        error: Why nobody could be looked for.
        image: The pixels, if they are kept.
        where: What errors call the photo.
        detector: Who is still to be asked where they are.
        started: When the photo was there.
    """

    detections: Detections
    pixels: torch.Tensor | None
    image_size: tuple[int, int]
    path: Path | str | None
    where: str
    milliseconds: dict[str, float] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    error: str | None = None
    image: npt.NDArray[np.uint8] | None = None
    detector: BatchDetector | None = None
    started: float = field(default_factory=time.perf_counter)

    @property
    def bytes(self) -> int:
        """Of the pixels that are held."""
        return next((int(held.nbytes) for held in (self.pixels, self.image) if held is not None), 0)

    def __len__(self) -> int:
        return len(self.detections)

    @property
    def box_scores(self) -> npt.NDArray[np.float32]:
        """float32 [N]: the detector's; 1 for boxes without one."""
        scores = self.detections.scores
        return np.ones(len(self), np.float32) if scores is None else scores

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, as ``boxes.schema.json`` in this package describes it.

        Returns:
            ``version`` (1), ``file`` (None without one), ``image_size`` [height, width], and ``people``. Each of these
            has ``box`` [x1, y1, x2, y2] (px) and ``box_score``. ``dropped`` and ``error`` are as `Poses.to_dict` has
            them.
        """
        boxes = zip(self.detections.boxes.tolist(), self.box_scores.tolist(), strict=True)
        people = [{"box": [short(x) for x in box], "box_score": short(score, 4)} for box, score in boxes]
        return photo_entry(self, people)

    def to_coco(self, image_id: int, category_id: int = 1) -> list[dict[str, Any]]:
        """COCO detection results, one object a person.

        Args:
            image_id: The photo's id in the annotation file.
            category_id: The category; person is 1.

        Returns:
            ``bbox`` is left, top, width, height.
        """
        return [
            {"image_id": image_id, "category_id": category_id, "bbox": coco_box(box), "score": short(score, 4)}
            for box, score in zip(self.detections.boxes.tolist(), self.box_scores.tolist(), strict=True)
        ]

    def plot(self) -> npt.NDArray[np.uint8]:
        """Draw the boxes on the photo that was kept.

        Returns:
            uint8 [H, W, 3] BGR, a new array.

        Raises:
            ValueError: It was not kept.
        """
        if self.image is None:
            raise ValueError("image: the photo was not kept; expected it to be asked for with keep_images=True")
        return draw_boxes(self.image, self.detections.boxes)
