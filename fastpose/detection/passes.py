"""Photos that went through a detector together, and the people that come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .detections import Detections
from .letterbox import Placement
from .suppression import best_boxes

__all__ = ["BATCH", "CANDIDATES", "Pass", "PendingPasses", "record_event"]

Array = npt.NDArray[Any]

# A CPU's caches are small: there, a pass over 16 photos takes a fifth to a third longer than 16 passes.
BATCH: dict[str, int] = {"cpu": 1, "cuda": 16}
"""Photos of a pass, by the device's type."""

CANDIDATES = 1000
"""Boxes of a photo that are looked at: more than anybody wants to see, and a number that need not be waited for."""


@dataclass(frozen=True, eq=False)
class Pass:
    """Photos that went through a network together.

    Attributes:
        rows: int64 [B], which of the call's photos these are.
        placement: Where they lie in the pictures.
        fetch: Gives boxes [B, n, 4] xyxy of the pictures and their scores [B, n]; called when all is done.
        held: What the device still reads.
    """

    rows: npt.NDArray[np.int64]
    placement: Placement
    fetch: Callable[[], tuple[Array, Array]]
    held: Any = None


@dataclass(frozen=True, eq=False)
class PendingPasses:
    """The people of some photos, see `PendingDetections`.

    Attributes:
        passes: Each photo is in one of them.
        count: Of the photos.
        threshold: Least score of a box.
        overlap: See `best_boxes`.
        most: See `best_boxes`.
        done: When the results are there; None where they are already.
    """

    passes: list[Pass]
    count: int
    threshold: float
    overlap: float
    most: int
    done: torch.cuda.Event | None = None

    def read(self) -> list[Detections]:
        """The people of each photo; waits until they are found."""
        if self.done is not None:
            self.done.synchronize()
        boxes, scores, index = [np.empty((0, 4), np.float32)], [np.empty(0, np.float32)], [np.empty(0, np.int64)]
        for one in self.passes:
            all_boxes, all_scores = one.fetch()
            sure = all_scores >= self.threshold  # a score that is NaN is not
            if all_scores.shape[1] > CANDIDATES:
                ranked = np.where(sure, all_scores, -np.inf)
                best = np.argpartition(ranked, -CANDIDATES, axis=1)[:, -CANDIDATES:]
                chosen = np.zeros_like(sure)
                np.put_along_axis(chosen, best, True, axis=1)
                sure &= chosen
            photo, place = np.nonzero(sure)
            boxes.append(one.placement.back(all_boxes[photo, place], photo))
            scores.append(all_scores[photo, place])
            index.append(one.rows[photo])
        return best_boxes(
            np.concatenate(boxes),
            np.concatenate(scores),
            np.concatenate(index),
            self.count,
            overlap=self.overlap,
            most=self.most,
        )


def record_event(device: torch.device) -> torch.cuda.Event | None:
    """An event after all that was asked of the device's current stream; None where nothing is ever under way."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event
