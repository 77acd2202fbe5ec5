"""Heatmap losses, plainly in torch: the target is made, then compared. Autograd gives the gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from .._codec import HeatmapCodec
from .heatmap_encode import heatmap_targets

__all__ = ["heatmap_loss"]


def heatmap_loss(
    predicted: Tensor,
    keypoints: Tensor | None,
    weights: Tensor | None,
    codec: HeatmapCodec,
    input_size: tuple[int, int],
    *,
    target: Tensor | None = None,
    ohkm_topk: int | None = None,
) -> Tensor:
    """Scalar loss; see :func:`fastpose.ops.heatmap_loss`.

    Args:
        predicted: [B,K,h,w] ([B,3K,h,w] for udp_combined) floating point.
        keypoints: [B,K,2] (x, y), input pixels; None where ``target`` is given.
        weights: [B,K] or None.
        codec: A kind with heatmaps.
        input_size: (height, width) of the network's input.
        target: Heatmaps to compare with, shaped like ``predicted``.
        ohkm_topk: Keep only this many keypoints of each person, those with the largest loss.

    Returns:
        Zero-dimensional loss.
    """
    computed = predicted if predicted.dtype == torch.float64 else predicted.float()
    factor = (
        None if weights is None else torch.where(weights > 0, weights, torch.zeros_like(weights)).to(computed.dtype)
    )
    if target is None:
        if keypoints is None:
            raise ValueError("keypoints: expected [B,K,2] where no target is given, got None")
        drawn = torch.ones_like(keypoints[..., 0], dtype=torch.bool) if factor is None else factor > 0
        target, inside = heatmap_targets(keypoints, drawn, codec, input_size)
        factor = None if factor is None else factor * inside
    per_keypoint = 3 if codec.kind == "udp_combined" else 1
    computed = computed.unflatten(1, (-1, per_keypoint))
    target = target.to(computed.dtype).unflatten(1, (-1, per_keypoint))
    if factor is None:
        factor = torch.ones_like(computed[:, :, 0, 0, 0])
    factor = factor[..., None, None]
    # A keypoint of weight 0 is not looked at, whatever its maps hold.
    residual = torch.where(factor[..., None, :, :] > 0, computed - target, torch.zeros_like(computed)).square()
    if per_keypoint == 3:
        disc = (factor * target[:, :, 0]).square()
        each = 0.5 * (factor.square() * residual[:, :, 0] + disc * residual[:, :, 1] + disc * residual[:, :, 2])
    elif ohkm_topk is not None:
        each = factor.square() * residual[:, :, 0]
    else:
        each = factor * residual[:, :, 0]
    if each.numel() == 0:
        return each.sum()
    losses = each.mean(dim=(2, 3))  # [B,K]
    if ohkm_topk is not None:
        losses = losses.topk(ohkm_topk, dim=1).values
    return losses.mean()
