"""Suppression of boxes that show the same thing, plainly in torch."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

__all__ = ["box_nms"]


def box_nms(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor | None = None,
    image_index: Tensor | None = None,
    threshold: float | None = None,
    *,
    method: Literal["hard", "linear", "gaussian"] = "hard",
    sigma: float | None = None,
    min_score: float = -math.inf,
    most: int | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Kept boxes, best first; see :func:`fastpose.ops.box_nms`.

    Args:
        boxes: [N,4] x1, y1, x2, y2.
        scores: [N].
        classes: [N] int; boxes of different classes leave each other alone.
        image_index: [N] int; boxes of different images leave each other alone.
        threshold: Overlap above which a box is dropped ("hard") or lowered ("linear"); 0.6 by default.
        method: "hard", "linear" or "gaussian".
        sigma: Width of the Gaussian; 0.5 by default.
        min_score: Boxes below it, or lowered to below it, are dropped.
        most: At most so many of each image.

    Returns:
        Hard: [M] int64 indices. Soft: the same and [M] lowered scores.
    """
    images = torch.zeros_like(scores, dtype=torch.int64) if image_index is None else image_index
    kinds = torch.zeros_like(images) if classes is None else classes
    final = _worst_if_nan(scores.double())
    overlap = _overlaps(boxes)
    kept: list[int] = []
    for image in images.unique().tolist():
        alive = (images == image) & (final >= min_score)
        count = 0
        while bool(alive.any()) and (most is None or count < most):
            left = alive.nonzero()[:, 0]
            best = int(left[final[left].argmax()])  # the first of equal ones
            kept.append(best)
            count += 1
            alive[best] = False
            beside = alive & (kinds == kinds[best])
            if method == "hard":
                alive &= ~(beside & (overlap[best] > _threshold(threshold)))
            else:
                share = _share_left(overlap[best], method, _threshold(threshold), 0.5 if sigma is None else sigma)
                lowered = _worst_if_nan(torch.where((share < 1) & (final > 0), final * share, final))
                final = torch.where(beside, lowered, final)
                alive &= final >= min_score
    kept.sort(key=lambda i: (-float(final[i]), i))
    indices = torch.tensor(kept, dtype=torch.int64, device=boxes.device)
    return indices if method == "hard" else (indices, final[indices].to(scores.dtype))


def _worst_if_nan(scores: Tensor) -> Tensor:
    return torch.where(scores.isnan(), -torch.inf, scores)


def _threshold(threshold: float | None) -> float:
    return 0.6 if threshold is None else threshold


def _overlaps(boxes: Tensor) -> Tensor:
    """Intersection over union [N,N], in the dtype of the boxes, widened."""
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    width, height = (high - low).nan_to_num(0, torch.inf, -torch.inf).clamp(min=0).unbind(-1)
    shared = width * height
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return (shared / (areas[:, None] + areas[None] - shared)).double()


def _share_left(overlap: Tensor, method: str, threshold: float, sigma: float) -> Tensor:
    """By what the scores are multiplied; what is not a number leaves them alone."""
    if method == "gaussian":
        return torch.where(overlap > 0, torch.exp(-overlap.square() / sigma), 1.0)
    return torch.where(overlap > threshold, (1 - overlap).clamp(min=0), 1.0)
