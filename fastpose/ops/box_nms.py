"""Suppression of boxes that show the same thing."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from ._arguments import argument, array_argument, dispatched, flag_argument, number_argument, refuse_grad
from ._native import Array, C, is_dynamo_compiling
from ._registration import plain, register
from ._suppression import filled_places, kept_places, limit_argument

__all__ = ["BoxNmsMethod", "box_nms"]

BoxNmsMethod = Literal["hard", "linear", "gaussian"]

_METHODS = {"hard": 0, "linear": 1, "gaussian": 2}


def box_nms(
    boxes: Array,
    scores: Any,
    classes: Any = None,
    image_index: Any = None,
    threshold: float | None = None,
    *,
    method: BoxNmsMethod = "hard",
    sigma: float | None = None,
    min_score: float = -math.inf,
    most: int | None = None,
    padded: bool = False,
    out: Array | None = None,
    out_scores: Array | None = None,
) -> Any:
    """Keeps the best of the boxes that overlap, for many images and classes in one call.

    Hard: from the best box down, a box is dropped if its overlap (intersection over union) with a better kept one is
    above ``threshold``. Soft: none is dropped for that; the best is taken, the scores of the others are lowered, and so
    on. They are multiplied by 1 - overlap where that is above ``threshold`` ("linear"), or by
    exp(-overlap² / ``sigma``) ("gaussian"); a score of 0 or below stays.

    Of equal scores the lower index is the better one; a score that is not a number is the worst. Overlaps are computed
    in the dtype of the boxes, the same for every number of threads and every SIMD level. A box with a coordinate that
    is not a number, or whose sides are reversed, overlaps nothing. NumPy arrays in, NumPy arrays out, or tensors in,
    tensors out.

    Hard and with ``image_index`` or ``classes`` alone, the result is that of ``torchvision.ops.batched_nms``, in the
    same order, if scores differ and are numbers. Below a thousand boxes that function shifts the classes apart, which
    rounds the coordinates: a pair whose overlap is the threshold but for that rounding may then be decided otherwise.

    Args:
        boxes: [N,4] x1, y1, x2, y2 in any one unit, float32 or float64; float32 is the faster one.
        scores: [N].
        classes: [N] int: boxes of different classes leave each other alone. By default all are of one class.
        image_index: [N] int: boxes of different images leave each other alone. By default all are of one image.
        threshold: Overlap of 0 or more, 0.6 by default. "gaussian" has none.
        method: "hard", "linear" or "gaussian".
        sigma: Width of the Gaussian, above 0, 0.5 by default. For "gaussian" only.
        min_score: Drop the boxes whose score is, or has sunk, below this.
        most: Keep at most so many boxes of each image, all classes together.
        padded: Return all N places, the unused ones with index -1 and score 0. Then nothing waits for a GPU, and
            ``torch.compile(fullgraph=True)`` and ``torch.export`` work; otherwise the number of kept boxes is read.
        out: [N] int64, contiguous: holds the indices.
        out_scores: [N] float64, contiguous: holds the scores after lowering.

    Returns:
        Hard: [M] int64, ``kept[i] = j`` means that box j is the i-th best of the kept, of all images together. Soft:
        the same, and [M] scores after lowering, of the dtype of ``scores``. With ``padded`` M is N.

    Raises:
        TypeError: A dtype is wrong, arrays and tensors are mixed, or a gradient is wanted.
        ValueError: A shape or parameter is wrong, a parameter is not one of the method, or there are more than 131072
            boxes on CUDA.

    Example:
        >>> import numpy as np
        >>> from fastpose.ops import box_nms
        >>> boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [50, 0, 60, 10]], np.float32)  # two are much alike
        >>> box_nms(boxes, [0.8, 0.9, 0.7], threshold=0.6)
        array([1, 2])
        >>> box_nms(boxes, [0.8, 0.9, 0.7], image_index=[0, 1, 1], threshold=0.6)
        array([1, 0, 2])
        >>> kept, lowered = box_nms(boxes, [0.8, 0.9, 0.7], method="gaussian")
        >>> kept, lowered.round(2)
        (array([1, 2, 0]), array([0.9 , 0.7 , 0.16]))

    Source: Bodla et al., ICCV 2017 (soft).
    """
    code = _METHODS.get(method) if isinstance(method, str) else None
    if code is None:
        raise ValueError(f"method: expected hard, linear or gaussian, got {method!r}")
    if code == 2 and threshold is not None:
        raise ValueError(f'threshold: method="gaussian" has a sigma instead, got {threshold!r}')
    if code != 2 and sigma is not None:
        raise ValueError(f'sigma: expected method="gaussian" beside it, got {method!r}')
    overlap, width = 0.6 if threshold is None else threshold, 0.5 if sigma is None else sigma
    if not is_dynamo_compiling():
        result = C.try_box_nms(
            *(boxes, scores, classes, image_index, overlap, code, width, min_score, most, padded, out, out_scores)
        )
        if result is not None:
            return result
    refuse_grad("box_nms", boxes=boxes, scores=scores)
    box = array_argument("boxes", boxes)
    score = argument("scores", scores, torch.float64, box)
    kind = None if classes is None else argument("classes", classes, torch.int64, box)
    image = None if image_index is None else argument("image_index", image_index, torch.int64, box)
    overlap, width = number_argument("threshold", overlap), number_argument("sigma", width)
    lowest, limit = number_argument("min_score", min_score), limit_argument("most", most)
    padded = flag_argument("padded", padded)
    if dispatched(box, score, kind, image):
        result = torch.ops.fastpose.box_nms(box, score, kind, image, overlap, code, width, lowest, limit)
        found = filled_places(result, out, out_scores)
    else:
        found = C.box_nms(*(box, score, kind, image, overlap, code, width, lowest, limit, padded, out, out_scores))
    return kept_places(found, scores, soft=code != 0, padded=padded)


def _registered(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor | None,
    image_index: Tensor | None,
    threshold: float,
    method: int,
    sigma: float,
    min_score: float,
    most: int,
) -> Any:
    """Indices [N] padded with -1, scores [N] float64 padded with 0, count [1] int64; reads nothing back."""
    arrays = (plain(boxes), plain(scores), plain(classes), plain(image_index))
    return C.box_nms(*arrays, threshold, method, sigma, min_score, most, True, None, None)


def _fake(boxes: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    places = boxes.shape[0]
    return (
        boxes.new_empty((places,), dtype=torch.int64),
        boxes.new_empty((places,), dtype=torch.float64),
        boxes.new_empty((1,), dtype=torch.int64),
    )


register(
    "box_nms",
    "(Tensor boxes, Tensor scores, Tensor? classes, Tensor? image_index, float threshold, int method, float sigma, "
    "float min_score, int most) -> (Tensor indices, Tensor rescored, Tensor count)",
    _registered,
    _fake,
)
