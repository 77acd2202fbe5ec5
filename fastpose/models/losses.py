"""Losses on maps that are already there (`fastpose.ops.heatmap_loss` works without target maps)."""

from __future__ import annotations

import torch
from torch import Tensor


def heatmap_mse(predicted: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean squared error between predicted and target maps, each keypoint's map counted by its weight.

    The mean is over all elements, also those of maps of weight 0 (as in Xiao et al. 2018, and in MMPose), so a batch
    with few visible keypoints pulls less.

    Args:
        predicted: maps [B, K, h, w].
        target: maps [B, K, h, w].
        weights: [B, K], factor on each map's squared errors, 0 where a keypoint is not to be learnt; None counts every
            map once.

    Returns:
        The loss, a scalar, in float32 or wider whatever the dtype of the maps.

    Raises:
        ValueError: the shapes do not agree.
    """
    if predicted.ndim != 4 or predicted.shape != target.shape:
        raise ValueError(
            "predicted, target: expected the same shape [B, K, h, w], "
            f"got {tuple(predicted.shape)} and {tuple(target.shape)}"
        )
    errors = (predicted.to(torch.promote_types(predicted.dtype, torch.float32)) - target).square()
    if weights is not None:
        if weights.shape != predicted.shape[:2]:
            raise ValueError(f"weights: expected shape {tuple(predicted.shape[:2])}, got {tuple(weights.shape)}")
        errors = errors * weights[:, :, None, None]
    return errors.mean()
