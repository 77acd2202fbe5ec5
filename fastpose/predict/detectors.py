"""Where people are: anything that can be called with a photo and gives boxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..geometry import validate_boxes
from .inputs import as_array

__all__ = ["Detector", "run_detector"]

Detector = Callable[[npt.NDArray[np.uint8]], Any]
"""Takes a photo, uint8 [H, W, 3] BGR; gives boxes [N, 4] xyxy px, or boxes and scores [N]."""


def run_detector(detector: Detector, image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Ask a detector for the people of a photo.

    Args:
        detector: See `Detector`. Arrays, tensors and lists are fine; nobody found is an empty list or [0, 4].
        image: uint8 [H, W, 3] BGR.

    Returns:
        Boxes float32 [N, 4] and scores float32 [N], 1 where the detector gives none.

    Raises:
        TypeError: It gave something else.
        ValueError: A box is not finite or has no size, or there are not as many scores as boxes.
    """
    found = detector(image)
    scores: Any = None
    if isinstance(found, tuple) and len(found) == 2:
        found, scores = found
    if found is None:
        raise TypeError("boxes: the detector gave None, expected boxes [N, 4] (empty where it found nobody)")
    try:
        boxes = validate_boxes(as_array(found))
        given = np.ones(len(boxes), np.float32) if scores is None else np.asarray(as_array(scores), np.float32)
    except ValueError as error:
        raise ValueError(f"detector: {error}") from None
    if given.shape != (len(boxes),):
        raise ValueError(f"detector: expected {len(boxes)} scores, one a box, got shape {list(given.shape)}")
    return boxes, given
