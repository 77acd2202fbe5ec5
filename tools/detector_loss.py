"""What the detector's training minimises: which place answers for which box, and how far scores and boxes are off."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fastpose.detection.network import decode_boxes

Array = NDArray[Any]


def pad_rows(rows: list[Array], width: int) -> tuple[Tensor, Tensor]:
    """Rows of each picture as one tensor [B, N, width], and which of them are there [B, N]."""
    most = max(1, *(len(r) for r in rows))
    padded = torch.zeros(len(rows), most, width)
    there = torch.zeros(len(rows), most, dtype=torch.bool)
    for i, r in enumerate(rows):
        padded[i, : len(r)] = torch.from_numpy(np.asarray(r[:, :width], np.float32))
        there[i, : len(r)] = True
    return padded, there


def pair_ious(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and the generalised one, of boxes [..., 4] pair by pair."""
    inter = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    area_a, area_b = ((x[..., 2:] - x[..., :2]).clamp(min=0).prod(-1) for x in (a, b))
    union = area_a + area_b - inter
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    iou = inter / union.clamp(min=1e-6)
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)


@torch.no_grad()
def assign(
    scores: Tensor, predicted: Tensor, boxes: Tensor, there: Tensor, centers: Tensor, strides: Tensor, topk: int = 10
) -> tuple[Tensor, Tensor, Tensor]:
    """Which places answer for which box (task alignment, Feng et al., "TOOD", ICCV 2021).

    Args:
        scores: [B, A], 0 to 1.
        predicted: [B, A, 4].
        boxes: [B, N, 5], xyxy and how sure each is.
        there: [B, N].
        centers: [A, 2].
        strides: [A].
        topk: Places of a box.

    Returns:
        Number of the box of each place [B, A]; whether it has one [B, A]; and the score that it should say [B, A].
    """
    # One tensor [B, N, A] a coordinate: tensors with the four side by side take several times as long.
    left, upper, right, lower = boxes[..., :4, None].unbind(2)
    from_left, from_upper, to_right, to_lower = predicted[:, None].unbind(3)
    x, y = centers.unbind(1)
    across, down = (left + right) / 2 - x, (upper + lower) / 2 - y
    inside = (x > left) & (x < right) & (y > upper) & (y < lower)
    # Near the box's middle too: a small box may hold no centre at all.
    near = torch.maximum(across.abs(), down.abs()) < strides * 1.5
    allowed = (inside | near) & there[..., None]
    width = (torch.minimum(right, to_right) - torch.maximum(left, from_left)).clamp_(min=0)
    common = (torch.minimum(lower, to_lower) - torch.maximum(upper, from_upper)).clamp_(min=0).mul_(width)
    both = (right - left) * (lower - upper) + (to_right - from_left) * (to_lower - from_upper)
    ious = common / (both - common).clamp_(min=1e-6) * allowed
    alignment = scores[:, None].clamp(min=1e-4).sqrt() * ious.square().square_()
    # A box that nothing fits yet takes the places nearest to its middle.
    distance = (across.square_() + down.square_()) / strides.square()
    alignment = (alignment + 1e-9 + 1e-6 / (1 + distance)) * allowed
    chosen = torch.zeros_like(allowed)
    top = alignment.topk(min(topk, alignment.shape[-1]), dim=-1).indices
    # As many as the best fits add up to, at least one (Ge et al., "YOLOX", 2021).
    count = ious.topk(min(topk, ious.shape[-1]), dim=-1).values.sum(-1).round().clamp(min=1)
    chosen.scatter_(-1, top, torch.arange(top.shape[-1]) < count[..., None])
    chosen &= allowed
    # A place that several boxes want answers for the one that it fits best.
    best = torch.where(chosen, alignment, -1.0).argmax(1)
    chosen &= torch.zeros_like(chosen).scatter_(1, best[:, None], True)
    positive = chosen.any(1)
    # The best place of every box should say how sure the box is, times how well it fits.
    aligned = torch.where(chosen, alignment, 0.0)
    peak = aligned.amax(-1, keepdim=True).clamp(min=1e-12)
    fit = torch.where(chosen, ious, 0.0).amax(-1, keepdim=True)
    quality = (aligned / peak * fit * boxes[..., 4:]).gather(1, best[:, None])[:, 0]
    return best, positive, torch.where(positive, quality, 0.0)


def detection_loss(
    output: tuple[Tensor, Tensor], boxes: list[Array], ignored: list[Array], centers: Tensor, strides: Tensor
) -> tuple[Tensor, Tensor]:
    """Quality focal loss of the scores (Li et al., 2020) and generalised IoU loss of the boxes: two scalars."""
    logits, distances = output
    predicted = decode_boxes(distances, centers)
    targets, there = pad_rows(boxes, 5)
    scores = logits.sigmoid()
    best, positive, quality = assign(scores.detach(), predicted.detach(), targets, there, centers, strides)
    areas, known = pad_rows(ignored, 4)
    (x, y), (left, upper, right, lower) = centers.unbind(1), areas[:, :, None].unbind(3)
    hidden = (x > left) & (x < right) & (y > upper) & (y < lower) & known[..., None]
    counts = positive | ~hidden.any(1)
    focus = (scores.detach() - quality).abs().pow(2)
    entropy = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    total = quality.sum().clamp(min=1.0)
    score_loss = (focus * entropy * counts).sum() / total
    wanted = targets[..., :4].gather(1, best[..., None].expand(-1, -1, 4))
    _, giou = pair_ious(predicted[positive], wanted[positive])
    box_loss = ((1 - giou) * quality[positive]).sum() / total
    return score_loss, box_loss
