"""The people of a photo as boxes, whoever found them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Detections", "Detector", "as_array", "as_detections", "detector_error", "run_detector", "with_scores"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Detections:
    """N boxes of one photo.

    ``len(detections)`` is N; ``detections[mask]`` are some of them.

    Attributes:
        boxes: float32 [N, 4], xyxy px. Whether they lie in the photo is for those to say who know its size.
        scores: float32 [N], 0 to 1; None where the boxes are certain, as those that a person has drawn.
        classes: int64 [N], what each box holds; None where all are people.
        track_ids: int64 [N], who is who from frame to frame; None where nobody was followed.

    Raises:
        ValueError: A shape or a value is not as it should be; the message names it.

    Example:
        >>> found = Detections(np.float32([[40, 20, 310, 460]]), scores=np.float32([0.9]))
        >>> len(found), found[found.scores > 0.95].boxes.shape
        (1, (0, 4))
    """

    boxes: Array
    scores: Array | None = None
    classes: Array | None = None
    track_ids: Array | None = None

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, np.float32)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"boxes: expected shape [N, 4], got {list(boxes.shape)}")
        object.__setattr__(self, "boxes", boxes)
        kinds: tuple[tuple[str, Any], ...] = (("scores", np.float32), ("classes", np.int64), ("track_ids", np.int64))
        for name, dtype in kinds:
            value = getattr(self, name)
            if value is None:
                continue
            array = np.asarray(value)
            if array.shape != (len(boxes),):
                raise ValueError(f"{name}: expected {len(boxes)} values, one a box, got shape {list(array.shape)}")
            if dtype is np.int64 and not (array == np.round(array)).all():
                raise ValueError(f"{name}: expected whole numbers, got {array[array != np.round(array)][0]:g}")
            object.__setattr__(self, name, array.astype(dtype))
        if self.scores is not None and not ((self.scores >= 0) & (self.scores <= 1)).all():
            row = int(np.argmin((self.scores >= 0) & (self.scores <= 1)))
            raise ValueError(f"scores: row {row} is {self.scores[row]:g}, expected 0 to 1")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, chosen: Array | slice) -> Detections:
        rest = (None if values is None else values[chosen] for values in (self.scores, self.classes, self.track_ids))
        return Detections(self.boxes[chosen], *rest)


Detector = Callable[[npt.NDArray[np.uint8]], Any]
"""Takes a photo, uint8 [H, W, 3] BGR; gives what `as_detections` takes."""


def as_array(values: Any) -> Array:
    """A NumPy array of an array, a list, or a tensor on any device."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return np.asarray(values.float() if values.dtype in (torch.bfloat16, torch.float16) else values)
    return np.asarray(values)


def as_detections(found: Any) -> Detections:
    """Boxes in any of the forms in which they come.

    Args:
        found: `Detections`; boxes [N, 4] x1, y1, x2, y2, [N, 5] with the score behind them, or [N, 6] with score and
            class, as arrays, tensors or lists, a single row for one box, empty for nobody; or a pair of boxes and
            scores [N].

    Returns:
        The detections; whether the boxes can be used has not been looked at.

    Raises:
        TypeError: None.
        ValueError: Another shape, or values out of range.
    """
    return found if isinstance(found, Detections) else Detections(*_columns(found))


def _columns(found: Any) -> tuple[Array, Array | None, Array | None]:
    """Boxes [N, 4], and scores and classes where there are any; what they say has not been looked at."""
    if found is None:
        raise TypeError("boxes: got None, expected boxes [N, 4] (empty for nobody)")
    scores: Any = None
    # A tuple of two boxes has a first part of one dimension, a pair of boxes and scores of two, or of none at all.
    if isinstance(found, tuple) and len(found) == 2 and (len(found[0]) == 0 or _numbers(found[0]).ndim == 2):
        found, scores = found
    rows = _numbers(found)
    if rows.size == 0:
        return np.empty((0, 4), np.float32), None if scores is None else as_array(scores), None
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.shape[1] not in (4, 5, 6) or (scores is not None and rows.shape[1] != 4):
        raise ValueError(
            "boxes: expected shape [N, 4] (x1, y1, x2, y2), [N, 5] (and score) or [N, 6] (and score, class), "
            f"got {list(rows.shape)}"
        )
    if scores is not None:
        return rows, as_array(scores), None
    return rows[:, :4], rows[:, 4] if rows.shape[1] > 4 else None, rows[:, 5] if rows.shape[1] > 5 else None


def _numbers(found: Any) -> Array:
    try:
        return as_array(found).astype(np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"boxes: expected numbers of shape [N, 4], [N, 5] or [N, 6], got {found!r:.80}") from error


def run_detector(detector: Detector, image: npt.NDArray[np.uint8]) -> Detections:
    """Ask a detector for the people of a photo.

    Args:
        detector: See `Detector`.
        image: uint8 [H, W, 3] BGR.

    Returns:
        What it found; with scores of 1 where it gave none.

    Raises:
        TypeError: It gave None, or raised that.
        ValueError: It gave another shape, or values out of range, or raised that.
        RuntimeError: It raised anything else.
    """
    try:
        return with_scores(detector(image))
    except Exception as error:
        raise detector_error(error) from error


def with_scores(found: Any) -> Detections:
    """What a detector found, in any of the forms that `as_detections` takes; with scores of 1 where it gave none.

    A box whose score is NaN is NaN itself, for its reader to leave out: the next one may be good.
    """
    if isinstance(found, Detections):
        detections = found
    else:
        boxes, scores, classes = _columns(found)
        if scores is not None and scores.shape == (len(boxes),) and scores.dtype.kind == "f":
            none = np.isnan(scores)
            boxes, scores = np.where(none[:, None], np.float32(np.nan), boxes), np.where(none, 0, scores)
            classes = None if classes is None else np.where(none, 0, classes)
        detections = Detections(boxes, scores, classes)
    if detections.scores is not None:
        return detections
    return replace(detections, scores=np.ones(len(detections), np.float32))


def detector_error(error: Exception) -> Exception:
    """What to raise where a detector has failed: the same, and the message says who it was."""
    if isinstance(error, TypeError | ValueError):
        kind = TypeError if isinstance(error, TypeError) else ValueError
        return kind(f"detector: {error}")
    return RuntimeError(f"detector: {type(error).__name__}: {error}")
